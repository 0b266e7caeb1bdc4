// SPDX-License-Identifier: Apache-2.0
//
// The reports that programs read as JSON: pins.json, region.
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "fs/fuse/reports.h"
#include "fs/volume/describe.h"

namespace pinfs::fuse {
namespace {

using Json = nlohmann::ordered_json;

/// File names need not be text: what is none shows as U+FFFD.
std::string dumped(const Json& json, int indent = -1) {
    return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

const char* name_of(PinnedItem::Kind kind) {
    switch (kind) {
        case PinnedItem::Kind::lease:
            return "lease";
        case PinnedItem::Kind::map:
            return "map";
        case PinnedItem::Kind::pin:
            return "pin";
        case PinnedItem::Kind::hold:
            return "hold";
        case PinnedItem::Kind::orphan:
            return "orphan";
    }
    return "?";
}

const char* name_of(PinnedItem::State state) {
    switch (state) {
        case PinnedItem::State::live:
            return "live";
        case PinnedItem::State::recovered:
            return "recovered";
        case PinnedItem::State::revoking:
            return "revoking";
        case PinnedItem::State::held:
            return "held";
        case PinnedItem::State::cut:
            return "cut";
    }
    return "?";
}

const char* name_of(pin::LeaseKind kind) {
    switch (kind) {
        case pin::LeaseKind::layout:
            return "layout";
        case pin::LeaseKind::exclusive:
            return "exclusive";
        case pin::LeaseKind::shared:
            return "shared";
    }
    return "?";
}

const char* owner_name(const pin::Owner& owner) {
    if (owner.context != 0) return "context";
    return owner.process.pid != 0 ? "process" : "none";
}

Json json_of(const PinnedItem& item, std::int64_t now_seconds, OwnersSeen& seen) {
    Json json;
    json["kind"] = name_of(item.kind);
    json["id"] = item.id;
    json["generation"] = item.generation;
    json["state"] = name_of(item.state);
    json["file"] = item.path;
    json["deleted"] = item.deleted;
    json["inode"] = item.ino.value;
    json["offset_bytes"] = item.begin;
    json["length_bytes"] = item.end == UINT64_MAX ? 0 : item.end - item.begin;
    if (item.kind == PinnedItem::Kind::hold) json["region_offset_bytes"] = item.region_offset;
    json["owner"] = owner_name(item.owner);
    json["context"] = item.owner.context;
    json["pid"] = item.owner.process.pid;
    json["start_ticks"] = item.owner.process.start_ticks;
    json["pid_namespace"] = item.owner.process.pid_namespace;
    json["uid"] = item.owner.uid;
    json["command"] = item.owner.command;
    const auto container = seen.container(item.owner.process);
    json["container"] = container ? Json(*container) : Json(nullptr);
    json["descriptor"] = item.descriptor == UINT32_MAX ? Json(nullptr) : Json(item.descriptor);
    json["label"] = item.label;
    if (item.kind == PinnedItem::Kind::lease) json["lease"] = name_of(item.lease_kind);
    json["writable"] = item.writable;
    json["shared"] = item.shared;
    json["self_flushed"] = item.self_flushed;
    json["made_seconds"] = item.made_seconds;
    json["age_seconds"] = std::max<std::int64_t>(0, now_seconds - item.made_seconds);
    json["deadline_ns"] = item.deadline_ns;
    return json;
}

}  // namespace

Expected<std::string> pins_json(Edge& edge, OnlyUser only_uid) {
    const auto items = TRY(edge.volume.pinned({.uid = only_uid, .ino = {}, .pid = {}}));
    OwnersSeen seen;
    const std::int64_t now_seconds = time_now().seconds;
    std::string text =
        "{\"version\":1,\"mount\":" + dumped(Json(edge.options.mountpoint)) + ",\"items\":[";
    for (std::size_t i = 0; i < items.size(); ++i) {
        text += i == 0 ? "\n" : ",\n";
        text += dumped(json_of(items[i], now_seconds, seen));
    }
    return text + "\n]}\n";
}

std::string region_json(const Edge& edge) {
    const pmem::Region& region = edge.volume.region();
    const pmem::Capabilities& can = region.capabilities();
    Json json;
    json["version"] = 1;
    json["mount"] = edge.options.mountpoint;
    json["path"] = edge.options.region_path;
    json["uuid"] = uuid_text(edge.volume.uuid());
    if (!edge.options.supervisor.empty()) json["supervisor"] = edge.options.supervisor;
    json["kind"] = pmem::name_of(can.kind);
    json["flush"] = pmem::name_of(can.flush);
    json["map_sync"] = can.map_sync;
    json["persistent"] = can.persistent;
    json["pinnable"] = can.pinnable;
    json["length_bytes"] = region.bytes();
    json["block_bytes"] = kBlockBytes;
    json["map_align_bytes"] = edge.volume.map_unit_bytes();
    json["huge_bytes"] = can.huge_bytes;
    json["kernel"] = {{"release", kernel_release()}, {"fuse", edge.kernel.version()}};
    for (const KernelFeature& feature : edge.kernel.features())
        json["kernel"][feature.name] = feature.has;
    return dumped(json, 2) + "\n";
}

}  // namespace pinfs::fuse

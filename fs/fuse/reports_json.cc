// SPDX-License-Identifier: Apache-2.0
//
// The reports that programs read: pins.json, region, metrics.
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

/// What others say as PinnedTotals, for one user's records.
PinnedTotals totals_of(const std::vector<PinnedItem>& items) {
    PinnedTotals totals;
    for (const PinnedItem& item : items) {
        const std::uint64_t bytes = item.end - item.begin;
        switch (item.kind) {
            case PinnedItem::Kind::lease:
                ++totals.leases;
                break;
            case PinnedItem::Kind::map:
                ++totals.maps;
                totals.map_bytes += bytes;
                break;
            case PinnedItem::Kind::pin:
                ++totals.pins;
                totals.pin_bytes += bytes;
                break;
            case PinnedItem::Kind::hold:
                ++totals.holds;
                totals.hold_bytes += bytes;
                break;
            case PinnedItem::Kind::orphan:
                break;
        }
    }
    return totals;
}

class MetricsText {
public:
    void head(const char* name, const char* type, const char* help) {
        text_ +=
            std::string{"# HELP "} + name + ' ' + help + "\n# TYPE " + name + ' ' + type + '\n';
    }
    void value(const std::string& name, std::uint64_t value) {
        text_ += name + ' ' + std::to_string(value) + '\n';
    }
    void gauge(const char* name, const char* help, std::uint64_t number) {
        head(name, "gauge", help);
        value(name, number);
    }
    void counter(const char* name, const char* help, std::uint64_t number) {
        head(name, "counter", help);
        value(name, number);
    }
    std::string take() { return std::move(text_); }

private:
    std::string text_;
};

void add_records(MetricsText& text, const PinnedTotals& totals) {
    text.gauge("pinfs_contexts", "Open contexts.", totals.contexts);
    text.gauge("pinfs_leases", "Leases.", totals.leases);
    text.gauge("pinfs_maps", "Direct maps.", totals.maps);
    text.gauge("pinfs_mapped_bytes", "Bytes of files that direct maps cover.", totals.map_bytes);
    text.gauge("pinfs_pins", "Pins.", totals.pins);
    text.gauge("pinfs_pinned_bytes", "Bytes of files that pins cover.", totals.pin_bytes);
    text.gauge("pinfs_holds", "Holds: blocks that wait until nothing can reach them.",
               totals.holds);
    text.gauge("pinfs_held_bytes", "Bytes in holds.", totals.hold_bytes);
}

void add_requests(MetricsText& text, const Counters& counters) {
    text.head("pinfs_requests_total", "counter", "Requests of the kernel.");
    for (std::size_t i = 0; i < kOperationNames.size(); ++i)
        text.value(std::string{"pinfs_requests_total{operation=\""} + kOperationNames[i] + "\"}",
                   counters.requests(static_cast<Operation>(i)));
    text.head("pinfs_errors_total", "counter", "Requests that were answered with an error.");
    for (std::size_t number = 1; number < Counters::kErrors; ++number) {
        const std::uint64_t count = counters.errors(static_cast<int>(number));
        const char* name = strerrorname_np(static_cast<int>(number));
        if (count != 0 && name != nullptr)
            text.value(std::string{"pinfs_errors_total{errno=\""} + name + "\"}", count);
    }
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

Expected<std::string> metrics(Edge& edge, OnlyUser only_uid) {
    Volume& volume = edge.volume;
    const Statistics space = volume.statistics();
    MetricsText text;
    text.head("pinfs_info", "gauge", "Version of the daemon and uuid of the region.");
    text.value(
        "pinfs_info{version=\"" PINFS_VERSION "\",uuid=\"" + uuid_text(volume.uuid()) + "\"}", 1);
    text.gauge("pinfs_size_bytes", "Bytes of the file system.", space.blocks * kBlockBytes);
    text.gauge("pinfs_free_bytes", "Bytes that are free.", space.blocks_free * kBlockBytes);
    text.gauge("pinfs_available_bytes", "Bytes that are free and not kept in reserve.",
               space.blocks_available * kBlockBytes);
    text.gauge("pinfs_inodes", "Inodes in use.", space.inodes);
    text.gauge("pinfs_inodes_available", "Inodes that can still be made.", space.inodes_available);

    PinnedTotals totals;
    if (only_uid) {
        totals = totals_of(TRY(volume.pinned({.uid = only_uid, .ino = {}, .pid = {}})));
    } else {
        totals = volume.pinned_totals();
    }
    totals.contexts = edge.contexts.count(only_uid);
    add_records(text, totals);
    if (!only_uid)
        text.counter("pinfs_refused_changes_total",
                     "Layout changes that a pin or an exclusive lease refused.",
                     totals.refused_changes);
    add_requests(text, edge.counters);
    return text.take();
}

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
#include "cmd/info.h"

#include <blkid.h>
#include <sys/stat.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cmd/arguments.h"
#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/remount.h"
#include "cmd/text.h"
#include "fs/fuse/mount_table.h"
#include "fs/fuse/mountpoint.h"
#include "fs/pmem/region.h"
#include "fs/volume/describe.h"

namespace pinfs::cmd {
namespace {

std::string hex_text(const std::array<std::uint8_t, 16>& bytes) {
    std::string text = uuid_text(bytes);
    std::erase(text, '-');
    return text;
}

struct Look {
    std::string path;
    pmem::Capabilities capabilities;
    Description description;
    std::optional<fuse::MountEntry> mount;
    std::string holders;
    std::string options;            ///< of pinfs's own, where it is mounted and answers
    nlohmann::ordered_json kernel;  ///< what it has of FUSE; null where it is not mounted

    [[nodiscard]] std::string state() const {
        if (mount || !holders.empty()) return mount ? "mounted" : "in use";
        if (description.mounted || description.lanes_to_replay > 0) return "to be replayed";
        return "clean";
    }
};

nlohmann::ordered_json json_of(const Look& look) {
    const Description& about = look.description;
    const pmem::Capabilities& can = look.capabilities;
    nlohmann::ordered_json json;
    json["region"] = look.path;
    json["uuid"] = uuid_text(about.uuid);
    json["label"] = about.label;
    json["made_seconds"] = about.made_seconds;
    json["geometry"] = {{"region_bytes", about.region_bytes},
                        {"block_bytes", about.block_bytes},
                        {"map_unit_bytes", about.map_unit_bytes},
                        {"groups", about.groups},
                        {"lanes", about.lanes},
                        {"lane_bytes", about.lane_bytes}};
    json["features"] = {{"incompatible", about.incompatible},
                        {"read_only", about.read_only},
                        {"compatible", about.compatible}};
    json["capabilities"] = {
        {"kind", pmem::name_of(can.kind)}, {"map_unit_bytes", can.map_unit_bytes},
        {"huge_bytes", can.huge_bytes},    {"flush", pmem::name_of(can.flush)},
        {"map_sync", can.map_sync},        {"persistent", can.persistent},
        {"pinnable", can.pinnable}};
    json["state"] = look.state();
    json["superblock_from_copy"] = about.from_copy;
    json["mounted_on"] = look.mount ? nlohmann::ordered_json(look.mount->mountpoint) : nullptr;
    json["mount_options"] = look.mount ? nlohmann::ordered_json(look.mount->options) : nullptr;
    json["options_in_force"] = look.options;
    json["kernel"] = look.kernel;
    json["holders"] = look.holders;
    json["last_mount"] = {{"count", about.mount_count},
                          {"seconds", about.mount_seconds},
                          {"clean_unmount_seconds", about.unmount_seconds},
                          {"host", about.host_name},
                          {"machine_id", hex_text(about.machine_id)},
                          {"boot_id", uuid_text(about.boot_id)},
                          {"pid", about.mount_pid}};
    json["bad_blocks"] = nlohmann::ordered_json::array();
    for (const BlockRun run : about.bad_blocks)
        json["bad_blocks"].push_back({{"block", run.begin}, {"count", run.count}});
    json["bad_blocks_unlisted"] = about.bad_unlisted;
    json["counts"] = {{"blocks", about.blocks},
                      {"blocks_free", about.blocks_free},
                      {"blocks_free_in_aligned_runs", about.free_run_blocks},
                      {"inodes", about.inodes}};
    return json;
}

void print_line(const char* name, const std::string& value) {
    std::cout << name << std::string(16 - std::strlen(name), ' ') << value << '\n';
}

/// "17, 40-41 and more"
std::string bad_blocks_text(const Description& about) {
    std::string text;
    for (const BlockRun run : about.bad_blocks) {
        text += (text.empty() ? "" : ", ") + std::to_string(run.begin);
        if (run.count > 1) text += "-" + std::to_string(run.end() - 1);
    }
    return text + (about.bad_unlisted ? " and more" : "");
}

/// "Linux 6.1.0, FUSE 7.37, without kernel_mmap, resend"
std::string kernel_text(const nlohmann::ordered_json& kernel) {
    std::string text =
        "Linux " + kernel.value("release", "") + ", FUSE " + kernel.value("fuse", "");
    const char* before = ", without ";
    for (const auto& [name, has] : kernel.items()) {
        if (has != false) continue;
        text += before + name;
        before = ", ";
    }
    return text;
}

void print_text(const Look& look) {
    const Description& about = look.description;
    const pmem::Capabilities& can = look.capabilities;
    print_line("region", look.path);
    print_line("uuid", uuid_text(about.uuid));
    if (!about.label.empty()) print_line("label", about.label);
    print_line("state", look.state() + (look.mount ? " on " + look.mount->mountpoint : "") +
                            (look.holders.empty() ? "" : ", " + look.holders));
    if (!look.options.empty()) print_line("options", look.options);
    if (look.kernel.is_object()) print_line("kernel", kernel_text(look.kernel));
    if (about.from_copy) print_line("superblock", "damaged; read from its copy");
    print_line("kind", std::string{pmem::name_of(can.kind)} + ", " +
                           (can.persistent ? "persistent" : "not persistent") + ", " +
                           (can.pinnable ? "pinnable" : "not pinnable"));
    print_line("flush",
               std::string{"by "} + pmem::name_of(can.flush) + (can.map_sync ? ", MAP_SYNC" : ""));
    print_line("map unit", size_text(about.map_unit_bytes));
    print_line("size", size_text(about.region_bytes) + ", " + std::to_string(about.groups) +
                           " groups, " + std::to_string(about.lanes) + " lanes of " +
                           size_text(about.lane_bytes));
    const std::uint64_t percent =
        about.blocks_free == 0 ? 0 : about.free_run_blocks * 100 / about.blocks_free;
    print_line("free", size_text(about.blocks_free * about.block_bytes) + ", " +
                           std::to_string(percent) + " % in aligned 2 MiB runs");
    print_line("inodes", std::to_string(about.inodes));
    if (!about.bad_blocks.empty()) print_line("bad blocks", bad_blocks_text(about));
    print_line("made", time_text(about.made_seconds));
    print_line("last mount", time_text(about.mount_seconds) +
                                 (about.host_name.empty() ? "" : " by " + about.host_name) + ", " +
                                 std::to_string(about.mount_count) + " in all");
    print_line("last unmount", time_text(about.unmount_seconds));
}

/// The region of a mount point, or the path itself.
std::string region_of(const std::string& target) {
    const std::unique_ptr<char, void (*)(void*)> resolved{realpath(target.c_str(), nullptr), free};
    const std::string path = resolved ? resolved.get() : target;
    const auto entry = fuse::mount_at(path);
    return entry && entry->type == fuse::kMountType ? entry->source : path;
}

nlohmann::ordered_json kernel_of(const std::string& mountpoint) {
    std::ifstream report{mountpoint + "/.pinfs/region"};
    auto json = nlohmann::ordered_json::parse(report, nullptr, /*allow_exceptions=*/false);
    return json.is_object() ? json["kernel"] : nullptr;
}

/// Leaves the region closed, and with it the lock that holders are told by.
Expected<void> look_at_region(Look& look) {
    const auto region = TRY(pmem::Region::open(
        look.path, {.read_only = true, .exclusive = true, .locked_out_is_fine = true}));
    look.capabilities = region->capabilities();
    look.description = TRY(describe(*region));
    return {};
}

/// Without the lock: while udev looks, somebody may want to mount.
Expected<void> look_at_identity(Look& look) {
    const auto region = TRY(pmem::Region::open(look.path, {.read_only = true, .exclusive = false}));
    look.description = TRY(describe_identity(*region));
    return {};
}

/// As blkid has it; what is unsafe in a link's name is \\xNN in the names that end in _ENC.
void print_for_udev(const Description& about) {
    const auto print = [](const char* key, const std::string& value) {
        std::array<char, 4 * 64 + 1> text{};
        if (value.empty() || blkid_encode_string(value.c_str(), text.data(), text.size()) != 0)
            return;
        std::cout << key << "_ENC=" << text.data() << '\n';
        if (blkid_safe_string(value.c_str(), text.data(), text.size()) == 0)
            std::cout << key << '=' << text.data() << '\n';
    };
    std::cout << "ID_FS_TYPE=pinfs\nID_FS_USAGE=filesystem\n";
    print("ID_FS_UUID", uuid_text(about.uuid));
    print("ID_FS_LABEL", about.label);
}

}  // namespace

int show_info(const InfoCommand& command) {
    Look look;
    look.path = region_of(command.target);
    struct stat st {};
    if (stat(look.path.c_str(), &st) == 0 && S_ISDIR(st.st_mode))
        return complain(command.program, kFailure,
                        command.target + " is a directory where no pinfs is mounted");
    if (const auto seen = command.udev ? look_at_identity(look) : look_at_region(look); !seen)
        return complain(command.program, kFailure,
                        "region " + look.path + ": " + seen.error().message());
    if (command.udev) {
        print_for_udev(look.description);
        return kSuccess;
    }
    look.mount = fuse::mount_of_region(look.path);
    look.holders = pmem::Region::lock_holders(look.path);
    if (look.mount) {
        look.options = options_in_force(look.mount->mountpoint);
        look.kernel = kernel_of(look.mount->mountpoint);
    }
    if (command.json)
        std::cout << json_of(look).dump(2) << '\n';
    else
        print_text(look);
    return kSuccess;
}

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
#include "cmd/region_use.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include "cmd/arguments.h"
#include "cmd/pinned.h"
#include "cmd/process.h"
#include "cmd/text.h"
#include "fs/check/records_of_boot.h"
#include "fs/fuse/mount_table.h"
#include "fs/fuse/mountpoint.h"
#include "fs/volume/describe.h"

namespace pinfs::cmd {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::seconds kPatience{60};
constexpr std::chrono::seconds kPatienceWithUnseen{5};

bool is_same_file(const std::string& left, const std::string& right) {
    struct stat one {};
    struct stat other {};
    return stat(left.c_str(), &one) == 0 && stat(right.c_str(), &other) == 0 &&
           one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

std::optional<fuse::MountEntry> mount_among(const std::vector<fuse::MountEntry>& table,
                                            const std::string& region) {
    for (const fuse::MountEntry& entry : table)
        if (entry.type == fuse::kMountType &&
            (entry.source == region || is_same_file(entry.source, region)))
            return entry;
    return std::nullopt;
}

/// Where the region is mounted, as one of its users or we see it.
std::optional<fuse::MountEntry> find_mount(const std::string& region,
                                           const std::vector<pmem::LockHolder>& holders) {
    if (auto entry = mount_among(fuse::mount_table(), region)) return entry;
    for (const pmem::LockHolder& holder : holders)
        if (auto entry = mount_among(fuse::mount_table(std::to_string(holder.pid)), region))
            return entry;
    return std::nullopt;
}

bool is_daemon(const pmem::LockHolder& holder) {
    // The kernel keeps 15 letters. Who unmounts looks now and then whether the region is free.
    constexpr std::array<std::string_view, 5> kNames{"pinfs", "mount.pinfs", "mount.fuse.pinf",
                                                     "umount.pinfs", "umount.fuse.pin"};
    return std::ranges::find(kNames, holder.command) != kNames.end();
}

/// How long to wait for who has the lock: a daemon that is not mounted any more will soon be gone.
/// Who cannot be seen may be one, or a daemon of another container.
std::chrono::seconds patience_with(const std::string& region) {
    const auto holders = pmem::Region::find_lock_holders(region);
    if (find_mount(region, holders)) return std::chrono::seconds{0};
    if (holders.empty()) return kPatienceWithUnseen;
    return std::ranges::all_of(holders, is_daemon) ? kPatience : std::chrono::seconds{0};
}

/// When a process began, in seconds since 1970; 0 if it cannot be known.
std::int64_t start_of(int pid) {
    const auto ticks = static_cast<std::int64_t>(start_ticks_of(pid));
    if (ticks == 0) return 0;
    std::ifstream machine{"/proc/stat"};
    for (std::string word; machine >> word;)
        if (std::int64_t boot = 0; word == "btime" && machine >> boot)
            return boot + ticks / sysconf(_SC_CLK_TCK);
    return 0;
}

}  // namespace

Expected<std::unique_ptr<pmem::Region>> open_when_free(const std::string& path,
                                                       const pmem::OpenOptions& options) {
    const auto begin = std::chrono::steady_clock::now();
    auto pause = 1ms;
    while (true) {
        auto region = pmem::Region::open(path, options);
        if (region || region.error().cause != Cause::region_in_use ||
            std::chrono::steady_clock::now() - begin >= patience_with(path))
            return region;
        std::this_thread::sleep_for(pause);
        pause = std::min(2 * pause, std::chrono::milliseconds{50});
    }
}

bool wait_until_free(const std::string& path) {
    const auto region = open_when_free(path, {.read_only = true});
    return region || region.error().cause != Cause::region_in_use ||
           find_mount(path, pmem::Region::find_lock_holders(path));
}

std::string in_use_sentence(const std::string& path) {
    const auto holders = pmem::Region::find_lock_holders(path);
    std::string sentence = "region " + path + " is in use";
    for (const pmem::LockHolder& holder : holders)
        sentence += (&holder == &holders.front() ? " by process " : ", process ") +
                    std::to_string(holder.pid) + " (" + holder.command + ")";
    if (const auto entry = find_mount(path, holders))
        sentence += ", mounted on " + entry->mountpoint;
    if (holders.size() == 1)
        if (const std::int64_t start = start_of(holders.front().pid); start != 0)
            sentence += " since " + time_text(start);
    return sentence;
}

std::optional<BootId> boot_id_of_now() {
    std::string word;
    std::ifstream{"/proc/sys/kernel/random/boot_id"} >> word;
    return parse_uuid(word);
}

std::string kept_records(pmem::Region& region) {
    const auto boot_id = boot_id_of_now();
    if (!boot_id) return {};
    const auto records = records_of_boot(region, *boot_id);
    if (!records || records->count == 0) return {};
    const bool one = records->count == 1;
    std::string text =
        (one ? "a map, pin or hold" : std::to_string(records->count) + " maps, pins or holds") +
        std::string{" of this boot "} + (one ? "is" : "are") + " on record in it";
    if (records->pid != 0)
        text += (one ? ", of process " : ", one of process ") + std::to_string(records->pid) +
                " (" + printable(records->command) + ")";
    return text;
}

std::string twin_sentence(const std::string& path, const std::array<std::uint8_t, 16>& uuid) {
    for (const fuse::MountEntry& entry : fuse::mount_table()) {
        if (entry.type != fuse::kMountType || is_same_file(entry.source, path)) continue;
        const auto other =
            pmem::Region::open(entry.source, {.read_only = true, .exclusive = false});
        if (!other) continue;
        const auto its = describe_identity(**other);
        if (its && its->uuid == uuid)
            return "region " + path + " has the uuid of " + entry.source +
                   ", which is mounted on " + entry.mountpoint +
                   ": it is a copy; give it a uuid of its own with pinfs tune " + "--uuid random " +
                   path;
    }
    return {};
}

}  // namespace pinfs::cmd

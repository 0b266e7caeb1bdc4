// SPDX-License-Identifier: Apache-2.0
#include "cmd/region_use.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
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

/// As far as they can be read; what goes meanwhile is not missed.
std::vector<std::string> paths_in(const std::string& directory) {
    std::vector<std::string> paths;
    std::error_code error;
    std::filesystem::directory_iterator entry{directory, error};
    for (; !error && entry != std::filesystem::directory_iterator{}; entry.increment(error))
        paths.push_back(entry->path());
    return paths;
}

/// Whether the open file behind /proc/PID/fd/N has an flock.
bool has_lock(const std::string& process, const std::string& descriptor) {
    std::ifstream file{process + "/fdinfo" + descriptor.substr(descriptor.rfind('/'))};
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("lock:") && line.find("FLOCK") != line.npos) return true;
    return false;
}

/// Another process that has the device at `path` open, by whatever node, or has a lock of one;
/// nobody for a file.
std::optional<pmem::LockHolder> other_user_of(const std::string& path, bool if_locked) {
    struct stat device {};
    if (stat(path.c_str(), &device) != 0 || !S_ISCHR(device.st_mode)) return std::nullopt;
    // By the number that /proc has for us: it may be that of another pid namespace.
    std::error_code error;
    const std::string self = "/proc/" + std::filesystem::read_symlink("/proc/self", error).string();
    for (const std::string& process : paths_in("/proc")) {
        const int pid = std::atoi(process.c_str() + process.rfind('/') + 1);
        if (pid == 0 || process == self) continue;
        for (const std::string& descriptor : paths_in(process + "/fd")) {
            // Devices alone are asked, by their paths, and what is below /dev without its file
            // system: one that hangs would not answer, nor one that waits for us to serve it.
            char target[16] = {};
            struct statx open {};
            if (readlink(descriptor.c_str(), target, sizeof(target) - 1) <= 0 ||
                !std::string_view{target}.starts_with("/dev/") ||
                statx(AT_FDCWD, descriptor.c_str(), AT_STATX_DONT_SYNC, STATX_TYPE, &open) != 0 ||
                !S_ISCHR(open.stx_mode) ||
                makedev(open.stx_rdev_major, open.stx_rdev_minor) != device.st_rdev ||
                (if_locked && !has_lock(process, descriptor)))
                continue;
            pmem::LockHolder user{.pid = pid, .command = {}};
            std::ifstream comm{process + "/comm"};
            std::getline(comm, user.command);
            return user;
        }
    }
    return std::nullopt;
}

std::string process_text(const pmem::LockHolder& holder) {
    return "process " + std::to_string(holder.pid) + " (" + printable(holder.command) + ")";
}

}  // namespace

Expected<std::unique_ptr<pmem::Region>> open_when_free(const std::string& path,
                                                       const pmem::OpenOptions& options) {
    const auto begin = std::chrono::steady_clock::now();
    auto pause = 1ms;
    while (true) {
        auto region = pmem::Region::open(path, options);
        if (region && !options.read_only && other_user_of(path, /*if_locked=*/true))
            region = fail(Cause::region_in_use);
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
    if (const auto other = holders.empty() ? other_user_of(path, /*if_locked=*/true) : std::nullopt)
        sentence += " through another node of the device, by " + process_text(*other);
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

std::string open_elsewhere(const std::string& path) {
    const auto user = other_user_of(path, /*if_locked=*/false);
    return user ? path + " is open in " + process_text(*user) : std::string{};
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

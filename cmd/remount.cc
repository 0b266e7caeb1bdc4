// SPDX-License-Identifier: Apache-2.0
#include "cmd/remount.h"

#include <sys/mount.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>

#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/pinned.h"
#include "fs/fuse/mount_table.h"
#include "fs/fuse/mountpoint.h"

namespace pinfs::cmd {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 30s;  // background work ends first

bool has(const std::string& options, std::string_view word) {
    const auto words = split_options(options);
    return std::ranges::find(words, word) != words.end();
}

bool follows(const std::string& mountpoint, bool read_only) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < end) {
        if (has(options_in_force(mountpoint), read_only ? "ro" : "rw")) return true;
        std::this_thread::sleep_for(2ms);
    }
    return false;
}

}  // namespace

std::string options_in_force(const std::string& mountpoint) {
    std::array<char, 4096> value{};
    const ssize_t count =
        getxattr(mountpoint.c_str(), "user.pinfs.options", value.data(), value.size());
    return count < 0 ? std::string{} : std::string(value.data(), static_cast<std::size_t>(count));
}

int remount(const std::string& program, const std::string& mountpoint,
            const ParsedOptions& options) {
    const auto entry = fuse::mount_at(mountpoint);
    if (!entry || entry->type != fuse::kMountType)
        return complain(program, kFailure, "no pinfs is mounted on " + mountpoint);
    if (geteuid() != 0) return complain(program, kUsage, "only root can change a mount");

    const std::string in_force = options_in_force(mountpoint);
    if (in_force.empty())
        return complain(program, kFailure, mountpoint + " does not answer: " + strerror(errno));
    for (const std::string& word : options.own)
        if (!has(in_force, word) && !has(entry->options, word))
            return complain(program, kFailure,
                            "option '" + word + "' cannot be changed while mounted (now: " +
                                in_force + "): unmount and mount again");
    const bool read_only = (options.flags & MS_RDONLY) != 0;
    if (!read_only && has(in_force, "region=read-only"))
        return complain(program, kFailure,
                        "region " + entry->source + " was opened read-only: make it writable, " +
                            "unmount and mount again");

    // What a device or a mapping writes goes past the kernel: it would not stop.
    const std::string writers = read_only ? users_of(mountpoint, /*writers_only=*/true) : "";
    if (!writers.empty())
        return complain(program, kFailure,
                        mountpoint + " is in use for writing: " + writers + " (pinfs pins " +
                            mountpoint + " lists all)");

    const auto change = [&](unsigned long flags) {
        return mount(entry->source.c_str(), mountpoint.c_str(), fuse::kMountType,
                     MS_REMOUNT | flags, nullptr) == 0;
    };
    if (!change(options.flags))
        return complain(program, kFailure,
                        errno == EBUSY ? mountpoint + " is in use: files are open for writing there"
                                       : mountpoint + ": " + strerror(errno));
    if (follows(mountpoint, read_only)) return kSuccess;
    if (!read_only) change(options.flags | MS_RDONLY);
    return complain(program, kFailure,
                    "the daemon of " + mountpoint + " does not become " +
                        (read_only ? "read-only" : "writable") + "; see the system log");
}

}  // namespace pinfs::cmd

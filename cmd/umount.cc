// SPDX-License-Identifier: Apache-2.0
#include "cmd/umount.h"

#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <optional>
#include <thread>

#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/pinned.h"
#include "cmd/region_use.h"
#include "cmd/remount.h"
#include "fs/fuse/mount_table.h"
#include "fs/fuse/mountpoint.h"

namespace pinfs::cmd {
namespace {

std::optional<fuse::MountEntry> entry_of(const std::string& target) {
    const std::unique_ptr<char, void (*)(void*)> resolved{realpath(target.c_str(), nullptr), free};
    const std::string path = resolved ? resolved.get() : target;
    if (auto entry = fuse::mount_at(path)) return entry;
    return fuse::mount_of_region(path);
}

std::string why_not(const std::string& mountpoint, int number) {
    switch (number) {
        case EBUSY:
            return mountpoint + " is in use: programs have files open there or work in it";
        case EPERM:
        case EACCES:
            return mountpoint + " is not yours to unmount";
        default:
            return mountpoint + ": " + strerror(number);
    }
}

/// 0 or an errno. Who reads /proc/PID/fd of others, as lsof does, has a file in hand that they may
/// have closed since: for that moment the kernel takes the mount for one in use.
int detach_when_idle(const std::string& mountpoint) {
    constexpr std::chrono::milliseconds kPause{20};
    int number = EBUSY;
    for (int tries = 0; number == EBUSY && tries < 6; ++tries) {
        if (tries > 0) std::this_thread::sleep_for(kPause);
        number = fuse::detach(mountpoint, fuse::Detach::when_idle);
    }
    return number;
}

}  // namespace

int unmount(const UnmountCommand& command) {
    const std::string& program = command.program;
    const auto entry = entry_of(command.target);
    if (!entry) return complain(program, kFailure, command.target + " is not mounted");
    if (entry->type != fuse::kMountType)
        return complain(program, kFailure, command.target + " is no pinfs but " + entry->type);
    if (command.force && geteuid() != 0)
        return complain(program, kUsage, "only root can unmount by force");

    const fuse::Detach how = command.lazy    ? fuse::Detach::at_once
                             : command.force ? fuse::Detach::by_force
                                             : fuse::Detach::when_idle;
    const std::string users =
        how == fuse::Detach::when_idle ? users_of(entry->mountpoint, /*writers_only=*/false) : "";
    const int number = !users.empty()                   ? EBUSY
                       : how == fuse::Detach::when_idle ? detach_when_idle(entry->mountpoint)
                                                        : fuse::detach(entry->mountpoint, how);
    if (number == EBUSY && command.read_only_if_busy) {
        ParsedOptions read_only;
        read_only.flags = MS_RDONLY;
        const int status = remount(program, entry->mountpoint, read_only);
        if (status != kSuccess) return status;
        std::cerr << program << ": " << entry->mountpoint << " is in use, and read-only now\n";
        return kSuccess;
    }
    if (!users.empty())
        return complain(program, kFailure,
                        entry->mountpoint + " is in use: " + users + " (pinfs pins " +
                            entry->mountpoint + " lists all)");
    if (number != 0)
        return complain(program, number == EPERM ? kUsage : kFailure,
                        why_not(entry->mountpoint, number));
    if (!command.lazy && !wait_until_free(entry->source))
        return complain(program, kFailure,
                        command.target + " is unmounted, but " + in_use_sentence(entry->source));
    if (command.verbose) std::cout << entry->mountpoint << " is unmounted\n";
    return kSuccess;
}

}  // namespace pinfs::cmd

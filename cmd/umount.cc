// SPDX-License-Identifier: Apache-2.0
#include "cmd/umount.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>

#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "fs/fuse/mount_table.h"
#include "fs/fuse/mountpoint.h"
#include "fs/pmem/region.h"

namespace pinfs::cmd {
namespace {

using namespace std::chrono_literals;

std::optional<fuse::MountEntry> entry_of(const std::string& target) {
    const std::unique_ptr<char, void (*)(void*)> resolved{realpath(target.c_str(), nullptr), free};
    const std::string path = resolved ? resolved.get() : target;
    if (auto entry = fuse::mount_at(path)) return entry;
    return fuse::mount_of_region(path);
}

/// umount(2) of a FUSE mount returns before the daemon has ended, and a mount or fsck right after
/// would find the region in use. True if it is free, or nobody here can tell.
bool wait_until_free(const std::string& region, std::chrono::seconds limit) {
    const int descriptor = open(region.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (descriptor < 0) return true;
    const auto end = std::chrono::steady_clock::now() + limit;
    auto pause = 1ms;
    bool free = false;
    while (!(free = flock(descriptor, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK) &&
           std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(pause);
        pause = std::min(2 * pause, std::chrono::milliseconds{50});
    }
    close(descriptor);
    return free;
}

std::string sentence_of(const std::string& mountpoint, int number) {
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

}  // namespace

int unmount(const std::string& program, const std::string& target) {
    const auto entry = entry_of(target);
    if (!entry) return complain(program, kFailure, target + " is not mounted");
    if (entry->type != fuse::kMountType)
        return complain(program, kFailure, target + " is no pinfs but " + entry->type);

    if (const int number = fuse::detach(entry->mountpoint, fuse::Detach::when_idle); number != 0)
        return complain(program, number == EPERM ? kUsage : kFailure,
                        sentence_of(entry->mountpoint, number));
    // The same region may be mounted again by somebody else meanwhile; then this wait is over too.
    if (fuse::mount_of_region(entry->source) || wait_until_free(entry->source, 60s))
        return kSuccess;
    return complain(program, kFailure,
                    target + " is unmounted, but region " + entry->source + " is still in use by " +
                        pmem::Region::lock_holders(entry->source));
}

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
//
// What outlives the daemon of a supervised mount: the kernel keeps its inodes and open files, the
// clients their contexts, leases, maps and pins. The next daemon's volume is told of them here, and
// goes on as the last one would have.
#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fs/pin/leases.h"
#include "fs/pin/owner.h"
#include "fs/units.h"

namespace pinfs {

/// Numbers below these were given out before the mount was supervised.
struct SessionStart {
    std::uint64_t volatile_id = 0;  ///< of contexts, guards and leases
    std::uint64_t record_id = 0;
};

struct Survivors {
    struct Opened {
        Ino ino;
        bool dax = false;  ///< DAX mode is in force
    };
    struct Guard {
        std::uint64_t id = 0;
        std::uint64_t context = 0;
    };
    SessionStart start;
    std::vector<Opened> opens;         ///< one for each open file description
    std::vector<pin::Owner> contexts;  ///< by `context`
    std::vector<Guard> guards;
    std::unordered_map<std::uint64_t, std::uint64_t> guards_of_maps;  ///< by the map's id
    std::vector<pin::Lease> leases;
    /// Requests that the last daemon did not answer: they come again.
    std::vector<std::uint64_t> unanswered;
};

/// What a volume is told of the supervised mount that it serves.
struct Supervision {
    std::uint64_t session = 0;  ///< tells the mount from all others; 0: not supervised
    /// Of the daemon before; nullptr: this is the first one. Used by Volume::mount alone.
    const Survivors* survivors = nullptr;
    /// Whether the kernel still has the inode. Asked of what has no name any more, before it is
    /// freed: what the kernel looked up before this daemon began, it alone knows. No lock is held.
    std::function<bool(Ino)> kernel_has;
    /// Called with the leases of one open file description whenever they changed. It must not call
    /// the volume.
    std::function<void(std::uint64_t handle, const std::vector<pin::Lease>& leases)> leases_changed;
};

}  // namespace pinfs

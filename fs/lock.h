// SPDX-License-Identifier: Apache-2.0
//
// LOCK ORDER. A thread takes locks downwards only; debug builds assert it. Several inodes: all
// sorted by Ino. Several groups: lower index first. Nobody copies file data, waits, or replies to
// the kernel while holding `inode` or anything below it, except for a lane's own fences.
//
// `range` stands above `inode`: a range of a file may be waited for, and then no lock is held that
// the range's owner needs.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <shared_mutex>

#include "fs/waits.h"

namespace pinfs {

enum class LockRank : std::uint8_t {
    rename,       // ancestry, for renames across directories
    range,        // bytes of a file under I/O or change (waits, see volume/range_lock.h)
    inode,        // names of a directory; length, extents, attributes of one inode
    pins,         // leases, maps, pins
    inode_chunk,  // table of inodes: chunk headers, index nodes, roots in the state block
    group,        // bitmap block and its counters; lower index first
    lane,         // taken last; nothing is waited for while holding one
    node_cache,   // in-memory tables of inode states and groups
    stats,
};
inline constexpr std::size_t kLockRanks = static_cast<std::size_t>(LockRank::stats) + 1;

namespace lock_check {
#ifndef NDEBUG
void acquired(LockRank rank, bool blocking);
void released(LockRank rank);
#else
inline void acquired(LockRank, bool) {}
inline void released(LockRank) {}
#endif
}  // namespace lock_check

/// A mutex that knows its place in the order. `inode` and `group` may be held several at a time.
template <LockRank kRank>
class RankedMutex {
public:
    void lock() {
        lock_check::acquired(kRank, true);
        if (mutex_.try_lock()) return;
        const Waiting waiting{kRank};
        mutex_.lock();
    }
    bool try_lock() {
        if (!mutex_.try_lock()) return false;
        lock_check::acquired(kRank, false);
        return true;
    }
    void unlock() {
        mutex_.unlock();
        lock_check::released(kRank);
    }

private:
    std::mutex mutex_;
};

template <LockRank kRank>
class RankedSharedMutex {
public:
    void lock() {
        lock_check::acquired(kRank, true);
        if (mutex_.try_lock()) return;
        const Waiting waiting{kRank};
        mutex_.lock();
    }
    void unlock() {
        mutex_.unlock();
        lock_check::released(kRank);
    }
    void lock_shared() {
        lock_check::acquired(kRank, true);
        if (mutex_.try_lock_shared()) return;
        const Waiting waiting{kRank};
        mutex_.lock_shared();
    }
    void unlock_shared() {
        mutex_.unlock_shared();
        lock_check::released(kRank);
    }

private:
    std::shared_mutex mutex_;
};

}  // namespace pinfs

// SPDX-License-Identifier: Apache-2.0
#include "fs/lock.h"

#ifndef NDEBUG
#include <array>

namespace pinfs::lock_check {

namespace {
thread_local std::array<std::uint32_t, 16> held{};

bool many_allowed(LockRank rank) { return rank == LockRank::inode || rank == LockRank::group; }
}  // namespace

void acquired(LockRank rank, bool blocking) {
    const auto index = static_cast<std::size_t>(rank);
    if (blocking) {
        for (std::size_t below = index + 1; below < held.size(); ++below)
            assert(held[below] == 0 && "a lock is taken upwards: see LOCK ORDER in fs/lock.h");
        assert((held[index] == 0 || many_allowed(rank)) &&
               "a second lock of a rank that allows one");
    }
    ++held[index];
}

void released(LockRank rank) {
    auto& count = held[static_cast<std::size_t>(rank)];
    assert(count > 0);
    --count;
}

}  // namespace pinfs::lock_check
#endif

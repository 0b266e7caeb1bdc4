// SPDX-License-Identifier: Apache-2.0
//
// Blocks of a region that raised media errors and were not written whole since. Asked on every
// store, so that nothing but a load is paid while there are none. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <set>
#include <vector>

#include "fs/units.h"

namespace pinfs::pmem {

class BadBlocks {
public:
    /// Beyond that many, a region is not damaged in places, but gone: no more are kept.
    static constexpr std::size_t kMax = 65536;

    void add(BlockRun run);
    /// Those wholly inside [offset, offset + bytes) are bad no more.
    void remove_inside(std::uint64_t offset, std::uint64_t bytes);

    [[nodiscard]] bool any() const { return count_.load(std::memory_order_relaxed) != 0; }
    [[nodiscard]] std::size_t count() const { return count_.load(std::memory_order_relaxed); }
    /// Counts what was added and removed so far.
    [[nodiscard]] std::uint64_t version() const { return version_.load(std::memory_order_relaxed); }
    /// In order, neighbours joined.
    [[nodiscard]] std::vector<BlockRun> runs() const;

private:
    mutable std::mutex mutex_;
    std::set<std::uint64_t> blocks_;
    std::atomic<std::size_t> count_{0};
    std::atomic<std::uint64_t> version_{0};
};

/// What the system knows of bad places in the memory behind a file or device; nothing for kinds of
/// files that have no such list. (libpmem2 asks the kernel's lists of the NVDIMM.)
std::vector<BlockRun> bad_blocks_of_device(int fd);

/// Gives a file or device new memory, or clears the error of the old, where [offset, offset +
/// bytes) is bad, by its list. True if it did so.
bool clear_on_device(int fd, std::uint64_t offset, std::uint64_t bytes);

}  // namespace pinfs::pmem

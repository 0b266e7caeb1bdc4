// SPDX-License-Identifier: Apache-2.0
//
// Ranges of addresses that show part of a file: contiguous for the program, whatever the extents.
//
//     addresses   |---- 2 MiB -----|-- 2 MiB --|~~~~~~~|        ~ SIGBUS: no block of the file
//                       \               |
//     region      ...|---- extent -----|...|-- extent --|...
//
// A child of fork never has them (SPEC 5.1): each mapping is made and marked MADV_DONTFORK under a
// lock that fork takes as well.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "lib/pinfs/protocol.h"

namespace pinfs::client {

/// Held while mappings appear and go, and by fork.
std::mutex& address_lock();

/// Counts the forks on the way to this process: what was opened at another count is not ours.
std::uint64_t fork_count();

/// The region's file, as mmap sees it.
struct Memory {
    int fd = -1;
    bool map_sync = false;
    std::uint64_t unit_bytes = 4096;  ///< of offsets and lengths of a mapping
    std::uint64_t huge_bytes = 4096;
};

/// A stretch of a file and where it lies.
using Extent = pinfs_ioc_extent;

/// Neighbours in file and region become one; what lies outside of [begin, end) goes.
std::vector<Extent> joined(const std::vector<Extent>& extents, std::uint64_t begin,
                           std::uint64_t end);

/// Addresses for bytes [file_begin, file_begin + bytes) of a file. Not thread-safe.
class AddressRange {
public:
    /// Takes addresses that nothing can be read at yet. Congruent with where `first` lies, in huge
    /// pages, if the range is long enough for one.
    int reserve(const Memory& memory, std::uint64_t file_begin, std::uint64_t bytes,
                const Extent* first);
    /// Shows [begin, end) of the file: its extents, and where there are none SIGBUS. Each mapping
    /// replaces what was there in one step; after a failure the rest shows what it did.
    int show(const Memory& memory, int protection, std::uint64_t begin, std::uint64_t end,
             const std::vector<Extent>& extents);
    /// Gives the addresses back.
    void release();

    [[nodiscard]] std::byte* address() const { return address_; }
    [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

private:
    int replace(const Memory& memory, int protection, std::uint64_t begin, std::uint64_t end,
                const std::uint64_t* region_offset);

    std::byte* address_ = nullptr;
    std::uint64_t file_begin_ = 0;
    std::uint64_t bytes_ = 0;
};

/// One page of the open file `fd`, mapped so that it can be neither used nor inherited. The caller
/// holds the address lock. Null and errno if it fails.
void* map_guard(int fd);
void unmap_guard(void* guard);

}  // namespace pinfs::client

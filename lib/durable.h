// SPDX-License-Identifier: Apache-2.0
//
// Which maps of this process need what to be durable. pinfs_persist() has an address and no
// context, and makes no system call where cache lines do: as long as no map of the process needs
// msync, nothing is looked up.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pinfs::client {

/// PINFS_FLUSH_* of a region that says `flush`. PMEM_IS_PMEM_FORCE is heeded as libpmem does: 1 is
/// cache lines, 0 pages, whatever the region is.
std::uint32_t flush_in_force(std::uint32_t flush);

/// A map appears, or goes.
void durable_begin(std::uint32_t flush, const std::byte* address, std::uint64_t bytes);
void durable_end(std::uint32_t flush, const std::byte* address);

}  // namespace pinfs::client

// SPDX-License-Identifier: Apache-2.0
//
// What a daemon may answer. It may be older or newer than the library, broken or hostile: no number
// of an answer is used before it was looked at here. One that cannot be is -EPROTO, with a sentence
// that names the request and what is wrong. What only tells the program something (ids of kinds and
// events that are not known yet, user data, counters) is passed on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lib/pinfs/protocol.h"

namespace pinfs::client {

/// -EPROTO: the answer to `request` cannot be, and why (no full stop).
[[gnu::format(printf, 2, 3)]] int senseless(unsigned request, const char* format, ...) noexcept;

int check_hello(const pinfs_ioc_hello& answer);
int check_region(const pinfs_ioc_region& answer);
int check_event(const pinfs_ioc_event& answer);
/// LEASE_SET: has what was asked for. LEASE_GET: has a part of it.
int check_lease(unsigned request, const pinfs_ioc_region& region, const pinfs_ioc_lease& asked,
                const pinfs_ioc_lease& answer);
int check_pin(const pinfs_ioc_region& region, const pinfs_ioc_pin& asked,
              const pinfs_ioc_pin& answer);

/// Where extents may lie, and how.
struct Place {
    std::uint64_t region_bytes;
    std::uint64_t block_bytes;
    std::uint64_t unit_bytes;  ///< where they begin, in the file and in the region
    std::uint64_t begin, end;  ///< of the file
    bool without_holes;
};

/// Blocks that bytes [offset, offset + length) of a file are in.
Place blocks_of(const pinfs_ioc_region& region, std::uint64_t offset_bytes,
                std::uint64_t length_bytes);
/// The same, of a map: in its units, which it shows whole.
Place units_of(const pinfs_ioc_region& region, std::uint64_t offset_bytes,
               std::uint64_t length_bytes);
/// Of a pin, whose range the library does not know.
Place anywhere(const pinfs_ioc_region& region);
/// Of a place, `length_bytes` from `begin` on, in whole units.
Place part_of(const Place& place, std::uint64_t begin, std::uint64_t length_bytes);

/// The extents of one answer: from number `first` on, of `total`.
struct Page {
    std::uint64_t first = 0;
    std::uint64_t total = 0;
    std::uint32_t count = 0;
    std::span<const pinfs_ioc_extent> room;  ///< the buffer, of which `count` are filled
};
int check_page(unsigned request, const Place& place, const Page& page);
/// Of LAYOUT, RELOAD and PIN_EXTENTS.
int check_layout(unsigned request, const Place& place, const pinfs_ioc_layout& asked,
                 const pinfs_ioc_layout& answer, std::span<const pinfs_ioc_extent> room);
int check_map(const Place& place, const pinfs_ioc_map& answer,
              std::span<const pinfs_ioc_extent> room);

}  // namespace pinfs::client

// SPDX-License-Identifier: Apache-2.0
//
// Who is free: one group block describes 16384 blocks (64 MiB). Groups stand in zones: a zone is
// zone_groups groups, and the group blocks of a zone are its first blocks (in zone 0 they follow
// the superblock and the state block), so that free space is contiguous for almost 1 GiB.
#pragma once

#include "fs/format/unit.h"

namespace pinfs::media {

inline constexpr std::size_t kGroupBlocks = 16384;
inline constexpr std::size_t kRunBlocks = 512;                        // 2 MiB
inline constexpr std::size_t kGroupRuns = kGroupBlocks / kRunBlocks;  // 32

struct Group {
    BlockHeader header;           //   0  kind group, owner = group index
    le32 free_blocks;             //  64  zero bits in bitmap
    u8 reserved[60];              //  68  zero
    le16 run_free[kGroupRuns];    // 128  zero bits of each 2 MiB run
    u8 bitmap[kGroupBlocks / 8];  // 192  bit b % 8 of byte b / 8; 1: in use, or past the end
    u8 unused[1856];              // 2240 zero
};
static_assert(sizeof(Group) == kBlockBytes && kIsMedia<Group>);
static_assert(offsetof(Group, run_free) == 128 && offsetof(Group, bitmap) == 192);

/// Region block that holds group `index`: first of the zone, or blocks 2.. in zone 0.
constexpr le64 group_block_of(le64 index, le64 zone_groups) {
    const le64 zone = index / zone_groups;
    const le64 within = index % zone_groups;
    return (zone == 0 ? 2 : zone * zone_groups * kGroupBlocks) + within;
}

}  // namespace pinfs::media

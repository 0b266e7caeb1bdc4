// SPDX-License-Identifier: Apache-2.0
//
// The superblock: written by mkfs (and by tools that change identity or size offline), never by a
// mounted file system. One copy at offset 0, a second, byte-identical but for own_offset and
// crc32c, at kSuperCopyOffset.
#pragma once

#include "fs/format/unit.h"

namespace pinfs::media {

inline constexpr le64 kSuperCopyOffset = 512 * 1024;
inline constexpr le64 kRegionBytesMin = le64{1} << 20;
inline constexpr le64 kRegionBytesMax = le64{1} << 46;  // 64 TiB

// Feature bits. None is defined yet: a region with any bit set was made by a later version.
inline constexpr le64 kIncompatibleKnown = 0;  // unknown bit: refuse
inline constexpr le64 kReadOnlyKnown = 0;      // unknown bit: mount read-only
inline constexpr le64 kCompatibleKnown = 0;    // unknown bit: ignore

struct Superblock {
    le32 magic;            //   0  kSuperMagic
    le32 crc32c;           //   4  over bytes [8, 512), then [0, 4); seed 0xffffffff
    le64 own_offset;       //   8  0 or kSuperCopyOffset
    le64 incompatible;     //  16  feature bits
    le64 read_only;        //  24  feature bits
    le64 compatible;       //  32  feature bits
    u8 uuid[16];           //  40
    u8 label[64];          //  56  UTF-8, zero-padded
    le64 region_bytes;     // 120  whole region; multiple of block_bytes
    le32 block_bytes;      // 128  4096
    le32 slot_bytes;       // 132  256: inodes and records
    le32 group_blocks;     // 136  16384: blocks that one group block describes
    le32 zone_groups;      // 140  16 or 1: group blocks that stand together at a zone's start
    le64 map_unit_bytes;   // 144  alignment of direct maps: 4096 or 2 MiB
    le64 state_offset;     // 152  block with what changes
    le64 finished_offset;  // 160  table of finished requests, one block
    le64 lanes_offset;     // 168  first lane
    le32 lane_count;       // 176
    le32 lane_bytes;       // 180  each; multiple of block_bytes
    le64 name_hash_seed;   // 184  of directory keys
    le32 name_hash_bits;   // 192  hash bits of a directory key: 54 (fewer only in tests)
    le32 checksum_seed;    // 196  CRC32C of the uuid that mkfs chose; outlives a change of uuid
    le64s made_seconds;    // 200  time of mkfs
    u8 reserved[304];      // 208  zero
};
static_assert(sizeof(Superblock) == 512 && kIsMedia<Superblock>);
static_assert(offsetof(Superblock, region_bytes) == 120);
static_assert(offsetof(Superblock, lane_count) == 176);
static_assert(offsetof(Superblock, reserved) == 208);

}  // namespace pinfs::media

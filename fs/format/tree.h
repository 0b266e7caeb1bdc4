// SPDX-License-Identifier: Apache-2.0
//
// The B+trees of an inode: extents of a file, entries of a directory. Records stand packed and
// sorted by their first eight bytes, the key; keys are unique. A tree is inline in the inode
// (map_level 0), or has map_level levels of nodes, the lowest (level 1) holding the records.
#pragma once

#include "fs/format/unit.h"

namespace pinfs::media {

/// Payload of a node at level 2 and above: used_bytes / 16 of these. Child i holds keys from its
/// key up to the next one's; the first key of a node is a lower bound of all below.
struct TreeIndexEntry {
    le64 key;
    le64 child;  // region offset of a node one level down, never empty
};
static_assert(sizeof(TreeIndexEntry) == 16 && kIsMedia<TreeIndexEntry>);
inline constexpr std::size_t kTreeFanOut = kPayloadBytes / sizeof(TreeIndexEntry);  // 252
inline constexpr le16 kTreeLevelsMax = 8;

// Extent::flags
inline constexpr le16 kExtentUnwritten = 1;  // allocated, reads as zeros

/// A run of file blocks and where it lies. Extents of a file neither overlap nor (if they could be
/// one) touch. In segment 0 `start_block` is a region block.
struct Extent {
    le64 file_block;   //  0  key
    le64 start_block;  //  8
    le32 blocks;       // 16  greater than 0
    le16 segment;      // 20  kSegmentRegion
    le16 flags;        // 22  kExtentUnwritten
};
static_assert(sizeof(Extent) == 24 && kIsMedia<Extent>);
/// Longer runs are several records, so that a length always fits its field.
inline constexpr le64 kExtentBlocksMax = le64{1} << 30;
inline constexpr std::size_t kExtentsInline = 4;
inline constexpr std::size_t kExtentsPerLeaf = kPayloadBytes / sizeof(Extent);  // 168

/// Head of a directory entry; `name_bytes` bytes of name follow, without padding or zero.
/// key: seeded hash of the name in the upper bits (of 62), collision index in the low 8; it is the
/// entry's readdir cookie for life. Not aligned: copy it out.
struct [[gnu::packed]] DirectoryEntry {
    le64 key;       //  0  in [256, 2^62)
    le64 ino;       //  8
    u8 type;        // 16  file type, mode >> 12 (DT_*)
    u8 name_bytes;  // 17  1..255; no '/' and no zero byte; never "." or ".."
};
static_assert(sizeof(DirectoryEntry) == 18);
inline constexpr unsigned kNameCollisionBits = 8;
inline constexpr unsigned kNameHashBits = 54;

/// Head of an extended attribute; the full name ("user.x") and then the value follow. The
/// attributes of an inode are one string of these, cut into attributes blocks (`next` in their
/// headers).
struct AttributeEntry {
    le16 name_bytes;   // 0  1..255
    le16 reserved;     // 2  zero
    le32 value_bytes;  // 4  at most 65536
};
static_assert(sizeof(AttributeEntry) == 8 && kIsMedia<AttributeEntry>);
inline constexpr std::size_t kAttributeValueMax = 65536;
inline constexpr std::size_t kAttributesBytesMax = 256 * 1024;

}  // namespace pinfs::media

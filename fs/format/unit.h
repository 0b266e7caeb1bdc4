// SPDX-License-Identifier: Apache-2.0
//
// What every piece of metadata shares. A *unit* is what one checksum covers, and so what one lock
// protects: a block of 4096 bytes, a slot of 256 or 64 bytes, the superblock. Every unit begins
// with {magic, crc32c}. All integers are little-endian; offsets are region offsets in bytes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pinfs::media {

static_assert(std::endian::native == std::endian::little,
              "media structs are read and written in place: a big-endian host needs conversions");
using u8 = std::uint8_t;
using le16 = std::uint16_t;
using le32 = std::uint32_t;
using le64 = std::uint64_t;
using le64s = std::int64_t;

/// A struct may live on media if it has no padding and fixed layout.
template <class T>
inline constexpr bool kIsMedia = std::is_trivially_copyable_v<T>&& std::is_standard_layout_v<T>&&
    std::has_unique_object_representations_v<T>;

inline constexpr std::size_t kBlockBytes = 4096;
inline constexpr std::size_t kSlotBytes = 256;

constexpr le32 magic_of(char a, char b, char c, char d) {
    return static_cast<le32>(static_cast<u8>(a)) | static_cast<le32>(static_cast<u8>(b)) << 8 |
           static_cast<le32>(static_cast<u8>(c)) << 16 |
           static_cast<le32>(static_cast<u8>(d)) << 24;
}

inline constexpr le32 kSuperMagic = magic_of('P', 'I', 'N', 'S');
inline constexpr le32 kBlockMagic = magic_of('P', 'I', 'N', 'B');
inline constexpr le32 kLaneStateMagic = magic_of('P', 'I', 'N', 'L');
inline constexpr le32 kLogMagic = magic_of('P', 'I', 'N', 'J');
inline constexpr le32 kInodeMagic = magic_of('P', 'I', 'N', 'I');
inline constexpr le32 kChunkMagic = magic_of('P', 'I', 'N', 'C');
inline constexpr le32 kRecordMagic = magic_of('P', 'I', 'N', 'R');
inline constexpr le32 kFinishedMagic = magic_of('P', 'I', 'N', 'F');

/// What a metadata block is.
enum class BlockKind : le16 {
    state = 1,           // what changes: block 1
    group = 2,           // allocation of 64 MiB
    table_index = 3,     // of the inode or the record table
    extent_tree = 4,     // node of a file's extent map; level 1 is a leaf
    directory_tree = 5,  // node of a directory; level 1 is a leaf
    attributes = 6,      // piece of an inode's extended attributes
};

/// First 64 bytes of every metadata block.
struct BlockHeader {
    le32 magic;       //  0  kBlockMagic
    le32 crc32c;      //  4  over bytes [8, 4096), then [0, 4)
    le16 kind;        //  8  BlockKind
    le16 level;       // 10  tree and table nodes: 1 is the lowest; else 0
    le32 used_bytes;  // 12  payload bytes in use, from byte 64
    le64 own_offset;  // 16  region offset of this block
    le64 owner;       // 24  inode; group index; table: 1 inodes, 2 records; state: 0
    le64 generation;  // 32  of the owning inode; else 0
    le64 next;        // 40  attributes: region offset of the next piece, 0 for the last; else 0
    u8 reserved[16];  // 48  zero
};
static_assert(sizeof(BlockHeader) == 64 && kIsMedia<BlockHeader>);
static_assert(offsetof(BlockHeader, own_offset) == 16 && offsetof(BlockHeader, next) == 40);

inline constexpr std::size_t kPayloadBytes = kBlockBytes - sizeof(BlockHeader);
static_assert(kPayloadBytes == 4032);

}  // namespace pinfs::media

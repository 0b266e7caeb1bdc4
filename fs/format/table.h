// SPDX-License-Identifier: Apache-2.0
//
// Tables of 256-byte slots that grow on demand and give chunks back: inodes, and records of maps,
// pins and holds. A chunk is one block of 16 slots: slot 0 is its header, 1..15 are of use, and
// each slot is a unit of its own. Slot number n (an inode number, a record number) is slot n % 16
// of chunk n / 16. Chunks are found through index blocks of 504 entries, lowest level 1.
#pragma once

#include "fs/format/unit.h"

namespace pinfs::media {

inline constexpr le64 kTableInodes = 1;  // BlockHeader::owner and ChunkHeader::table
inline constexpr le64 kTableRecords = 2;

inline constexpr std::size_t kChunkSlots = 16;
inline constexpr std::size_t kTableFanOut = kPayloadBytes / 8;  // 504
inline constexpr le32 kTableLevelsMax = 4;

/// Low bits of an entry (and of TableRoot::root): the rest is the region offset of a block.
inline constexpr le64 kTableHasFree = 1;     // the chunk, or a chunk below, has a free slot
inline constexpr le64 kTableHasPending = 2;  // hint: a chunk below may have pending slots
inline constexpr le64 kTableFlags = 0xfff;

struct TableIndex {
    BlockHeader header;          // kind table_index, owner kTable*, used_bytes = 8 x entries in use
    le64 entries[kTableFanOut];  // 0: nothing; at level L each covers 504^(L-1) chunks
};
static_assert(sizeof(TableIndex) == kBlockBytes && kIsMedia<TableIndex>);

/// Slot 0 of a chunk.
struct ChunkHeader {
    le32 magic;        //  0  kChunkMagic
    le32 crc32c;       //  4  over bytes [8, 256), then [0, 4)
    le64 own_offset;   //  8  region offset of the chunk
    le64 table;        // 16  kTableInodes or kTableRecords
    le64 chunk;        // 24  index of this chunk
    le16 used;         // 32  bit s: slot s is in use; bit 0 is set
    le16 pending;      // 34  bit s: mount must finish slot s (an orphan, or a cut under way)
    u8 reserved[220];  // 36  zero
};
static_assert(sizeof(ChunkHeader) == kSlotBytes && kIsMedia<ChunkHeader>);

}  // namespace pinfs::media

// SPDX-License-Identifier: Apache-2.0
//
// The journal: physical redo in lanes. A lane holds at most one transaction: a list of (region
// offset, bytes), all or nothing. FORMAT.md says when each byte may be trusted.
//
//   lane offset +    0  Seal             8 bytes, alone in its cache line
//               +  256  LaneState        a unit of its own: this lane's share of the totals
//               + 4096  LogHeader, then `record_count` records: LogRecord, its bytes, zeros to 8
#pragma once

#include "fs/format/unit.h"

namespace pinfs::media {

inline constexpr std::size_t kSealOffset = 0;
inline constexpr std::size_t kLaneStateOffset = 256;
inline constexpr std::size_t kLogOffset = kBlockBytes;

/// One aligned 8-byte store: zero, or the commit point of what the log holds.
struct Seal {
    le32 crc32c;     // over the log, `log_bytes` long, seeded with the region's checksum seed
    le32 log_bytes;  // LogHeader and records; 0: unsealed
};
static_assert(sizeof(Seal) == 8 && kIsMedia<Seal>);

struct LogHeader {
    le32 magic;         //  0  kLogMagic
    le32 lane;          //  4  index of this lane
    le64 sequence;      //  8  rises from transaction to transaction, over all lanes; never 0
    le32 log_bytes;     // 16  as in the seal
    le32 record_count;  // 20
    le64 reserved;      // 24  zero
};
static_assert(sizeof(LogHeader) == 32 && kIsMedia<LogHeader>);

struct LogRecord {
    le64 offset;    // 0  region offset of `bytes` bytes in place
    le32 bytes;     // 8  greater than 0
    le32 reserved;  // 12 zero
};
static_assert(sizeof(LogRecord) == 16 && kIsMedia<LogRecord>);

/// Totals of the region are sums over all lanes, modulo 2^64: whoever commits through a lane adds
/// to its share in the same transaction, so that no two lanes meet and no mount counts anything.
struct LaneState {
    le32 magic;        //   0  kLaneStateMagic
    le32 crc32c;       //   4  over bytes [8, 256), then [0, 4)
    le64 lane;         //   8  index of this lane
    le64 free_blocks;  //  16  share of the free blocks
    le64 inodes;       //  24  share of the inodes in use
    u8 reserved[224];  //  32  zero
};
static_assert(sizeof(LaneState) == kSlotBytes && kIsMedia<LaneState>);

}  // namespace pinfs::media

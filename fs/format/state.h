// SPDX-License-Identifier: Apache-2.0
//
// What changes while a region is in use, but belongs to no group, table or inode. One block,
// changed only through the journal. And the table of finished requests.
#pragma once

#include "fs/format/unit.h"

namespace pinfs::media {

/// Root of a table of slots (format/table.h): inodes or records.
struct TableRoot {
    le64 root;    // region offset of a table_index block or of a chunk, with kTable* bits; 0: empty
    le32 levels;  // index blocks from root to chunk; 0: root is a chunk
    le32 reserved;       // zero
    le64 window_chunks;  // chunk indices below this have been used at some time
};
static_assert(sizeof(TableRoot) == 24 && kIsMedia<TableRoot>);

/// Blocks that raised media errors and were not written whole since.
struct BadRange {
    le64 begin;     // first block
    le32 blocks;    // 0: unused
    le32 reserved;  // zero
};
static_assert(sizeof(BadRange) == 16 && kIsMedia<BadRange>);
inline constexpr std::size_t kBadRangesMax = 237;

/// Payload of the state block.
struct State {
    BlockHeader header;     //   0  kind state
    le64 mounted;           //  64  1 while mounted or after a crash, 0 after a clean unmount
    le64 mount_count;       //  72
    le64s mount_seconds;    //  80  of the last mount
    le64s unmount_seconds;  //  88  of the last clean unmount
    u8 machine_id[16];      //  96  of the last mount (/etc/machine-id)
    u8 boot_id[16];         // 112  of the last mount (/proc/sys/kernel/random/boot_id)
    u8 host_name[64];       // 128  of the last mount, zero-padded
    le64 mount_pid;         // 192  of the daemon, as its own pid namespace numbers it
    le64 session;  // 200  supervised mounts: the session that FinishedRequest names; else 0
    le64 generation_limit;        // 208  generations below this may have been given out
    le64 record_id_limit;         // 216  record ids below this may have been given out
    TableRoot inodes;             // 224
    TableRoot records;            // 248
    le32 bad_ranges;              // 272  entries of `bad` in use, in order, neither touching
    le32 bad_unlisted;            // 276  1: there are more bad blocks than `bad` has room for
    BadRange bad[kBadRangesMax];  // 280
    u8 reserved[24];              // 4072  zero
};
static_assert(sizeof(State) == kBlockBytes && kIsMedia<State>);
static_assert(offsetof(State, machine_id) == 96 && offsetof(State, inodes) == 224);
static_assert(offsetof(State, bad) == 280);

/// The last request that a worker finished: written in the same transaction as its effect, so that
/// a supervised restart does nothing twice. One slot per worker; all zero where unused.
struct FinishedRequest {
    le32 magic;       //  0  kFinishedMagic, or 0: unused
    le32 crc32c;      //  4  over bytes [8, 64), then [0, 4)
    le64 session;     //  8  State::session it belongs to
    le64 request;     // 16  the kernel's unique number of the request
    le64 ino;         // 24  inode that it made or linked, or id of a map's or pin's record; 0: none
    le64 generation;  // 32  of that inode or record
    le32 error_number;  // 40  0: only what took effect is noted
    u8 reserved[20];    // 44  zero
};
static_assert(sizeof(FinishedRequest) == 64 && kIsMedia<FinishedRequest>);
inline constexpr std::size_t kFinishedSlots = kBlockBytes / sizeof(FinishedRequest);

}  // namespace pinfs::media

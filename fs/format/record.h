// SPDX-License-Identifier: Apache-2.0
//
// Records of maps, pins and holds (SPEC 3.10): slots of the record table.
#pragma once

#include "fs/format/unit.h"

namespace pinfs::media {

enum class RecordKind : le16 { map = 1, pin = 2, hold = 3 };

// Record::flags
inline constexpr le16 kRecordWritable = 1u << 0;      // through the map, or by the device
inline constexpr le16 kRecordSelfFlushed = 1u << 1;   // map: fsync leaves it to its owner
inline constexpr le16 kRecordProcessOwned = 1u << 2;  // pin: of a process, not of a context
inline constexpr le16 kRecordShared = 1u << 3;        // pin: taken under a shared lease
inline constexpr le16 kRecordGone = 1u << 4;          // map, pin: nobody owns it any more
inline constexpr le16 kRecordFlagsKnown = (1u << 5) - 1;

/// One map, pin or hold. A map or pin names a range of a file, whose blocks the file owns; a hold
/// names the region blocks themselves, which no file owns any more and the bitmap shows in use.
struct Record {
    le32 magic;           //   0  kRecordMagic
    le32 crc32c;          //   4  over bytes [8, 256), then [0, 4)
    le16 kind;            //   8  RecordKind
    le16 flags;           //  10  kRecord*
    le32 count;           //  12  pin: 1; else 0
    le64 id;              //  16  never given out twice
    le64 generation;      //  24
    le64 ino;             //  32  file; hold: the file it came from
    le64 ino_generation;  //  40
    le64 file_block;      //  48  first block of the range
    le64 blocks;          //  56  length of the range
    le64 start_block;     //  64  hold: first region block of the run; else 0
    le64s made_seconds;   //  72
    u8 boot_id[16];       //  80
    u8 machine_id[16];    //  96
    le64 pid_namespace;   // 112  inode of the owner's pid namespace
    le64 start_ticks;     // 120  start time of the process, field 22 of /proc/PID/stat
    le32 pid;             // 128
    le32 uid;             // 132
    le64 context;         // 136  id of the owning context
    u8 secret[16];        // 144
    u8 command[16];       // 160  comm, zero-padded
    le32 descriptor;      // 176  labelled descriptor, 0xffffffff: none
    u8 reserved[4];       // 180  zero
    le64 user_data;       // 184  its owner's
    le64 parent;          // 192  hint: a directory with a name of the file, 0: unknown
    le64 name_key;        // 200  hint: the name's key in it
    u8 label[48];         // 208  the descriptor's path, cut if longer, zero-padded
};
static_assert(sizeof(Record) == kSlotBytes && kIsMedia<Record>);
static_assert(offsetof(Record, boot_id) == 80 && offsetof(Record, secret) == 144);
static_assert(offsetof(Record, user_data) == 184 && offsetof(Record, label) == 208);

}  // namespace pinfs::media

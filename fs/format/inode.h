// SPDX-License-Identifier: Apache-2.0
//
// Inodes: 256 bytes each, in a slot of the inode table. An unused slot's bytes mean nothing.
#pragma once

#include "fs/format/unit.h"

namespace pinfs::media {

// Inode::flags. Nothing is to be done for NODUMP, and for SYNC: all is durable at once.
inline constexpr le32 kInodeDax = 1u << 0;             // FS_XFLAG_DAX; directories: inherited
inline constexpr le32 kInodeImmutable = 1u << 1;       // FS_XFLAG_IMMUTABLE
inline constexpr le32 kInodeAppendOnly = 1u << 2;      // FS_XFLAG_APPEND
inline constexpr le32 kInodeNoDump = 1u << 3;          // FS_XFLAG_NODUMP
inline constexpr le32 kInodeNoAtime = 1u << 4;         // FS_XFLAG_NOATIME
inline constexpr le32 kInodeSync = 1u << 5;            // FS_XFLAG_SYNC
inline constexpr le32 kInodeProjectInherit = 1u << 6;  // FS_XFLAG_PROJINHERIT
inline constexpr le32 kInodeKeepBeyondEnd = 1u << 7;  // fallocate KEEP_SIZE: blocks beyond EOF stay
inline constexpr le32 kInodeCutting = 1u << 8;        // blocks from cut_begin on are being freed
inline constexpr le32 kInodeFlagsKnown = (1u << 9) - 1;

inline constexpr std::size_t kInlineBytes = 96;

/// Segment kinds: where the extents of a file point.
inline constexpr le16 kSegmentRegion = 0;

struct Inode {
    le32 magic;             //   0  kInodeMagic
    le32 crc32c;            //   4  over bytes [8, 256), then [0, 4)
    le64 ino;               //   8  own number
    le64 generation;        //  16  never used twice for one ino; the kernel sees the low 32 bits
    le64 size;              //  24  bytes; directories: bytes of all entry records; links: target's
    le64 blocks;            //  32  blocks this inode owns: data, tree nodes, attributes
    le32 mode;              //  40  type and permissions, as st_mode
    le32 nlink;             //  44  0: an orphan (its pending bit is set)
    le32 uid;               //  48
    le32 gid;               //  52
    le32 flags;             //  56  kInode*
    le32 project;           //  60  project id
    le64s atime;            //  64  seconds since 1970, may be negative
    le64s mtime;            //  72
    le64s ctime;            //  80
    le64s btime;            //  88  birth
    le32 atime_ns;          //  96  below 1,000,000,000
    le32 mtime_ns;          // 100
    le32 ctime_ns;          // 104
    le32 btime_ns;          // 108
    le32 device_major;      // 112  character and block devices; else 0
    le32 device_minor;      // 116
    le64 cut_begin;         // 120  with kInodeCutting: first file block of the cut; else 0
    le64 parent;            // 128  directories: inode of `..` (the root's is itself); else 0
    le64 attributes;        // 136  region offset of the first attributes block, 0: none
    le32 attributes_bytes;  // 144  bytes of the attributes, all blocks together
    le16 segment;           // 148  kSegmentRegion; others are reserved for native files
    le16 map_level;  // 150  0: inline_map holds `map_bytes`; else levels of the tree below its root
    le32 map_bytes;  // 152  bytes of inline_map in use: records, a link's target, or 8 for a root
    le32 reserved;   // 156  zero
    u8 inline_map[kInlineBytes];  // 160  records, a link's target, or a root's le64 offset
};
static_assert(sizeof(Inode) == kSlotBytes && kIsMedia<Inode>);
static_assert(offsetof(Inode, atime) == 64 && offsetof(Inode, atime_ns) == 96);
static_assert(offsetof(Inode, attributes) == 136 && offsetof(Inode, inline_map) == 160);

}  // namespace pinfs::media

// SPDX-License-Identifier: Apache-2.0
//
// Every field of every inode, and what it owns.
#include "fs/check/inodes.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "fs/check/table.h"
#include "fs/check/values.h"
#include "fs/check/walk.h"

namespace pinfs::checking {
namespace {

constexpr std::uint64_t kLinkTargetMax = 4095;
constexpr std::uint32_t kNanoseconds = 1'000'000'000;

// Fields that stand for themselves, whatever the type.
void judge_fields(Walk& walk, const Subject& subject) {
    const media::Inode& inode = subject.inode;
    Findings& findings = walk.findings();
    const auto add = [&](FindingKind kind, const char* field, std::uint64_t value) {
        findings.add(kind, subject.offset, inode.ino, "the %s cannot be %lu", field, value);
    };
    if (inode.generation >= walk.state.generation_limit || (inode.generation & 0xffffffff) == 0)
        findings.add(FindingKind::inode_generation, subject.offset, inode.ino,
                     "the generation cannot be %lu (the limit is %lu)", inode.generation,
                     walk.state.generation_limit);
    if (!is_type(inode.mode) || inode.mode >> 16 != 0)
        findings.add(FindingKind::inode_mode, subject.offset, inode.ino, "the mode cannot be 0%o",
                     inode.mode);
    const bool cut = (inode.flags & media::kInodeCutting) != 0;
    std::uint32_t allowed = media::kInodeFlagsKnown;
    if (!S_ISDIR(inode.mode)) allowed &= ~media::kInodeProjectInherit;
    if (!S_ISREG(inode.mode)) allowed &= ~media::kInodeCutting;
    if (!S_ISREG(inode.mode) && !S_ISDIR(inode.mode)) allowed &= ~media::kInodeDax;
    if ((inode.flags & ~allowed) != 0)
        findings.add(FindingKind::inode_flags, subject.offset, inode.ino,
                     "the flags cannot be 0x%x", inode.flags);
    if (inode.atime_ns >= kNanoseconds) add(FindingKind::inode_time, "atime_ns", inode.atime_ns);
    if (inode.mtime_ns >= kNanoseconds) add(FindingKind::inode_time, "mtime_ns", inode.mtime_ns);
    if (inode.ctime_ns >= kNanoseconds) add(FindingKind::inode_time, "ctime_ns", inode.ctime_ns);
    if (inode.btime_ns >= kNanoseconds) add(FindingKind::inode_time, "btime_ns", inode.btime_ns);
    if (!S_ISCHR(inode.mode) && !S_ISBLK(inode.mode) &&
        (inode.device_major != 0 || inode.device_minor != 0))
        findings.add(FindingKind::inode_device, subject.offset, inode.ino,
                     "it is no device but has the numbers %u:%u", inode.device_major,
                     inode.device_minor);
    // Size is final when a cut begins: nothing before cut_begin is freed.
    if (cut ? inode.cut_begin < blocks_of(inode.size) || inode.cut_begin > std::uint64_t{1} << 32
            : inode.cut_begin != 0)
        add(FindingKind::inode_cut, "begin of a cut", inode.cut_begin);
    if (!S_ISDIR(inode.mode) && inode.parent != 0)
        findings.add(FindingKind::inode_parent, subject.offset, inode.ino,
                     "it is no directory but has the parent %lu", inode.parent);
    if (inode.segment != media::kSegmentRegion)
        add(FindingKind::inode_segment, "segment", inode.segment);
}

// Size and map of what is no directory; returns what it owns below the map.
Owned judge_content(Walk& walk, const Subject& subject) {
    const media::Inode& inode = subject.inode;
    Findings& findings = walk.findings();
    const auto size_cannot_be = [&] {
        findings.add(FindingKind::inode_size, subject.offset, inode.ino,
                     "the size cannot be %lu for mode 0%o", inode.size, inode.mode);
    };
    if (S_ISREG(inode.mode)) {
        if (inode.size > kFileBytesMax) size_cannot_be();
        return walk_extents(walk, subject);
    }
    if (S_ISLNK(inode.mode)) {
        if (inode.size == 0 || inode.size > kLinkTargetMax) size_cannot_be();
        if (inode.size > media::kInlineBytes) return walk_extents(walk, subject);
        if (inode.map_level != 0 || inode.map_bytes != inode.size) {
            findings.add(FindingKind::inode_map, subject.offset, inode.ino,
                         "a link of %lu bytes has map_level %u and map_bytes %u", inode.size,
                         inode.map_level, inode.map_bytes);
            return {0, false};
        }
        const media::u8* const target_end = inode.inline_map + inode.size;
        if (std::find(inode.inline_map, target_end, 0) != target_end)
            findings.add(FindingKind::symbolic_link, subject.offset, inode.ino,
                         "the target has a zero byte in it");
        if (std::any_of(target_end, std::end(inode.inline_map),
                        [](auto byte) { return byte != 0; }))
            findings.add(FindingKind::inode_map, subject.offset, inode.ino,
                         "inline_map is not zero behind its %u bytes", inode.map_bytes);
        return {};
    }
    if (!is_type(inode.mode)) return {0, false};
    if (inode.size != 0) size_cannot_be();
    if (inode.map_level != 0 || inode.map_bytes != 0 ||
        std::any_of(std::begin(inode.inline_map), std::end(inode.inline_map),
                    [](auto byte) { return byte != 0; }))
        findings.add(FindingKind::inode_map, subject.offset, inode.ino,
                     "it is neither file, directory nor link but has a map");
    return {};
}

// Attributes, map, and the number of blocks they come to.
void judge_owned(Walk& walk, const Subject& subject) {
    const media::Inode& inode = subject.inode;
    const Owned attributes = walk_attributes(walk, subject);
    const Owned content =
        S_ISDIR(inode.mode) ? walk_directory(walk, subject) : judge_content(walk, subject);
    if (!attributes.complete || !content.complete) return;
    const std::uint64_t blocks = attributes.blocks + content.blocks;
    if (blocks != inode.blocks)
        walk.findings().add(FindingKind::inode_blocks, subject.offset, inode.ino,
                            "it says that it owns %lu blocks, but owns %lu", inode.blocks, blocks);
}

// Slot of the inode table. Directories' content waits until every inode is known.
void judge_inode(Walk& walk, const Subject& subject, std::uint64_t ino, bool pending) {
    const media::Inode& inode = subject.inode;
    Findings& findings = walk.findings();
    InodeNote& note = *walk.inodes.find(ino);
    note.state = InodeNote::State::damaged;
    ++walk.inodes_used;
    const char* wrong = nullptr;
    if (inode.magic != media::kInodeMagic)
        wrong = "no inode stands in a slot that is in use";
    else if (!walk.image.sum_matches(inode))
        wrong = "the checksum of the inode does not match";
    else if (inode.ino != ino)
        wrong = "the inode has another number";
    if (wrong != nullptr) {
        findings.add(FindingKind::inode_damaged, subject.offset, ino, "%s", wrong);
        return;
    }
    note.generation = inode.generation;
    note.parent = inode.parent;
    note.nlink = inode.nlink;
    note.type = static_cast<std::uint8_t>((inode.mode & S_IFMT) >> 12);
    note.state = InodeNote::State::used;

    const bool cut = (inode.flags & media::kInodeCutting) != 0;
    if (pending != (inode.nlink == 0 || cut))
        findings.add(FindingKind::chunk_pending, subject.offset, ino,
                     "it is %s but its chunk's pending bit is %s",
                     inode.nlink == 0 ? "unlinked"
                     : cut            ? "being cut"
                                      : "neither unlinked nor being cut",
                     pending ? "set" : "not set");
    if (S_ISDIR(inode.mode))
        ++walk.totals.directories;
    else
        ++walk.totals.files;
    if (inode.nlink == 0) ++walk.totals.orphans;

    judge_fields(walk, subject);
    if (!S_ISDIR(inode.mode)) judge_owned(walk, subject);
}

}  // namespace

bool is_type(std::uint32_t mode) {
    switch (mode & S_IFMT) {
        case S_IFREG:
        case S_IFDIR:
        case S_IFLNK:
        case S_IFCHR:
        case S_IFBLK:
        case S_IFIFO:
        case S_IFSOCK:
            return true;
        default:
            return false;
    }
}

std::size_t Inodes::search(std::uint64_t index) const {
    const auto chunk = std::lower_bound(
        chunks_.begin(), chunks_.end(), index,
        [](const Chunk& candidate, std::uint64_t wanted) { return candidate.index < wanted; });
    if (chunk == chunks_.end() || chunk->index != index) return chunks_.size();
    return static_cast<std::size_t>(chunk - chunks_.begin());
}

void walk_inodes(Walk& walk) {
    TableWalk table(walk.image, walk.claims, media::kTableInodes);
    walk.inodes_complete = table.walk(
        walk.state.inodes,
        [&walk](const Chunk& chunk, std::uint64_t offset, std::uint64_t index, bool header_whole) {
            walk.inodes.add(index, offset);
            if (walk.progress && walk.state.inodes.window_chunks != 0)
                walk.progress(static_cast<unsigned>(
                    std::min<std::uint64_t>(index * 50 / walk.state.inodes.window_chunks, 50)));
            for (std::size_t slot = 1; slot < media::kChunkSlots; ++slot) {
                const std::uint64_t ino = index * media::kChunkSlots + slot;
                if (!header_whole) {
                    walk.inodes.find(ino)->state = InodeNote::State::damaged;
                    continue;
                }
                if ((chunk.header.used >> slot & 1) == 0) continue;
                media::Inode inode;
                std::memcpy(&inode, chunk.slots[slot - 1].data(), sizeof inode);
                judge_inode(walk, {inode, offset + slot * media::kSlotBytes}, ino,
                            (chunk.header.pending >> slot & 1) != 0);
            }
        });

    for (std::size_t i = 0; i < walk.inodes.slots(); ++i) {
        if (walk.progress && i % 1024 == 0)
            walk.progress(50 + static_cast<unsigned>(i * 40 / walk.inodes.slots()));
        const InodeNote& note = walk.inodes.note(i);
        if (note.state != InodeNote::State::used || note.type != S_IFDIR >> 12) continue;
        media::Inode inode;
        const std::uint64_t offset = walk.inodes.offset(i);
        if (walk.image.read_into(offset, inode, walk.inodes.ino(i)))
            judge_owned(walk, {inode, offset});
    }
}

}  // namespace pinfs::checking

// SPDX-License-Identifier: Apache-2.0
#include "fs/repair/doubtful.h"

#include <sys/stat.h>

#include <algorithm>

#include "fs/check/values.h"

namespace pinfs::repairing {
namespace {

using VisitExtent = std::function<void(const media::Extent&)>;

void for_each_extent(std::span<const media::u8> bytes, const VisitExtent& visit) {
    media::Extent extent;
    for (; bytes.size() >= sizeof extent; bytes = bytes.subspan(sizeof extent)) {
        std::memcpy(&extent, bytes.data(), sizeof extent);
        visit(extent);
    }
}

void for_each_inline_extent(const media::Inode& inode, const VisitExtent& visit) {
    for_each_extent({inode.inline_map, std::min<std::size_t>(inode.map_bytes, media::kInlineBytes)},
                    visit);
}

bool has_inline_extents(const media::Inode& inode) {
    return inode.map_level == 0 &&
           (S_ISREG(inode.mode) || (S_ISLNK(inode.mode) && inode.size > media::kInlineBytes));
}

}  // namespace

bool DoubtfulExtents::is_inside(const media::Extent& extent) const {
    return extent.blocks != 0 && extent.start_block < proven_.size() &&
           extent.blocks <= proven_.size() - extent.start_block;
}

bool DoubtfulExtents::may_be(const media::Extent& extent) const {
    if (!is_inside(extent)) return false;
    for (std::uint64_t i = 0; i < extent.blocks; ++i)
        if (proven_[extent.start_block + i] || !work_.is_in_use_unclaimed(extent.start_block + i))
            return false;
    return true;
}

void DoubtfulExtents::prove(const media::Extent& extent) {
    for (std::uint64_t i = 0; is_inside(extent) && i < extent.blocks; ++i)
        proven_[extent.start_block + i] = true;
}

void DoubtfulExtents::offer(const media::Extent& extent) {
    if (!may_be(extent)) return;
    for (std::uint64_t i = 0; i < extent.blocks; ++i) {
        const std::uint64_t block = extent.start_block + i;
        if (offered_[block]) contested_[block] = true;
        offered_[block] = true;
    }
}

bool DoubtfulExtents::is_believed(const media::Extent& extent) const {
    if (!may_be(extent)) return false;
    for (std::uint64_t i = 0; i < extent.blocks; ++i)
        if (contested_[extent.start_block + i]) return false;
    return true;
}

bool DoubtfulInodes::may_be(const media::Inode& inode, std::uint64_t ino) const {
    const std::uint64_t blocks = work_.survey.image.blocks();
    return inode.ino == ino && checking::is_type(inode.mode) && inode.mode >> 16 == 0 &&
           inode.generation < work_.state.generation_limit &&
           (inode.generation & 0xffffffff) != 0 && inode.blocks <= blocks &&
           inode.map_level <= media::kTreeLevelsMax && inode.nlink <= blocks * 256;
}

// Inodes of a chunk: whole ones that the survey has not reached have their blocks; of the others
// what may be theirs is only gathered.
void DoubtfulInodes::look_at_chunk(std::uint64_t offset, bool is_known,
                                   std::vector<media::Inode>& doubtful) {
    media::ChunkHeader header;
    const bool is_whole = work_.read(offset, header) && work_.is_whole(header, media::kChunkMagic);
    for (unsigned slot = 1; slot < media::kChunkSlots; ++slot) {
        media::Inode inode;
        if (!work_.read(offset + slot * media::kSlotBytes, inode) ||
            inode.ino % media::kChunkSlots != slot)
            continue;
        if (work_.is_whole(inode, media::kInodeMagic)) {
            const bool is_claimed = is_known && work_.inode(inode.ino);
            if (!is_claimed && inode.nlink != 0 && has_inline_extents(inode))
                for_each_inline_extent(inode, [&](const media::Extent& e) { extents_->prove(e); });
        } else if (is_whole && (header.used >> slot & 1) != 0 && has_inline_extents(inode) &&
                   may_be(inode, inode.ino)) {
            doubtful.push_back(inode);
        }
    }
}

void DoubtfulInodes::look_around() {
    if (extents_) return;
    extents_.emplace(work_);
    std::vector<media::Inode> doubtful;
    for (const auto& chunk : work_.walk().inodes.chunks())
        look_at_chunk(chunk.offset, true, doubtful);
    work_.for_each_lost([&](std::uint64_t offset, const AnyBlock& block) {
        extents_->prove_block(offset / kBlockBytes);
        const media::BlockHeader& header = block.header;
        if (header.magic != media::kBlockMagic) {
            look_at_chunk(offset, false, doubtful);
        } else if (header.level == 1 &&
                   header.kind == static_cast<media::le16>(media::BlockKind::extent_tree)) {
            lost_leaves_.emplace(header.owner, offset);
            const std::span<const media::u8> payload(block.payload);
            for_each_extent(
                payload.first(std::min<std::size_t>(header.used_bytes, media::kPayloadBytes)),
                [&](const media::Extent& e) { extents_->prove(e); });
        }
    });
    for (const Finding& finding : work_.findings()) {
        AnyBlock block;
        if (finding.kind != FindingKind::tree_node_damaged || !work_.read(finding.offset, block) ||
            block.header.kind != static_cast<media::le16>(media::BlockKind::extent_tree))
            continue;
        for_each_extent(block.payload, [&](const media::Extent& e) { extents_->offer(e); });
    }
    for (const media::Inode& inode : doubtful)
        for_each_inline_extent(inode, [&](const media::Extent& e) { extents_->offer(e); });
}

bool DoubtfulInodes::mend(media::Inode& inode, std::uint64_t ino) {
    if (!may_be(inode, ino)) return false;
    look_around();
    inode.magic = media::kInodeMagic;
    inode.uid = inode.gid = 0;
    inode.mode &= S_IFMT | S_IRWXU;
    inode.flags &= media::kInodeFlagsKnown;
    if (inode.map_level == 0) {
        inode.map_bytes = std::min<media::le32>(inode.map_bytes, media::kInlineBytes);
        if (S_ISLNK(inode.mode) && inode.size <= media::kInlineBytes)
            return strnlen(reinterpret_cast<const char*>(inode.inline_map), media::kInlineBytes) ==
                   inode.size;
        if (S_ISDIR(inode.mode)) keep_entries(inode);
        if (has_inline_extents(inode)) keep_extents(inode);
    }
    if (S_ISREG(inode.mode)) keep_size(inode);
    return true;
}

void DoubtfulInodes::keep_extents(media::Inode& inode) {
    std::vector<media::Extent> kept;
    for_each_inline_extent(inode, [&](const media::Extent& extent) {
        if (extents_->is_believed(extent)) kept.push_back(extent);
    });
    inode.map_bytes = static_cast<media::le32>(kept.size() * sizeof(media::Extent));
    std::fill(std::begin(inode.inline_map), std::end(inode.inline_map), media::u8{0});
    if (!kept.empty()) std::memcpy(inode.inline_map, kept.data(), inode.map_bytes);
}

void DoubtfulInodes::keep_entries(media::Inode& inode) {
    Content content;
    (void)parse_entries(work_, {inode.inline_map, inode.map_bytes}, true, content);
    std::fill(std::begin(inode.inline_map), std::end(inode.inline_map), media::u8{0});
    std::size_t kept = 0;
    for (const Entry& entry : content.entries) {
        const media::DirectoryEntry head{.key = checking::hash_of(entry.name, work_.super())
                                                << media::kNameCollisionBits,
                                         .ino = entry.ino,
                                         .type = entry.type,
                                         .name_bytes = static_cast<media::u8>(entry.name.size())};
        std::memcpy(inode.inline_map + kept, &head, sizeof head);
        std::memcpy(inode.inline_map + kept + sizeof head, entry.name.data(), entry.name.size());
        kept += sizeof head + entry.name.size();
    }
    inode.map_bytes = static_cast<media::le32>(kept);
}

// A size is not provable; that all written blocks are the file's is. It ends in the last of them,
// or behind it among blocks that the file has: nothing that was written is cut off, and nothing is
// added but what the last block has.
void DoubtfulInodes::keep_size(media::Inode& inode) {
    Content content;
    content.inode = inode;
    read_map(work_, content, lost_leaves_);
    std::uint64_t end = 0;
    std::uint64_t written_end = 0;
    const auto add = [&](const media::Extent& extent) {
        end = std::max(end, extent.file_block + extent.blocks);
        if ((extent.flags & media::kExtentUnwritten) == 0)
            written_end = std::max(written_end, extent.file_block + extent.blocks);
    };
    for (const auto& [at, extent] : content.extents) add(extent);
    for (const media::Extent& extent : content.doubtful)
        if (extents_->is_believed(extent)) add(extent);
    const bool ends_before_the_last =
        written_end != 0 && inode.size <= (written_end - 1) * kBlockBytes;
    if (ends_before_the_last && (inode.flags & media::kInodeCutting) == 0)
        inode.size = written_end * kBlockBytes;
    inode.size = std::min(inode.size, end * kBlockBytes);
}

}  // namespace pinfs::repairing

// SPDX-License-Identifier: Apache-2.0
//
// The extents of a file: every field, their order, and the blocks they own.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "fs/check/tree.h"

namespace pinfs::checking {
namespace {

constexpr std::uint64_t kFileBlocksMax = std::uint64_t{1} << 32;

class Extents final : public TreeWalk::Sink {
public:
    Extents(Walk& walk, const Subject& subject)
        : walk_(walk), findings_(walk.findings()), ino_(subject.inode.ino) {}

    void leaf(const TreeWalk::Leaf& leaf) override {
        const std::size_t bytes = leaf.payload.size();
        if (bytes % sizeof(media::Extent) != 0) {
            findings_.add(FindingKind::extent_field, leaf.offset, ino_,
                          "%zu bytes are no whole number of extents", bytes);
            complete_ = false;
        }
        for (std::size_t at = 0; at + sizeof(media::Extent) <= bytes; at += sizeof(media::Extent)) {
            media::Extent extent;
            std::memcpy(&extent, leaf.payload.data() + at, sizeof extent);
            judge(extent, leaf, at == 0);
        }
    }

    [[nodiscard]] std::uint64_t data_blocks() const { return data_blocks_; }
    [[nodiscard]] bool complete() const { return complete_; }
    [[nodiscard]] const media::Extent& first() const { return first_; }  // zero blocks: none

private:
    void judge(const media::Extent& extent, const TreeWalk::Leaf& leaf, bool first_of_leaf);
    void judge_order(const media::Extent& extent, const TreeWalk::Leaf& leaf, bool first_of_leaf);

    Walk& walk_;
    Findings& findings_;
    std::uint64_t ino_;
    std::uint64_t data_blocks_ = 0;
    bool complete_ = true;
    bool any_ = false;
    media::Extent previous_{};
    media::Extent first_{};
};

void Extents::judge(const media::Extent& extent, const TreeWalk::Leaf& leaf, bool first_of_leaf) {
    if (extent.blocks == 0 || extent.blocks > media::kExtentBlocksMax ||
        extent.file_block >= kFileBlocksMax || extent.blocks > kFileBlocksMax - extent.file_block) {
        findings_.add(FindingKind::extent_field, leaf.offset, ino_,
                      "the extent of %u blocks at file block %lu is empty, too long, or ends "
                      "beyond the largest file",
                      extent.blocks, extent.file_block);
        complete_ = false;
        return;
    }
    if (extent.segment != media::kSegmentRegion || (extent.flags & ~media::kExtentUnwritten) != 0)
        findings_.add(FindingKind::extent_field, leaf.offset, ino_,
                      "the extent at file block %lu has segment %u, flags %u", extent.file_block,
                      extent.segment, extent.flags);
    judge_order(extent, leaf, first_of_leaf);
    if (!any_) first_ = extent;
    previous_ = extent;
    any_ = true;

    data_blocks_ += extent.blocks;
    if (extent.segment != media::kSegmentRegion) return;
    if (extent.start_block == 0 || extent.start_block >= walk_.image.blocks() ||
        extent.blocks > walk_.image.blocks() - extent.start_block) {
        findings_.add(
            FindingKind::block_outside, leaf.offset, ino_,
            "the extent at file block %lu names region blocks [%lu, +%u), not inside the region",
            extent.file_block, extent.start_block, extent.blocks);
        return;
    }
    walk_.claims.take(extent.start_block, extent.blocks, {OwnerKind::data, ino_});
}

void Extents::judge_order(const media::Extent& extent, const TreeWalk::Leaf& leaf,
                          bool first_of_leaf) {
    if (extent.file_block < leaf.lower || extent.file_block >= leaf.upper)
        findings_.add(FindingKind::tree_bounds, leaf.offset, ino_,
                      "the extent at file block %lu is outside of its leaf's [%lu, %lu)",
                      extent.file_block, leaf.lower, leaf.upper);
    if (!any_) return;
    if (extent.file_block <= previous_.file_block) {
        findings_.add(FindingKind::tree_order, leaf.offset, ino_,
                      "the extent at file block %lu follows that at %lu", extent.file_block,
                      previous_.file_block);
    }
    const std::uint64_t previous_end = previous_.file_block + previous_.blocks;
    if (extent.file_block < previous_end &&
        extent.file_block + extent.blocks > previous_.file_block)
        findings_.add(FindingKind::extent_overlap, leaf.offset, ino_,
                      "the extents at file blocks %lu and %lu both cover block %lu",
                      previous_.file_block, extent.file_block,
                      std::max(extent.file_block, previous_.file_block));
    const bool touch = extent.file_block == previous_end &&
                       extent.start_block == previous_.start_block + previous_.blocks &&
                       extent.segment == previous_.segment && extent.flags == previous_.flags;
    const std::uint64_t together = std::uint64_t{extent.blocks} + previous_.blocks;
    if (touch && !first_of_leaf && together <= media::kExtentBlocksMax)
        findings_.add(FindingKind::extent_uncoalesced, leaf.offset, ino_,
                      "the extents at file blocks %lu and %lu should be one", previous_.file_block,
                      extent.file_block);
}

// A target longer than what is inline: the first block of the data.
void judge_long_target(Walk& walk, const Subject& subject, const media::Extent& first) {
    const media::Inode& inode = subject.inode;
    const auto wrong = [&](const char* what) {
        walk.findings().add(FindingKind::symbolic_link, subject.offset, inode.ino,
                            "the target of %lu bytes %s", inode.size, what);
    };
    if (inode.size > media::kBlockBytes) return;  // reported with its size
    if (first.blocks == 0 || first.file_block != 0 || (first.flags & media::kExtentUnwritten) != 0)
        return wrong("has no written block");
    if (first.start_block >= walk.image.blocks()) return;
    std::array<std::byte, media::kBlockBytes> block;
    const std::span<std::byte> target = std::span(block).first(inode.size);
    if (!walk.image.read(first.start_block * media::kBlockBytes, target, inode.ino)) return;
    if (std::memchr(target.data(), 0, target.size()) != nullptr) wrong("has a zero byte in it");
}

}  // namespace

Owned walk_extents(Walk& walk, const Subject& subject) {
    Extents extents(walk, subject);
    TreeWalk tree(walk, subject, media::BlockKind::extent_tree, extents);
    const Owned nodes = tree.run();
    // Of an orphan the blocks may be freed already.
    if (S_ISLNK(subject.inode.mode) && nodes.complete && subject.inode.nlink != 0)
        judge_long_target(walk, subject, extents.first());
    return {nodes.blocks + extents.data_blocks(), nodes.complete && extents.complete()};
}

}  // namespace pinfs::checking

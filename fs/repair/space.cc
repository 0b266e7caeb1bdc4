// SPDX-License-Identifier: Apache-2.0
//
// Bitmaps and totals: all is known, nothing else is wrong any more.
#include <algorithm>
#include <array>
#include <bit>

#include "fs/repair/work.h"

namespace pinfs::repairing {
namespace {

media::Group group_of(Work& work, std::uint64_t index) {
    media::Group group{};
    group.header =
        work.header(media::BlockKind::group, media::group_block_of(index, work.super().zone_groups),
                    0, 0, index, 0);
    std::memcpy(group.bitmap, work.survey.claims->words() + index * (media::kGroupBlocks / 64),
                sizeof group.bitmap);
    const std::uint64_t first = index * media::kGroupBlocks;
    for (std::uint64_t bit = 0; bit < media::kGroupBlocks; ++bit) {
        media::u8& byte = group.bitmap[bit / 8];
        const auto mask = static_cast<media::u8>(1u << bit % 8);
        if (first + bit >= work.survey.image.blocks()) byte |= mask;
        if ((byte & mask) != 0) continue;
        ++group.run_free[bit / media::kRunBlocks];
        ++group.free_blocks;
    }
    return group;
}

std::uint64_t bits_without(const media::Group& group, const media::Group& other) {
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < sizeof group.bitmap; ++i)
        bits += static_cast<std::uint64_t>(
            std::popcount(static_cast<unsigned>(group.bitmap[i] & ~other.bitmap[i])));
    return bits;
}

}  // namespace

Expected<bool> repair_groups(Work& work) {
    const std::uint64_t zone_groups = work.super().zone_groups;
    const std::uint64_t groups = work.survey.image.groups();
    const std::uint64_t end = (groups + zone_groups - 1) / zone_groups * zone_groups;
    bool changed = false;
    for (std::uint64_t index = 0; index < end; ++index) {
        const std::uint64_t block = media::group_block_of(index, zone_groups);
        if (block >= work.survey.image.blocks()) break;
        const std::uint64_t offset = block * kBlockBytes;
        media::Group wanted{};
        if (index < groups) wanted = group_of(work, index);
        const media::Group* const old = index < groups ? work.writer.group(index) : nullptr;
        if (old != nullptr && old->free_blocks == wanted.free_blocks &&
            std::ranges::equal(old->run_free, wanted.run_free) &&
            std::ranges::equal(old->bitmap, wanted.bitmap))
            continue;
        if (index >= groups) {
            if (!std::ranges::any_of(work.findings(), [offset](const Finding& finding) {
                    return finding.offset == offset;
                }))
                continue;
            work.tell(offset, 0,
                      "the block of group %lu, which the region does not have, was "
                      "zeroed",
                      index);
        } else if (old == nullptr) {
            work.tell(offset, 0, "group %lu was made anew: %u blocks are free", index,
                      wanted.free_blocks);
        } else {
            work.tell(offset, 0,
                      "group %lu: %lu blocks that nobody has are free now, %lu that "
                      "somebody has are in use, %u are free in all",
                      index, bits_without(*old, wanted), bits_without(wanted, *old),
                      wanted.free_blocks);
        }
        if (index < groups) work.writer.seal_block(wanted);
        TRY(work.writer.stage_value(offset, wanted));
        changed = true;
    }
    TRY(work.writer.commit());
    return changed;
}

Expected<bool> repair_totals(Work& work) {
    const media::Superblock& super = work.super();
    std::uint64_t free_blocks = work.survey.space.free_blocks;
    std::uint64_t inodes = work.walk().inodes_used;
    // The first lane has what is not in the others.
    for (std::uint64_t lane = super.lane_count; lane-- > 0;) {
        const std::uint64_t offset =
            super.lanes_offset + lane * super.lane_bytes + media::kLaneStateOffset;
        media::LaneState state{};
        const bool is_readable = work.read(offset, state);
        const bool whole =
            is_readable && work.is_whole(state, media::kLaneStateMagic) && state.lane == lane;
        if (whole && lane != 0) {
            free_blocks -= state.free_blocks;
            inodes -= state.inodes;
            continue;
        }
        if (!whole) state = {};
        state.magic = media::kLaneStateMagic;
        state.lane = lane;
        state.free_blocks = lane == 0 ? free_blocks : 0;
        state.inodes = lane == 0 ? inodes : 0;
        if (is_readable) {
            TRY(work.writer.stage_unit(offset, state));
            continue;
        }
        // What is written whole gets memory that works. The seal is there, too: it is cleared.
        work.writer.seal(state);
        std::array<std::byte, kBlockBytes> block{};
        std::memcpy(block.data() + media::kLaneStateOffset, &state, sizeof state);
        TRY(work.writer.stage(offset - media::kLaneStateOffset, block));
        work.tell(offset - media::kLaneStateOffset, 0,
                  "lane %lu of the journal could not be read: what was not complete there is lost",
                  lane);
    }
    TRY(work.writer.commit());
    work.tell(super.lanes_offset, 0, "the totals are %lu free blocks, %lu inodes",
              work.survey.space.free_blocks, work.walk().inodes_used);
    return true;
}

}  // namespace pinfs::repairing

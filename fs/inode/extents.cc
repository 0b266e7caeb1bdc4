// SPDX-License-Identifier: Apache-2.0
#include "fs/inode/extents.h"

#include <algorithm>
#include <cassert>

namespace pinfs::inode {

namespace {

/// A longer piece is freed in several changes.
constexpr std::uint64_t kRemoveBlocksMax = 4 * media::kGroupBlocks;
/// Log bytes that removing one piece may cost: records that move, and the bitmaps of five groups.
constexpr std::size_t kRemoveLogBytes = 3 * kBlockBytes + 5 * (media::kGroupBlocks / 8 + 256);

/// The extent of a record; nullopt if no file of this region can have it.
std::optional<Mapping> mapping_of(Record record, std::uint64_t region_blocks) {
    media::Extent extent;
    std::memcpy(&extent, record.data(), sizeof extent);
    if (extent.blocks == 0 || extent.blocks > kExtentBlocksMax ||
        extent.file_block >= kFileBlocksMax || extent.blocks > kFileBlocksMax - extent.file_block ||
        extent.segment != media::kSegmentRegion || extent.start_block == 0 ||
        extent.start_block >= region_blocks || extent.blocks > region_blocks - extent.start_block)
        return std::nullopt;
    return Mapping{.file_block = extent.file_block,
                   .blocks = extent.blocks,
                   .start_block = extent.start_block,
                   .unwritten = (extent.flags & media::kExtentUnwritten) != 0};
}

media::Extent extent_of(const Mapping& mapping) {
    assert(mapping.blocks > 0 && mapping.blocks <= kExtentBlocksMax && !mapping.is_hole());
    return {.file_block = mapping.file_block,
            .start_block = mapping.start_block,
            .blocks = static_cast<std::uint32_t>(mapping.blocks),
            .segment = media::kSegmentRegion,
            .flags = mapping.unwritten ? media::kExtentUnwritten : std::uint16_t{0}};
}

Record bytes_of(const media::Extent& extent) { return std::as_bytes(std::span{&extent, 1}); }

std::size_t record_bytes(std::span<const std::byte> bytes) {
    return bytes.size() < sizeof(media::Extent) ? 0 : sizeof(media::Extent);
}

bool joins(const Mapping& left, const Mapping& right) {
    return left.end() == right.file_block && left.start_block + left.blocks == right.start_block &&
           left.unwritten == right.unwritten && left.blocks + right.blocks <= kExtentBlocksMax;
}

}  // namespace

const TreeShape& Extents::shape() {
    static constexpr TreeShape kShape{.kind = media::BlockKind::extent_tree,
                                      .record_bytes = record_bytes};
    return kShape;
}

Expected<std::optional<Mapping>> Extents::floor(std::uint64_t file_block) const {
    const auto record = TRY(tree_.floor(file_block));
    if (record.empty()) return std::optional<Mapping>{};
    const auto extent = mapping_of(record, region_blocks_);
    if (!extent) return fail(Cause::media_corrupt, 0, inode_.ino);
    return extent;
}

Expected<std::optional<Mapping>> Extents::last() const { return floor(UINT64_MAX); }

Expected<std::optional<Mapping>> Extents::next(std::uint64_t file_block) const {
    auto found = TRY(floor(file_block));
    if (found && found->end() > file_block) return found;
    found.reset();
    bool sound = true;
    TRY(tree_.for_each(file_block, [&](Record record) {
        found = mapping_of(record, region_blocks_);
        sound = found.has_value();
        return false;
    }));
    if (!sound) return fail(Cause::media_corrupt, 0, inode_.ino);
    return found;
}

Expected<std::vector<Mapping>> Extents::map(std::uint64_t begin, std::uint64_t end) const {
    std::vector<Mapping> pieces;
    std::uint64_t at = begin;
    const auto take = [&](const Mapping& extent) {
        if (extent.file_block > at) {
            const std::uint64_t stop = std::min(extent.file_block, end);
            pieces.push_back({.file_block = at, .blocks = stop - at});
            at = stop;
        }
        if (at >= end || extent.end() <= at) return at < end;
        const std::uint64_t skip = at - extent.file_block;
        const std::uint64_t stop = std::min(extent.end(), end);
        pieces.push_back({.file_block = at,
                          .blocks = stop - at,
                          .start_block = extent.start_block + skip,
                          .unwritten = extent.unwritten});
        at = stop;
        return at < end;
    };
    if (begin >= end) return pieces;
    const auto before = TRY(floor(begin));
    bool more = true;
    if (before && before->end() > begin) more = take(*before);
    bool sound = true;
    if (more)
        TRY(tree_.for_each(at, [&](Record record) {
            const auto extent = mapping_of(record, region_blocks_);
            sound = extent.has_value();
            return sound && take(*extent);
        }));
    if (!sound) return fail(Cause::media_corrupt, 0, inode_.ino);
    if (at < end) pieces.push_back({.file_block = at, .blocks = end - at});
    return pieces;
}

Expected<void> Extents::add(const Mapping& piece) {
    Mapping joined = piece;
    const auto before = TRY(floor(piece.file_block));
    const auto after_record = [&]() -> Expected<std::optional<Mapping>> {
        // The right neighbour is of interest only if it starts where the piece ends.
        const auto found = TRY(floor(piece.end()));
        if (!found || found->file_block != piece.end()) return std::optional<Mapping>{};
        return found;
    };
    const auto after = TRY(after_record());
    const bool join_after = after && joins(piece, *after);
    if (join_after) joined.blocks += after->blocks;
    const bool join_before = before && joins(*before, joined);
    if (join_before) {
        joined.file_block = before->file_block;
        joined.start_block = before->start_block;
        joined.blocks += before->blocks;
    }
    const media::Extent extent = extent_of(joined);
    if (join_before && join_after) TRY(tree_.erase(after->file_block));
    if (join_before) return tree_.replace(before->file_block, bytes_of(extent));
    if (join_after) {
        // The key changes downwards: in another leaf it would be out of place.
        TRY(tree_.erase(after->file_block));
    }
    return tree_.insert(bytes_of(extent));
}

Expected<void> Extents::carve(const Mapping& extent, std::uint64_t begin, std::uint64_t end) {
    assert(extent.file_block <= begin && begin < end && end <= extent.end());
    const Mapping left{.file_block = extent.file_block,
                       .blocks = begin - extent.file_block,
                       .start_block = extent.start_block,
                       .unwritten = extent.unwritten};
    const Mapping right{.file_block = end,
                        .blocks = extent.end() - end,
                        .start_block = extent.start_block + (end - extent.file_block),
                        .unwritten = extent.unwritten};
    if (left.blocks > 0)
        TRY(tree_.replace(extent.file_block, bytes_of(extent_of(left))));
    else
        TRY(tree_.erase(extent.file_block));
    if (right.blocks > 0) TRY(tree_.insert(bytes_of(extent_of(right))));
    return {};
}

Expected<void> Extents::mark(std::uint64_t begin, std::uint64_t end, bool unwritten) {
    for (Mapping piece : TRY(map(begin, end))) {
        if (piece.is_hole() || piece.unwritten == unwritten) continue;
        const auto extent = TRY(floor(piece.file_block));
        if (!extent) return fail(Cause::media_corrupt, 0, inode_.ino);
        TRY(carve(*extent, piece.file_block, piece.end()));
        piece.unwritten = unwritten;
        TRY(add(piece));
    }
    return {};
}

Expected<bool> Extents::remove_some(std::uint64_t begin, std::uint64_t end, const TakeAway* away) {
    const std::size_t log_bytes = kRemoveLogBytes + (away != nullptr ? TakeAway::kLogBytes : 0);
    while (begin < end) {
        const auto extent = TRY(floor(end - 1));
        if (!extent || extent->end() <= begin) return true;
        if (!change_->has_room(log_bytes)) return false;
        const std::uint64_t stop = std::min(end, extent->end());
        std::uint64_t from = std::max(begin, extent->file_block);
        const bool whole = stop - from <= kRemoveBlocksMax;
        if (!whole) from = stop - kRemoveBlocksMax;
        if (away != nullptr) from = away->begin_of_last(from, stop);
        const BlockRun run{extent->start_block + (from - extent->file_block), stop - from};
        if (away != nullptr)
            TRY(away->take(*change_, from, run));
        else
            change_->free(run);
        edited_->blocks -= run.count;
        TRY(carve(*extent, from, stop));
        end = from;
        if (!whole) return false;
    }
    return true;
}

}  // namespace pinfs::inode

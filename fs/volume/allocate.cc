// SPDX-License-Identifier: Apache-2.0
//
// fallocate(2): blocks for a range, zeros in its place, a hole in its place. The range is held
// throughout, so nobody reads or writes it meanwhile. What is larger than one change goes in steps,
// each of which leaves a valid file: after a crash it may be done up to some block (SPEC 6.1).
#include <sys/stat.h>

#include <algorithm>

#include "fs/volume/core.h"
#include "fs/volume/layout_change.h"
#include "fs/volume/protection.h"

namespace pinfs {

using inode::Extents;
using inode::Mapping;

namespace {

constexpr std::uint64_t kStepBlocks = 4 * media::kGroupBlocks;
/// Log bytes kept for what a change edits last.
constexpr std::size_t kSpareLogBytes = kBlockBytes;

}  // namespace

/// A range of bytes under fallocate, and the file's size while it is held.
struct Volume::Core::HeldRange {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    bool keep_size = false;
    std::uint64_t size = 0;

    [[nodiscard]] bool extends() const { return !keep_size && end > size; }
    [[nodiscard]] std::uint64_t first_block() const { return begin / kBlockBytes; }
    [[nodiscard]] std::uint64_t end_block() const { return blocks_of(end); }
};

/// Runs `operation` with the bytes held, and, if the file is to grow, everything from its end on.
Expected<void> Volume::Core::with_range(
    InodeState& state, HeldRange range, Expected<void> (*refuse)(const media::Inode&),
    const std::function<Expected<void>(const HeldRange&)>& operation) {
    if (range.begin >= range.end) return fail(Cause::invalid_argument);
    if (range.end > kFileBytesMax) return fail(Cause::file_too_large);
    for (;;) {
        bool cutting = false;
        {
            const Shared lock{state.mutex};
            const auto inode = TRY(read_inode(state));
            if (!S_ISREG(inode.mode))
                return fail(S_ISDIR(inode.mode) ? Cause::is_a_directory : Cause::invalid_argument);
            TRY(refuse(inode));
            range.size = inode.size;
            cutting = (inode.flags & media::kInodeCutting) != 0;
        }
        if (cutting) {
            TRY(finish_old_cut(state));
            continue;
        }
        const std::uint64_t from =
            range.extends() ? std::min(range.begin, range.size) : range.begin;
        const RangeLock::Hold hold{state.ranges, round_down(from, kBlockBytes),
                                   range.extends() ? kToTheEnd : round_up(range.end, kBlockBytes),
                                   RangeLock::Mode::exclusive};
        {
            const Shared lock{state.mutex};
            const auto inode = TRY(read_inode(state));
            if ((inode.flags & media::kInodeCutting) != 0) continue;
            const bool extended = range.extends();
            if (extended && inode.size != range.size) continue;
            range.size = inode.size;
            if (range.extends() != extended) continue;
        }
        return operation(range);
    }
}

/// Zeroes what is written of [begin, end); durable after the thread's next fence. The range is
/// held.
Expected<void> Volume::Core::zero_written(InodeState& state, std::uint64_t begin,
                                          std::uint64_t end) {
    if (begin >= end) return {};
    std::vector<Mapping> pieces;
    {
        const Shared lock{state.mutex};
        const auto inode = TRY(read_inode(state));
        pieces = TRY(Extents(units_, inode).map(begin / kBlockBytes, blocks_of(end)));
    }
    for (const Mapping& piece : pieces) {
        if (!piece.is_written()) continue;
        const std::uint64_t piece_begin = piece.file_block * kBlockBytes;
        const std::uint64_t from = std::max(begin, piece_begin);
        const std::uint64_t to = std::min(end, piece.end() * kBlockBytes);
        TRY(region_.zero(piece.start_block * kBlockBytes + (from - piece_begin), to - from));
    }
    return {};
}

/// Bytes of [old_end, new_end), behind the end of the file, that become readable, or that somebody
/// else may read: zeros. They may hold anything in the last block, and in the rest of a unit that
/// somebody has mapped. As zero_written.
Expected<void> Volume::Core::zero_from_end(InodeState& state, std::uint64_t old_end,
                                           std::uint64_t new_end) {
    // A device may be writing to the last block.
    const std::uint64_t block_end = round_up(old_end, kBlockBytes);
    const bool kept = old_end < block_end && is_pinned(state, block_end - kBlockBytes, block_end);
    return zero_written(state, kept ? block_end : old_end,
                        std::min(new_end, round_up(old_end, map_unit_bytes())));
}

/// Zeroes the parts of `range` that are less than a block.
Expected<void> Volume::Core::zero_edges(InodeState& state, const HeldRange& range) {
    const std::uint64_t head_end = std::min(round_up(range.begin, kBlockBytes), range.end);
    TRY(zero_written(state, range.begin, head_end));
    return zero_written(state, std::max(head_end, round_down(range.end, kBlockBytes)), range.end);
}

/// ENOSPC before anything changed, where that can be known.
Expected<void> Volume::Core::check_room(InodeState& state, const HeldRange& range) {
    const Shared lock{state.mutex};
    const auto inode = TRY(read_inode(state));
    const Extents extents{units_, inode};
    std::uint64_t wanted = range.end_block() - range.first_block();
    for (std::uint64_t at = range.first_block(); at < range.end_block();) {
        const auto extent = TRY(extents.next(at));
        if (!extent || extent->file_block >= range.end_block()) break;
        wanted -= std::min(extent->end(), range.end_block()) - std::max(extent->file_block, at);
        at = extent->end();
    }
    if (wanted + allocator_.reserve_blocks() > allocator_.free_blocks())
        return fail(Cause::no_space);
    return {};
}

/// Gives every hole of [begin, end) blocks that read as zeros, and makes whole blocks of `range`
/// unwritten if they are to be `zeroed`. False if that does not fit `change`.
Expected<bool> Volume::Core::fill_step(Change& change, media::Inode& inode, std::uint64_t begin,
                                       std::uint64_t end, const HeldRange& range, bool zeroed) {
    Extents extents{change, inode};
    std::uint64_t goal = 0;
    if (begin > 0) {
        const auto before = TRY(extents.map(begin - 1, begin));
        if (!before[0].is_hole()) goal = before[0].start_block + 1;
    }
    for (const Mapping& piece : TRY(extents.map(begin, end))) {
        if (!piece.is_hole()) {
            goal = piece.start_block + piece.blocks;
            continue;
        }
        std::uint64_t at = piece.file_block;
        for (const BlockRun run : TRY(change.allocate({.blocks = piece.blocks,
                                  .goal = goal,
                                  .aligned = piece.blocks >= kRunBlocks,
                                  .file_block = at}))) {
            TRY(extents.add({.file_block = at,
                             .blocks = run.count,
                             .start_block = run.begin,
                             .unwritten = true}));
            inode.blocks += run.count;
            at += run.count;
            goal = run.end();
        }
        if (!change.has_room(kSpareLogBytes)) return false;
    }
    if (zeroed)
        TRY(extents.mark(std::max(begin, blocks_of(range.begin)),
                         std::min(end, range.end / kBlockBytes), true));
    return change.has_room(kSpareLogBytes);
}

/// On error nothing can be seen but, of a range to be zeroed, zeros; some holes may have blocks.
Expected<void> Volume::Core::fill_range(InodeState& state, const HeldRange& range, bool zeroed) {
    TRY(check_room(state, range));
    if (range.extends()) TRY(zero_from_end(state, range.size, range.end));
    std::optional<MustFinish> finish;
    if (zeroed) {
        finish.emplace();
        TRY(zero_edges(state, range));
    }
    const std::uint64_t end_block = range.end_block();
    std::uint64_t step = kStepBlocks;
    for (std::uint64_t at = range.first_block(); at < end_block;) {
        const Exclusive lock{state.mutex};
        Change one = change(space::Reserve::keep);
        auto* inode = TRY(edit_inode(one, state));
        const std::uint64_t stop = std::min(end_block, at + step);
        if (!TRY(fill_step(one, *inode, at, stop, range, zeroed)) && step > 1) {
            step /= 2;
            continue;
        }
        at = stop;
        if (at == end_block && range.extends()) inode->size = range.end;
        if (at > blocks_of(inode->size)) {
            if (range.keep_size)
                inode->flags |= media::kInodeKeepBeyondEnd;
            else
                state.preallocated.store(true);  // until the size covers them
        }
        touch(*inode, now());
        TRY(one.commit());
    }
    return {};
}

Expected<void> Volume::Core::allocate(Ino ino, std::uint64_t offset_bytes,
                                      std::uint64_t length_bytes, bool keep_size) {
    TRY(admit_change());
    const Use state = use(ino);
    return with_space([&] {
        return with_range(*state, {offset_bytes, offset_bytes + length_bytes, keep_size},
                          refuse_immutable,
                          [&](const HeldRange& range) { return fill_range(*state, range, false); });
    });
}

/// A range whose blocks are to be cut or zeroed: nobody forbids it, and blocks of which a part is
/// meant are replaced if somebody may reach them.
Expected<void> Volume::Core::prepare_cut(InodeState& state, const HeldRange& range) {
    const std::uint64_t begin = round_down(range.begin, kBlockBytes);
    const std::uint64_t end = round_up(range.end, kBlockBytes);
    TRY(admit_layout_change(state, begin, end));
    if (range.begin != begin) TRY(replace_block(state, begin));
    if (range.end != end) TRY(replace_block(state, end - kBlockBytes));
    return {};
}

/// Takes the whole blocks of `range` out of the file.
Expected<void> Volume::Core::cut_range(InodeState& state, const HeldRange& range) {
    const std::uint64_t first_block = blocks_of(range.begin);
    const std::uint64_t end_block = range.end / kBlockBytes;
    for (bool done = false; !done;) {
        const Exclusive lock{state.mutex};
        LayoutChange layout{*this, state, TRY(read_inode(state))};
        TRY(layout.prepare());
        Change one = change(space::Reserve::use);
        auto* inode = TRY(edit_inode(one, state));
        done = TRY(Extents(one, *inode).remove_some(first_block, end_block, layout.away()));
        if (done) layout.tell(one, range.first_block(), range.end_block());
        touch(*inode, now());
        TRY(one.commit());
    }
    return {};
}

Expected<void> Volume::Core::zero_range(Ino ino, std::uint64_t offset_bytes,
                                        std::uint64_t length_bytes, bool keep_size) {
    TRY(admit_change());
    const Use state = use(ino);
    const auto zero = [&](const HeldRange& range) -> Expected<void> {
        TRY(prepare_cut(*state, range));
        // Blocks that somebody may reach are replaced: the file gets others, which read as zeros.
        if (is_reached(*state, range.begin, range.end)) {
            TRY(check_room(*state, range));
            const MustFinish finish;
            TRY(zero_edges(*state, range));
            TRY(cut_range(*state, range));
        } else if (state->watched.load()) {
            tell_leases(*state, range.begin, range.end);
        }
        return fill_range(*state, range, true);
    };
    TRY(admit_layout_change(*state, round_down(offset_bytes, kBlockBytes),
                            offset_bytes + length_bytes));
    return with_space([&] {
        return with_range(*state, {offset_bytes, offset_bytes + length_bytes, keep_size},
                          refuse_protected, zero);
    });
}

Expected<void> Volume::Core::punch_hole(Ino ino, std::uint64_t offset_bytes,
                                        std::uint64_t length_bytes) {
    TRY(admit_change());
    const Use state = use(ino);
    const auto punch = [&](HeldRange range) -> Expected<void> {
        TRY(prepare_cut(*state, range));
        // The last block of the file goes whole: nothing is behind the end.
        if (range.end >= range.size) range.end = round_up(range.end, kBlockBytes);
        const MustFinish finish;
        TRY(zero_edges(*state, range));
        return cut_range(*state, range);
    };
    TRY(admit_layout_change(*state, round_down(offset_bytes, kBlockBytes),
                            offset_bytes + length_bytes));
    return with_range(*state, {offset_bytes, offset_bytes + length_bytes, true}, refuse_protected,
                      punch);
}

}  // namespace pinfs

// SPDX-License-Identifier: Apache-2.0
//
// Where the processor maps a region in units larger than a block (SPEC 1.5), a file that is mapped
// or pinned lies in whole units. A unit of which a part was cut cannot be shown: its rest is the
// file's, what was cut is held for the maps that reach it. When those know of it, it is whole again
// in its place, so that no store to the rest is lost.
#include <algorithm>
#include <map>
#include <optional>

#include "fs/volume/core.h"
#include "fs/volume/layout_change.h"

namespace pinfs {

using inode::Extents;
using inode::Mapping;

std::uint64_t Volume::Core::map_unit_bytes() const {
    return std::max<std::uint64_t>(super_.map_unit_bytes, region_.capabilities().map_unit_bytes);
}

/// Whether file blocks [begin, end), a map unit, are one run at a congruent place of the region.
bool Volume::Core::is_unit(const std::vector<Mapping>& pieces, std::uint64_t begin_block) {
    std::uint64_t next = pieces.front().start_block;
    if (next % kRunBlocks != begin_block % kRunBlocks) return false;
    for (const Mapping& piece : pieces) {
        if (!piece.is_written() || piece.start_block != next) return false;
        next += piece.blocks;
    }
    return true;
}

/// Whether every unit that meets the range is one run. The range is held.
Expected<bool> Volume::Core::is_whole_units(InodeState& state, std::uint64_t begin_bytes,
                                            std::uint64_t end_bytes) {
    if (map_unit_bytes() == kBlockBytes) return true;
    std::uint64_t whole = 0;
    for (const Extent& extent : TRY(shown_extents(state, begin_bytes, end_bytes)))
        whole += extent.bytes;
    return whole == end_bytes - begin_bytes;
}

/// Every unit that meets the range becomes one run of the region, with the same offset in it; its
/// last blocks may lie behind the end of the file. What is not yet so moves, unless somebody
/// reaches it: then it gets back what was cut out of it, or the error is unit_in_use. For a map
/// that is shown anew (`for_map`, else 0) the other units are done first.
Expected<void> Volume::Core::align_units(InodeState& state, std::uint64_t begin_bytes,
                                         std::uint64_t end_bytes, std::uint64_t for_map) {
    const std::uint64_t unit_bytes = map_unit_bytes();
    if (unit_bytes == kBlockBytes) return {};
    if (unit_bytes != kRunBlocks * kBlockBytes) return fail(Cause::unknown_map_unit);
    Expected<void> result;
    for (std::uint64_t at = round_down(begin_bytes, unit_bytes); at < end_bytes; at += unit_bytes) {
        const std::uint64_t begin = at / kBlockBytes;
        // Behind the end somebody may append.
        const RangeLock::Hold hold{state.ranges, at, kToTheEnd, RangeLock::Mode::exclusive};
        std::vector<Mapping> pieces;
        {
            const Shared lock{state.mutex};
            const auto inode = TRY(read_inode(state));
            if (at >= inode.size) break;  // it was cut meanwhile: the caller looks again
            pieces = TRY(Extents(units_, inode).map(begin, begin + kRunBlocks));
        }
        if (is_unit(pieces, begin)) continue;
        const bool in_use =
            is_pinned(state, at, at + unit_bytes) || is_reached(state, at, at + unit_bytes);
        auto done = in_use ? restore_unit(state, pieces, for_map) : move_unit(state, begin);
        if (!done && (for_map == 0 || done.error().cause != Cause::unit_in_use)) return done;
        if (!done) result = std::move(done);
    }
    return result;
}

/// To a run of its own. Nobody reaches it; its range is held.
Expected<void> Volume::Core::move_unit(InodeState& state, std::uint64_t begin_block) {
    if (TRY(move_unit_at_once(state, begin_block))) return {};
    // So many pieces that one change cannot free them: of larger ones there are fewer.
    TRY(move_blocks(state, begin_block, begin_block + kRunBlocks));
    if (TRY(move_unit_at_once(state, begin_block))) return {};
    return fail(Cause::change_too_large, 0, state.ino.value);
}

/// False if that does not fit one change: nothing changed.
Expected<bool> Volume::Core::move_unit_at_once(InodeState& state, std::uint64_t begin_block) {
    const std::uint64_t end_block = begin_block + kRunBlocks;
    Change one = change(space::Reserve::keep);
    const auto runs = TRY(one.allocate({.blocks = kRunBlocks, .aligned = true}));
    const BlockRun run = runs.front();
    if (runs.size() != 1 || run.begin % kRunBlocks != 0) return fail(Cause::no_whole_run);
    std::vector<Mapping> pieces;
    {
        const Shared lock{state.mutex};
        pieces = TRY(Extents(units_, TRY(read_inode(state))).map(begin_block, end_block));
    }
    std::vector<std::byte> buffer;
    for (const Mapping& piece : pieces)
        TRY(copy_piece(piece, run.begin + (piece.file_block - begin_block), buffer));
    const Exclusive lock{state.mutex};
    LayoutChange layout{*this, state, TRY(read_inode(state))};
    TRY(layout.prepare());
    auto* inode = TRY(edit_inode(one, state));
    Extents extents{one, *inode};
    if (!TRY(extents.remove_some(begin_block, end_block, layout.away()))) return false;
    TRY(extents.add({.file_block = begin_block, .blocks = kRunBlocks, .start_block = run.begin}));
    inode->blocks += kRunBlocks;
    if (end_block > blocks_of(inode->size)) inode->flags |= media::kInodeKeepBeyondEnd;
    layout.tell(one, begin_block, end_block);
    TRY(one.commit());
    return true;
}

/// What stands in a piece of a file, zeros for what is not written, to blocks from `to` on.
Expected<void> Volume::Core::copy_piece(const Mapping& piece, std::uint64_t to,
                                        std::vector<std::byte>& buffer) {
    if (piece.is_written()) return copy_blocks(piece.start_block, to, piece.blocks, buffer);
    return region_.zero(to * kBlockBytes, piece.blocks * kBlockBytes);
}

/// What a hold has of a unit.
struct Volume::Core::UnitPart {
    std::uint64_t hold = 0;   // its id
    std::uint64_t begin = 0;  // file blocks
    std::uint64_t end = 0;
};

/// Where a unit lies for those who have it mapped, and the holds that have what it lost there.
struct Volume::Core::Restoration {
    std::uint64_t home = 0;  // the unit's first region block
    std::vector<UnitPart> parts;
};

/// Which holds give the unit back, if all who reach them know that the file lost those blocks: maps
/// that were shown anew since, and `for_map`, which is now. They are kept until release_kept.
std::optional<Volume::Core::Restoration> Volume::Core::plan_restoration(
    InodeState& state, const std::vector<Mapping>& pieces, std::uint64_t for_map) {
    const std::uint64_t begin = pieces.front().file_block;
    const std::uint64_t end = begin + kRunBlocks;
    const PinsLock lock{pins_mutex_};
    const pin::FilePins* const file = registry_.find(state.ino.value);
    if (file == nullptr) return std::nullopt;
    std::map<std::uint64_t, std::map<std::uint64_t, UnitPart>> by_home;  // and by hold
    file->maps.for_each(begin * kBlockBytes, end * kBlockBytes, [&](const pin::Map& map) {
        for (const std::uint64_t id : map.holds) {
            const pin::Hold& hold = *registry_.hold(id);
            const std::uint64_t from = std::max(begin, hold.file_block);
            const std::uint64_t to = std::min(end, hold.file_block + hold.run.count);
            if (from >= to) continue;
            const std::uint64_t place = hold.run.begin + (from - hold.file_block);
            if (place % kRunBlocks == from % kRunBlocks)
                by_home[round_down(place, kRunBlocks)][id] = {id, from, to};
        }
        return true;
    });
    const auto may_return = [&](const UnitPart& part) {
        const std::uint64_t from = part.begin * kBlockBytes;
        const std::uint64_t to = part.end * kBlockBytes;
        const pin::Hold& hold = *registry_.hold(part.hold);
        if (hold.needs_proof || file->is_pinned(from, to)) return false;
        return std::ranges::all_of(hold.waits_for, [&](std::uint64_t each) {
            const pin::Map& map = *registry_.reference(each);
            return each == for_map ||
                   map.noted.covers(std::max(from, map.begin), std::min(to, map.end));
        });
    };
    for (const auto& [home, parts] : by_home) {
        std::uint64_t blocks = 0;
        bool all = true;
        Restoration found{.home = home, .parts = {}};
        for (const auto& [id, part] : parts) {
            blocks += part.end - part.begin;
            all = all && may_return(part);
            found.parts.push_back(part);
        }
        for (const Mapping& piece : pieces)
            if (piece.is_written() && piece.start_block == home + (piece.file_block - begin))
                blocks += piece.blocks;
        if (!all || blocks != kRunBlocks) continue;
        for (const UnitPart& part : found.parts) registry_.keep(*registry_.hold(part.hold), true);
        return found;
    }
    return std::nullopt;
}

void Volume::Core::release_kept(const Restoration& restoration) {
    const PinsLock lock{pins_mutex_};
    for (const UnitPart& part : restoration.parts)
        if (pin::Hold* const hold = registry_.hold(part.hold)) registry_.keep(*hold, false);
    disturb_keeper();
}

/// A unit that is reached, and from which blocks were cut, is whole again where it was. The file's
/// content stays what it is. Its range is held. Errors: unit_in_use.
Expected<void> Volume::Core::restore_unit(InodeState& state, const std::vector<Mapping>& pieces,
                                          std::uint64_t for_map) {
    auto plan = plan_restoration(state, pieces, for_map);
    if (!plan) return fail(Cause::unit_in_use, 0, state.ino.value);
    const MustFinish finish;
    const auto done = restore_parts(state, pieces, *plan);
    release_kept(*plan);
    TRY(done);
    // Others who knew that it could not be shown.
    const std::uint64_t begin = pieces.front().file_block * kBlockBytes;
    const std::uint64_t end = begin + kRunBlocks * kBlockBytes;
    {
        const PinsLock lock{pins_mutex_};
        if (const pin::FilePins* const file = registry_.find(state.ino.value))
            file->maps.for_each(begin, end, [&](const pin::Map& map) {
                if (map.id != for_map && map.noted.meets(begin, end))
                    registry_.post_gone(map, begin, end);
                return true;
            });
    }
    wake_contexts();
    return {};
}

Expected<void> Volume::Core::restore_parts(InodeState& state, const std::vector<Mapping>& pieces,
                                           Restoration& restoration) {
    const std::uint64_t begin = pieces.front().file_block;
    std::vector<std::byte> buffer;
    for (const Mapping& piece : pieces) {
        const std::uint64_t to = restoration.home + (piece.file_block - begin);
        if (piece.start_block != to) TRY(copy_piece(piece, to, buffer));
    }
    for (UnitPart& part : restoration.parts)
        for (std::uint64_t step = part.end - part.begin; part.begin < part.end;) {
            const std::uint64_t to = restoration.home + (part.begin - begin);
            if (TRY(restore_step(state, part, std::min(step, part.end - part.begin), to))) continue;
            if (step == 1) return fail(Cause::change_too_large, 0, state.ino.value);
            step /= 2;
        }
    return {};
}

/// The first blocks of a part are the file's again, at `to`, and no more of the part. False if that
/// does not fit one change.
Expected<bool> Volume::Core::restore_step(InodeState& state, UnitPart& part, std::uint64_t blocks,
                                          std::uint64_t to) {
    const Exclusive lock{state.mutex};
    LayoutChange layout{*this, state, TRY(read_inode(state))};
    if (layout.away() == nullptr) return fail(Cause::unit_in_use, 0, state.ino.value);
    TRY(layout.prepare());
    const pin::Hold& hold = *registry_.hold(part.hold);
    // An owner went meanwhile: what it reaches goes to nobody before that is proven.
    if (hold.needs_proof) return fail(Cause::unit_in_use, 0, state.ino.value);
    const std::uint64_t stop = part.begin + blocks;
    Change one = change(space::Reserve::use);
    auto* inode = TRY(edit_inode(one, state));
    Extents extents{one, *inode};
    if (!TRY(extents.remove_some(part.begin, stop, layout.away()))) return false;
    TRY(extents.add({.file_block = part.begin, .blocks = blocks, .start_block = to}));
    inode->blocks += blocks;
    if (stop > blocks_of(inode->size)) inode->flags |= media::kInodeKeepBeyondEnd;
    TRY(erase_record(one, hold.slot, hold.slot_offset));
    one.after_commit([this, id = hold.id] { registry_.remove_hold(id); });
    // What it has before these blocks, and behind.
    std::uint64_t rest_id = 0;
    const auto leave = [&](std::uint64_t from, std::uint64_t end) -> Expected<void> {
        if (from == end) return {};
        auto rest = std::make_unique<pin::Hold>(hold);
        rest->file_block = from;
        rest->run = {hold.run.begin + (from - hold.file_block), end - from};
        rest->kept = from == stop;
        const pin::Hold& stored = *rest;
        TRY(store_hold(one, std::move(rest)));
        if (from == stop) rest_id = stored.id;
        return {};
    };
    TRY(leave(hold.file_block, part.begin));
    TRY(leave(stop, hold.file_block + hold.run.count));
    layout.tell(one, part.begin, stop);
    TRY(one.commit());
    part.begin = stop;
    part.hold = rest_id;
    return true;
}

}  // namespace pinfs

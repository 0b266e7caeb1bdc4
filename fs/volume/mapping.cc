// SPDX-License-Identifier: Apache-2.0
//
// Direct maps (SPEC 5.1), and what maps and pins have in common: blocks for all of a range before
// anybody reaches it.
#include <algorithm>

#include "fs/pin/process.h"
#include "fs/volume/core.h"
#include "fs/volume/layout_change.h"

namespace pinfs {

using inode::Extents;
using inode::Mapping;

namespace {

/// Zeroed and committed in one step: how long others wait for the range.
constexpr std::uint64_t kPopulateBlocks = 16 * media::kRunBlocks;
constexpr int kAttemptsMax = 100;  // against somebody who punches holes all the time

}  // namespace

Expected<bool> Volume::Core::is_written(InodeState& state, std::uint64_t begin_block,
                                        std::uint64_t end_block) {
    const Shared lock{state.mutex};
    const auto inode = TRY(read_inode(state));
    const auto pieces = TRY(Extents(units_, inode).map(begin_block, end_block));
    return std::ranges::all_of(pieces, &Mapping::is_written);
}

/// A hole gets blocks, and what is not written yet becomes zeros, which the first step of the
/// commit fences: durable before anybody may reach it. On failure nothing remains but zeroed
/// blocks.
Expected<void> Volume::Core::populate(InodeState& state, std::uint64_t begin_bytes,
                                      std::uint64_t end_bytes, std::uint32_t for_pid) {
    if (TRY(is_written(state, begin_bytes / kBlockBytes, blocks_of(end_bytes)))) return {};
    for (std::uint64_t at = begin_bytes / kBlockBytes; at < blocks_of(end_bytes);) {
        std::uint64_t stop = std::min(blocks_of(end_bytes), at + kPopulateBlocks);
        if (TRY(is_written(state, at, stop))) {
            at = stop;
            continue;
        }
        const RangeLock::Hold hold{state.ranges, at * kBlockBytes, stop * kBlockBytes,
                                   RangeLock::Mode::exclusive};
        std::vector<Mapping> pieces;
        std::uint64_t goal = 0;
        {
            const Shared lock{state.mutex};
            const auto inode = TRY(read_inode(state));
            stop = std::min(stop, blocks_of(inode.size));
            if (at >= stop) return {};  // it was cut meanwhile: the caller looks again
            const Extents extents{units_, inode};
            pieces = TRY(extents.map(at, stop));
            if (at > 0) {
                const auto before = TRY(extents.map(at - 1, at));
                if (!before[0].is_hole()) goal = before[0].start_block + 1;
            }
        }
        Change one = change(space::Reserve::keep);
        std::vector<Mapping> added;
        for (const Mapping& piece : pieces) {
            if (!piece.is_hole()) {
                if (piece.unwritten)
                    TRY(region_.zero(piece.start_block * kBlockBytes, piece.blocks * kBlockBytes));
                goal = piece.start_block + piece.blocks;
                continue;
            }
            std::uint64_t file_block = piece.file_block;
            for (const BlockRun run : TRY(one.allocate({.blocks = piece.blocks,
                                      .goal = goal,
                                      .aligned = piece.blocks >= kRunBlocks,
                                      .file_block = file_block}))) {
                TRY(region_.zero(run.begin * kBlockBytes, run.count * kBlockBytes));
                added.push_back(
                    {.file_block = file_block, .blocks = run.count, .start_block = run.begin});
                file_block += run.count;
                goal = run.end();
            }
        }
        const Exclusive lock{state.mutex};
        auto* inode = TRY(edit_inode(one, state));
        Extents extents{one, *inode};
        for (const Mapping& piece : added) {
            TRY(extents.add(piece));
            inode->blocks += piece.blocks;
        }
        TRY(extents.mark(at, stop, false));
        TRY(one.commit());
        at = stop;
        // The kernel lets a killed process go only when its request is answered.
        if (for_pid != 0 && pin::is_being_killed(for_pid)) return fail_errno(EINTR);
    }
    return {};
}

/// Bytes behind the end, in its block: zeros before somebody reaches them who is not us. The range
/// is held. Fenced with the record that follows.
Expected<void> Volume::Core::zero_behind_end(InodeState& state, std::uint64_t begin_bytes,
                                             std::uint64_t end_bytes) {
    std::uint64_t size = 0;
    {
        const Shared lock{state.mutex};
        size = TRY(read_inode(state)).size;
    }
    const std::uint64_t end = round_up(size, kBlockBytes);
    if (end > end_bytes || size < begin_bytes) return {};
    return zero_from_end(state, size, end);
}

Expected<std::vector<Extent>> Volume::Core::extents_of(InodeState& state, std::uint64_t begin_bytes,
                                                       std::uint64_t end_bytes, bool holes_too) {
    const Shared lock{state.mutex};
    const auto inode = TRY(read_inode(state));
    std::vector<Extent> found;
    for (const Mapping& piece :
         TRY(Extents(units_, inode).map(begin_bytes / kBlockBytes, blocks_of(end_bytes)))) {
        if (!piece.is_written()) {
            if (!holes_too) return fail(Cause::holes_in_range, 0, inode.ino);
            continue;
        }
        const Extent next{.file_offset = piece.file_block * kBlockBytes,
                          .region_offset = piece.start_block * kBlockBytes,
                          .bytes = piece.blocks * kBlockBytes};
        if (!found.empty() && found.back().file_offset + found.back().bytes == next.file_offset &&
            found.back().region_offset + found.back().bytes == next.region_offset)
            found.back().bytes += next.bytes;
        else
            found.push_back(next);
    }
    return found;
}

Expected<std::vector<Extent>> Volume::Core::shown_extents(InodeState& state,
                                                          std::uint64_t begin_bytes,
                                                          std::uint64_t end_bytes) {
    const std::uint64_t unit_bytes = map_unit_bytes();
    if (unit_bytes == kBlockBytes) return extents_of(state, begin_bytes, end_bytes, true);
    const Shared lock{state.mutex};
    const auto inode = TRY(read_inode(state));
    std::vector<Extent> found;
    for (std::uint64_t at = round_down(begin_bytes, unit_bytes); at < end_bytes; at += unit_bytes) {
        const auto pieces =
            TRY(Extents(units_, inode).map(at / kBlockBytes, (at + unit_bytes) / kBlockBytes));
        if (!is_unit(pieces, at / kBlockBytes)) continue;
        const std::uint64_t begin = std::max(at, begin_bytes);
        found.push_back({.file_offset = begin,
                         .region_offset = pieces.front().start_block * kBlockBytes + (begin - at),
                         .bytes = std::min(at + unit_bytes, end_bytes) - begin});
    }
    return found;
}

/// What maps and pins have in common: blocks for all of the range, then, with the range held as a
/// reader holds it, so that its layout stays, the last look and the entry. `admit` is asked with
/// the pins' lock held, before anything is done and again at the end.
Expected<Volume::Core::Reached> Volume::Core::reach(
    InodeState& state, std::unique_ptr<pin::Reference> wanted, const Reach& how,
    const std::function<Expected<void>(pin::Reference&)>& admit) {
    const std::uint64_t begin = wanted->begin;
    const std::uint64_t end = wanted->end;
    const std::uint32_t for_pid = wanted->owner.process.pid;
    const auto admit_size = [&](std::uint64_t size) -> Expected<void> {
        const std::uint64_t limit = how.up_to_block_end ? round_up(size, kBlockBytes) : size;
        return how.end_bytes > limit ? fail(Cause::beyond_end) : Expected<void>{};
    };
    {
        const PinsLock lock{pins_mutex_};
        TRY(admit(*wanted));
    }
    for (int attempt = 1;; ++attempt) {
        TRY(admit_size(TRY(read_leasable(state)).size));
        if (how.allocate) TRY(with_space([&] { return populate(state, begin, end, for_pid); }));
        if (how.allocate || TRY(is_written(state, begin / kBlockBytes, blocks_of(how.end_bytes))))
            TRY(with_space([&] { return align_units(state, begin, end); }));
        const RangeLock::Hold hold{state.ranges, begin, end, RangeLock::Mode::shared};
        auto extents = extents_of(state, begin, end, /*holes_too=*/false);
        // Cut or punched between: a new look, and the end of the file may be another.
        if (!extents && extents.error().cause == Cause::holes_in_range && how.allocate &&
            attempt < kAttemptsMax)
            continue;
        if (!extents) return std::unexpected(extents.error());
        // Or cut inside a unit, whose hole somebody filled.
        if (!TRY(is_whole_units(state, begin, end))) {
            if (attempt < kAttemptsMax) continue;
            return fail(Cause::unit_in_use, 0, state.ino.value);
        }
        const auto inode = TRY(read_leasable(state));
        TRY(admit_size(inode.size));
        TRY(zero_behind_end(state, begin, end));

        const PinsLock lock{pins_mutex_};
        TRY(admit(*wanted));
        const std::uint64_t context = wanted->owner.context;
        if (context != 0 && registry_.context(context) == nullptr)
            return fail(Cause::no_such_context);
        const std::uint32_t uid = wanted->owner.uid;
        const MustFinish finish;
        TRY(registry_.charges.add(uid, end - begin));
        wanted->ino = inode.ino;
        wanted->ino_generation = inode.generation;
        wanted->made_seconds = now().seconds;
        const bool writable = wanted->writable;
        Reached reached{.id = 0,
                        .generation = 0,
                        .layout_generation = state.layout_changes.load(),
                        .extents = *std::move(extents)};
        if (const auto entered = enter(state, std::move(wanted), reached); !entered) {
            registry_.charges.remove(uid, end - begin);
            return std::unexpected(entered.error());
        }
        if (writable) note_outside_change(state);
        return reached;
    }
}

/// Numbers it and makes it durable. The pins' lock is held, and the range.
Expected<void> Volume::Core::enter(InodeState& state, std::unique_ptr<pin::Reference> reference,
                                   Reached& reached) {
    const TableLock table_lock{table_mutex_};
    TRY(prepare_records());
    reached.id = reference->id = take_record_id();
    reached.generation = reference->generation = take_generation();
    Change one = change(space::Reserve::use);
    TRY(store_reference(one, state, std::move(reference)));
    finished_.note(one, {.id = reached.id, .generation = reached.generation});
    return one.commit();
}

Expected<MapAnswer> Volume::Core::map(OpenFile file, const MapRequest& request) {
    TRY(admit_change());
    if (request.length_bytes == 0 || request.offset_bytes >= kFileBytesMax ||
        request.length_bytes > kFileBytesMax - request.offset_bytes)
        return fail(Cause::invalid_argument);
    if (request.offset_bytes % map_unit_bytes() != 0) return fail(Cause::unaligned);
    const std::uint64_t end = round_up(request.offset_bytes + request.length_bytes, kBlockBytes);
    const Use state = use(file.ino);
    TRY(read_leasable(*state));
    auto map = std::make_unique<pin::Map>();
    map->begin = request.offset_bytes;
    map->end = round_up(end, map_unit_bytes());  // what the processor maps of the region
    map->kind = pin::ReferenceKind::map;
    map->owner = request.owner;
    map->user_data = request.user_data;
    map->writable = request.writable;
    map->self_flushed = request.self_flushed;
    map->guard = request.guard;
    auto reached =
        TRY(reach(*state, std::move(map),
                  {.end_bytes = end, .up_to_block_end = true, .allocate = request.allocate},
                  [&](pin::Reference& wanted) -> Expected<void> {
                      const pin::FilePins* const pins = registry_.find(file.ino.value);
                      if (pins == nullptr) return fail(Cause::no_lease);
                      TRY(pins->admit_map(file.handle, wanted.begin, end));
                      return registry_.has_guard(wanted.guard, wanted.owner.context)
                                 ? Expected<void>{}
                                 : fail(Cause::no_such_context);
                  }));
    while (reached.extents.back().file_offset >= end) reached.extents.pop_back();
    Extent& last = reached.extents.back();
    last.bytes = std::min(last.bytes, end - last.file_offset);
    return MapAnswer{.id = reached.id,
                     .generation = reached.layout_generation,
                     .extents = std::move(reached.extents)};
}

Expected<void> Volume::Core::unmap(std::uint64_t context, std::uint64_t id) {
    TRY(admit_read());
    if (finished_.of_this_thread()) return release_free_holds();
    Ino ino;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    bool writable = false;
    {
        const PinsLock lock{pins_mutex_};
        const pin::Map* const map = find_map(context, id);
        if (map == nullptr) return fail(Cause::no_such_record);
        ino = Ino{map->ino};
        begin = map->begin;
        end = map->end;
        writable = map->writable && !map->self_flushed;
    }
    const Use state = use(ino);
    if (writable) TRY(flush_range(*state, begin, end));
    {
        const PinsLock lock{pins_mutex_};
        pin::Map* const map = find_map(context, id);
        if (map == nullptr) return fail(Cause::no_such_record);
        if (map->writable) note_outside_change(*state);
        TRY(end_reference(*state, *map));
        forget_if_unwatched(*state);
    }
    return release_free_holds();
}

/// A map of this context that has not ended. The pins' lock is held.
pin::Map* Volume::Core::find_map(std::uint64_t context, std::uint64_t id) {
    pin::Reference* const found = registry_.reference(id);
    const bool is_its = found != nullptr && found->kind == pin::ReferenceKind::map &&
                        found->state != pin::ReferenceState::gone &&
                        found->owner.context == context;
    return is_its ? found : nullptr;
}

Expected<LayoutAnswer> Volume::Core::reload_map(std::uint64_t context, std::uint64_t id,
                                                std::uint64_t offset_bytes,
                                                std::uint64_t length_bytes) {
    TRY(admit_read());
    if (length_bytes > UINT64_MAX - kBlockBytes - offset_bytes)
        return fail(Cause::invalid_argument);
    std::uint64_t begin = round_down(offset_bytes, kBlockBytes);
    std::uint64_t end = round_up(offset_bytes + length_bytes, kBlockBytes);
    Ino ino;
    {
        const PinsLock lock{pins_mutex_};
        const pin::Map* const map = find_map(context, id);
        if (map == nullptr) return fail(Cause::no_such_record);
        // What is cut from under a map is held; who lets that happen again and again gets no more.
        TRY(registry_.charges.check(map->owner.uid));
        ino = Ino{map->ino};
        begin = std::max(begin, map->begin);
        end = std::min(end, map->end);
    }
    if (begin >= end) return fail(Cause::invalid_argument);
    const Use state = use(ino);
    const std::uint64_t unit_bytes = map_unit_bytes();
    // A hole reads as zeros through a map too, as long as there is space for that.
    if (!read_only_) {
        const auto filled = with_space([&] {
            return unit_bytes == kBlockBytes ? populate(*state, begin, end)
                                             : align_units(*state, begin, end, id);
        });
        if (!filled && filled.error().cause != Cause::no_space &&
            filled.error().cause != Cause::no_whole_run &&
            filled.error().cause != Cause::unit_in_use)
            return std::unexpected(filled.error());
    }
    const RangeLock::Hold hold{state->ranges, begin, end, RangeLock::Mode::shared};
    LayoutAnswer answer;
    TRY(zero_behind_end(*state, begin, end));
    answer.extents = TRY(shown_extents(*state, begin, end));
    {
        const Shared lock{state->mutex};
        answer.size_bytes = TRY(read_inode(*state)).size;
    }
    const PinsLock lock{pins_mutex_};
    pin::Map* const map = find_map(context, id);
    if (map == nullptr) return fail(Cause::no_such_record);
    answer.generation = state->layout_changes.load();
    if (unit_bytes != kBlockBytes)
        map->noted.add(round_down(begin, unit_bytes), round_up(end, unit_bytes));
    for (const Extent& extent : answer.extents) {
        const std::uint64_t shown_begin = round_down(extent.file_offset, unit_bytes);
        const std::uint64_t shown_end = round_up(extent.file_offset + extent.bytes, unit_bytes);
        map->stale.remove(shown_begin, shown_end);
        map->noted.remove(shown_begin, shown_end);
    }
    return answer;
}

Expected<void> Volume::Core::declare_clean(std::uint64_t context, std::uint64_t id,
                                           std::uint64_t offset_bytes, std::uint64_t length_bytes) {
    TRY(admit_read());
    if (length_bytes > UINT64_MAX - offset_bytes) return fail(Cause::invalid_argument);
    const PinsLock lock{pins_mutex_};
    pin::Map* const map = find_map(context, id);
    if (map == nullptr) return fail(Cause::no_such_record);
    map->declared.add(std::max(offset_bytes, map->begin),
                      std::min(offset_bytes + length_bytes, map->end));
    return {};
}

Expected<LayoutAnswer> Volume::Core::layout(Ino ino, std::uint64_t offset_bytes,
                                            std::uint64_t length_bytes) {
    TRY(admit_read());
    const Use state = use(ino);
    const auto inode = TRY(read_leasable(*state));
    offset_bytes = std::min(offset_bytes, kFileBytesMax);
    const std::uint64_t begin = round_down(offset_bytes, kBlockBytes);
    const std::uint64_t end =
        round_up(offset_bytes + std::min(length_bytes, kFileBytesMax - offset_bytes), kBlockBytes);
    LayoutAnswer answer;
    answer.generation = state->layout_changes.load();
    answer.size_bytes = inode.size;
    answer.extents = TRY(extents_of(*state, begin, std::min(end, round_up(inode.size, kBlockBytes)),
                                    /*holes_too=*/true));
    return answer;
}

}  // namespace pinfs

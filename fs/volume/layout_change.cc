// SPDX-License-Identifier: Apache-2.0
#include "fs/volume/layout_change.h"

#include <algorithm>

namespace pinfs {

namespace {

constexpr std::size_t kPiecesMax = 2;  // holds that one take() makes: bounds its log bytes
constexpr std::size_t kReachedMax = 64;
/// What is taken in one where many reach it: some of it may be held though nobody reaches it.
constexpr std::uint64_t kStepBlocks = media::kRunBlocks;

}  // namespace

Volume::Core::LayoutChange::LayoutChange(Core& core, InodeState& state, const media::Inode& inode,
                                         bool with_tables)
    : core_{core}, state_{state}, ino_generation_{inode.generation} {
    if (state.watched.load()) {
        pins_.emplace(core_.pins_mutex_);
        file_ = core_.registry_.find(state.ino.value);
    }
    if (with_tables || file_ != nullptr) table_.emplace(core_.table_mutex_);
}

Volume::Core::LayoutChange::~LayoutChange() {
    table_.reset();
    if (!pins_) return;
    const auto woken = core_.registry_.take_woken();
    pins_.reset();
    core_.wake(woken);
}

Expected<void> Volume::Core::LayoutChange::prepare() {
    return file_ == nullptr ? Expected<void>{} : core_.prepare_records();
}

void Volume::Core::LayoutChange::tell(Change& change, std::uint64_t begin_block,
                                      std::uint64_t end_block) {
    change.after_commit([this, begin_block, end_block] {
        state_.layout_changes.fetch_add(1);
        if (file_ != nullptr)
            core_.registry_.post_gone(*file_, begin_block * kBlockBytes, end_block * kBlockBytes);
    });
}

std::optional<std::vector<Volume::Core::LayoutChange::Piece>> Volume::Core::LayoutChange::reached(
    std::uint64_t begin, std::uint64_t end) const {
    std::vector<Piece> found;
    std::size_t visited = 0;
    const auto add = [&](const pin::Reference& reference, std::uint64_t from, std::uint64_t to) {
        found.push_back({.begin = from / kBlockBytes,
                         .end = to / kBlockBytes,
                         .maps = {},
                         .first = &reference,
                         .needs_proof = reference.state == pin::ReferenceState::gone,
                         .may_be_mapped = reference.revoked});
        if (reference.state != pin::ReferenceState::gone) found.back().maps = {reference.id};
    };
    const std::uint64_t from = begin * kBlockBytes;
    const std::uint64_t to = end * kBlockBytes;
    const auto visit = [&](const pin::Reference& reference) {
        reference.stale.for_each_gap(
            std::max(from, reference.begin), std::min(to, reference.end),
            [&](std::uint64_t first, std::uint64_t last) { add(reference, first, last); });
        return ++visited <= kReachedMax;
    };
    if (!file_->maps.for_each(from, to, visit) || !file_->gone.for_each(from, to, visit))
        return std::nullopt;
    std::ranges::sort(found, {}, &Piece::begin);
    std::vector<Piece> merged;
    for (Piece& piece : found) {
        if (merged.empty() || piece.begin > merged.back().end) {
            if (merged.size() == kPiecesMax) return std::nullopt;
            merged.push_back(std::move(piece));
            continue;
        }
        Piece& last = merged.back();
        last.end = std::max(last.end, piece.end);
        last.maps.insert(last.maps.end(), piece.maps.begin(), piece.maps.end());
        last.needs_proof = last.needs_proof || piece.needs_proof;
        last.may_be_mapped = last.may_be_mapped || piece.may_be_mapped;
    }
    return merged;
}

std::uint64_t Volume::Core::LayoutChange::begin_of_last(std::uint64_t begin,
                                                        std::uint64_t end) const {
    if (end - begin <= kStepBlocks || reached(begin, end)) return begin;
    return std::max(begin, end - kStepBlocks);
}

Expected<void> Volume::Core::LayoutChange::take(Change& change, std::uint64_t file_block,
                                                BlockRun run) const {
    const std::uint64_t end = file_block + run.count;
    auto pieces = reached(file_block, end);
    if (!pieces) {
        // Many reach it: it is held whole, for all of them.
        pieces.emplace(1);
        Piece& all = pieces->front();
        all.begin = file_block;
        all.end = end;
        const auto visit = [&](const pin::Reference& reference) {
            if (all.first == nullptr) all.first = &reference;
            all.may_be_mapped = all.may_be_mapped || reference.revoked;
            if (reference.state == pin::ReferenceState::gone)
                all.needs_proof = true;
            else
                all.maps.push_back(reference.id);
            return true;
        };
        file_->maps.for_each(file_block * kBlockBytes, end * kBlockBytes, visit);
        file_->gone.for_each(file_block * kBlockBytes, end * kBlockBytes, visit);
    }
    std::uint64_t at = file_block;
    const auto region_block = [&](std::uint64_t block) {
        return run.begin + (block - file_block);
    };
    for (const Piece& piece : *pieces) {
        if (piece.begin > at) change.free({region_block(at), piece.begin - at});
        auto hold = std::make_unique<pin::Hold>();
        hold->ino = state_.ino.value;
        hold->ino_generation = ino_generation_;
        hold->file_block = piece.begin;
        hold->run = {region_block(piece.begin), piece.end - piece.begin};
        hold->owner = piece.first->owner;
        hold->waits_for.insert(piece.maps.begin(), piece.maps.end());
        hold->needs_proof = piece.needs_proof;
        hold->may_be_mapped = piece.may_be_mapped;
        TRY(core_.store_hold(change, std::move(hold)));
        at = piece.end;
    }
    if (at < end) change.free({region_block(at), end - at});
    change.after_commit([this, file_block, end] { blocks_went(file_block, end); });
    return {};
}

Expected<bool> Volume::Core::LayoutChange::take_gone(Change& change, std::size_t spare_bytes) {
    if (file_ == nullptr || file_->gone.empty()) return false;
    std::vector<pin::Reference*> ended;
    Expected<void> erased;
    file_->gone.for_each(0, UINT64_MAX, [&](pin::Reference& reference) {
        if (!change.has_room(spare_bytes)) return false;
        erased = core_.erase_record(change, reference.slot, reference.slot_offset);
        if (erased) ended.push_back(&reference);
        return erased.has_value();
    });
    TRY(std::move(erased));
    change.after_commit([this, ended] {
        for (pin::Reference* const reference : ended) {
            core_.states_.remove_record(state_, /*owned=*/false);
            core_.registry_.remove(*reference);
        }
    });
    return true;
}

/// Maps of file blocks [begin, end) show what is the file's no more, and their owners are told.
void Volume::Core::LayoutChange::blocks_went(std::uint64_t begin_block,
                                             std::uint64_t end_block) const {
    const std::uint64_t begin = begin_block * kBlockBytes;
    const std::uint64_t end = end_block * kBlockBytes;
    file_->maps.for_each(begin, end, [&](pin::Map& map) {
        const std::uint64_t from = std::max(begin, map.begin);
        const std::uint64_t to = std::min(end, map.end);
        if (map.stale.covers(from, to)) return true;  // lost before
        map.stale.add(from, to);
        core_.registry_.post_gone(map, from, to);
        return true;
    });
    // Something gone reaches only blocks that it had when it went.
    file_->gone.for_each(begin, end, [&](pin::Reference& reference) {
        reference.stale.add(std::max(begin, reference.begin), std::min(end, reference.end));
        return true;
    });
}

// ---- what operations ask before, and how blocks move

/// Rule 3.6, before any side effect: asked before a range is waited for, and again when it is held.
Expected<void> Volume::Core::admit_layout_change(InodeState& state, std::uint64_t begin_bytes,
                                                 std::uint64_t end_bytes) {
    if (!state.watched.load() || begin_bytes >= end_bytes) return {};
    const PinsLock lock{pins_mutex_};
    const pin::FilePins* const file = registry_.find(state.ino.value);
    if (file == nullptr) return {};
    auto admitted = file->admit_change(begin_bytes, end_bytes);
    if (!admitted) {
        admitted.error().ino = state.ino.value;
        refused_changes_.fetch_add(1, std::memory_order_relaxed);
    }
    return admitted;
}

void Volume::Core::tell_leases(InodeState& state, std::uint64_t begin_bytes,
                               std::uint64_t end_bytes) {
    {
        const PinsLock lock{pins_mutex_};
        if (pin::FilePins* const file = registry_.find(state.ino.value))
            registry_.post_gone(*file, begin_bytes, end_bytes);
    }
    wake_contexts();
}

bool Volume::Core::is_pinned(InodeState& state, std::uint64_t begin_bytes,
                             std::uint64_t end_bytes) {
    if (!state.watched.load()) return false;
    const PinsLock lock{pins_mutex_};
    const pin::FilePins* const file = registry_.find(state.ino.value);
    return file != nullptr && file->is_pinned(begin_bytes, end_bytes);
}

bool Volume::Core::is_reached(InodeState& state, std::uint64_t begin_bytes,
                              std::uint64_t end_bytes) {
    if (!state.watched.load()) return false;
    const PinsLock lock{pins_mutex_};
    const pin::FilePins* const file = registry_.find(state.ino.value);
    return file != nullptr && file->is_reached(begin_bytes, end_bytes);
}

Expected<void> Volume::Core::replace_block(InodeState& state, std::uint64_t byte) {
    const std::uint64_t block = byte / kBlockBytes;
    if (!is_reached(state, block * kBlockBytes, (block + 1) * kBlockBytes)) return {};
    return move_blocks(state, block, block + 1);
}

/// Content stays what it is; a crash leaves each step wholly here or there: the copies are fenced
/// with the first step of the commit that names them. What maps reach of the old blocks is held,
/// and they are told. The range is held exclusively.
Expected<void> Volume::Core::move_blocks(InodeState& state, std::uint64_t begin_block,
                                         std::uint64_t end_block) {
    std::vector<std::byte> buffer;
    std::uint64_t goal = 0;  // what one step wrote the next goes on from
    for (std::uint64_t step = kStepBlocks; begin_block < end_block;) {
        const std::uint64_t stop = std::min(end_block, round_up(begin_block + 1, step));
        std::vector<inode::Mapping> pieces;
        {
            const Shared lock{state.mutex};
            const auto inode = TRY(read_inode(state));
            pieces = TRY(inode::Extents(units_, inode).map(begin_block, stop));
        }
        Change one = change(space::Reserve::half);
        std::uint64_t blocks = 0;
        for (const inode::Mapping& piece : pieces) blocks += piece.is_hole() ? 0 : piece.blocks;
        if (blocks == 0) {
            begin_block = stop;
            continue;
        }
        auto free = TRY(one.allocate({.blocks = blocks, .goal = goal}));
        std::vector<inode::Mapping> moved;
        auto run = free.begin();
        for (const inode::Mapping& piece : pieces)
            for (std::uint64_t done = 0; !piece.is_hole() && done < piece.blocks;) {
                const std::uint64_t count = std::min(piece.blocks - done, run->count);
                if (!piece.unwritten)
                    TRY(copy_blocks(piece.start_block + done, run->begin, count, buffer));
                moved.push_back({.file_block = piece.file_block + done,
                                 .blocks = count,
                                 .start_block = run->begin,
                                 .unwritten = piece.unwritten});
                done += count;
                *run = {run->begin + count, run->count - count};
                goal = run->begin;
                if (run->count == 0) ++run;
            }
        const Exclusive lock{state.mutex};
        LayoutChange layout{*this, state, TRY(read_inode(state))};
        TRY(layout.prepare());
        auto* inode = TRY(edit_inode(one, state));
        inode::Extents extents{one, *inode};
        const bool done = TRY(extents.remove_some(begin_block, stop, layout.away()));
        if (!done) {
            if (step == 1) return fail(Cause::change_too_large, 0, state.ino.value);
            step /= 2;
            continue;
        }
        for (const inode::Mapping& piece : moved) {
            TRY(extents.add(piece));
            inode->blocks += piece.blocks;
        }
        layout.tell(one, begin_block, stop);
        TRY(one.commit());
        begin_block = stop;
    }
    return {};
}

Expected<void> Volume::Core::copy_blocks(std::uint64_t from, std::uint64_t to, std::uint64_t count,
                                         std::vector<std::byte>& buffer) {
    constexpr std::uint64_t kPieceBlocks = 64;
    buffer.resize(kPieceBlocks * kBlockBytes);
    for (std::uint64_t done = 0; done < count; done += kPieceBlocks) {
        const std::uint64_t blocks = std::min(kPieceBlocks, count - done);
        const auto piece = std::span{buffer}.first(blocks * kBlockBytes);
        TRY(region_.copy_out((from + done) * kBlockBytes, piece));
        TRY(region_.copy_in((to + done) * kBlockBytes, piece));
    }
    return {};
}

}  // namespace pinfs

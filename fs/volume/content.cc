// SPDX-License-Identifier: Apache-2.0
//
// Reading and writing. Data is copied with a range of the file held, but no lock of the inode: what
// the range covers neither moves nor goes meanwhile. New blocks are filled and fenced before the
// change that names them.
#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <cstring>

#include "fs/volume/core.h"
#include "fs/volume/layout_change.h"
#include "fs/volume/protection.h"

namespace pinfs {

using inode::Extents;
using inode::Mapping;

namespace {

constexpr std::uint64_t kPreallocateBlocksMin = 8;
constexpr std::uint64_t kPreallocateBlocksMax = media::kGroupBlocks;

}  // namespace

/// One write, planned with its range held.
struct Volume::Core::WritePlan {
    std::uint64_t offset = 0;  // bytes of the file
    std::uint64_t old_size = 0;
    std::span<const std::byte> bytes;
    std::vector<Mapping> pieces;        // what [offset, end) consists of, block by block
    std::vector<Mapping> added;         // new extents for its holes
    std::vector<Mapping> preallocated;  // unwritten, behind the end
    std::optional<Mapping> tail;        // the block with the old end, to go on from
    bool is_last = false;               // nothing is allocated behind it

    [[nodiscard]] std::uint64_t end() const { return offset + bytes.size(); }
    [[nodiscard]] bool extends() const { return end() > old_size; }
    /// Tree nodes that its new extents may need at most.
    [[nodiscard]] std::uint64_t nodes_max(unsigned map_level) const {
        return 4 + map_level + pieces.size() / 20;
    }
};

Expected<bool> Volume::Core::open(Ino ino, OpenFor purpose) {
    TRY(admit_read());
    const Use state = use(ino);
    const Shared lock{state->mutex};
    const auto inode = TRY(read_inode(*state));
    if (S_ISDIR(inode.mode)) return fail(Cause::is_a_directory);
    if (purpose == OpenFor::writing) TRY(refuse_protected(inode));
    if (purpose == OpenFor::appending) TRY(refuse_immutable(inode));
    const bool dax = S_ISREG(inode.mode) &&
                     (options_.dax == DaxMode::always ||
                      (options_.dax == DaxMode::inode && (inode.flags & media::kInodeDax) != 0));
    // Blocks that an interrupted writer left behind the end go with this open's release.
    if (!read_only_ && inode.blocks > blocks_of(inode.size) &&
        (inode.flags & media::kInodeKeepBeyondEnd) == 0 && S_ISREG(inode.mode)) {
        const auto last = TRY(Extents(units_, inode).last());
        if (last && last->end() > blocks_of(inode.size)) state->preallocated.store(true);
    }
    return states_.open(*state, dax);
}

bool Volume::Core::release(Ino ino) {
    const Use state = use(ino);
    if (!states_.close(*state) || read_only_) return false;
    if (state->lazy_time_ns.load() != 0) (void)write_lazy_times(ino);
    if (!state->preallocated.load()) return false;
    (void)trim_preallocation(*state);
    return true;
}

Expected<void> Volume::Core::trim_preallocation(InodeState& state) {
    std::uint64_t size = 0;
    {
        const Shared lock{state.mutex};
        const auto inode = TRY(read_inode(state));
        if ((inode.flags & (media::kInodeKeepBeyondEnd | media::kInodeCutting)) != 0) return {};
        size = inode.size;
    }
    const RangeLock::Hold hold{state.ranges, round_up(size, kBlockBytes), kToTheEnd,
                               RangeLock::Mode::exclusive};
    for (bool done = false; !done;) {
        const Exclusive lock{state.mutex};
        LayoutChange layout{*this, state, TRY(read_inode(state))};
        if (layout.is_forbidden(blocks_of(size), inode::kFileBlocksMax)) return {};
        TRY(layout.prepare());
        Change one = change(space::Reserve::use);
        auto* inode = TRY(edit_inode(one, state));
        // Opened and written again meanwhile: its own release will come.
        if (inode->size != size || states_.opens(state) > 0) return {};
        done = TRY(Extents(one, *inode)
                       .remove_some(blocks_of(size), inode::kFileBlocksMax, layout.away()));
        TRY(one.commit());
    }
    state.preallocated.store(false);
    return {};
}

Expected<std::size_t> Volume::Core::read(Ino ino, std::uint64_t offset_bytes,
                                         std::span<std::byte> out, bool noted) {
    TRY(admit_read());
    if (out.empty() || offset_bytes >= kFileBytesMax) return std::size_t{0};
    const Use state = use(ino);
    const std::uint64_t limit = std::min(offset_bytes + out.size(), kFileBytesMax);
    const RangeLock::Hold hold{state->ranges, round_down(offset_bytes, kBlockBytes),
                               round_up(limit, kBlockBytes), RangeLock::Mode::shared};
    std::vector<Mapping> pieces;
    std::uint64_t end = 0;
    {
        const Shared lock{state->mutex};
        const auto inode = TRY(read_inode(*state));
        if (S_ISDIR(inode.mode)) return fail(Cause::is_a_directory);
        if (!S_ISREG(inode.mode)) return fail(Cause::invalid_argument);
        if (noted) note_access(*state, inode);
        if (offset_bytes >= inode.size) return std::size_t{0};
        end = std::min(limit, inode.size);
        pieces = TRY(Extents(units_, inode).map(offset_bytes / kBlockBytes, blocks_of(end)));
    }
    for (const Mapping& piece : pieces) {
        const std::uint64_t begin = std::max(piece.file_block * kBlockBytes, offset_bytes);
        const std::uint64_t stop = std::min(piece.end() * kBlockBytes, end);
        const auto to = out.subspan(begin - offset_bytes, stop - begin);
        if (!piece.is_written()) {
            std::ranges::fill(to, std::byte{0});
            continue;
        }
        const auto copied = region_.copy_out(
            piece.start_block * kBlockBytes + (begin - piece.file_block * kBlockBytes), to);
        if (!copied && copied.error().cause == Cause::media_error)
            tell_media_error(*state, begin, stop);
        TRY(copied);
    }
    inject_delay();
    return static_cast<std::size_t>(end - offset_bytes);
}

/// How many blocks an append gets behind its own, so that a file that grows in small pieces lies in
/// large ones. Of a large file they end where an aligned run ends.
std::uint64_t Volume::Core::behind_append(const WritePlan& plan) {
    const bool appends = plan.offset == plan.old_size && plan.offset > 0;
    const Mapping& last = plan.pieces.back();
    if (!appends || !last.is_hole() || !plan.is_last) return 0;
    std::uint64_t wanted = std::min(
        std::clamp(plan.old_size / kBlockBytes, kPreallocateBlocksMin, kPreallocateBlocksMax),
        allocator_.free_blocks() / 16);
    if (wanted >= kRunBlocks) wanted = round_down(last.end() + wanted, kRunBlocks) - last.end();
    if (wanted < kPreallocateBlocksMin || last.end() + wanted > inode::kFileBlocksMax) return 0;
    return wanted;
}

/// Reserves blocks for the holes of `plan`, and some behind an append.
Expected<void> Volume::Core::place_data(Change& change, WritePlan& plan) {
    std::uint64_t goal = 0;
    // Blocks for a hole, and `more` unwritten ones behind it.
    const auto place = [&](const Mapping& hole, std::uint64_t more) -> Expected<void> {
        const std::uint64_t blocks = hole.blocks + more;
        std::uint64_t file_block = hole.file_block;
        for (BlockRun run : TRY(change.allocate({.blocks = blocks,
                            .goal = goal,
                            .aligned = blocks >= kRunBlocks,
                            .file_block = file_block})))
            while (run.count > 0) {
                const bool behind = file_block >= hole.end();
                const std::uint64_t count =
                    std::min({run.count, inode::kExtentBlocksMax,
                              behind ? run.count : hole.end() - file_block});
                (behind ? plan.preallocated : plan.added)
                    .push_back({.file_block = file_block,
                                .blocks = count,
                                .start_block = run.begin,
                                .unwritten = behind});
                file_block += count;
                run = {run.begin + count, run.count - count};
                goal = run.begin;
            }
        return {};
    };
    for (const Mapping& piece : plan.pieces) {
        if (!piece.is_hole()) {
            goal = piece.start_block + piece.blocks;
            continue;
        }
        if (goal == 0 && plan.tail) goal = plan.tail->start_block + 1;
        const std::uint64_t more = &piece == &plan.pieces.back() ? behind_append(plan) : 0;
        auto placed = place(piece, more);
        if (!placed && more > 0 && placed.error().cause == Cause::no_space)
            placed = place(piece, 0);
        TRY(placed);
    }
    return {};
}

/// Copies the bytes of `plan` to their blocks, and zeros to the rest of blocks that were not
/// written before; then a fence.
Expected<void> Volume::Core::copy_data(InodeState& state, const WritePlan& plan) {
    using Renew = pmem::Region::Renew;
    const auto copy = [&](const Mapping& piece, bool fresh) -> Expected<void> {
        const std::uint64_t piece_begin = piece.file_block * kBlockBytes;
        const std::uint64_t piece_end = piece.end() * kBlockBytes;
        const std::uint64_t begin = std::max(piece_begin, plan.offset);
        const std::uint64_t end = std::min(piece_end, plan.end());
        const std::uint64_t home = piece.start_block * kBlockBytes;
        if (fresh && begin > piece_begin) TRY(region_.zero(home, begin - piece_begin));
        const auto bytes = plan.bytes.subspan(begin - plan.offset, end - begin);
        const std::uint64_t place = home + (begin - piece_begin);
        const auto store = [&](Renew renew) {
            return region_.copy_in(place, bytes, renew);
        };
        auto copied = store(Renew::never);
        // A device or a map would be left with the old memory.
        if (!copied && copied.error().cause == Cause::media_error && !is_reached(state, begin, end))
            copied = store(Renew::allowed);
        TRY(copied);
        if (fresh && end < piece_end)
            TRY(region_.zero(home + (end - piece_begin), piece_end - end));
        return {};
    };
    if (plan.offset > plan.old_size) TRY(zero_from_end(state, plan.old_size, plan.offset));
    for (const Mapping& piece : plan.pieces)
        if (!piece.is_hole()) TRY(copy(piece, piece.unwritten));
    for (const Mapping& piece : plan.added) TRY(copy(piece, true));
    region_.fence();  // data | the change that names it, or the reply
    inject_delay();
    return {};
}

/// nullopt: the file changed before its range was held; try again.
Expected<std::optional<std::size_t>> Volume::Core::write_once(InodeState& state,
                                                              std::uint64_t offset_bytes,
                                                              std::span<const std::byte> bytes,
                                                              bool append, bool kill_privileges) {
    std::uint64_t size = 0;
    bool has_privileges = false;
    bool cutting = false;
    {
        const Shared lock{state.mutex};
        const auto inode = TRY(read_inode(state));
        if (!S_ISREG(inode.mode))
            return fail(S_ISDIR(inode.mode) ? Cause::is_a_directory : Cause::invalid_argument);
        size = inode.size;
        TRY(admit_write(inode, append ? size : offset_bytes));
        has_privileges = kill_privileges && (inode.mode & (S_ISUID | S_ISGID)) != 0;
        cutting = (inode.flags & media::kInodeCutting) != 0;
    }
    if (cutting) {
        TRY(finish_old_cut(state));
        return std::optional<std::size_t>{};
    }
    WritePlan plan;
    plan.old_size = size;
    plan.offset = append ? size : offset_bytes;
    if (plan.offset >= kFileBytesMax) return fail(Cause::file_too_large);
    plan.bytes = bytes.first(std::min<std::uint64_t>(bytes.size(), kFileBytesMax - plan.offset));

    // Whole blocks: two writers to one new block would each zero the other's part. From the old end
    // on, if the size is to change.
    const RangeLock::Hold hold{
        state.ranges,
        round_down(plan.extends() ? std::min(plan.offset, size) : plan.offset, kBlockBytes),
        plan.extends() ? kToTheEnd : round_up(plan.end(), kBlockBytes), RangeLock::Mode::exclusive};
    bool in_place = false;
    unsigned map_level = 0;
    {
        const Shared lock{state.mutex};
        const auto inode = TRY(read_inode(state));
        // A size below the range's end may only have grown elsewhere; then nothing changes for us.
        const bool same = plan.extends() || append ? inode.size == size : inode.size >= plan.end();
        if (!same || (inode.flags & media::kInodeCutting) != 0) return std::optional<std::size_t>{};
        const Extents extents{units_, inode};
        plan.pieces = TRY(extents.map(plan.offset / kBlockBytes, blocks_of(plan.end())));
        if (plan.extends() && size > 0) {
            // The block with the old end, as a place to go on from.
            const std::uint64_t last = (size - 1) / kBlockBytes;
            const auto tail = TRY(extents.map(last, last + 1));
            if (!tail[0].is_hole()) plan.tail = tail[0];
        }
        if (plan.extends() && plan.pieces.back().is_hole())
            plan.is_last = !TRY(extents.next(plan.pieces.back().end()));
        map_level = inode.map_level;
        in_place = !plan.extends() && !has_privileges &&
                   std::ranges::all_of(plan.pieces, &Mapping::is_written);
    }
    if (in_place) {
        TRY(copy_data(state, plan));
        set_lazy_time(state);
        return std::optional{plan.bytes.size()};
    }

    // Who allocated before never lacks space: then the tree's nodes may come from the reserve.
    const bool has_hole = std::ranges::any_of(plan.pieces, &Mapping::is_hole);
    Change one = change(has_hole ? space::Reserve::keep : space::Reserve::half);
    TRY(place_data(one, plan));
    // Once bytes that were there are overwritten, nothing may be refused any more.
    const auto written = std::ranges::count_if(plan.pieces, &Mapping::is_written);
    if (written > 0 && written < std::ssize(plan.pieces))
        TRY(one.set_aside(plan.nodes_max(map_level)));
    const MustFinish finish;
    TRY(copy_data(state, plan));
    const Exclusive lock{state.mutex};
    auto* inode = TRY(edit_inode(one, state));
    Extents extents{one, *inode};
    for (const auto* added : {&plan.added, &plan.preallocated})
        for (const Mapping& piece : *added) {
            TRY(extents.add(piece));
            inode->blocks += piece.blocks;
        }
    for (const Mapping& piece : plan.pieces)
        if (piece.unwritten) TRY(extents.mark(piece.file_block, piece.end(), false));
    inode->size = std::max(inode->size, plan.end());
    touch(*inode, now());
    if (kill_privileges) {
        AttributeChange kill;
        kill.kill_privileges = true;
        TRY(apply(one, kill, *inode));
    }
    TRY(one.commit());
    if (!plan.preallocated.empty()) state.preallocated.store(true);
    return std::optional{plan.bytes.size()};
}

Expected<std::size_t> Volume::Core::write(Ino ino, std::uint64_t offset_bytes,
                                          std::span<const std::byte> bytes, bool append,
                                          bool kill_privileges) {
    TRY(admit_change());
    if (bytes.empty()) return std::size_t{0};
    const Use state = use(ino);
    TRY(drop_capability(*state));
    for (std::size_t count = bytes.size();;) {
        const auto written = with_space([&] {
            return write_once(*state, offset_bytes, bytes.first(count), append, kill_privileges);
        });
        if (written) {
            if (*written) return **written;
            continue;
        }
        // Nearly full: as much as there is room for, as write(2) has it.
        if (written.error().cause != Cause::no_space || count <= kBlockBytes)
            return std::unexpected(written.error());
        count = round_up(count / 2, kBlockBytes);
    }
}

Expected<void> Volume::Core::sync(Ino ino) {
    TRY(admit_read());
    const Use state = use(ino);
    TRY(flush_reached(*state));
    return state->has_lazy_times() ? write_lazy_times(ino) : Expected<void>{};
}

Expected<std::vector<ExtentInfo>> Volume::Core::extents(Ino ino, std::uint64_t offset_bytes,
                                                        std::uint64_t length_bytes,
                                                        std::size_t at_most) {
    TRY(admit_read());
    const Use state = use(ino);
    const Shared lock{state->mutex};
    const auto inode = TRY(read_inode(*state));
    if (!S_ISREG(inode.mode)) return fail(Cause::invalid_argument);
    const std::uint64_t begin = std::min(offset_bytes, kFileBytesMax);
    const std::uint64_t end = blocks_of(begin + std::min(length_bytes, kFileBytesMax - begin));
    const Extents extents{units_, inode};
    std::vector<ExtentInfo> found;
    for (std::uint64_t at = begin / kBlockBytes; at < end && found.size() < at_most;) {
        const auto extent = TRY(extents.next(at));
        if (!extent || extent->file_block >= end) break;
        at = std::max(at, extent->file_block);
        const std::uint64_t stop = std::min(end, extent->end());
        found.push_back({.file_block = at,
                         .start_block = extent->start_block + (at - extent->file_block),
                         .blocks = stop - at,
                         .unwritten = extent->unwritten});
        at = stop;
    }
    return found;
}

}  // namespace pinfs

// SPDX-License-Identifier: Apache-2.0
//
// Changing a file's length. Shortening is atomic in the size; blocks that do not fit one change are
// freed in steps under the inode's cut record, which mount finishes.
#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "fs/volume/core.h"
#include "fs/volume/layout_change.h"
#include "fs/volume/protection.h"

namespace pinfs {

using inode::Extents;
using inode::kFileBlocksMax;

Expected<void> Volume::Core::finish_cut(InodeState& state) {
    for (;;) {
        const Exclusive lock{state.mutex};
        LayoutChange layout{*this, state, TRY(read_inode(state)), /*with_tables=*/true};
        TRY(layout.prepare());
        Change one = change(space::Reserve::use);
        auto* inode = TRY(edit_inode(one, state));
        if ((inode->flags & media::kInodeCutting) == 0) return {};
        const bool done =
            TRY(Extents(one, *inode).remove_some(inode->cut_begin, kFileBlocksMax, layout.away()));
        if (done) {
            inode->flags &= ~media::kInodeCutting;
            inode->cut_begin = 0;
            // An orphan stays pending until it is freed.
            if (inode->nlink > 0) TRY(inodes_.set_pending(one, inode->ino, false));
        }
        TRY(one.commit());
        if (done) return {};
    }
}

Expected<void> Volume::Core::finish_old_cut(InodeState& state) {
    const RangeLock::Hold hold{state.ranges, 0, kToTheEnd, RangeLock::Mode::exclusive};
    return finish_cut(state);
}

/// What a truncation to `size_bytes` takes away: bytes from the block with the new end to the later
/// of the old end and the last block. Empty if it lengthens the file, or leaves its length.
Expected<std::pair<std::uint64_t, std::uint64_t>> Volume::Core::cut_of(const media::Inode& inode,
                                                                       std::uint64_t size_bytes) {
    if (size_bytes >= inode.size) return std::pair<std::uint64_t, std::uint64_t>{0, 0};
    std::uint64_t end = round_up(inode.size, kBlockBytes);
    if (const auto last = TRY(Extents(units_, inode).last()))
        end = std::max(end, last->end() * kBlockBytes);
    return std::pair{round_down(size_bytes, kBlockBytes), end};
}

/// On error nothing changed; after the first commit it cannot fail but for media errors, and mount
/// finishes what a crash interrupts.
Expected<Attributes> Volume::Core::truncate(InodeState& state, std::uint64_t size_bytes,
                                            const AttributeChange& change) {
    if (size_bytes > kFileBytesMax) return fail(Cause::file_too_large);
    for (;;) {
        std::uint64_t old_size = 0;
        bool cutting = false;
        {
            const Shared lock{state.mutex};
            const auto inode = TRY(read_inode(state));
            if (S_ISDIR(inode.mode)) return fail(Cause::is_a_directory);
            if (!S_ISREG(inode.mode)) return fail(Cause::invalid_argument);
            TRY(refuse_protected(inode));
            old_size = inode.size;
            cutting = (inode.flags & media::kInodeCutting) != 0;
            const auto [cut_begin, cut_end] = TRY(cut_of(inode, size_bytes));
            TRY(admit_layout_change(state, cut_begin, cut_end));
        }
        if (cutting) {
            TRY(finish_old_cut(state));
            continue;
        }
        // Nobody reads, writes or maps what is cut away, or the bytes behind the old end.
        const RangeLock::Hold hold{state.ranges,
                                   round_down(std::min(old_size, size_bytes), kBlockBytes),
                                   kToTheEnd, RangeLock::Mode::exclusive};
        {
            const Shared lock{state.mutex};
            const auto inode = TRY(read_inode(state));
            if (inode.size != old_size) continue;
            const auto [cut_begin, cut_end] = TRY(cut_of(inode, size_bytes));
            TRY(admit_layout_change(state, cut_begin, cut_end));
        }
        TRY(zero_from_end(state, old_size, size_bytes));
        // Blocks that are reached are replaced whole, never kept in part (SPEC 2.5).
        if (size_bytes < old_size && size_bytes % kBlockBytes != 0)
            TRY(replace_block(state, size_bytes));
        bool done = true;
        media::Inode cut;
        std::optional<MustFinish> finish;
        {
            const Exclusive lock{state.mutex};
            LayoutChange layout{*this, state, TRY(read_inode(state)), /*with_tables=*/true};
            TRY(layout.prepare());
            Change one = this->change(space::Reserve::use);
            auto* inode = TRY(edit_inode(one, state));
            TRY(refuse_protected(*inode));
            inode->size = size_bytes;
            touch(*inode, now());
            TRY(apply(one, change, *inode));
            const std::uint64_t cut_begin = blocks_of(size_bytes);
            if (size_bytes < old_size)
                layout.tell(one, size_bytes / kBlockBytes, blocks_of(old_size));
            // What lies behind the end goes as well, unless somebody forbids it.
            if (size_bytes < old_size ||
                (size_bytes == old_size && !layout.is_forbidden(cut_begin, kFileBlocksMax))) {
                inode->flags &= ~media::kInodeKeepBeyondEnd;
                done =
                    TRY(Extents(one, *inode).remove_some(cut_begin, kFileBlocksMax, layout.away()));
                if (!done) {
                    inode->flags |= media::kInodeCutting;
                    inode->cut_begin = cut_begin;
                    TRY(inodes_.set_pending(one, inode->ino, true));
                }
            }
            cut = *inode;
            finish.emplace();
            TRY(one.commit());
        }
        if (!done) {
            TRY(finish_cut(state));
            const Shared lock{state.mutex};
            cut = TRY(read_inode(state));
        }
        return attributes_of(cut, state);
    }
}

}  // namespace pinfs

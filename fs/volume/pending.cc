// SPDX-License-Identifier: Apache-2.0
//
// Work that no caller waits for: freeing unlinked inodes, finishing cuts that a crash interrupted,
// writing times, giving memory back. One thread does it; the pending bits on media make mount go on
// with it.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <chrono>
#include <new>
#include <system_error>

#include "fs/inode/extended_attributes.h"
#include "fs/volume/core.h"
#include "fs/volume/layout_change.h"

namespace pinfs {

namespace {

constexpr auto kPeriod = std::chrono::seconds{5};  // of lazy times: SPEC 6.1
/// How long a request that finds no space waits for the kernel to forget what was unlinked.
constexpr auto kForgetDelay = std::chrono::milliseconds{20};
/// Log bytes that freeing an inode needs beside its blocks: slot, chunk, index nodes.
constexpr std::size_t kFreeLogBytes = 4 * kBlockBytes;
/// Chunks of inodes that a mount after a crash may look into though nothing waits there.
constexpr std::uint64_t kIdleHintsMax = 1024;

}  // namespace

/// Inodes that a crash, or an unmount before this, left to be finished. What is damaged stays as it
/// is: its blocks are nobody's until it is repaired.
void Volume::Core::find_pending() {
    const TableLock lock{inodes_.mutex()};
    inodes_.for_each_pending(
        [&](std::uint64_t ino) { pending_.push_back(Ino{ino}); },
        [](const Error& error) {
            spdlog::error(
                "{}: unlinked files and cuts that wait there are not finished; repair it "
                "with fsck.pinfs -y",
                error.message());
        });
}

/// Where more chunks than `tolerated` have hints: the next mount is to look only where something is
/// pending.
Expected<void> Volume::Core::drop_idle_hints(std::uint64_t tolerated) {
    for (std::optional<std::uint64_t> chunk = 0; chunk;) {
        const TableLock lock{inodes_.mutex()};
        if (inodes_.hints() <= tolerated) return {};
        Change one = change(space::Reserve::use);
        chunk = TRY(inodes_.drop_idle_hints(one, *chunk));
        TRY(one.commit());
    }
    return {};
}

void Volume::Core::abandoned(Ino ino) {
    {
        const std::scoped_lock lock{pending_mutex_};
        pending_.push_back(ino);
    }
    pending_changed_.notify_all();
    space_may_come_.notify_all();
}

/// Nobody waits until the kernel's news is heard, so the thread that brings it frees the inode, if
/// one step does: to wake another one would cost more than that.
void Volume::Core::forget(Ino ino, std::uint64_t count) {
    if (!states_.forget(ino, count)) return;
    // The kernel is asked by the worker alone: it may have to wait for what this thread serves.
    if (!worker_.joinable() || options_.supervision.kernel_has) {
        abandoned(ino);
        return;
    }
    {
        const std::scoped_lock lock{pending_mutex_};
        ++working_;
    }
    space_may_come_.notify_all();
    bool done = true;
    try {
        done = free_orphan(ino, 1).value_or(true);  // an error: as the worker has it
    } catch (const std::bad_alloc&) {
        done = false;
    }
    if (!done) abandoned(ino);
    {
        const std::scoped_lock lock{pending_mutex_};
        --working_;
    }
    space_may_come_.notify_all();
}

/// Frees an inode without names that nothing refers to: first its blocks, in as many steps as they
/// need, then itself. False: it needs more of them than `steps_max`.
Expected<bool> Volume::Core::free_orphan(Ino ino, std::uint64_t steps_max) {
    const Use state = use(ino);
    const auto& kernel_has = options_.supervision.kernel_has;
    if (kernel_has && !states_.is_referenced(*state) && kernel_has(ino)) {
        states_.keep_until_forgotten(*state);
        return true;
    }
    for (std::uint64_t step = 0; step < steps_max; ++step) {
        const Exclusive lock{state->mutex};
        LayoutChange layout{*this, *state, TRY(read_inode(*state)), /*with_tables=*/true};
        TRY(layout.prepare());
        Change one = change(space::Reserve::use);
        auto* inode = TRY(edit_inode(one, *state));
        if (inode->nlink > 0) return true;
        if (states_.is_referenced(*state)) {
            states_.mark_orphan(*state);  // its last reference brings it back here
            return true;
        }
        const bool has_extents =
            S_ISREG(inode->mode) || (S_ISLNK(inode->mode) && inode->size > media::kInlineBytes);
        bool done = true;
        if (has_extents)
            done = TRY(
                inode::Extents(one, *inode).remove_some(0, inode::kFileBlocksMax, layout.away()));
        const std::size_t attribute_blocks =
            (inode->attributes_bytes + media::kPayloadBytes - 1) / media::kPayloadBytes;
        if (!done || !one.has_room(kFreeLogBytes + attribute_blocks * 256)) {
            TRY(one.commit());
            continue;
        }
        // Records whose owner is gone name the inode: nothing is left that they could mean.
        const bool ended = TRY(layout.take_gone(one, kFreeLogBytes));
        if (ended) {
            TRY(one.commit());
            continue;
        }
        if (inode->attributes != 0) TRY(inode::free_attributes(one, *inode));
        one.transaction().drop(state->slot_offset.load());
        TRY(inodes_.release(one, ino.value));
        one.add_inodes(-1);
        one.after_commit([&] {
            state->dead = true;
            states_.remove(*state);
        });
        TRY(one.commit());
        inodes_in_use_.fetch_sub(1);
        return true;
    }
    return false;
}

Expected<void> Volume::Core::finish_one(Ino ino) {
    const MustFinish finish;
    bool orphan = false;
    {
        const Use state = use(ino);
        bool cutting = false;
        {
            const Shared lock{state->mutex};
            const auto inode = TRY(read_inode(*state));
            orphan = inode.nlink == 0;
            cutting = (inode.flags & media::kInodeCutting) != 0;
        }
        if (cutting && !orphan) TRY(finish_old_cut(*state));
    }
    if (orphan) TRY(free_orphan(ino, UINT64_MAX));
    return {};
}

Expected<void> Volume::Core::finish_pending() {
    Expected<void> result;
    keep_once();
    std::unique_lock lock{pending_mutex_};
    while (!pending_.empty() || !lazy_.empty()) {
        const bool orphan = !pending_.empty();
        Ino ino;
        if (orphan) {
            ino = pending_.front();
            pending_.pop_front();
        } else {
            ino = lazy_.back();
            lazy_.pop_back();
        }
        lock.unlock();
        auto done = orphan ? finish_one(ino) : write_lazy_times(ino);
        // What was freed in the meantime needs no finishing.
        if (!done && done.error().cause != Cause::stale_inode && result) result = done;
        lock.lock();
    }
    lock.unlock();
    if (read_only_ || is_shut_down()) return result;
    const auto settled = settle_bad_blocks();
    return result ? settled : result;
}

void Volume::Core::background() {
    std::unique_lock lock{pending_mutex_};
    auto next_round = std::chrono::steady_clock::now() + kPeriod;
    while (!stopping_) {
        if (!pending_.empty()) {
            const Ino ino = pending_.front();
            pending_.pop_front();
            ++working_;
            lock.unlock();
            // An error leaves the pending bit on media: the next mount tries again, fsck says why.
            try {
                (void)finish_one(ino);
            } catch (const std::bad_alloc&) {  // the reserve is spent: the same
            }
            lock.lock();
            --working_;
            space_may_come_.notify_all();
            continue;
        }
        if (std::chrono::steady_clock::now() >= next_round) {
            const auto inodes = std::exchange(lazy_, {});
            lock.unlock();
            try {
                for (const Ino ino : inodes) (void)write_lazy_times(ino);
                (void)settle_bad_blocks();  // an error: in five seconds again
                (void)drop_idle_hints(kIdleHintsMax);
            } catch (const std::bad_alloc&) {  // times that are left wait for sync or release
            }
            states_.give_back_memory();
            lock.lock();
            next_round = std::chrono::steady_clock::now() + kPeriod;
            continue;
        }
        pending_changed_.wait_until(lock, next_round);
    }
}

Expected<void> Volume::Core::start_background() {
    {
        const std::scoped_lock lock{pending_mutex_};
        stopping_ = false;
    }
    try {
        worker_ = std::thread{[this] {
            background();
        }};
        start_keeper();
    } catch (const std::system_error& error) {
        stop_background();
        return fail_errno(error.code().value());
    }
    return {};
}

void Volume::Core::stop_background() {
    {
        const std::scoped_lock lock{pending_mutex_};
        stopping_ = true;
    }
    pending_changed_.notify_all();
    space_may_come_.notify_all();
    if (worker_.joinable()) worker_.join();
    stop_keeper();
}

bool Volume::Core::gained_space() {
    std::unique_lock lock{pending_mutex_};
    if (pending_.empty() && working_ == 0) {
        // After rm the kernel's FORGET is on its way, beside the request that wants the space.
        if (!worker_.joinable() || states_.unopened_orphans() == 0) return false;
        const bool came = space_may_come_.wait_for(
            lock, kForgetDelay, [&] { return stopping_ || working_ > 0 || !pending_.empty(); });
        if (!came) return false;
    }
    if (!worker_.joinable()) {
        lock.unlock();
        return finish_pending().has_value();
    }
    space_may_come_.wait(lock, [&] { return stopping_ || (pending_.empty() && working_ == 0); });
    return !stopping_;
}

Statistics Volume::Core::statistics() const {
    Statistics statistics;
    statistics.blocks = allocator_.region_blocks();
    statistics.blocks_free = allocator_.free_blocks();
    const std::uint64_t reserve = allocator_.reserve_blocks();
    statistics.blocks_available =
        statistics.blocks_free > reserve ? statistics.blocks_free - reserve : 0;
    statistics.inodes = inodes_in_use_.load();
    statistics.inodes_available = statistics.blocks_available * (media::kChunkSlots - 1);
    return statistics;
}

}  // namespace pinfs

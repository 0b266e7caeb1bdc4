// SPDX-License-Identifier: Apache-2.0
//
// Times that wait in memory: mtime and ctime of overwrites in place until sync, release or 5 s
// (SPEC 6.1); atime until sync or 5 s. A state with such times stays in memory until they are
// written, and every change of the inode takes them along.
#include <sys/stat.h>

#include "fs/volume/core.h"

namespace pinfs {

namespace {

constexpr std::int64_t kDaySeconds = 24 * 3600;

std::int64_t ns_of(Time time) { return time.seconds * 1'000'000'000 + time.nanoseconds; }

}  // namespace

/// The change that it is about is done.
void Volume::Core::write_later(InodeState& state) {
    const MustFinish finish;
    const std::scoped_lock lock{pending_mutex_};
    lazy_.push_back(state.ino);
}

void Volume::Core::set_lazy_time(InodeState& state) {
    if (state.lazy_time_ns.exchange(ns_of(now())) == 0) write_later(state);
}

void Volume::Core::note_outside_change(InodeState& state) {
    set_lazy_time(state);
    const std::scoped_lock lock{change_sink_mutex_};
    if (change_sink_) change_sink_(state.ino);
}

void Volume::Core::set_change_sink(std::function<void(Ino ino)> sink) {
    const std::scoped_lock lock{change_sink_mutex_};
    change_sink_ = std::move(sink);
}

bool Volume::Core::note_access(InodeState& state, const media::Inode& inode) {
    if (atime_ == AtimePolicy::none || read_only_ || (inode.flags & media::kInodeNoAtime) != 0 ||
        (S_ISDIR(inode.mode) && !directory_atime_))
        return false;
    const Time time = now();
    if (atime_ == AtimePolicy::relative) {
        const Attributes shown = attributes_of(inode, state);
        if (shown.atime > shown.mtime && shown.atime > shown.ctime &&
            time.seconds - shown.atime.seconds < kDaySeconds)
            return false;
    }
    if (state.lazy_atime_ns.exchange(ns_of(time)) == 0) write_later(state);
    return true;
}

bool Volume::Core::note_access(Ino ino) {
    const Use state = use(ino);
    const Shared lock{state->mutex};
    const auto inode = read_inode(*state);
    return inode && note_access(*state, *inode);
}

void Volume::Core::apply_lazy_times(Change& change, media::Inode& inode, InodeState& state) {
    if (!state.has_lazy_times()) return;
    std::int64_t lazy = state.lazy_time_ns.load();
    std::int64_t lazy_atime = state.lazy_atime_ns.load();
    if (lazy != 0) touch(inode, time_of_ns(lazy));
    if (lazy_atime != 0) {
        inode.atime = time_of_ns(lazy_atime).seconds;
        inode.atime_ns = time_of_ns(lazy_atime).nanoseconds;
    }
    change.after_commit([&state, lazy, lazy_atime]() mutable {
        state.lazy_time_ns.compare_exchange_strong(lazy, 0);
        state.lazy_atime_ns.compare_exchange_strong(lazy_atime, 0);
    });
}

Expected<void> Volume::Core::write_lazy_times(Ino ino) {
    const MustFinish finish;
    const Use state = use(ino);
    const Exclusive lock{state->mutex};
    if (!state->has_lazy_times()) return {};
    Change one = change(space::Reserve::use);
    TRY(edit_inode(one, *state));
    TRY(one.commit());
    if (state->has_lazy_times()) write_later(*state);  // newer ones came meanwhile
    return {};
}

}  // namespace pinfs

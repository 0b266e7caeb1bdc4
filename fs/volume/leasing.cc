// SPDX-License-Identifier: Apache-2.0
//
// Leases (SPEC 2). They live in memory; of a supervised mount also with who is told of their
// changes, since its open file descriptions outlive the daemon.
#include <sys/stat.h>

#include <algorithm>

#include "fs/volume/core.h"

namespace pinfs {

namespace {

struct Range {
    std::uint64_t begin;
    std::uint64_t end;
};

/// Rounded outward to blocks; length 0: to the end of the address space.
Expected<Range> leased_range(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
    if (offset_bytes > UINT64_MAX - kBlockBytes ||
        length_bytes > UINT64_MAX - kBlockBytes - offset_bytes)
        return fail(Cause::invalid_argument);
    return Range{
        round_down(offset_bytes, kBlockBytes),
        length_bytes == 0 ? UINT64_MAX : round_up(offset_bytes + length_bytes, kBlockBytes)};
}

LeaseAnswer answer_of(const pin::FilePins& file, const pin::Lease& lease) {
    return {.kind = lease.kind,
            .id = lease.id,
            .begin = lease.begin,
            .end = lease.end,
            .user_data = lease.user_data,
            .holders = file.leases.holders(lease.kind, lease.begin, lease.end)};
}

/// Gives back what leases of a handle were charged and are no more.
void settle(pin::Registry& registry, std::uint32_t uid, std::size_t charged, std::size_t now) {
    for (; charged > now; --charged) registry.charges.remove(uid, 0);
}

}  // namespace

Expected<media::Inode> Volume::Core::read_leasable(InodeState& state) {
    const Shared lock{state.mutex};
    const auto inode = TRY(read_inode(state));
    if (!S_ISREG(inode.mode)) return fail(Cause::invalid_argument);
    if (!states_.is_dax(state)) return fail(Cause::not_leasable);
    return inode;
}

/// With the pins' lock held: nothing of the file is left to watch.
void Volume::Core::forget_if_unwatched(InodeState& state) {
    if (registry_.drop_if_empty(state.ino.value)) state.watched.store(false);
}

Expected<LeaseAnswer> Volume::Core::set_lease(OpenFile file, const LeaseRequest& request) {
    TRY(admit_read());
    const Range range = TRY(leased_range(request.offset_bytes, request.length_bytes));
    const Use state = use(file.ino);
    TRY(read_leasable(*state));
    const bool excludes = pin::forbids_changes(request.kind);
    if (excludes && !request.may_exclude) return fail(Cause::not_leaser);

    // A change of this layout that is under way ends first; it waits for no client.
    std::optional<RangeLock::Hold> hold;
    if (excludes) hold.emplace(state->ranges, range.begin, range.end, RangeLock::Mode::shared);
    const PinsLock lock{pins_mutex_};
    if (registry_.context(request.owner.context) == nullptr) return fail(Cause::no_such_context);
    const MustFinish finish;
    pin::FilePins& pins = registry_.file(file.ino.value);
    const std::uint32_t uid = request.owner.uid;
    // One more, and one more where it parts another.
    const std::size_t before = pins.leases.size_of(file.handle);
    for (std::size_t more = 0; more < 2; ++more) {
        const auto charged = registry_.charges.add(uid, 0);
        if (charged) continue;
        if (more > 0) registry_.charges.remove(uid, 0);
        forget_if_unwatched(*state);
        return std::unexpected(charged.error());
    }
    pin::Lease wanted;
    wanted.begin = range.begin;
    wanted.end = range.end;
    wanted.id = take_volatile_id();
    wanted.ino = file.ino.value;
    wanted.handle = file.handle;
    wanted.kind = request.kind;
    wanted.context = request.owner.context;
    wanted.user_data = request.user_data;
    wanted.owner = request.owner;
    wanted.made_seconds = now().seconds;
    const auto given = pins.set_lease(wanted, request.owner);
    settle(registry_, uid, before + 2, pins.leases.size_of(file.handle));
    if (!given) {
        forget_if_unwatched(*state);
        return std::unexpected(given.error());
    }
    state->watched.store(true);
    note_leases(file.ino.value, file.handle);
    return answer_of(pins, **given);
}

Expected<LeaseAnswer> Volume::Core::lease(OpenFile file, std::uint64_t offset_bytes,
                                          std::uint64_t length_bytes) {
    TRY(admit_read());
    const Range range = TRY(leased_range(offset_bytes, length_bytes));
    const PinsLock lock{pins_mutex_};
    const pin::FilePins* const pins = registry_.find(file.ino.value);
    const pin::Lease* const found =
        pins == nullptr ? nullptr : pins->leases.find(file.handle, range.begin, range.end);
    if (found == nullptr) return fail(Cause::no_such_record);
    return answer_of(*pins, *found);
}

Expected<void> Volume::Core::drop_lease(OpenFile file, std::uint64_t offset_bytes,
                                        std::uint64_t length_bytes) {
    const Range range = TRY(leased_range(offset_bytes, length_bytes));
    const Use state = use(file.ino);
    if (!state->watched.load()) return {};
    const PinsLock lock{pins_mutex_};
    pin::FilePins* const pins = registry_.find(file.ino.value);
    if (pins == nullptr) return {};
    const pin::Lease* const any = pins->leases.find(file.handle, 0, UINT64_MAX);
    if (any == nullptr) return {};
    const std::uint32_t uid = any->owner.uid;
    const std::size_t before = pins->leases.size_of(file.handle);
    // A hole in the middle makes two of one.
    registry_.charges.add_found(uid, 0);
    pins->leases.drop(file.handle, range.begin, range.end);
    note_leases(file.ino.value, file.handle);
    settle(registry_, uid, before + 1, pins->leases.size_of(file.handle));
    forget_if_unwatched(*state);
    return {};
}

void Volume::Core::drop_leases(OpenFile file) { (void)drop_lease(file, 0, 0); }

}  // namespace pinfs

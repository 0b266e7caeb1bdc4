// SPDX-License-Identifier: Apache-2.0
//
// How a volume goes on where the last daemon of a supervised mount ended (survivors.h): open files,
// contexts, leases, maps and pins are what they were, requests that were finished are known.
//
// What was posted to a context and not taken is lost with the daemon. So every lease of layouts is
// told of its whole range, and every map of the blocks it may have lost: who is told twice maps
// once more, and sees what is so.
#include <algorithm>

#include "fs/volume/core.h"

namespace pinfs {

Volume::Core::Survival Volume::Core::survival_of(const pin::Reference& reference) const {
    const Survivors* const survivors = options_.supervision.survivors;
    const std::uint64_t context = reference.owner.context;
    if (survivors == nullptr) return Survival::unknown;
    if (context == 0)
        return reference.id < survivors->start.record_id ? Survival::unknown : Survival::lives;
    if (context < survivors->start.volatile_id) return Survival::unknown;
    const bool has_context = std::ranges::find(survivors->contexts, context,
                                               &pin::Owner::context) != survivors->contexts.end();
    const bool has_guard = std::ranges::find(survivors->guards, reference.guard,
                                             &Survivors::Guard::id) != survivors->guards.end();
    return has_context || has_guard ? Survival::lives : Survival::ended;
}

void Volume::Core::restore_contexts() {
    const Survivors* const survivors = options_.supervision.survivors;
    if (survivors == nullptr) return;
    const PinsLock lock{pins_mutex_};
    for (const pin::Owner& owner : survivors->contexts) {
        registry_.charges.add_found(owner.uid, 0);
        registry_.open_context(owner.context, owner);
    }
    for (const Survivors::Guard& guard : survivors->guards)
        registry_.open_guard(guard.id, guard.context);
}

/// Inodes that a request made keep the reference that its answer will hand over; maps and pins end
/// again: nobody learned of them, and the request makes them anew.
Expected<void> Volume::Core::restore_finished() {
    const Survivors* const survivors = options_.supervision.survivors;
    if (survivors == nullptr) return {};
    std::vector<std::uint64_t> undone;
    for (const auto& [number, made] : finished_.unanswered()) {
        if (made.id == 0) continue;
        Ino ino{made.id};
        {
            const PinsLock lock{pins_mutex_};
            const pin::Reference* const reference = registry_.reference(made.id);
            if (reference != nullptr && reference->generation == made.generation) {
                undone.push_back(number);
                ino = Ino{reference->ino};
            }
        }
        const Use state = use(ino);
        if (!undone.empty() && undone.back() == number) {
            const PinsLock lock{pins_mutex_};
            TRY(end_reference(*state, *registry_.reference(made.id)));
            forget_if_unwatched(*state);
            continue;
        }
        const Shared lock{state->mutex};
        const auto inode = read_inode(*state);
        if (!inode || inode->generation != made.generation) continue;  // long since gone
        states_.add_lookup(*state);
        if (inode->nlink == 0) state->unnamed = true;
    }
    for (const std::uint64_t number : undone) finished_.forget(number);
    return {};
}

Expected<Entry> Volume::Core::finished_entry(const FinishedRequests::Made& made) {
    const Use state = use(Ino{made.id});
    const Shared lock{state->mutex};
    const auto inode = TRY(read_inode(*state));
    if (inode.generation != made.generation) return fail(Cause::stale_inode, 0, made.id);
    return Entry{attributes_of(inode, *state)};
}

Expected<void> Volume::Core::restore_files() {
    const Survivors* const survivors = options_.supervision.survivors;
    if (survivors == nullptr) return {};
    for (const Survivors::Opened& opened : survivors->opens) {
        const Use state = use(opened.ino);
        states_.open(*state, opened.dax);
        state->preallocated.store(true);  // maybe: the last release looks
        const Exclusive lock{state->mutex};
        const auto inode = read_inode(*state);
        // The kernel lets nobody link what is unlinked, but what never had a name.
        if (inode && inode->nlink == 0) state->unnamed = true;
    }
    for (const pin::Lease& lease : survivors->leases) {
        const Use state = use(Ino{lease.ino});
        const PinsLock lock{pins_mutex_};
        registry_.charges.add_found(lease.owner.uid, 0);
        TRY(registry_.file(lease.ino).leases.set(lease));
        state->watched.store(true);
        if (lease.deadline_ns != 0) revoking_.push_back(lease.id);
    }
    TRY(restore_finished());
    tell_survivors();
    return {};
}

void Volume::Core::tell_survivors() {
    const PinsLock lock{pins_mutex_};
    for (const pin::Lease& lease : options_.supervision.survivors->leases)
        if (pin::FilePins* const file = registry_.find(lease.ino))
            registry_.post_gone(*file, 0, UINT64_MAX);
    for (const auto& [id, hold] : registry_.holds())
        for (const std::uint64_t each : hold->waits_for) {
            pin::Map* const map = registry_.reference(each);
            const std::uint64_t begin = hold->file_block * kBlockBytes;
            const std::uint64_t from = std::max(begin, map->begin);
            const std::uint64_t to = std::min(begin + hold->bytes(), map->end);
            if (from >= to) continue;
            map->stale.add(from, to);
            registry_.post_gone(*map, from, to);
        }
}

void Volume::Core::note_leases(std::uint64_t ino, std::uint64_t handle) {
    if (!options_.supervision.leases_changed) return;
    const pin::FilePins* const file = registry_.find(ino);
    options_.supervision.leases_changed(
        handle, file == nullptr ? std::vector<pin::Lease>{} : file->leases.of(handle));
}

}  // namespace pinfs

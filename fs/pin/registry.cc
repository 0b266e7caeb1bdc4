// SPDX-License-Identifier: Apache-2.0
#include "fs/pin/registry.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace pinfs::pin {

FilePins* Registry::find(std::uint64_t ino) {
    const auto found = files_.find(ino);
    return found == files_.end() ? nullptr : &found->second;
}

bool Registry::drop_if_empty(std::uint64_t ino) {
    const auto found = files_.find(ino);
    if (found == files_.end()) return true;
    if (!found->second.empty()) return false;
    files_.erase(found);
    return true;
}

Context& Registry::open_context(std::uint64_t id, const Owner& owner) {
    Context& context = contexts_[id];
    context.id = id;
    context.owner = owner;
    return context;
}

Context* Registry::context(std::uint64_t id) {
    const auto found = contexts_.find(id);
    return found == contexts_.end() ? nullptr : &found->second;
}

void Registry::close_context(std::uint64_t id, std::uint64_t now_ns) {
    const auto found = contexts_.find(id);
    if (found == contexts_.end()) return;
    const std::set<std::uint64_t> owned = std::move(found->second.references);
    contexts_.erase(found);
    for (const std::uint64_t each : owned) {
        Reference* const reference = this->reference(each);
        assert(reference != nullptr);
        const bool guarded =
            reference->kind == ReferenceKind::map && guards_.contains(reference->guard);
        if (!guarded) abandon(*reference, now_ns);
    }
}

void Registry::close_guard(std::uint64_t id, std::uint64_t now_ns) {
    const auto found = guards_.find(id);
    if (found == guards_.end()) return;
    const std::set<std::uint64_t> maps = std::move(found->second.maps);
    guards_.erase(found);
    for (const std::uint64_t each : maps)
        if (Reference* const map = reference(each)) abandon(*map, now_ns);
}

Reference& Registry::add(std::unique_ptr<Reference> reference) {
    Reference& added = *reference;
    references_.emplace(added.id, std::move(reference));
    FilePins& file = files_[added.ino];
    if (added.state == ReferenceState::gone) {
        file.gone.insert(added);
        gone_.insert(added.id);
        return added;
    }
    (added.kind == ReferenceKind::map ? file.maps : file.pins).insert(added);
    enter_owner(added);
    return added;
}

void Registry::enter_owner(const Reference& reference) {
    const bool by_process =
        reference.owner.context == 0 || reference.state == ReferenceState::recovered;
    if (by_process)
        process_owned_[reference.owner.process].insert(reference.id);
    else if (Context* const owner = context(reference.owner.context))
        owner->references.insert(reference.id);
    if (const auto guard = guards_.find(reference.guard); guard != guards_.end())
        guard->second.maps.insert(reference.id);
}

void Registry::leave_owner(const Reference& reference) {
    const auto process = process_owned_.find(reference.owner.process);
    if (process != process_owned_.end()) {
        process->second.erase(reference.id);
        if (process->second.empty()) process_owned_.erase(process);
    }
    if (Context* const owner = context(reference.owner.context)) {
        owner->references.erase(reference.id);
        owner->events.forget(reference.id);
    }
    if (const auto guard = guards_.find(reference.guard); guard != guards_.end())
        guard->second.maps.erase(reference.id);
}

void Registry::abandon_all_of(const Process& process, std::uint64_t now_ns) {
    const auto found = process_owned_.find(process);
    if (found == process_owned_.end()) return;
    const std::set<std::uint64_t> owned = found->second;
    for (const std::uint64_t each : owned) abandon(*reference(each), now_ns);
}

Reference* Registry::reference(std::uint64_t id) {
    const auto found = references_.find(id);
    return found == references_.end() ? nullptr : found->second.get();
}

void Registry::abandon(Reference& reference, std::uint64_t now_ns) {
    if (reference.state == ReferenceState::gone) return;
    FilePins& file = files_[reference.ino];
    (reference.kind == ReferenceKind::map ? file.maps : file.pins).erase(reference);
    file.gone.insert(reference);
    leave_owner(reference);
    reference.state = ReferenceState::gone;
    reference.gone_ns = now_ns;
    reference.deadline_ns = 0;
    gone_.insert(reference.id);
    abandoned_.push_back({.id = reference.id, .ino = reference.ino});
    for (const std::uint64_t each : std::exchange(reference.holds, {})) {
        Hold* const waiting = hold(each);
        waiting->waits_for.erase(reference.id);
        waiting->needs_proof = true;
        waiting->may_be_mapped = waiting->may_be_mapped || reference.revoked;
        note(*waiting);
    }
}

void Registry::remove(Reference& reference) {
    FilePins& file = files_[reference.ino];
    if (reference.state == ReferenceState::gone) {
        file.gone.erase(reference);
        gone_.erase(reference.id);
    } else {
        (reference.kind == ReferenceKind::map ? file.maps : file.pins).erase(reference);
    }
    leave_owner(reference);
    for (const std::uint64_t each : reference.holds) {
        Hold* const waiting = hold(each);
        waiting->waits_for.erase(reference.id);
        note(*waiting);
    }
    charges.remove(reference.owner.uid, reference.end - reference.begin);
    references_.erase(reference.id);
}

void Registry::move(Reference& reference, const Owner& owner) {
    leave_owner(reference);
    const std::uint64_t bytes = reference.end - reference.begin;
    charges.remove(reference.owner.uid, bytes);
    charges.add_found(owner.uid, bytes);
    reference.owner = owner;
    reference.state = ReferenceState::live;
    enter_owner(reference);
}

void Registry::note(const Hold& hold) {
    const bool alone = hold.waits_for.empty();
    if (hold.is_free())
        free_holds_.insert(hold.id);
    else
        free_holds_.erase(hold.id);
    if (alone && hold.needs_proof)
        unproven_holds_.insert(hold.id);
    else
        unproven_holds_.erase(hold.id);
}

Hold& Registry::add_hold(std::unique_ptr<Hold> hold) {
    Hold& added = *hold;
    holds_.emplace(added.id, std::move(hold));
    charges.add_found(added.owner.uid, added.bytes());
    for (const std::uint64_t each : added.waits_for) reference(each)->holds.insert(added.id);
    note(added);
    return added;
}

void Registry::wait_for(Hold& hold, std::uint64_t map) {
    hold.waits_for.insert(map);
    reference(map)->holds.insert(hold.id);
    note(hold);
}

Hold* Registry::hold(std::uint64_t id) {
    const auto found = holds_.find(id);
    return found == holds_.end() ? nullptr : found->second.get();
}

void Registry::remove_hold(std::uint64_t id) {
    const auto found = holds_.find(id);
    assert(found != holds_.end());
    Hold& hold = *found->second;
    for (const std::uint64_t each : hold.waits_for) reference(each)->holds.erase(id);
    charges.remove(hold.owner.uid, hold.bytes());
    free_holds_.erase(id);
    unproven_holds_.erase(id);
    holds_.erase(found);
}

std::optional<Lease> Registry::lease(std::uint64_t id) const {
    std::optional<Lease> found;
    for (const auto& [ino, file] : files_)
        file.leases.for_each([&](const Lease& lease) {
            if (lease.id == id) found = lease;
        });
    return found;
}

std::optional<Lease> Registry::set_lease_deadline(std::uint64_t id, std::uint64_t deadline_ns) {
    for (auto& [ino, file] : files_)
        if (const Lease* const lease = file.leases.set_deadline(id, deadline_ns)) return *lease;
    return std::nullopt;
}

void Registry::drop_lease(std::uint64_t id) {
    while (const auto part = lease(id)) {
        FilePins& file = files_[part->ino];
        const std::size_t before = file.leases.size_of(part->handle);
        file.leases.drop(part->handle, part->begin, part->end);
        for (std::size_t i = file.leases.size_of(part->handle); i < before; ++i)
            charges.remove(part->owner.uid, 0);
        drop_if_empty(part->ino);
    }
}

void Registry::post(std::uint64_t context, const Event& event) {
    Context* const to = this->context(context);
    if (to != nullptr && to->events.post(event)) woken_.push_back(context);
}

/// Who has not listened since the last event is told of all its range, and then no more.
void Registry::post_gone(FilePins& file, std::uint64_t begin, std::uint64_t end) {
    file.leases.tell(begin, end, [&](const Lease& lease) {
        const Context* const to = context(lease.context);
        if (to == nullptr) return false;
        const bool again = to->events.has(lease.id, EventType::gone);
        post(lease.context, {.type = EventType::gone,
                             .id = lease.id,
                             .user_data = lease.user_data,
                             .begin = again ? lease.begin : std::max(begin, lease.begin),
                             .end = again ? lease.end : std::min(end, lease.end),
                             .deadline_ns = 0,
                             .ino = lease.ino});
        return !again;
    });
}

void Registry::post_gone(const Map& map, std::uint64_t begin, std::uint64_t end) {
    post(map.owner.context, {.type = EventType::gone,
                             .id = map.id,
                             .user_data = map.user_data,
                             .begin = std::max(begin, map.begin),
                             .end = std::min(end, map.end),
                             .deadline_ns = 0,
                             .ino = 0});
}

std::optional<Event> Registry::take_event(Context& context) {
    const auto event = context.events.take();
    if (event && event->ino != 0)
        if (FilePins* const file = find(event->ino)) file->leases.tell_again(event->id);
    return event;
}

void Registry::post_to_all(const Event& event) {
    for (auto& [id, context] : contexts_)
        if (context.events.post(event)) woken_.push_back(id);
}

}  // namespace pinfs::pin

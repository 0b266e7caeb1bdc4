// SPDX-License-Identifier: Apache-2.0
#include "fs/pin/leases.h"

#include <algorithm>
#include <vector>

namespace pinfs::pin {

namespace {

bool joins(const Lease& left, const Lease& right) {
    return left.end == right.begin && left.kind == right.kind && left.context == right.context &&
           left.user_data == right.user_data;
}

}  // namespace

const Lease* Leases::conflicting(const Lease& wanted) const {
    if (!forbids_changes(wanted.kind)) return nullptr;
    const Lease* found = nullptr;
    forbidding_.for_each(wanted.begin, wanted.end, [&](const Lease& other) {
        const bool both_share = wanted.kind == LeaseKind::shared && other.kind == LeaseKind::shared;
        if (other.handle != wanted.handle && !both_share) found = &other;
        return found == nullptr;
    });
    return found;
}

Lease& Leases::add(OfHandle& mine, const Lease& lease) {
    auto node = std::make_unique<Lease>(lease);
    Lease& added = *node;
    mine.emplace(lease.begin, std::move(node));
    added.satiated = false;
    set_of(added).insert(added);
    by_id_.emplace(added.id, &added);
    return added;
}

Leases::OfHandle::iterator Leases::remove(OfHandle& mine, OfHandle::iterator at) {
    Lease& lease = *at->second;
    set_of(lease).erase(lease);
    const auto [first, last] = by_id_.equal_range(lease.id);
    by_id_.erase(
        std::find_if(first, last, [&](const auto& each) { return each.second == &lease; }));
    return mine.erase(at);
}

/// Takes [begin, end) out of the leases of a handle; what is left of them keeps its id.
void Leases::cut(OfHandle& mine, std::uint64_t begin, std::uint64_t end) {
    auto at = mine.lower_bound(begin);
    if (at != mine.begin() && std::prev(at)->second->end > begin) --at;
    while (at != mine.end() && at->second->begin < end) {
        const Lease old = *at->second;
        at = remove(mine, at);
        Lease rest = old;
        rest.end = begin;
        if (old.begin < begin) add(mine, rest);
        rest.begin = end;
        rest.end = old.end;
        if (old.end > end) add(mine, rest);
    }
}

Expected<const Lease*> Leases::set(const Lease& wanted) {
    if (wanted.begin >= wanted.end) return fail(Cause::invalid_argument);
    if (const Lease* const other = conflicting(wanted))
        return std::unexpected(Error{.cause = Cause::lease_conflict, .in_the_way = other->id});
    OfHandle& mine = handles_[wanted.handle];
    cut(mine, wanted.begin, wanted.end);
    Lease joined = wanted;
    auto after = mine.lower_bound(wanted.end);
    if (after != mine.end() && joins(joined, *after->second)) {
        joined.end = after->second->end;
        after = remove(mine, after);
    }
    if (after != mine.begin() && joins(*std::prev(after)->second, joined)) {
        joined.begin = std::prev(after)->second->begin;
        joined.id = std::prev(after)->second->id;
        remove(mine, std::prev(after));
    }
    return &add(mine, joined);
}

void Leases::drop(std::uint64_t handle, std::uint64_t begin, std::uint64_t end) {
    const auto found = handles_.find(handle);
    if (found == handles_.end()) return;
    cut(found->second, begin, end);
    if (found->second.empty()) handles_.erase(found);
}

const Lease* Leases::find(std::uint64_t handle, std::uint64_t begin, std::uint64_t end) const {
    const auto mine = handles_.find(handle);
    if (mine == handles_.end() || begin >= end) return nullptr;
    auto at = mine->second.upper_bound(begin);
    if (at != mine->second.begin() && std::prev(at)->second->end > begin) --at;
    return at != mine->second.end() && at->second->begin < end ? at->second.get() : nullptr;
}

bool Leases::forbids(std::uint64_t handle, std::uint64_t begin, std::uint64_t end) const {
    while (begin < end) {
        const Lease* lease = find(handle, begin, end);
        if (lease == nullptr || lease->begin > begin || !forbids_changes(lease->kind)) return false;
        begin = lease->end;
    }
    return true;
}

void Leases::tell(std::uint64_t begin, std::uint64_t end,
                  const std::function<bool(const Lease&)>& tell) {
    std::vector<Lease*> enough;
    told_.for_each(begin, end, [&](Lease& lease) {
        if (!tell(lease)) enough.push_back(&lease);
        return true;
    });
    for (Lease* const lease : enough) {
        told_.erase(*lease);
        lease->satiated = true;
        satiated_.insert(*lease);
    }
}

void Leases::tell_again(std::uint64_t id) {
    const auto [first, last] = by_id_.equal_range(id);
    for (auto at = first; at != last; ++at) {
        Lease& lease = *at->second;
        if (!lease.satiated) continue;
        satiated_.erase(lease);
        lease.satiated = false;
        told_.insert(lease);
    }
}

const Lease* Leases::set_deadline(std::uint64_t id, std::uint64_t deadline_ns) {
    const Lease* found = nullptr;
    const auto [first, last] = by_id_.equal_range(id);
    for (auto at = first; at != last; ++at) {
        at->second->deadline_ns = deadline_ns;
        found = at->second;
    }
    return found;
}

void Leases::for_each(const std::function<void(const Lease&)>& visit) const {
    for (const auto& [handle, leases] : handles_)
        for (const auto& [begin, lease] : leases) visit(*lease);
}

std::vector<Lease> Leases::of(std::uint64_t handle) const {
    std::vector<Lease> leases;
    const auto found = handles_.find(handle);
    if (found != handles_.end())
        for (const auto& [begin, lease] : found->second) leases.push_back(*lease);
    return leases;
}

std::size_t Leases::size_of(std::uint64_t handle) const {
    const auto found = handles_.find(handle);
    return found == handles_.end() ? 0 : found->second.size();
}

std::uint64_t Leases::holders(LeaseKind kind, std::uint64_t begin, std::uint64_t end) const {
    std::uint64_t count = 0;
    const auto counted = [&](const Lease&) {
        ++count;
        return true;
    };
    if (forbids_changes(kind)) {
        forbidding_.for_each(begin, end, counted);
    } else {
        told_.for_each(begin, end, counted);
        satiated_.for_each(begin, end, counted);
    }
    return count;
}

}  // namespace pinfs::pin

// SPDX-License-Identifier: Apache-2.0
#include "fs/pin/pins.h"

#include <algorithm>

namespace pinfs::pin {

Expected<const Lease*> FilePins::set_lease(const Lease& wanted, const Owner& owner) {
    if (forbids_changes(wanted.kind)) {
        // Pins may outlive their lease: over others' there is no new one, unless all share. Over
        // those that still have theirs, the leases' own rule speaks first.
        Error refused{.cause = Cause::pins_outlive_lease};
        const bool free = pins.for_each(wanted.begin, wanted.end, [&](const Pin& pin) {
            refused.in_the_way = pin.id;
            return pin.owner.is(owner) || (pin.shared && wanted.kind == LeaseKind::shared);
        });
        if (!free && leases.conflicting(wanted) == nullptr) return std::unexpected(refused);
    }
    return leases.set(wanted);
}

Expected<bool> FilePins::admit_pin(std::uint64_t handle, std::uint64_t begin,
                                   std::uint64_t end) const {
    if (begin >= end) return fail(Cause::invalid_argument);
    bool shared = true;
    for (std::uint64_t at = begin; at < end;) {
        const Lease* lease = leases.find(handle, at, end);
        if (lease == nullptr || lease->begin > at || !forbids_changes(lease->kind))
            return fail(Cause::no_exclusive_lease);
        shared = shared && lease->kind == LeaseKind::shared;
        at = lease->end;
    }
    return shared;
}

Expected<void> FilePins::admit_map(std::uint64_t handle, std::uint64_t begin,
                                   std::uint64_t end) const {
    if (begin >= end) return fail(Cause::invalid_argument);
    for (std::uint64_t at = begin; at < end;) {
        const Lease* lease = leases.find(handle, at, end);
        if (lease == nullptr || lease->begin > at) return fail(Cause::no_lease);
        at = lease->end;
    }
    return {};
}

Expected<void> FilePins::admit_change(std::uint64_t begin, std::uint64_t end) const {
    Error refused{.cause = Cause::range_pinned};
    if (const Pin* pin = pins.first(begin, end))
        refused.in_the_way = pin->id;
    else if (const Lease* lease = leases.forbidding(begin, end))
        refused = {.cause = Cause::range_leased, .in_the_way = lease->id};
    else
        return {};
    return std::unexpected(refused);
}

bool FilePins::is_reached(std::uint64_t begin, std::uint64_t end) const {
    if (gone.first(begin, end) != nullptr) return true;
    return !maps.for_each(begin, end, [&](const Map& map) {
        return map.stale.covers(std::max(begin, map.begin), std::min(end, map.end));
    });
}

}  // namespace pinfs::pin

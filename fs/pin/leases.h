// SPDX-License-Identifier: Apache-2.0
//
// The leases of one file (SPEC 2): ranges in which an open file description is told of layout
// changes, or forbids them. Ranges are bytes, whole blocks, up to the end of the address space.
//
// Invariants
//   - Leases of one handle do not overlap, and those that touch differ in kind, context or user
//     data.
//   - Two leases that exclude each other do not overlap: exclusive ones of different handles,
//     unless both are shared.
// Not thread-safe: the caller holds the lock of rank `pins`.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "fs/error.h"
#include "fs/pin/intervals.h"
#include "fs/pin/owner.h"

namespace pinfs::pin {

enum class LeaseKind : std::uint8_t {
    layout,     ///< is told of layout changes
    exclusive,  ///< nobody changes the layout, nobody else has such a lease
    shared,     ///< nobody changes the layout, others who said so as well have it too
};
constexpr bool forbids_changes(LeaseKind kind) { return kind != LeaseKind::layout; }

struct Lease : Interval {
    std::uint64_t id = 0;
    std::uint64_t ino = 0;
    std::uint64_t handle = 0;  ///< the open file description it belongs to
    LeaseKind kind = LeaseKind::layout;
    std::uint64_t context = 0;  ///< gets its events
    std::uint64_t user_data = 0;
    Owner owner;  ///< who asked
    std::int64_t made_seconds = 0;
    std::uint64_t deadline_ns = 0;  ///< CLOCK_MONOTONIC: an administrator ends it then; 0: never
    bool satiated = false;          ///< all has been said to it, and it has not listened yet
};

class Leases {
public:
    Leases() = default;
    Leases(const Leases&) = delete;
    Leases& operator=(const Leases&) = delete;

    /// Gives `wanted.handle` the lease, in place of what it has there; neighbours of the same kind,
    /// context and user data become one. The lease that holds the range now, with its id. Errors:
    /// lease_conflict; then nothing changed. A change of kind is atomic.
    Expected<const Lease*> set(const Lease& wanted);
    /// A lease of another handle that `wanted` cannot stand beside; nullptr if there is none.
    [[nodiscard]] const Lease* conflicting(const Lease& wanted) const;
    /// Ends what `handle` has of [begin, end).
    void drop(std::uint64_t handle, std::uint64_t begin, std::uint64_t end);
    void drop_all(std::uint64_t handle) { drop(handle, 0, UINT64_MAX); }

    /// The first lease of `handle` that meets [begin, end); nullptr if there is none.
    [[nodiscard]] const Lease* find(std::uint64_t handle, std::uint64_t begin,
                                    std::uint64_t end) const;
    /// Whether `handle` forbids changes in all of [begin, end).
    [[nodiscard]] bool forbids(std::uint64_t handle, std::uint64_t begin, std::uint64_t end) const;
    /// Some lease that forbids changes in a part of [begin, end); nullptr if none does.
    [[nodiscard]] const Lease* forbidding(std::uint64_t begin, std::uint64_t end) const {
        return forbidding_.first(begin, end);
    }
    /// Tells the leases of layouts that meet [begin, end), in order. `tell` returns false if there
    /// is nothing more to be said to that one until `tell_again`: the cost of a change is that of
    /// those who listen.
    void tell(std::uint64_t begin, std::uint64_t end,
              const std::function<bool(const Lease&)>& tell);
    void tell_again(std::uint64_t id);
    /// How many leases of the kind's class, layout or not, meet [begin, end).
    [[nodiscard]] std::uint64_t holders(LeaseKind kind, std::uint64_t begin,
                                        std::uint64_t end) const;
    /// Every part of lease `id` ends at the deadline; one of them, nullptr if there is none.
    const Lease* set_deadline(std::uint64_t id, std::uint64_t deadline_ns);
    /// All of them, by handle and begin. `visit` must not change the set.
    void for_each(const std::function<void(const Lease&)>& visit) const;
    [[nodiscard]] std::size_t size() const {
        return told_.size() + satiated_.size() + forbidding_.size();
    }
    /// Those of `handle`, by begin.
    [[nodiscard]] std::vector<Lease> of(std::uint64_t handle) const;
    /// How many `handle` has.
    [[nodiscard]] std::size_t size_of(std::uint64_t handle) const;

private:
    using OfHandle = std::map<std::uint64_t, std::unique_ptr<Lease>>;  // by begin

    Lease& add(OfHandle& mine, const Lease& lease);
    OfHandle::iterator remove(OfHandle& mine, OfHandle::iterator at);
    void cut(OfHandle& mine, std::uint64_t begin, std::uint64_t end);
    Intervals<Lease>& set_of(const Lease& lease) {
        return forbids_changes(lease.kind) ? forbidding_ : lease.satiated ? satiated_ : told_;
    }

    std::map<std::uint64_t, OfHandle> handles_;
    std::multimap<std::uint64_t, Lease*> by_id_;
    Intervals<Lease> told_;
    Intervals<Lease> satiated_;
    Intervals<Lease> forbidding_;
};

}  // namespace pinfs::pin

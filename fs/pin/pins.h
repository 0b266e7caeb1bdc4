// SPDX-License-Identifier: Apache-2.0
//
// The pins and maps of one file (SPEC 3, 5.1), and what they and its leases say to whoever wants to
// change its layout. Ranges are bytes, whole blocks.
//
// Not thread-safe: the caller holds the lock of rank `pins`. It also sees to it that a range does
// not change its layout between the look and the entry.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <set>
#include <string>

#include "fs/error.h"
#include "fs/pin/intervals.h"
#include "fs/pin/leases.h"
#include "fs/pin/owner.h"
#include "fs/pin/range_set.h"

namespace pinfs::pin {

enum class ReferenceKind : std::uint8_t { map, pin };
enum class ReferenceState : std::uint8_t {
    live,
    recovered,  ///< of a living owner, found after a crash of the daemon
    gone,       ///< nobody owns it any more; a device may still reach its blocks (SPEC 3.9)
};

/// A map or a pin. Its record on media has the same id.
struct Reference : Interval {
    ReferenceKind kind = ReferenceKind::pin;
    ReferenceState state = ReferenceState::live;
    std::uint64_t id = 0;  ///< never given out twice
    std::uint64_t generation = 0;
    std::uint64_t ino = 0;
    std::uint64_t ino_generation = 0;
    Owner owner;
    std::uint64_t user_data = 0;
    std::int64_t made_seconds = 0;
    bool writable = true;           ///< by the device, or through the map
    std::uint64_t deadline_ns = 0;  ///< CLOCK_MONOTONIC: an administrator ends it then; 0: never
    std::uint64_t gone_ns = 0;      ///< CLOCK_MONOTONIC, since when it is gone
    bool revoked = false;           ///< gone, but its owner may live and have it mapped
    std::uint64_t slot = 0;         ///< of its record
    std::uint64_t slot_offset = 0;  ///< the same in the region
    std::set<std::uint64_t> holds;  ///< that wait for it

    // A map
    std::uint64_t guard = 0;
    bool self_flushed = false;  ///< fsync leaves it to its owner
    RangeSet declared;          ///< the parts that its owner flushes
    RangeSet stale;             ///< the parts that show blocks the file has lost, or nothing
    RangeSet noted;             ///< those of them that show nothing: their owner knows of the loss

    // A pin
    bool shared = false;  ///< taken under a shared lease
    Secret secret{};
    std::uint32_t descriptor = UINT32_MAX;  ///< that names it in reports; UINT32_MAX: the context
    std::string label;                      ///< its path
};
using Map = Reference;
using Pin = Reference;

/// Everything of one file that has to do with its layout.
class FilePins {
public:
    Leases leases;
    Intervals<Pin> pins;
    Intervals<Map> maps;
    Intervals<Reference> gone;  ///< maps and pins of neither set any more
    std::string last_path;      ///< of a file that lost its last name

    /// Rule 2.4 and 2.2: errors lease_conflict, pins_outlive_lease; then nothing changed.
    Expected<const Lease*> set_lease(const Lease& wanted, const Owner& owner);
    /// Rule 3.1: a pin needs an exclusive lease of `handle` on all of the range, and is shared if
    /// all of that is. Errors: no_exclusive_lease, invalid_argument.
    Expected<bool> admit_pin(std::uint64_t handle, std::uint64_t begin, std::uint64_t end) const;
    /// Rule 5.1: a map needs a lease of `handle`, of any kind, on all of the range. Errors:
    /// no_lease, invalid_argument.
    Expected<void> admit_map(std::uint64_t handle, std::uint64_t begin, std::uint64_t end) const;
    /// Rule 3.6: whether the layout of [begin, end) may change. Errors: range_pinned, range_leased,
    /// with the id of what is in the way.
    [[nodiscard]] Expected<void> admit_change(std::uint64_t begin, std::uint64_t end) const;
    [[nodiscard]] bool is_pinned(std::uint64_t begin, std::uint64_t end) const {
        return pins.first(begin, end) != nullptr;
    }
    /// Whether a map or something gone may reach blocks that [begin, end) has now.
    [[nodiscard]] bool is_reached(std::uint64_t begin, std::uint64_t end) const;
    [[nodiscard]] bool empty() const {
        return leases.size() == 0 && pins.empty() && maps.empty() && gone.empty();
    }
};

}  // namespace pinfs::pin

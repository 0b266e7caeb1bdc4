// SPDX-License-Identifier: Apache-2.0
//
// What callers of a Volume say about leases, maps and pins, and what it answers. Ranges are bytes
// of a file, as the caller has them; answers are whole blocks.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fs/pin/leases.h"
#include "fs/pin/owner.h"
#include "fs/units.h"

namespace pinfs {

/// An open file description: what a lease belongs to (SPEC 2.1). Handles are the caller's, unique
/// for the life of a mount.
struct OpenFile {
    Ino ino;
    std::uint64_t handle = 0;
};

/// A stretch of a file and where it lies, in bytes.
struct Extent {
    std::uint64_t file_offset = 0;
    std::uint64_t region_offset = 0;
    std::uint64_t bytes = 0;
    bool operator==(const Extent&) const = default;
};

struct LeaseRequest {
    pin::LeaseKind kind = pin::LeaseKind::layout;
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;  ///< 0: to the end of the address space
    pin::Owner owner;                ///< its context gets the events
    std::uint64_t user_data = 0;
    bool may_exclude = false;  ///< the caller owns the file or has CAP_LEASE (SPEC 2.3)
};

struct LeaseAnswer {
    pin::LeaseKind kind = pin::LeaseKind::layout;
    std::uint64_t id = 0;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;  ///< UINT64_MAX: to the end of the address space
    std::uint64_t user_data = 0;
    std::uint64_t holders = 0;  ///< leases of this kind's class that meet it
};

struct MapRequest {
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;
    bool writable = false;
    bool allocate = true;       ///< give holes blocks; else they are an error
    bool self_flushed = false;  ///< fsync leaves it to its owner
    pin::Owner owner;           ///< a context's
    std::uint64_t guard = 0;
    std::uint64_t user_data = 0;
};

struct MapAnswer {
    std::uint64_t id = 0;
    std::uint64_t generation = 0;  ///< of the layout: moves with every layout change of the file
    std::vector<Extent> extents;   ///< all of them, joined
};

struct LayoutAnswer {
    std::uint64_t generation = 0;
    std::uint64_t size_bytes = 0;  ///< of the file
    std::vector<Extent> extents;
};

struct PinRequest {
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;
    bool device_writes = true;
    pin::Owner owner;                       ///< a context's, or with context 0 the process's own
    std::uint32_t descriptor = UINT32_MAX;  ///< that names it in reports; UINT32_MAX: none
    std::string label;                      ///< the descriptor's path
    std::uint64_t user_data = 0;
};

struct PinAnswer {
    std::uint64_t id = 0;
    std::uint64_t generation = 0;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint64_t user_data = 0;
    pin::Secret secret{};
    std::uint64_t extent_count = 0;
};

/// One line of a report (SPEC 4.2).
struct PinnedItem {
    enum class Kind : std::uint8_t { lease, map, pin, hold, orphan };
    enum class State : std::uint8_t {
        live,
        recovered,  ///< of a living owner, found after a crash of the daemon
        revoking,   ///< an administrator ends it soon
        held,       ///< nobody owns it any more; it ends by proof (SPEC 3.9)
        cut,        ///< a hold: blocks that only maps which still live may reach
    };
    Kind kind = Kind::lease;
    State state = State::live;
    std::uint64_t id = 0;
    std::uint64_t generation = 0;
    Ino ino;
    std::string path;      ///< in the mount, begins with '/'; of an orphan the last one known
    bool deleted = false;  ///< the file has no name any more
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint64_t region_offset = 0;  ///< of a hold
    pin::Owner owner;                 ///< context 0 and pid 0: none
    pin::LeaseKind lease_kind = pin::LeaseKind::layout;
    bool writable = false;      ///< map, pin
    bool shared = false;        ///< pin
    bool self_flushed = false;  ///< map
    std::uint32_t descriptor = UINT32_MAX;
    std::string label;
    std::int64_t made_seconds = 0;  ///< since 1970
    std::uint64_t deadline_ns = 0;  ///< revoking: CLOCK_MONOTONIC
};

/// What a report is about.
struct PinnedFilter {
    std::optional<std::uint32_t> uid;  ///< owners of this uid only
    std::optional<Ino> ino;
    std::optional<std::uint32_t> pid;
};

/// Sums, for metrics.
struct PinnedTotals {
    std::uint64_t contexts = 0;
    std::uint64_t leases = 0;
    std::uint64_t maps = 0;
    std::uint64_t map_bytes = 0;
    std::uint64_t pins = 0;
    std::uint64_t pin_bytes = 0;
    std::uint64_t holds = 0;
    std::uint64_t hold_bytes = 0;
    std::uint64_t refused_changes = 0;  ///< layout changes answered with EBUSY so far
};

}  // namespace pinfs

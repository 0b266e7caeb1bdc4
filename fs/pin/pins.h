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
#include <string>

#include "fs/error.h"
#include "fs/pin/intervals.h"
#include "fs/pin/leases.h"
#include "fs/pin/owner.h"

namespace pinfs::pin {

/// A map or a pin. Its record on media has the same id.
struct Reference : Interval {
    std::uint64_t id = 0;  ///< never given out twice
    std::uint64_t generation = 0;
    std::uint64_t ino = 0;
    Owner owner;
    std::uint64_t user_data = 0;
    std::uint64_t made_seconds = 0;
    bool writable = true;    ///< by the device, or through the map
    bool recovered = false;  ///< of a living owner, found after a crash of the daemon
};

struct Map : Reference {
    bool self_flushed = false;  ///< fsync leaves it to its owner
};

struct Pin : Reference {
    bool shared = false;  ///< taken under a shared lease
    std::array<std::uint8_t, 16> secret{};
    std::uint32_t descriptor = UINT32_MAX;  ///< that names it in reports; UINT32_MAX: the context
    std::string label;                      ///< its path
};

/// Everything of one file that has to do with its layout.
class FilePins {
public:
    Leases leases;
    Intervals<Pin> pins;
    Intervals<Map> maps;

    /// Rule 2.4 and 2.2: errors lease_conflict, range_pinned; then nothing changed.
    Expected<const Lease*> set_lease(const Lease& wanted, const Owner& owner);
    /// Rule 3.1: a pin needs an exclusive lease of `handle` on all of the range, and is shared if
    /// all of that is. Errors: no_exclusive_lease, invalid_argument.
    Expected<bool> admit_pin(std::uint64_t handle, std::uint64_t begin, std::uint64_t end) const;
    /// Rule 5.1: a map needs a lease of `handle`, of any kind, on all of the range. Errors:
    /// no_lease, invalid_argument.
    Expected<void> admit_map(std::uint64_t handle, std::uint64_t begin, std::uint64_t end) const;
    /// Rule 3.6: whether the layout of [begin, end) may change. Errors: range_pinned, range_leased.
    [[nodiscard]] Expected<void> admit_change(std::uint64_t begin, std::uint64_t end) const;
    [[nodiscard]] bool is_pinned(std::uint64_t begin, std::uint64_t end) const {
        return pins.first(begin, end) != nullptr;
    }
    [[nodiscard]] bool empty() const { return leases.size() == 0 && pins.empty() && maps.empty(); }
};

}  // namespace pinfs::pin

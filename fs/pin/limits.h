// SPDX-License-Identifier: Apache-2.0
//
// How much leases, maps, pins and holds may be, in records and in bytes, of one user and of all
// (SPEC 3.1). A hold stays charged to whom its map or pin was charged.
//
// Not thread-safe: the caller holds the lock of rank `pins`.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "fs/error.h"

namespace pinfs::pin {

/// As the mount options of these names; bytes count maps, pins and holds, records leases as well.
struct Limits {
    std::uint64_t user_records = 1u << 20;
    std::uint64_t user_bytes = UINT64_MAX;
    std::uint64_t region_records = 4u << 20;
    std::uint64_t region_bytes = UINT64_MAX;
    std::uint64_t user_contexts = 4096;  ///< open files of .pinfs/context; the kernel edge counts
};

class Charges {
public:
    explicit Charges(const Limits& limits) : limits_{limits} {}

    /// One record more of `uid`, of so many bytes. Errors: limit_user_records, limit_user_bytes,
    /// limit_region_records, limit_region_bytes; then nothing changed.
    Expected<void> add(std::uint32_t uid, std::uint64_t bytes);
    /// Whether `uid` is within the limits; what is cut from under maps is charged without asking,
    /// so it may not be. Errors: as add.
    Expected<void> check(std::uint32_t uid) const;
    /// As add, for what is there already: a record found at mount, whatever the limits are now.
    void add_found(std::uint32_t uid, std::uint64_t bytes);
    void remove(std::uint32_t uid, std::uint64_t bytes);
    [[nodiscard]] std::uint64_t bytes_of(std::uint32_t uid) const;
    [[nodiscard]] const Limits& limits() const { return limits_; }

private:
    struct Sum {
        std::uint64_t records = 0;
        std::uint64_t bytes = 0;
    };
    Limits limits_;
    Sum all_;
    std::unordered_map<std::uint32_t, Sum> users_;
};

}  // namespace pinfs::pin

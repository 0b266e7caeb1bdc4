// SPDX-License-Identifier: Apache-2.0
//
// Reading units: copied out of the region whole, and believed only after checksum, kind, owner and
// place were verified. The caller holds the lock of what it reads (fs/lock.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "fs/error.h"
#include "fs/format/unit.h"
#include "fs/pmem/region.h"

namespace pinfs::journal {

/// What a block's header must say.
struct BlockIdentity {
    media::BlockKind kind;
    std::uint64_t owner = 0;
    std::uint64_t generation = 0;
};

class Units {
public:
    Units(pmem::Region& region, std::uint32_t checksum_seed)
        : region_{region}, checksum_seed_{checksum_seed} {}

    /// A unit of any size with `magic`. Errors: media_error, bad_checksum, bad_magic.
    Expected<void> read(std::uint64_t offset, std::uint32_t magic, std::span<std::byte> out) const;
    /// A block; also verifies its header. `out` holds 4096 bytes.
    Expected<void> read_block(std::uint64_t offset, const BlockIdentity& identity,
                              std::span<std::byte> out) const;

    [[nodiscard]] pmem::Region& region() const { return region_; }
    [[nodiscard]] std::uint32_t checksum_seed() const { return checksum_seed_; }
    /// Bytes of metadata read so far; mount reports it.
    [[nodiscard]] std::uint64_t bytes_read() const {
        return bytes_read_.load(std::memory_order_relaxed);
    }

private:
    pmem::Region& region_;
    std::uint32_t checksum_seed_;
    mutable std::atomic<std::uint64_t> bytes_read_{0};
};

}  // namespace pinfs::journal

// SPDX-License-Identifier: Apache-2.0
//
// Reading units: copied out of the region whole, and believed only after checksum, kind, owner and
// place were verified. The caller holds the lock of what it reads (fs/lock.h).
//
// Summing a block costs more than all else that a look into it does, and the same few blocks (an
// index, a directory's root) are looked into by every operation. So those that are only looked into
// are summed when they are first read, as other file systems do it with what they cache; what is
// about to be changed, and so to get a new checksum, is summed each time.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
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
    /// As read_block, but sums no block again that was found right not long ago.
    Expected<void> look_into_block(std::uint64_t offset, const BlockIdentity& identity,
                                   std::span<std::byte> out) const;
    /// Blocks that are metadata no more; before they are anybody else's.
    void forget(BlockRun run) const;
    /// From here on every block is summed anew: for a scrub.
    void forget_all() const;

    [[nodiscard]] pmem::Region& region() const { return region_; }
    [[nodiscard]] std::uint32_t checksum_seed() const { return checksum_seed_; }
    /// Bytes of metadata read so far; mount reports it.
    [[nodiscard]] std::uint64_t bytes_read() const {
        return bytes_read_.load(std::memory_order_relaxed);
    }

private:
    static constexpr std::size_t kFoundRightMax = 16384;  // 64 MiB of metadata, in 128 KiB
    using FoundRight = std::array<std::atomic<std::uint64_t>, kFoundRightMax>;
    [[nodiscard]] std::atomic<std::uint64_t>& place_of(std::uint64_t offset) const {
        return (*found_right_)[offset / kBlockBytes % kFoundRightMax];
    }
    [[nodiscard]] bool is_sum_right(std::span<const std::byte> unit) const;
    Expected<void> copy_out(std::uint64_t offset, std::uint32_t magic,
                            std::span<std::byte> out) const;
    static Expected<void> verify_header(std::uint64_t offset, const BlockIdentity& identity,
                                        std::span<const std::byte> block);

    pmem::Region& region_;
    std::uint32_t checksum_seed_;
    mutable std::atomic<std::uint64_t> bytes_read_{0};
    /// Offsets of blocks whose checksum was right; the later one where two have one place.
    std::unique_ptr<FoundRight> found_right_ = std::make_unique<FoundRight>();
};

}  // namespace pinfs::journal

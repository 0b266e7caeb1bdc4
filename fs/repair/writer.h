// SPDX-License-Identifier: Apache-2.0
//
// How a repair writes. New blocks come from those that nobody has; units are changed through a lane
// of the journal, the first whose memory works, so that a crash leaves each of them old or new, and
// a mount or the next repair replays the lane.
//
// Invariants
//   - Every lane is unsealed when the writer is made.
//   - What is staged is not in the region before `commit`, or before so much is staged that a lane
//     is full. Nobody stages a unit twice without a commit between.
//   - A block that was allocated is in use in its group's bitmap before anything that is staged
//     later is: a crash leaves a lost block, never one with two owners. (Unless the group is
//     damaged itself.)
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "fs/check/claims.h"
#include "fs/checksum.h"
#include "fs/format/group.h"
#include "fs/format/lane.h"
#include "fs/format/superblock.h"
#include "fs/pmem/region.h"

namespace pinfs::repairing {

class Writer {
public:
    /// `claims` says which blocks have an owner; null: nothing can be allocated.
    Writer(pmem::Region& region, const media::Superblock& superblock,
           const checking::Claims* claims)
        : region_(region), superblock_(superblock), claims_(claims) {}

    /// Sets the checksum of a unit.
    template <class T>
    void seal(T& unit) const {
        unit.crc32c = unit_checksum(superblock_.checksum_seed, std::as_bytes(std::span(&unit, 1)));
    }
    /// The same for a unit that begins with a BlockHeader.
    template <class T>
    void seal_block(T& block) const {
        block.header.crc32c =
            unit_checksum(superblock_.checksum_seed, std::as_bytes(std::span(&block, 1)));
    }

    /// Puts bytes, at most a block, in the transaction.
    Expected<void> stage(std::uint64_t offset, std::span<const std::byte> bytes);
    template <class T>
    Expected<void> stage_value(std::uint64_t offset, const T& value) {
        return stage(offset, std::as_bytes(std::span(&value, 1)));
    }
    template <class T>
    Expected<void> stage_unit(std::uint64_t offset, T& unit) {
        seal(unit);
        return stage_value(offset, unit);
    }
    /// Makes all that is staged durable, and all that was stored to new blocks before it.
    Expected<void> commit();

    /// The number of a block that nobody has. First those that the bitmap calls free, then those
    /// that are in use there without an owner. Errors: no_space.
    Expected<std::uint64_t> allocate();
    /// Stores a new block; durable, and in use, with the next commit.
    template <class T>
    Expected<void> store_new(std::uint64_t block, const T& value) {
        static_assert(sizeof(T) == media::kBlockBytes);
        return region_.store_flush(block * media::kBlockBytes, std::as_bytes(std::span(&value, 1)));
    }

    /// Never to be allocated: blocks that raised media errors.
    void avoid(BlockRun run) { avoided_.push_back(run); }

    /// The group as it stands, or null if it is damaged. With what was allocated since.
    const media::Group* group(std::uint64_t index);

    [[nodiscard]] pmem::Region& region() const { return region_; }

private:
    struct Known {
        media::Group group;
        bool whole = false;
        bool dirty = false;
    };
    struct Record {
        std::uint64_t offset;
        std::vector<std::byte> bytes;
    };
    Known& known(std::uint64_t index);
    [[nodiscard]] std::uint64_t blocks() const {
        return superblock_.region_bytes / media::kBlockBytes;
    }
    bool is_free(std::uint64_t block);
    bool is_without_owner(std::uint64_t block);
    [[nodiscard]] bool is_avoided(std::uint64_t block) const;
    Expected<void> write(std::span<const Record> records);
    Expected<std::uint64_t> seal_log(std::vector<std::byte>& log, std::uint32_t record_count);

    pmem::Region& region_;
    const media::Superblock& superblock_;
    const checking::Claims* claims_;
    std::map<std::uint64_t, Known> groups_;
    std::set<std::uint64_t> taken_;
    std::vector<BlockRun> avoided_;
    std::uint64_t free_cursor_ = 1;
    std::uint64_t lost_cursor_ = 1;
    std::uint32_t lane_ = 0;
    std::vector<Record> staged_;
    std::size_t staged_bytes_ = 0;
};

}  // namespace pinfs::repairing

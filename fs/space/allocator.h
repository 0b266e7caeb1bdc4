// SPDX-License-Identifier: Apache-2.0
//
// Who owns each block. The bitmap of a group is on media (format/group.h); in memory a group has a
// *busy* bitmap: in use on media, or reserved for a change that is being put together. Blocks are
// reserved first, without any lock held afterwards, so that data can be copied into them; the
// change that names them then sets their bits (space/change.h).
//
// Invariants
//   - A block is busy from its reservation until the change that freed it is committed.
//   - free_blocks() + busy blocks = blocks of the region; the reserve is part of the free ones.
//   - Group states are a cache: they come from media when first looked at.
// Thread-safe. Group locks are taken one at a time here.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "fs/error.h"
#include "fs/format/group.h"
#include "fs/journal/units.h"
#include "fs/lock.h"
#include "fs/units.h"

namespace pinfs::space {

/// What an operation may use of a nearly full region (SPEC 6.8).
enum class Reserve : std::uint8_t {
    keep,  ///< leave the reserve: whatever asks for new space
    half,  ///< take half of it: nodes for writes into blocks that were allocated before
    use,   ///< operations that free, undo or recover
};

struct Request {
    std::uint64_t blocks = 1;
    std::uint64_t goal = 0;  ///< region block to start at if free; 0: none
    bool aligned = false;  ///< whole 2 MiB runs, where 512 blocks or more are wanted, if there are
    /// Where the first of them comes in its file: whole runs begin at multiples of 512 blocks.
    std::uint64_t file_block = 0;
    Reserve reserve = Reserve::keep;
};

class Allocator {
public:
    Allocator(const journal::Units& units, std::uint64_t region_blocks, std::uint64_t zone_groups);
    ~Allocator();

    /// Totals as the journal's lanes have them; once, after replay.
    void set_free_blocks(std::uint64_t blocks) { free_blocks_ = blocks; }

    /// Appends runs of `request.blocks` blocks in all to `runs`; longest first is not promised, but
    /// neighbours are joined. Errors: no_space (nothing reserved), bad_checksum and the like.
    Expected<void> reserve(const Request& request, std::vector<BlockRun>& runs);
    /// Reserves this very block. False, and nothing happened, if it is busy.
    Expected<bool> reserve_exactly(std::uint64_t block);
    /// Takes back a reservation whose change was not committed, or frees blocks whose change was.
    void release(BlockRun run);

    [[nodiscard]] std::uint64_t free_blocks() const {
        return free_blocks_.load(std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t reserve_blocks() const { return reserve_blocks_; }
    [[nodiscard]] std::uint64_t region_blocks() const { return region_blocks_; }
    /// Free blocks in wholly free 2 MiB runs. Looks at every group.
    Expected<std::uint64_t> free_in_whole_runs();

    /// Lock of one group, for the change that edits its block; `group` is below group_count().
    RankedMutex<LockRank::group>& group_lock(std::uint64_t group);
    /// Loads the group, whose lock is held: from then on memory, not media, says what is busy.
    Expected<void> load(std::uint64_t group);
    /// Reads the group's block again, whatever memory says.
    Expected<void> verify(std::uint64_t group);
    [[nodiscard]] std::uint64_t group_offset(std::uint64_t group) const {
        return media::group_block_of(group, zone_groups_) * kBlockBytes;
    }
    [[nodiscard]] std::uint64_t group_count() const { return group_count_; }

private:
    struct Group;
    struct Reservation;
    Group& group_at(std::uint64_t index);
    /// Reads the block and checks that its counts agree with its bits; the group's lock is held.
    Expected<media::Group> read(std::uint64_t index) const;
    Expected<void> load(Group& group, std::uint64_t index);  // the group's lock is held
    template <class Take>
    Expected<void> sweep(std::uint64_t first_group, std::uint64_t& wanted, const Take& take);
    Expected<void> take_blocks(const Request& request, std::vector<BlockRun>& runs);

    const journal::Units& units_;
    const std::uint64_t region_blocks_;
    const std::uint64_t zone_groups_;
    const std::uint64_t group_count_;
    const std::uint64_t reserve_blocks_;
    std::atomic<std::uint64_t> free_blocks_{0};
    std::vector<std::atomic<Group*>> groups_;
};

}  // namespace pinfs::space

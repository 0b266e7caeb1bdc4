// SPDX-License-Identifier: Apache-2.0
//
// One atomic change of metadata together with the blocks it allocates and frees: a transaction that
// also keeps the bitmaps, the totals and the allocator right. Dropped without commit, its
// reservations go back and nothing happened.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "fs/journal/journal.h"
#include "fs/space/allocator.h"

namespace pinfs::space {

class Change {
public:
    Change(journal::Journal& journal, const journal::Units& units, Allocator& allocator,
           Reserve reserve)
        : journal_{journal},
          units_{units},
          allocator_{allocator},
          transaction_{units},
          reserve_{reserve} {}
    ~Change();
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

    [[nodiscard]] journal::Transaction& transaction() { return transaction_; }
    [[nodiscard]] const journal::Transaction& transaction() const { return transaction_; }
    [[nodiscard]] const journal::Units& units() const { return units_; }

    /// Reserves blocks and adds them to this change. `request.reserve` is replaced by the change's.
    Expected<std::vector<BlockRun>> allocate(Request request);
    /// One block of metadata near `goal`; its region offset.
    Expected<std::uint64_t> allocate_block(std::uint64_t goal = 0);
    /// Reserves blocks for what allocate_block may be asked for later, so that this change does not
    /// fail half-way for want of them. What is not used goes back.
    Expected<void> set_aside(std::uint64_t blocks);
    /// The blocks are free once this is committed. They must be in use now, and reachable through
    /// nothing but what this change removes.
    void free(BlockRun run);
    void free_block(std::uint64_t offset);
    void add_inodes(std::int64_t count) { inodes_added_ += static_cast<std::uint64_t>(count); }

    /// True while what was edited, freed and allocated so far surely fits one lane beside
    /// `spare_bytes`.
    [[nodiscard]] bool has_room(std::size_t spare_bytes) const;

    /// Runs after the change is durable, before its group locks are released.
    void after_commit(std::function<void()> action) { actions_.push_back(std::move(action)); }

    /// Sets and clears bits, under the locks of their groups, and commits. The caller holds the
    /// locks of everything else it edited. On error nothing changed.
    Expected<void> commit();

private:
    Expected<void> mark(std::uint64_t group, bool to_used, const std::vector<BlockRun>& runs);

    journal::Journal& journal_;
    const journal::Units& units_;
    Allocator& allocator_;
    journal::Transaction transaction_;
    Reserve reserve_;
    std::vector<BlockRun> allocated_;
    std::vector<BlockRun> freed_;
    std::vector<BlockRun> aside_;
    std::uint64_t inodes_added_ = 0;
    std::vector<std::function<void()>> actions_;
    bool committed_ = false;
};

}  // namespace pinfs::space

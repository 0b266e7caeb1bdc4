// SPDX-License-Identifier: Apache-2.0
//
// Which blocks have an owner, as the walk finds them: a bit a block. Hides how the two owners of a
// block are named: the bits do not say who was first, so the walk is made again with a watch on the
// blocks that were claimed twice.
//
// Invariants
//   - `take` says true once for each block, whatever is walked: who enters a block only after a
//   `take`
//     cannot go in circles.
//   - Memory is a bit for each block of the region that is in use (pages of zeros are the
//   kernel's).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "fs/units.h"

namespace pinfs::checking {

enum class OwnerKind : std::uint8_t {
    superblock,
    state,
    finished,
    lane,         // id: its index
    group,        // its index
    inode_table,  // of index blocks
    inode_chunk,  // its index
    record_table,
    record_chunk,  // its index
    tree,          // inode
    attributes,    // inode
    data,          // inode
    hold,          // record's slot number
};

struct Owner {
    OwnerKind kind;
    std::uint64_t id = 0;
    bool operator==(const Owner&) const = default;
};
std::string name_of(const Owner& owner);
/// Its id is an inode's.
inline bool is_of_inode(const Owner& owner) {
    return owner.kind == OwnerKind::tree || owner.kind == OwnerKind::attributes ||
           owner.kind == OwnerKind::data;
}

class Claims {
public:
    /// Throws bad_alloc.
    explicit Claims(std::uint64_t blocks, std::size_t shared_max = 0);

    /// Claims [begin, begin + count), inside the region. True if none of them was claimed before
    /// (and claims have not come to too much).
    bool take(std::uint64_t begin, std::uint64_t count, Owner owner);

    /// A bit a block, 1 where claimed; bits beyond the region's end are 0.
    [[nodiscard]] const std::uint64_t* words() const { return words_.get(); }
    [[nodiscard]] bool has(std::uint64_t block) const {
        return (words_[block / 64] >> block % 64 & 1) != 0;
    }

    /// Blocks claimed more than once, in the order of the claims, the first `shared_max` runs.
    [[nodiscard]] const std::vector<BlockRun>& shared() const { return shared_; }

    /// From now on every claim that meets one of `runs` is noted.
    /// Of each the first `owners_max` owners are kept.
    void watch(std::vector<BlockRun> runs, std::size_t owners_max);
    /// Who claimed a run, in the order of the claims; in order of first block.
    struct Watched {
        BlockRun run;
        std::vector<Owner> owners;
        std::uint64_t more = 0;
    };
    [[nodiscard]] const std::vector<Watched>& watched() const { return watched_; }

private:
    struct Free {
        void operator()(std::uint64_t* words) const { std::free(words); }
    };
    void note_shared(std::uint64_t begin, std::uint64_t bits);
    void note_watched(std::uint64_t begin, std::uint64_t end, const Owner& owner);

    std::unique_ptr<std::uint64_t[], Free> words_;
    std::uint64_t allowance_;  // blocks that may still be claimed, with those claimed twice
    std::size_t shared_max_;
    std::size_t owners_max_ = 0;
    std::vector<BlockRun> shared_;
    std::vector<Watched> watched_;
};

}  // namespace pinfs::checking

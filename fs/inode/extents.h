// SPDX-License-Identifier: Apache-2.0
//
// The extent map of a file: which region blocks a range of file blocks occupies.
// Lock rules as inode/tree.h.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "fs/error.h"
#include "fs/inode/tree.h"

namespace pinfs::inode {

inline constexpr std::uint64_t kFileBlocksMax = kFileBytesMax / kBlockBytes;
using media::kExtentBlocksMax;

/// A stretch of a file that is of one kind: a hole (no region blocks), or an extent.
struct Mapping {
    std::uint64_t file_block = 0;
    std::uint64_t blocks = 0;
    std::uint64_t start_block = 0;  ///< region block; 0: hole
    bool unwritten = false;

    [[nodiscard]] bool is_hole() const { return start_block == 0; }
    [[nodiscard]] bool is_written() const { return start_block != 0 && !unwritten; }
    [[nodiscard]] std::uint64_t end() const { return file_block + blocks; }
};

/// Takes blocks that a file loses, when they may not be free at once.
class TakeAway {
public:
    /// Log bytes that one take() may cost.
    static constexpr std::size_t kLogBytes = 1536;

    virtual ~TakeAway() = default;
    /// How much of file blocks [begin, end), from its end, it takes in one: where that begins.
    [[nodiscard]] virtual std::uint64_t begin_of_last(std::uint64_t begin,
                                                      std::uint64_t end) const = 0;
    /// Frees `run`, which file blocks from `file_block` on had, or keeps it, within `change`.
    virtual Expected<void> take(space::Change& change, std::uint64_t file_block,
                                BlockRun run) const = 0;
};

class Extents {
public:
    Extents(const journal::Units& units, const media::Inode& inode)
        : tree_{units, shape(), inode},
          inode_{inode},
          region_blocks_{units.region().bytes() / kBlockBytes} {}
    Extents(space::Change& change, media::Inode& inode)
        : tree_{change, shape(), inode},
          inode_{inode},
          region_blocks_{change.units().region().bytes() / kBlockBytes},
          change_{&change},
          edited_{&inode} {}

    /// Pieces that cover [begin, end) exactly, holes included, in order.
    Expected<std::vector<Mapping>> map(std::uint64_t begin, std::uint64_t end) const;
    /// The first extent that ends after `file_block`, if there is one.
    Expected<std::optional<Mapping>> next(std::uint64_t file_block) const;
    /// The last extent of the file, if it has any.
    Expected<std::optional<Mapping>> last() const;
    /// As Tree::verify.
    std::optional<std::uint64_t> verify(
        std::uint64_t from, const std::function<bool(const Expected<void>&)>& seen) const {
        return tree_.verify(from, seen);
    }

    /// Maps [piece.file_block, piece.end()) to piece.start_block, where nothing was mapped before.
    /// Joins neighbours. The blocks come from this change.
    Expected<void> add(const Mapping& piece);
    /// Makes what is allocated of [begin, end) written, or unwritten: it then reads as zeros.
    Expected<void> mark(std::uint64_t begin, std::uint64_t end, bool unwritten);
    /// Unmaps from the end of [begin, end) backwards, as much as one change takes; true when
    /// nothing is left in the range. The blocks are freed, or go where `away` takes them.
    Expected<bool> remove_some(std::uint64_t begin, std::uint64_t end,
                               const TakeAway* away = nullptr);

    static const TreeShape& shape();

private:
    Expected<std::optional<Mapping>> floor(std::uint64_t file_block) const;
    /// Unmaps the piece, which lies inside one extent; frees nothing.
    Expected<void> carve(const Mapping& extent, std::uint64_t begin, std::uint64_t end);

    Tree tree_;
    const media::Inode& inode_;
    std::uint64_t region_blocks_;
    space::Change* change_ = nullptr;
    media::Inode* edited_ = nullptr;
};

}  // namespace pinfs::inode

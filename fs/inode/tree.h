// SPDX-License-Identifier: Apache-2.0
//
// The B+tree of an inode (format/tree.h): packed records sorted by an 8-byte key, inline in the
// inode while they fit, else in nodes. Extents and directory entries are two shapes of it.
//
// The tree reads through the change it is given, so it sees what the change has staged. The caller
// holds the inode's lock: shared to read, exclusive until the change is committed to edit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "fs/error.h"
#include "fs/format/inode.h"
#include "fs/format/tree.h"
#include "fs/space/change.h"

namespace pinfs::inode {

using Record = std::span<const std::byte>;

inline std::uint64_t key_of(Record record) {
    std::uint64_t key;
    std::memcpy(&key, record.data(), sizeof key);
    return key;
}

/// What a tree is made of.
struct TreeShape {
    media::BlockKind kind;
    /// Bytes of the first record of `bytes`; 0 if it does not fit or is malformed.
    std::size_t (*record_bytes)(std::span<const std::byte> bytes);
};

class Tree {
public:
    /// To read `inode`, as committed.
    Tree(const journal::Units& units, const TreeShape& shape, const media::Inode& inode)
        : units_{units}, shape_{shape}, inode_{inode} {}
    /// To edit it: `inode` is the copy that `change` has staged.
    Tree(space::Change& change, const TreeShape& shape, media::Inode& inode)
        : units_{change.units()}, shape_{shape}, inode_{inode}, change_{&change}, edited_{&inode} {}

    /// Records from the first with key >= `from` on, in order, until `visit` returns false. Records
    /// are valid during the call of `visit`, which must not edit the tree.
    Expected<void> for_each(std::uint64_t from, const std::function<bool(Record)>& visit) const;
    /// Reads every node from the one for key `from` on, as any reader does, and shows what came of
    /// it: damage ends a node and what lies below it, not the walk. After a leaf `seen` may return
    /// false to stop; the key to go on from then, nullopt when all was seen. A node is shown once
    /// in all the calls of such a walk.
    std::optional<std::uint64_t> verify(
        std::uint64_t from, const std::function<bool(const Expected<void>&)>& seen) const;
    /// The record with the greatest key <= `key`; empty if there is none.
    Expected<std::vector<std::byte>> floor(std::uint64_t key) const;
    /// The record with the greatest key of all; empty if there is none.
    Expected<std::vector<std::byte>> last() const { return floor(UINT64_MAX); }

    /// Adds a record whose key is not there.
    Expected<void> insert(Record record);
    /// Puts `record` in the place of the one with key `old_key`. Keys may differ if the order
    /// stays.
    Expected<void> replace(std::uint64_t old_key, Record record);
    Expected<void> erase(std::uint64_t key);

private:
    struct Step;
    using Path = std::vector<Step>;

    [[nodiscard]] journal::BlockIdentity identity() const {
        return {.kind = shape_.kind, .owner = inode_.ino, .generation = inode_.generation};
    }
    [[nodiscard]] std::uint64_t root() const;
    /// Copies a node out of the change or the region, verified.
    Expected<void> read_node(std::uint64_t offset, unsigned level, std::byte* out) const;
    Expected<bool> visit_below(std::uint64_t offset, unsigned level, std::uint64_t from,
                               const std::function<bool(Record)>& visit) const;
    struct Verification;
    bool verify_below(std::uint64_t offset, unsigned level, std::uint64_t low,
                      Verification& walk) const;
    Expected<bool> visit_records(std::span<const std::byte> records, std::uint64_t offset,
                                 std::uint64_t from,
                                 const std::function<bool(Record)>& visit) const;
    Expected<bool> floor_below(std::uint64_t offset, unsigned level, std::uint64_t key,
                               std::vector<std::byte>& found) const;
    Expected<bool> floor_in(std::span<const std::byte> records, std::uint64_t offset,
                            std::uint64_t key, std::vector<std::byte>& found) const;

    /// Where a record with `key` stands, or would: an offset into `records`.
    Expected<std::size_t> position(std::span<const std::byte> records, std::uint64_t offset,
                                   std::uint64_t key) const;
    Expected<Path> descend(std::uint64_t key) const;
    Expected<void> lower_keys(const Path& path, std::uint64_t key);
    Expected<std::span<std::byte>> edit_node(std::uint64_t offset);
    Expected<std::uint64_t> make_node(unsigned level, std::uint64_t near);
    Expected<void> leave_inline();
    Expected<void> insert_child(Path& path, std::uint64_t key, std::uint64_t child);
    Expected<void> remove_child(Path& path);
    Expected<void> split_leaf(Path& path, std::size_t at, Record record);
    Expected<void> shrink_root();

    const journal::Units& units_;
    const TreeShape& shape_;
    const media::Inode& inode_;
    space::Change* change_ = nullptr;
    media::Inode* edited_ = nullptr;
};

}  // namespace pinfs::inode

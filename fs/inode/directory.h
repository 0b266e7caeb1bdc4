// SPDX-License-Identifier: Apache-2.0
//
// The entries of a directory: a tree keyed by a seeded hash of the name and a collision index. The
// key is an entry's readdir cookie for life. Lock rules as inode/tree.h. `.` and `..` are not
// stored.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "fs/error.h"
#include "fs/inode/tree.h"

namespace pinfs::inode {

/// How names become keys; from the superblock.
struct NameHash {
    std::uint64_t seed = 0;
    unsigned bits = media::kNameHashBits;

    /// Lowest key a name may have; its collision index comes on top.
    [[nodiscard]] std::uint64_t first_key(std::string_view name) const;
};

struct Name {
    std::uint64_t key = 0;
    Ino ino;
    std::uint32_t mode = 0;  ///< type bits of st_mode
    std::string_view name;   ///< where the context says it is valid
};

class Directory {
public:
    Directory(const journal::Units& units, const NameHash& hash, const media::Inode& inode)
        : hash_{hash}, tree_{units, shape(), inode} {}
    Directory(space::Change& change, const NameHash& hash, media::Inode& inode)
        : hash_{hash}, tree_{change, shape(), inode}, edited_{&inode} {}

    /// The entry, without its name; nullopt if there is none.
    Expected<std::optional<Name>> find(std::string_view name) const;
    /// Entries with key >= `from` in cookie order until `visit` returns false; names are valid
    /// during the call.
    Expected<void> for_each(std::uint64_t from,
                            const std::function<bool(const Name&)>& visit) const;
    /// As Tree::verify.
    std::optional<std::uint64_t> verify(
        std::uint64_t from, const std::function<bool(const Expected<void>&)>& seen) const {
        return tree_.verify(from, seen);
    }

    /// Adds a name that is not there; its key. Errors: name_collisions, no_space.
    Expected<std::uint64_t> add(std::string_view name, Ino ino, std::uint32_t mode);
    Expected<void> remove(std::uint64_t key, std::string_view name);
    /// Lets an entry name another inode; the key stays.
    Expected<void> retarget(std::uint64_t key, std::string_view name, Ino ino, std::uint32_t mode);

    static const TreeShape& shape();

private:
    const NameHash& hash_;
    Tree tree_;
    media::Inode* edited_ = nullptr;
};

/// Whether `name` may be an entry's: not empty, "." or "..", no slash or zero byte, at most 255
/// bytes.
Expected<void> check_name(std::string_view name);

}  // namespace pinfs::inode

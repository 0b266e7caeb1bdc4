// SPDX-License-Identifier: Apache-2.0
//
// Extended attributes of an inode: one string of entries in a list of blocks. A change writes the
// new list into fresh blocks, switches the root and frees the old one, so a value is never half
// there. Lock rules as inode/tree.h.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/error.h"
#include "fs/format/inode.h"
#include "fs/format/tree.h"
#include "fs/space/change.h"

namespace pinfs::inode {

using AttributeBytes = std::vector<std::byte>;

/// All attributes of `inode`; empty if it has none.
Expected<AttributeBytes> read_attributes(const journal::Units& units, const media::Inode& inode);
/// Reads the blocks of them, each verified, up to the first that is damaged; how many were whole.
std::pair<std::uint64_t, Expected<void>> verify_attributes(const journal::Units& units,
                                                           const media::Inode& inode);
/// Visits names and values until `visit` returns false. Errors: media_corrupt.
Expected<void> for_each_attribute(
    const AttributeBytes& bytes,
    const std::function<bool(std::string_view, std::span<const std::byte>)>& visit);
/// The value of `name` among `bytes`; nullopt if it is not there.
Expected<std::optional<AttributeBytes>> find_attribute(const AttributeBytes& bytes,
                                                       std::string_view name);
/// `bytes` without `name`, and with the new value if there is one.
Expected<AttributeBytes> with_attribute(const AttributeBytes& bytes, std::string_view name,
                                        const std::span<const std::byte>* value);
/// Makes `bytes` the attributes of the staged `inode`. Errors: attributes_too_large, no_space.
Expected<void> write_attributes(space::Change& change, media::Inode& inode,
                                const AttributeBytes& bytes);
/// Frees all of them.
Expected<void> free_attributes(space::Change& change, media::Inode& inode);

}  // namespace pinfs::inode

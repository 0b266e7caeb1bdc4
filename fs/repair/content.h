// SPDX-License-Identifier: Apache-2.0
//
// What an inode has: extents, entries, attributes, as far as they can be read. Hides broken trees
// and lists on the one side, new ones on the other.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fs/repair/work.h"

namespace pinfs::repairing {

struct Entry {
    std::uint64_t ino = 0;
    std::uint8_t type = 0;
    std::string name;
};

/// A region block of an extent that somebody else has, too.
struct Contested {
    BlockRun run;
    bool copy = false;  ///< its content is the file's as much as the other's; else it is not
};

struct Content {
    media::Inode inode{};
    std::map<std::uint64_t, media::Extent> extents;  ///< by file block; none overlap
    std::vector<media::Extent> doubtful;             ///< of leaves with a wrong checksum
    std::vector<Entry> entries;                      ///< in the order of the tree
    std::string attributes;                          ///< AttributeEntry, name, value; all whole
    std::uint64_t nodes = 0;                         ///< blocks of the tree, as it is
    std::uint64_t attribute_blocks = 0;              ///< of the list, as it is
    std::uint64_t lost_units = 0;                    ///< nodes and blocks that could not be read
    std::uint64_t lost_records = 0;  ///< extents, entries and attributes that cannot be

    [[nodiscard]] std::uint64_t data_blocks() const;
};

/// Leaves that damage has cut off, by inode: offsets of nodes of level 1.
using LostLeaves = std::multimap<std::uint64_t, std::uint64_t>;

/// Extents of files and long links, entries of directories; nothing of others.
void read_map(Work& work, Content& content, const LostLeaves& lost_leaves);
void read_attributes(Work& work, Content& content);

/// Entries in `payload`, one after the other, as far as their lengths go; true if that is to the
/// end. Of those with `doubtful` only the ones that prove themselves: the key is the name's, and
/// the inode is in use, of that type, and has a name less than it should (or is damaged itself).
bool parse_entries(Work& work, std::span<const media::u8> payload, bool doubtful, Content& content);
/// Adds an extent, without what is there already, and without what lies outside of file and region.
void add_extent(Work& work, media::Extent extent, Content& content);

/// New trees and lists in new blocks, the inode's map, size (of directories), attributes; not its
/// blocks. Names that are twice, or that none may have, are left out. Errors: no_space.
Expected<void> write_map(Work& work, Content& content);
Expected<void> write_attributes(Work& work, Content& content);

/// With `header.owner` and its generation a node of this inode stands there, checksum right.
bool is_node_of(Work& work, const AnyBlock& node, std::uint64_t offset, const media::Inode& inode,
                media::BlockKind kind);

}  // namespace pinfs::repairing

// SPDX-License-Identifier: Apache-2.0
//
// A small file system that has one of everything: what tests of the judge damage.
#pragma once

#include <cstdint>

#include "tests/support/hand_image.h"

namespace pinfs::test {

/// Every type of inode, maps inline and in trees of several levels, attributes
/// in two blocks, holes, unwritten and preallocated blocks, hard links, orphans, cuts, a full
/// chunk, records, finished requests. The numbers name what tests damage.
struct Sample {
    explicit Sample(const HandShape& shape = {.leaf_bytes_max = 480, .fan_out_max = 4});

    HandImage image;
    std::uint64_t file;             ///< two extents inline, one unwritten beyond its end
    std::uint64_t tree_file;        ///< an extent tree of three levels or more
    std::uint64_t directory;        ///< entries in a tree of three levels or more
    std::uint64_t small_directory;  ///< entries inline
    std::uint64_t subdirectory;     ///< in small_directory, empty
    std::uint64_t short_link;
    std::uint64_t long_link;
    std::uint64_t device;
    std::uint64_t pipe;
    std::uint64_t attributed;  ///< a file with two blocks of attributes
    std::uint64_t linked;      ///< a file with two names
    std::uint64_t orphan;      ///< an unlinked file with blocks
    std::uint64_t orphan_directory;
    std::uint64_t cut;         ///< a file that is being cut
    std::uint64_t map_record;  ///< slot numbers of the record table
    std::uint64_t pin_record;
    std::uint64_t hold_record;
};

}  // namespace pinfs::test

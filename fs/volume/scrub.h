// SPDX-License-Identifier: Apache-2.0
//
// Verifying what is on media piece by piece, while it is in use: where one is, and what was found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fs/error.h"

namespace pinfs {

/// As PINFS_IOC_SCRUB_DONE numbers them (lib/pinfs/protocol.h).
enum class ScrubPhase : std::uint32_t { superblocks, groups, inodes, data, records, done };

/// Where the next piece begins; all zeros: at the start. Any value is a place.
struct ScrubPlace {
    ScrubPhase phase = ScrubPhase::superblocks;
    std::uint64_t number = 0;  ///< of the superblock, group, inode or record
    std::uint64_t key = 0;     ///< in the inode's tree; data: bytes into the file

    bool operator==(const ScrubPlace&) const = default;
};

struct ScrubOptions {
    bool data = false;              ///< read the files' data too: it has no checksums, but may fail
    std::size_t findings_max = 16;  ///< after so many the piece ends
};

struct ScrubFinding {
    Error error;  ///< with the inode, if it is of one, and the region offset
    std::uint64_t file_offset_bytes = 0;  ///< of data
    bool is_data = false;
};

struct ScrubPiece {
    ScrubPlace next;
    std::uint64_t units = 0;  ///< that were read, whole or not
    std::uint64_t data_bytes = 0;
    std::uint64_t items = 0;         ///< groups and inodes that were begun
    std::uint64_t items_in_all = 0;  ///< about: of the whole volume, now
    std::vector<ScrubFinding> findings;
};

}  // namespace pinfs

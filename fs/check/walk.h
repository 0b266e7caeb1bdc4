// SPDX-License-Identifier: Apache-2.0
//
// One walk over all that has an owner: both tables, every inode with its trees and attributes, the
// records. What its parts share, and their entry points.
//
// Invariants
//   - A block is entered only after its claim was new, so the walk ends.
//   - Nothing that media says is used as a count or a place before it was found inside its limits.
//   - The walk's course depends on the image alone: made twice, it claims the same in the same
//   order.
#pragma once

#include <cstdint>
#include <functional>

#include "fs/check/claims.h"
#include "fs/check/image.h"
#include "fs/check/inodes.h"
#include "fs/format/inode.h"
#include "fs/format/state.h"

namespace pinfs::checking {

struct Walk {
    const Image& image;
    Claims& claims;
    const media::State& state;
    Inodes inodes;
    std::uint64_t inodes_used = 0;  ///< slots in use
    bool inodes_complete = false;   ///< every chunk of the inode table was read
    CheckTotals totals;             ///< files, directories, orphans, records
    std::function<void(unsigned percent)> progress = {};

    [[nodiscard]] Findings& findings() const { return image.findings(); }
};

/// An inode under examination, and where it stands.
struct Subject {
    const media::Inode& inode;
    std::uint64_t offset;  // of its slot
};

/// Blocks of one kind that an inode owns. Incomplete where something could not be read.
struct Owned {
    std::uint64_t blocks = 0;
    bool complete = true;
};

/// Claims superblocks, state, finished requests, lanes and the group blocks of all zones.
void claim_fixed_areas(const Image& image, Claims& claims);

/// The inode table: every field of every inode, its attributes and tree; then, when all inodes are
/// known, the directories with their entries.
void walk_inodes(Walk& walk);

/// Extended attributes: the chain of blocks, and the entries in them.
Owned walk_attributes(Walk& walk, const Subject& subject);

/// The extents of a file or a long symbolic link, with their tree. Blocks are data and nodes.
Owned walk_extents(Walk& walk, const Subject& subject);

/// A directory's entries, with their tree; counts them at the inodes they name. Blocks are nodes.
Owned walk_directory(Walk& walk, const Subject& subject);

/// The record table. After walk_inodes.
void walk_records(Walk& walk);

/// What entries and inodes say of each other: link counts, parents, loops, who cannot be reached.
/// After walk_inodes.
void judge_names(Walk& walk);

}  // namespace pinfs::checking

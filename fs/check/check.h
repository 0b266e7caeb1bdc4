// SPDX-License-Identifier: Apache-2.0
//
// The independent judge of a region: reads everything that FORMAT.md describes, with a decoder of
// its own, and says what is wrong. It shares nothing with the code that wrote the region but
// fs/format/.
//
// Invariants
//   - Nothing is written. A dirty journal is applied in memory, as a mount would apply it.
//   - Any bytes at all give findings or an error: no crash, no endless walk, no memory out of
//     proportion. Every walk is bounded by claiming each block it enters once.
//   - No finding on a region that a crash left, or that is cleanly unmounted.
// Thread-safe on different regions; the region must not change meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/error.h"
#include "fs/pmem/region.h"
#include "fs/units.h"

namespace pinfs {

// clang-format off
//    kind                     what is wrong
#define PINFS_FINDINGS(X) \
    X(unreadable,              "the region raised a media error there") \
    /* superblock */ \
    X(superblock_damaged,      "magic, checksum or own offset of the superblock") \
    X(superblock_copy_damaged, "the same, of its copy") \
    X(superblock_copy_differs, "superblock and copy disagree") \
    X(superblock_reserved,     "bytes that must be zero are not") \
    X(superblock_geometry,     "a size, place or count that cannot be") \
    /* what changes */ \
    X(state_damaged,           "header or checksum of the state block") \
    X(state_field,             "a value of the state block that cannot be") \
    X(state_bad_blocks,        "the list of blocks that raised media errors") \
    X(finished_request,        "a slot of the table of finished requests") \
    /* journal */ \
    X(lane_state_damaged,      "magic, checksum or index of a lane's state") \
    X(seal_damaged,            "a seal that no log can have, or whose log does not match it") \
    X(log_damaged,             "a sealed log whose header or records disagree") \
    X(log_target,              "a sealed log that writes where none may") \
    X(logs_overlap,            "two sealed logs that write one unit, or have one sequence number") \
    /* space */ \
    X(group_damaged,           "header or checksum of a group block") \
    X(group_unused,            "bytes of a group block beyond the last group that are not zero") \
    X(group_free,              "free blocks of a group") \
    X(group_run_free,          "free blocks of a 2 MiB run") \
    X(total_free,              "free blocks of the region") \
    X(total_inodes,            "inodes in use") \
    X(block_lost,              "in use in the bitmap, but nobody owns it") \
    X(block_not_allocated,     "owned, but free in the bitmap") \
    X(block_shared,            "claimed by two owners") \
    X(block_outside,           "a pointer that leaves the region, or is not aligned") \
    /* tables */ \
    X(table_root,              "root of a table") \
    X(table_node_damaged,      "header or checksum of an index block") \
    X(table_free_bit,          "has-free bit of an entry") \
    X(table_pending_bit,       "has-pending bit that is missing over a pending slot") \
    X(table_empty,             "an index block or chunk in which nothing is in use") \
    X(table_window,            "a chunk at or above window_chunks") \
    X(chunk_damaged,           "header or checksum of a chunk") \
    X(chunk_pending,           "pending bit of a slot") \
    /* inodes */ \
    X(inode_damaged,           "magic, checksum or number of an inode") \
    X(inode_generation,        "generation") \
    X(inode_mode,              "file type") \
    X(inode_size,              "size") \
    X(inode_blocks,            "number of blocks") \
    X(inode_flags,             "a flag that is unknown or in the wrong place") \
    X(inode_time,              "nanoseconds") \
    X(inode_device,            "device number of what is no device") \
    X(inode_cut,               "where a cut begins") \
    X(inode_parent,            "parent of a directory, or of what is none") \
    X(inode_segment,           "segment") \
    X(inode_map,               "root of the tree, or what is inline in its place") \
    X(symbolic_link,           "target of a symbolic link") \
    X(attributes_damaged,      "header, checksum or length of an attributes block") \
    X(attribute_entry,         "an extended attribute") \
    X(attribute_duplicate,     "two extended attributes of one name") \
    X(access_list,             "an access list that is none, misplaced, or against the mode") \
    /* trees */ \
    X(tree_node_damaged,       "header or checksum of a tree node") \
    X(tree_node_empty,         "a tree node with nothing in it") \
    X(tree_order,              "keys out of order") \
    X(tree_bounds,             "a key outside of what the index says") \
    X(extent_field,            "an extent's length, place, segment or flag") \
    X(extent_overlap,          "two extents over one file block") \
    X(extent_uncoalesced,      "two extents that should be one") \
    X(entry_damaged,           "a directory entry's length or key") \
    X(entry_name,              "a name that none may have") \
    X(entry_hash,              "a key that is not the name's") \
    X(entry_duplicate,         "a name that is twice in a directory") \
    X(entry_dangling,          "an entry for an inode that is not in use") \
    X(entry_type,              "an entry's type is not its inode's") \
    /* name space */ \
    X(root_directory,          "inode 1 is not a directory in use") \
    X(link_count,              "link count") \
    X(directory_two_names,     "two entries for one directory") \
    X(directory_parent,        "`..` is not the directory with the entry") \
    X(directory_loop,          "a directory below itself") \
    X(inode_unreachable,       "neither an entry nor an orphan") \
    X(orphan_not_empty,        "an unlinked directory with entries") \
    /* records of maps, pins and holds */ \
    X(record_damaged,          "magic or checksum of a record") \
    X(record_field,            "kind, range, inode or generation of a record") \
    X(record_id,               "an id that is not below the limit, or is twice")
// clang-format on

enum class FindingKind : std::uint8_t {
#define X(name, text) name,
    PINFS_FINDINGS(X)
#undef X
};

/// The enumerator's own name, e.g. "block_lost".
std::string_view name_of(FindingKind kind);

/// One thing that is wrong.
struct Finding {
    FindingKind kind;
    std::uint64_t offset = 0;  ///< region offset, in bytes, of the unit that is wrong
    std::uint64_t ino = 0;     ///< the inode concerned; 0: none
    std::string text;  ///< one sentence without full stop: the thing, the place, what was expected
};

struct CheckTotals {
    std::uint64_t files = 0;  ///< inodes in use that are no directories
    std::uint64_t directories = 0;
    std::uint64_t orphans = 0;       ///< of both: unlinked, waiting to be freed
    std::uint64_t records = 0;       ///< maps, pins and holds
    std::uint64_t blocks = 0;        ///< of the region
    std::uint64_t blocks_used = 0;   ///< owned by something
    std::uint64_t lanes_sealed = 0;  ///< logs that the next mount will replay
    bool mounted = false;            ///< not cleanly unmounted (or mounted now)
};

/// Blocks that raised media errors: no finding, as the region says so itself.
struct BadBlocks {
    BlockRun run;
    std::vector<std::string> owners;  ///< as "the data of inode 12"; empty: they are free
};

struct CheckReport {
    std::vector<BadBlocks> bad_blocks;
    bool bad_blocks_unlisted = false;  ///< there are more
    std::vector<Finding>
        findings;  ///< in the order of the walk; at most CheckOptions::findings_max
    std::uint64_t findings_dropped = 0;  ///< beyond that
    CheckTotals totals;

    [[nodiscard]] bool clean() const { return findings.empty() && findings_dropped == 0; }
    [[nodiscard]] bool has(FindingKind kind) const;
    /// All findings, a line each; for a failing test's message.
    [[nodiscard]] std::string text() const;
};

struct CheckOptions {
    std::size_t findings_max = 1000;
    std::size_t shared_max = 256;  ///< runs of blocks with two owners that are told
    std::size_t owners_max = 4;    ///< of each of them
    /// Told how much is done, from 0 to 100, rising; may be called often.
    std::function<void(unsigned percent)> progress = {};
};

/// Judges the whole region. What is wrong in it is a finding; an error is what keeps a judgement
/// from being made. Errors: region_too_small, no_superblock (neither the superblock nor its copy is
/// one that can be used), feature_unknown, region_truncated, out_of_memory.
Expected<CheckReport> check(pmem::Region& region, const CheckOptions& options = {});

}  // namespace pinfs

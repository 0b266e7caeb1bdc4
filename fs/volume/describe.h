// SPDX-License-Identifier: Apache-2.0
//
// What a region says about itself, read without mounting it. Stores nothing, so it may look at a
// region that a daemon is using; what changes under the look is read again, and totals are of that
// moment.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "fs/error.h"
#include "fs/pmem/region.h"
#include "fs/units.h"

namespace pinfs {

struct Description {
    // Written by mkfs
    std::array<std::uint8_t, 16> uuid{};
    std::string label;
    std::uint64_t region_bytes = 0;
    std::uint64_t block_bytes = 0;
    std::uint64_t map_unit_bytes = 0;
    std::uint64_t groups = 0;
    std::uint64_t lanes = 0;
    std::uint64_t lane_bytes = 0;
    std::uint64_t incompatible = 0;  ///< feature bits
    std::uint64_t read_only = 0;
    std::uint64_t compatible = 0;
    std::int64_t made_seconds = 0;
    bool from_copy = false;  ///< the first superblock is damaged

    // What changes
    bool mounted = false;  ///< mounted now, or not unmounted cleanly
    std::uint64_t lanes_to_replay = 0;
    std::uint64_t mount_count = 0;
    std::int64_t mount_seconds = 0;    ///< of the last mount; 0: never
    std::int64_t unmount_seconds = 0;  ///< of the last clean unmount; 0: never
    std::array<std::uint8_t, 16> machine_id{};
    std::array<std::uint8_t, 16> boot_id{};
    std::string host_name;
    std::uint64_t mount_pid = 0;

    std::vector<BlockRun> bad_blocks;  ///< that raised media errors
    bool bad_unlisted = false;         ///< there are more of them

    // Totals
    std::uint64_t blocks = 0;
    std::uint64_t blocks_free = 0;
    std::uint64_t free_run_blocks = 0;  ///< free blocks in wholly free, aligned 2 MiB runs
    std::uint64_t inodes = 0;
};

/// Errors: no_superblock, bad_checksum, feature_unknown, region_truncated, media_error.
Expected<Description> describe(pmem::Region& region);

/// What mkfs (or pinfs tune) wrote, and nothing of what changes. Errors: as describe.
Expected<Description> describe_identity(pmem::Region& region);
/// All but free_run_blocks, which is what takes time on large regions. Errors: as describe.
Expected<Description> describe_state(pmem::Region& region);

/// "6d1f0c1e-..." and the like.
std::string uuid_text(const std::array<std::uint8_t, 16>& uuid);

}  // namespace pinfs

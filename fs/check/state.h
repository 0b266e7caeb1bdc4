// SPDX-License-Identifier: Apache-2.0
//
// What changes but belongs to no group, table or inode: the state block, finished requests, and the
// lanes' shares of the totals.
#pragma once

#include <cstdint>
#include <optional>

#include "fs/check/image.h"
#include "fs/format/state.h"

namespace pinfs::checking {

/// The state block, its fields judged; empty if it could not be read.
std::optional<media::State> judge_state(const Image& image);

/// `generation_limit` is the state's.
void judge_finished_requests(const Image& image, std::uint64_t generation_limit);

/// Sums over all lanes, modulo 2^64; not known if a lane's share is damaged.
struct LaneTotals {
    bool known = true;
    std::uint64_t free_blocks = 0;
    std::uint64_t inodes = 0;
};
LaneTotals judge_lane_states(const Image& image);

}  // namespace pinfs::checking

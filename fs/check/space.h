// SPDX-License-Identifier: Apache-2.0
//
// The bitmaps of the groups, against their own counts and against the blocks that have an owner.
#pragma once

#include <cstdint>

#include "fs/check/claims.h"
#include "fs/check/image.h"

namespace pinfs::checking {

struct Space {
    std::uint64_t free_blocks = 0;  ///< sum of all Group::free_blocks, modulo 2^64
    bool known = true;              ///< every group block could be read
    std::uint64_t claimed = 0;      ///< blocks with an owner
};

/// Every group block. `claims` is what the walk found; null if there was none to be made.
Space judge_groups(const Image& image, const Claims* claims);

}  // namespace pinfs::checking

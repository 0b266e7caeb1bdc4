// SPDX-License-Identifier: Apache-2.0
//
// The superblock and its copy: which one to believe, and whether what it says can be.
#pragma once

#include <cstdint>
#include <optional>

#include "fs/check/image.h"

namespace pinfs::checking {

/// The superblock to go by: the first of the two that is whole and possible. Empty if neither is;
/// the findings say why. Errors: no_superblock, feature_unknown, region_truncated.
Expected<std::optional<media::Superblock>> judge_superblocks(const Image& image,
                                                             std::uint64_t region_bytes);

}  // namespace pinfs::checking

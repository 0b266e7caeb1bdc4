// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace pinfs::cmd {

struct ScrubCommand {
    std::string program;
    std::string target;  ///< a mount point, its region, or anything in it
    bool data = false;
    bool json = false;
};

inline constexpr int kDamaged = 4;  ///< exit status, as fsck(8)'s: problems left

/// Verifies the metadata of a mounted file system, piece by piece, pausing as long as it reads: the
/// mount serves others first. Shows what is damaged, and on a terminal how far it is. Returns an
/// exit status.
int scrub(const ScrubCommand& command);

}  // namespace pinfs::cmd

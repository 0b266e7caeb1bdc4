// SPDX-License-Identifier: Apache-2.0
//
// The mounts of pinfs that a command's words name.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fs/fuse/mount_table.h"

namespace pinfs::cmd {

std::vector<fuse::MountEntry> mounts_of_pinfs();

/// The one among `mounts` that `target` is, is the region of, or lies in.
std::optional<fuse::MountEntry> mount_for(const std::string& target,
                                          const std::vector<fuse::MountEntry>& mounts);

}  // namespace pinfs::cmd

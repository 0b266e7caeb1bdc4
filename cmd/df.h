// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace pinfs::cmd {

/// Prints how full mounted regions are: those of `targets` (mount points, regions, or anything
/// below a mount point), else all. Returns an exit status.
int show_usage(const std::string& program, const std::vector<std::string>& targets, bool json);

}  // namespace pinfs::cmd

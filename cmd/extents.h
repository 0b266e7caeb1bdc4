// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace pinfs::cmd {

/// Prints where the blocks of files lie in their region, as filefrag -v does. Returns an exit
/// status.
int show_extents(const std::string& program, const std::vector<std::string>& paths, bool json);

}  // namespace pinfs::cmd

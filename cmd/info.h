// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace pinfs::cmd {

/// Prints what there is to know about `target`, a region or where one is mounted. Returns an exit
/// status.
int show_info(const std::string& program, const std::string& target, bool json);

}  // namespace pinfs::cmd

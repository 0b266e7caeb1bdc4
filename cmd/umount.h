// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace pinfs::cmd {

/// Unmounts `target`, a mount point or a mounted region, and waits until the daemon has let go of
/// the region. Returns an exit status.
int unmount(const std::string& program, const std::string& target);

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace pinfs::cmd {

struct UnmountCommand {
    std::string program;  ///< begins the sentences on stderr
    std::string target;   ///< a mount point, or a mounted region
    bool lazy = false;    ///< it vanishes at once, open files live on
    bool force = false;   ///< requests under way fail, as the daemon may not answer
    bool read_only_if_busy = false;
    bool verbose = false;
};

/// Unmounts, and waits (except lazily) until the daemon has let go of the region. Returns an exit
/// status.
int unmount(const UnmountCommand& command);

}  // namespace pinfs::cmd

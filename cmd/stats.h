// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace pinfs::cmd {

struct StatsCommand {
    std::string program;
    std::string target;  ///< a mount point, its region, or anything in it
    double interval_seconds = 1;
    bool once = false;
};

/// Shows MOUNT/.pinfs/metrics as a table, again and again, with rates per second of what only
/// grows; ends with the mount. Returns an exit status.
int show_stats(const StatsCommand& command);

}  // namespace pinfs::cmd

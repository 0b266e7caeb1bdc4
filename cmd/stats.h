// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace pinfs::cmd {

struct StatsCommand {
    std::string program;
    std::string target;  ///< a mount point, its region, or anything in it
    double interval_seconds = 1;
    std::uint64_t count = 0;  ///< of intervals; 0: until the mount ends
    bool once = false;        ///< what was since the daemon began, at once
    bool json = false;        ///< one object in a line for each interval
};

/// Shows how many requests of each kind a mount answered in each interval, how long they took and
/// how many failed, by MOUNT/.pinfs/metrics. A terminal is drawn anew. Returns an exit status.
int show_stats(const StatsCommand& command);

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
//
// The mount of a region, for `pinfs mount` and mount.pinfs.
#pragma once

#include <string>
#include <vector>

namespace pinfs::cmd {

struct MountCommand {
    std::string program;  ///< begins the sentences on stderr
    std::string region;
    std::string mountpoint;
    std::vector<std::string> options;  ///< one per -o
    bool foreground = false;
    bool verbose = false;
    bool sloppy = false;  ///< unknown options are passed over
    bool fake = false;    ///< everything is checked, nothing mounted
};

/// Returns an exit status; in the background it is known when the mount answers.
int mount_region(const MountCommand& command);

}  // namespace pinfs::cmd

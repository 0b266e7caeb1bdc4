// SPDX-License-Identifier: Apache-2.0
//
// What is mounted where, as the kernel tells it (/proc/self/mountinfo). Reading it asks nothing of
// a file system, so it answers also where a daemon has died.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace pinfs::fuse {

struct MountEntry {
    dev_t device = 0;
    std::string mountpoint;
    std::string options;  ///< of the mount, then those of the file system, joined by a comma
    std::string type;
    std::string source;
    bool read_only = false;  ///< the file system, whichever mount of it
};

/// In the order of mounting; as the process `pid` sees it ("self": we), empty if we may not know.
std::vector<MountEntry> mount_table(const std::string& pid = "self");
/// What lies on top at `mountpoint`, an absolute path without symbolic links.
std::optional<MountEntry> mount_at(const std::string& mountpoint);
/// Where a pinfs of the region `path` is mounted; the last if there are several.
std::optional<MountEntry> mount_of_region(const std::string& path);

}  // namespace pinfs::fuse

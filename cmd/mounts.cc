// SPDX-License-Identifier: Apache-2.0
#include "cmd/mounts.h"

#include <sys/stat.h>

#include "fs/fuse/mountpoint.h"

namespace pinfs::cmd {

std::vector<fuse::MountEntry> mounts_of_pinfs() {
    std::vector<fuse::MountEntry> mounts = fuse::mount_table();
    std::erase_if(mounts, [](const auto& entry) { return entry.type != fuse::kMountType; });
    return mounts;
}

std::optional<fuse::MountEntry> mount_for(const std::string& target,
                                          const std::vector<fuse::MountEntry>& mounts) {
    struct stat st {};
    const bool known = stat(target.c_str(), &st) == 0;
    for (const fuse::MountEntry& entry : mounts) {
        struct stat region {};
        if (entry.mountpoint == target || entry.source == target ||
            (known && entry.device == st.st_dev) ||
            (known && stat(entry.source.c_str(), &region) == 0 && region.st_dev == st.st_dev &&
             region.st_ino == st.st_ino))
            return entry;
    }
    return std::nullopt;
}

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
//
// Fastening a FUSE connection to a directory, and loosening it: with mount(2) as root, else through
// fusermount3. Failures are one sentence each, for the person at the terminal.
#pragma once

#include <expected>
#include <string>

namespace pinfs::fuse {

inline constexpr const char* kFuseDevice = "/dev/fuse";
inline constexpr const char* kMountType = "fuse.pinfs";

struct MountRequest {
    std::string source;       ///< what mountinfo shows: the region's path
    std::string mountpoint;   ///< absolute, a directory
    unsigned long flags = 0;  ///< MS_*
    bool allow_other = false;
    bool default_permissions = true;
    std::string kernel_options;  ///< further ones, as context=..., joined by commas
};

/// A descriptor of the connection, close-on-exec.
std::expected<int, std::string> attach(const MountRequest& request);

enum class Detach {
    when_idle,
    at_once,   ///< the mount vanishes, open files live on
    by_force,  ///< as when_idle, but requests under way fail; as root alone
};

/// 0 or an errno: EBUSY while files are open. Through fusermount3 every failure that is not EBUSY
/// is EPERM.
int detach(const std::string& mountpoint, Detach how);

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "cmd/mount_options.h"

namespace pinfs::cmd {

/// The options as the daemon of a mount has them, as "rw,dax=inode,..."; empty, with errno, if it
/// does not answer or we may not ask.
std::string options_in_force(const std::string& mountpoint);

/// Changes the kernel's options of what is mounted on `mountpoint` (ro, rw, nosuid, noatime ...)
/// and returns, with an exit status, when the daemon has followed. Options of pinfs's own must be
/// those in force. Nothing changed where it fails.
int remount(const std::string& program, const std::string& mountpoint,
            const ParsedOptions& options);

}  // namespace pinfs::cmd

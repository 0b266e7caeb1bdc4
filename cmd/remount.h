// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "cmd/mount_options.h"

namespace pinfs::cmd {

/// Changes the kernel's options of what is mounted on `mountpoint` (ro, rw, nosuid, noatime ...)
/// and returns, with an exit status, when the daemon has followed. Options of pinfs's own must be
/// those in force. Nothing changed where it fails.
int remount(const std::string& program, const std::string& mountpoint,
            const ParsedOptions& options);

}  // namespace pinfs::cmd

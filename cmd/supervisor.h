// SPDX-License-Identifier: Apache-2.0
//
// The supervisor of a mount: a small process that keeps the connection to the kernel while daemons
// come and go (README.md beside this). It has no volume and asks nothing of the mount.
#pragma once

#include "cmd/background.h"
#include "cmd/mount.h"
#include "fs/fuse/mountpoint.h"

namespace pinfs::cmd {

/// Mounts `command` as `mount` says and looks after it until it is unmounted; an exit status.
int supervise(const MountCommand& command, const fuse::MountRequest& mount, Start& start);

}  // namespace pinfs::cmd

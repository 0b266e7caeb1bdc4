// SPDX-License-Identifier: Apache-2.0
//
// Which handler a request goes to: that of real nodes, which knows the volume, or that of virtual
// ones. Decided here and nowhere else, by the node's number and, in the root directory, by name.
// What virtual nodes have no handler for is not permitted on them.
#pragma once

#include "fs/fuse/connection.h"

namespace pinfs::fuse {

/// All operations, for libfuse.
fuse_lowlevel_ops routed_operations();

}  // namespace pinfs::fuse

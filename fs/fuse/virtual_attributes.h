// SPDX-License-Identifier: Apache-2.0
//
// Extended attributes that are computed when they are read. All names that begin with
// "user.pinfs." are theirs: they cannot be set or removed, and listxattr(2) does not show them.
//
//   user.pinfs.options          of the root directory: "rw,dax=inode,..." as the daemon has them
//   user.pinfs.extents          of a regular file: a line for each extent
//   user.pinfs.extents.BLOCK    the same from file block BLOCK on, as many as fit 64 KiB
//   user.pinfs.pins             of a regular file: a line for each pin that the caller may see
//
// A line of extents is `FILE-BLOCK REGION-BLOCK BLOCKS written|unwritten`, in order; blocks are of
// 4 KiB. One of pins is `ID OFFSET LENGTH PID (COMMAND)`, in bytes, perhaps with a mark at its end.
// Whoever reads a long list goes on after the last block that was told of, until nothing comes.
// Each GiB of the file is a consistent look; a file that changes meanwhile may differ after it.
#pragma once

#include <string>
#include <string_view>

#include "fs/error.h"
#include "fs/fuse/edge.h"

namespace pinfs::fuse {

bool is_virtual_attribute(std::string_view name);

/// Errors: no_attribute (also on a file of another type), extents_too_many (E2BIG), stale_inode.
Expected<std::string> virtual_attribute(fuse_req_t req, Ino ino, std::string_view name);

}  // namespace pinfs::fuse

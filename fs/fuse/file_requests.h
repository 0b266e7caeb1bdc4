// SPDX-License-Identifier: Apache-2.0
//
// What libpinfs asks of a file: leases, maps, pins, layout (ioctls of lib/pinfs/protocol.h).
#pragma once

#include "fs/fuse/protocol_request.h"

namespace pinfs::fuse {

/// `file.handle` is the open file description that a lease belongs to.
void answer_file_request(fuse_req_t req, OpenFile file, bool is_directory, unsigned command,
                         const IoctlBuffer& buffer) noexcept;

}  // namespace pinfs::fuse

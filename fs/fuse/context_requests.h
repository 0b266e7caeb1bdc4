// SPDX-License-Identifier: Apache-2.0
//
// What is asked of an open file of .pinfs/context: ioctls of lib/pinfs/protocol.h, events.
#pragma once

#include "fs/fuse/protocol_request.h"

namespace pinfs::fuse {

void answer_context_request(fuse_req_t req, std::uint64_t handle, unsigned command,
                            const IoctlBuffer& buffer) noexcept;

/// Events as `struct pinfs_ioc_event`, one after another, as many as fit. EAGAIN if none waits,
/// whether the file is non-blocking or not: nothing waits here, poll(2) does.
void read_events(fuse_req_t req, fuse_ino_t ino, std::size_t size,
                 const fuse_file_info& file) noexcept;
void poll_events(fuse_req_t req, const fuse_file_info& file, fuse_pollhandle* poller) noexcept;

}  // namespace pinfs::fuse

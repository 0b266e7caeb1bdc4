// SPDX-License-Identifier: Apache-2.0
//
// Packets between processes of ours, and fusermount3's, with open files in them.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <vector>

namespace pinfs::fuse {

/// The most open files that go with one packet.
inline constexpr std::size_t kPacketDescriptorsMax = 128;

/// False, with errno, if the other end is gone.
bool send_packet(int socket, std::span<iovec> parts, std::span<const int> descriptors);

/// The bytes received into `parts`: 0 at the end, -1 with errno. What comes with them, at most
/// kPacketDescriptorsMax, is `descriptors` then, closed on exec, and the caller's.
ssize_t receive_packet(int socket, std::span<iovec> parts, std::vector<int>& descriptors);

}  // namespace pinfs::fuse

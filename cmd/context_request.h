// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace pinfs::cmd {

/// Makes request `number` of lib/pinfs/protocol.h of MOUNT/.pinfs/context, with `buffer` as it goes
/// in and comes out. Empty, or one sentence why it failed, and errno.
std::string ask_context(const std::string& mountpoint, int number, std::span<std::byte> buffer);

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
//
// What the daemon gives up once it has opened the region: capabilities, new privileges, and the
// system calls that serving never needs. SECURITY.md says what is left.
#pragma once

#include <expected>
#include <string>

namespace pinfs::fuse {

/// Confines the calling process for good. It has one thread, which every later one takes after.
/// With `io_uring` the calls of that transport are allowed, and through them what a ring can do.
/// The error is one sentence; part of it may have happened.
std::expected<void, std::string> confine(bool io_uring);

}  // namespace pinfs::fuse

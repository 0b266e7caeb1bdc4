// SPDX-License-Identifier: Apache-2.0
//
// What the daemon gives up once it has opened the region: capabilities, new privileges, and the
// system calls that serving never needs. SECURITY.md says what is left.
#pragma once

#include <expected>
#include <string>

namespace pinfs::fuse {

/// What serving one mount needs beyond the rest.
struct Needs {
    bool io_uring = false;  ///< that transport's calls, and through them what a ring can do
    bool device = false;    ///< the two requests by which bad places of an NVDIMM are cleared
    bool trace = false;     ///< to cut a file of its own
};

/// Confines the calling process for good. It has one thread, which every later one takes after.
/// The error is one sentence; part of it may have happened.
std::expected<void, std::string> confine(const Needs& needs);

}  // namespace pinfs::fuse

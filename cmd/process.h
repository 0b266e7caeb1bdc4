// SPDX-License-Identifier: Apache-2.0
//
// Other processes, named so that none is taken for another.
#pragma once

#include <cstdint>

// The header of glibc 2.36 does not say that these are C.
extern "C" {
#include <sys/pidfd.h>
}

namespace pinfs::cmd {

/// When a process began, in clock ticks since the boot: field 22 of /proc/PID/stat. 0 if it cannot
/// be known.
std::uint64_t start_ticks_of(int pid);

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
//
// What /proc and the kernel's counters say of processes and devices. Hides their formats.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "fs/pin/owner.h"
#include "fs/pin/range_set.h"

namespace pinfs::pin {

/// Field 22 of /proc/PID/stat; nullopt if there is no such process.
std::optional<std::uint64_t> start_ticks_of(std::uint32_t pid);

/// Whether the very process still runs; not one that ended and waits for its parent.
bool is_alive(const Process& process);

/// Whether the process was sent SIGKILL, but cannot end while a request of it is not answered.
bool is_being_killed(std::uint32_t pid);

/// What processes other than this one have mapped of a file or device, in bytes. Of processes that
/// this one may not look into, nothing is known: they count as having nothing.
RangeSet mapped_elsewhere(dev_t device, ino_t inode);

/// Whether no page of this machine is pinned for a device, long-term or short-term: the kernel's
/// counters agree, twice, and did not move between (SPEC 3.9). False where that cannot be known:
/// only root may bring the counters up to date.
bool is_nothing_pinned();

}  // namespace pinfs::pin

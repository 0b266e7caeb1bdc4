// SPDX-License-Identifier: Apache-2.0
//
// What kind of thing a region's path names and what that kind can do (SPEC 1.4): from stat, statfs
// and, for device DAX, sysfs. What only a mapping can tell (MAP_SYNC, a forced flush) is added by
// `finish_capabilities` once it exists.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "fs/pmem/region.h"

namespace pinfs::pmem {

struct Found {
    Capabilities capabilities;
    std::uint64_t bytes = 0;                ///< length, rounded down to what a mapping can cover
    std::uint64_t mapping_align_bytes = 0;  ///< of the mapping's address
};

/// Regular files and device DAX nodes only. Touches nothing: a caller may ask before it opens what
/// might be a FIFO or a device that acts when it is opened. Errors: region_not_mappable;
/// device_not_bound, e.g. of memory that `daxctl reconfigure-device -m system-ram` took.
Expected<void> check_mappable(const struct stat& status, const std::string& sysfs = "/sys");

/// Of an open file. `sysfs` is where the kernel's device tree is (tests have their own).
/// Errors: region_not_mappable, system.
Expected<Found> find_capabilities(int fd, const struct stat& status,
                                  const std::string& sysfs = "/sys");

/// Adds what the mapping tells: `map_sync` whether it carries MAP_SYNC. libpmem's own switch
/// PMEM_IS_PMEM_FORCE=1 makes files of any kind take the path of persistent memory.
void finish_capabilities(Capabilities& capabilities, const std::byte* memory, std::uint64_t bytes,
                         bool map_sync);

}  // namespace pinfs::pmem

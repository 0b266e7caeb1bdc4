// SPDX-License-Identifier: Apache-2.0
//
// Whether a region that is not mounted may still be reached by programs or devices: the records of
// maps, pins and holds (SPEC 3.10), asked before a tool writes to it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "fs/error.h"
#include "fs/pmem/region.h"

namespace pinfs {

using BootId = std::array<std::uint8_t, 16>;

struct RecordsOfBoot {
    std::uint64_t count = 0;
    // The owner of the first that has one
    std::uint32_t pid = 0;
    std::string command;
};

/// Those made in that boot: after another one nothing reaches anything. Reads the record table
/// alone, and the journal; what is damaged there has no records. Errors: as check().
Expected<RecordsOfBoot> records_of_boot(pmem::Region& region, const BootId& boot_id);

}  // namespace pinfs

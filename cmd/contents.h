// SPDX-License-Identifier: Apache-2.0
//
// What a region holds before mkfs writes to it: a pinfs, or something that libblkid knows. Only the
// places where signatures stand are read, through the region, so that a device that cannot be
// read(2) is looked at as well.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fs/pmem/region.h"

namespace pinfs::cmd {

struct Contents {
    enum class Is : std::uint8_t { blank, pinfs, other };
    struct Signature {
        std::uint64_t offset = 0;
        std::uint64_t bytes = 0;
    };

    Is is = Is::blank;
    bool damaged = false;               ///< pinfs: neither superblock is whole
    std::string name;                   ///< for a sentence: "an ext4 file system labelled 'data'"
    std::vector<Signature> signatures;  ///< of others: bytes by which they are known
};

/// Errors: media_error; out_of_memory.
Expected<Contents> contents_of(pmem::Region& region);

}  // namespace pinfs::cmd

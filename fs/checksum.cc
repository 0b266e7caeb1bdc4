// SPDX-License-Identifier: Apache-2.0
#include "fs/checksum.h"

#include <isa-l/crc.h>

namespace pinfs {

std::uint32_t crc32c(std::uint32_t seed, std::span<const std::byte> bytes) {
    // The library's prototype lacks a const; it does not write.
    auto* data = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(bytes.data()));
    return crc32_iscsi(data, static_cast<int>(bytes.size()), seed);
}

std::uint32_t unit_checksum(std::uint32_t seed, std::span<const std::byte> unit) {
    return crc32c(crc32c(seed, unit.subspan(8)), unit.first(4));
}

}  // namespace pinfs

// SPDX-License-Identifier: Apache-2.0
//
// CRC32C as the format uses it: reflected Castagnoli polynomial, no final inversion beyond the
// library's; see fs/format/FORMAT.md, "Checksums".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace pinfs {

/// CRC32C of `bytes`, continued from `seed` (a previous result or a region's checksum seed).
std::uint32_t crc32c(std::uint32_t seed, std::span<const std::byte> bytes);

/// The checksum of a unit whose bytes [4, 8) hold it: over [8, size) and then [0, 4).
std::uint32_t unit_checksum(std::uint32_t seed, std::span<const std::byte> unit);

}  // namespace pinfs

// SPDX-License-Identifier: Apache-2.0
//
// Words of a command line that name sizes and identities.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pinfs::cmd {

/// "4096", "4K", "1M", "2G", "3T", also with iB: powers of 1024. Empty if it is no size or does not
/// fit 64 bits.
std::optional<std::uint64_t> parse_size(std::string_view word);

/// "1 GiB", "1.5 MiB", "1536 bytes": exact where it is short, else to two decimals.
std::string size_text(std::uint64_t bytes);

/// 32 hexadecimal digits in groups of 8-4-4-4-12.
std::optional<std::array<std::uint8_t, 16>> parse_uuid(std::string_view word);

/// A random one (RFC 9562, version 4).
std::array<std::uint8_t, 16> random_uuid();

/// A group's id, by name or number.
std::optional<std::uint32_t> parse_group(const std::string& word);

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
//
// What SEEK_DATA, SEEK_HOLE and st_blocks may say about a file whose content is known. Where holes
// lie is the file system's choice; that they read as zeros, that a punched block is one, and that
// what was allocated is counted is not.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <vector>

namespace pinfs::fsx {

/// Both kinds of seek from `offset`.
std::expected<void, std::string> check_seek(int descriptor,
                                            const std::vector<unsigned char>& expected,
                                            std::uint64_t offset);

/// No data is found in the whole blocks of [begin, end), which was punched.
std::expected<void, std::string> check_hole(int descriptor, std::uint64_t begin, std::uint64_t end);

/// The file has at least `bytes` in blocks.
std::expected<void, std::string> check_space(int descriptor, std::uint64_t bytes);

}  // namespace pinfs::fsx

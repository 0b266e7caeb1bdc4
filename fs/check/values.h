// SPDX-License-Identifier: Apache-2.0
//
// What single values of the format must look like, for the judge's parts and for who repairs.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "fs/format/superblock.h"

namespace pinfs::checking {

/// A mode's file type is one that there is.
bool is_type(std::uint32_t mode);

/// A directory entry may have this name.
bool is_name(std::string_view name);

/// The upper bits of a name's key.
std::uint64_t hash_of(std::string_view name, const media::Superblock& superblock);

/// What an access list says of the mode's nine bits; nullopt if it is no list.
std::optional<std::uint32_t> permissions_of_list(std::string_view value);

}  // namespace pinfs::checking

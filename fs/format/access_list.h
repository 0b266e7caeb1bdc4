// SPDX-License-Identifier: Apache-2.0
//
// POSIX access lists. They are values of the extended attributes kAccessListName and
// kDefaultListName, as the kernel has them (its uapi header posix_acl_xattr.h): a head, then
// entries.
#pragma once

#include <string_view>

#include "fs/format/unit.h"

namespace pinfs::media {

inline constexpr std::string_view kAccessListName = "system.posix_acl_access";
inline constexpr std::string_view kDefaultListName = "system.posix_acl_default";
inline constexpr std::size_t kAccessListBytesMax = 4096;  // the kernel takes no more

struct AccessListHead {
    le32 version;  // 0  kAccessListVersion
};
static_assert(sizeof(AccessListHead) == 4 && kIsMedia<AccessListHead>);
inline constexpr le32 kAccessListVersion = 2;

/// In this order: one owner, users, one group, groups, one mask or none (where there are users or
/// groups: one), one other.
struct AccessEntry {
    le16 tag;          // 0  AccessTag
    le16 permissions;  // 2  rwx, three bits
    le32 id;           // 4  of a user or a group; else it means nothing
};
static_assert(sizeof(AccessEntry) == 8 && kIsMedia<AccessEntry>);

enum AccessTag : le16 {
    kAccessOwner = 0x01,
    kAccessUser = 0x02,
    kAccessOwningGroup = 0x04,
    kAccessGroup = 0x08,
    kAccessMask = 0x10,
    kAccessOther = 0x20,
};
inline constexpr le32 kAccessNobody = 0xffffffff;  // no id of a user or a group

}  // namespace pinfs::media

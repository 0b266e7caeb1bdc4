// SPDX-License-Identifier: Apache-2.0
//
// POSIX access lists. The kernel obeys them; here they are kept: an access list agrees with the
// mode of its inode whichever of the two is changed, and a directory's default list, not the umask,
// decides what is made in it.
#include <sys/stat.h>

#include "fs/inode/access_list.h"
#include "fs/inode/extended_attributes.h"
#include "fs/volume/core.h"

namespace pinfs {

using inode::AccessList;

namespace {

constexpr std::uint32_t kPermissions = 0777;

void set_permissions(media::Inode& inode, std::uint32_t permissions) {
    inode.mode = (inode.mode & ~kPermissions) | permissions;
}

/// A list that is stored.
Expected<AccessList> stored_list(const inode::AttributeBytes& value, const media::Inode& inode) {
    auto list = AccessList::parse(value);
    if (!list) return fail(Cause::media_corrupt, inode.attributes, inode.ino);
    return list;
}

Expected<inode::AttributeBytes> with_list(const inode::AttributeBytes& bytes, std::string_view name,
                                          const inode::AttributeBytes& list) {
    const std::span<const std::byte> value{list};
    return inode::with_attribute(bytes, name, &value);
}

}  // namespace

/// `value` becomes list `name` of the staged `inode`; of an access list, the mode follows. False if
/// the mode says all of it: then it is not to be stored. Errors: invalid_argument,
/// directories_only, not_supported.
Expected<bool> Volume::Core::adopt_list(media::Inode& inode, std::string_view name,
                                        std::span<const std::byte> value, bool kill_setgid) {
    if (value.size() > media::kAccessListBytesMax) return fail(Cause::attribute_value_large);
    if (S_ISLNK(inode.mode)) return fail(Cause::not_supported);
    const AccessList list = TRY(AccessList::parse(value));
    if (name == media::kDefaultListName) {
        if (!S_ISDIR(inode.mode)) return fail(Cause::directories_only);
        return true;
    }
    set_permissions(inode, list.permissions());
    if (kill_setgid) inode.mode &= ~static_cast<std::uint32_t>(S_ISGID);
    return !list.is_mode();
}

/// After the mode of the staged `inode` changed.
Expected<void> Volume::Core::list_follows_mode(Change& change, media::Inode& inode) {
    if (inode.attributes == 0) return {};
    const auto bytes = TRY(inode::read_attributes(units_, inode));
    const auto value = TRY(inode::find_attribute(bytes, media::kAccessListName));
    if (!value) return {};
    AccessList list = TRY(stored_list(*value, inode));
    list.follow(inode.mode & kPermissions);
    return inode::write_attributes(change, inode,
                                   TRY(with_list(bytes, media::kAccessListName, list.bytes())));
}

/// The permission bits of a new inode in `above` and its lists.
Expected<void> Volume::Core::inherit_lists(Change& change, const media::Inode& above,
                                           media::Inode& inode, std::uint32_t umask) {
    if (S_ISLNK(inode.mode)) return {};
    std::optional<inode::AttributeBytes> passed_on;
    if (above.attributes != 0)
        passed_on = TRY(inode::find_attribute(TRY(inode::read_attributes(units_, above)),
                                              media::kDefaultListName));
    if (!passed_on) {
        inode.mode &= ~(umask & kPermissions);
        return {};
    }
    AccessList list = TRY(stored_list(*passed_on, above));
    list.limit(inode.mode & kPermissions);
    set_permissions(inode, list.permissions());
    inode::AttributeBytes bytes;
    if (!list.is_mode()) bytes = TRY(with_list(bytes, media::kAccessListName, list.bytes()));
    if (S_ISDIR(inode.mode)) bytes = TRY(with_list(bytes, media::kDefaultListName, *passed_on));
    return inode::write_attributes(change, inode, bytes);
}

}  // namespace pinfs

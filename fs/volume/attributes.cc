// SPDX-License-Identifier: Apache-2.0
//
// Attributes and extended attributes.
#include <sys/stat.h>

#include <algorithm>

#include "fs/format/access_list.h"
#include "fs/inode/extended_attributes.h"
#include "fs/volume/core.h"
#include "fs/volume/protection.h"

namespace pinfs {

namespace {

constexpr std::uint32_t kUserFlags =
    media::kInodeDax | media::kInodeImmutable | media::kInodeAppendOnly | media::kInodeNoDump |
    media::kInodeNoAtime | media::kInodeSync | media::kInodeProjectInherit;

/// What the kernel gives a program that it executes; setuid's finer kin.
constexpr std::string_view kCapability = "security.capability";

void kill_privilege_bits(media::Inode& inode) {
    inode.mode &= ~static_cast<std::uint32_t>(S_ISUID);
    if ((inode.mode & S_IXGRP) != 0) inode.mode &= ~static_cast<std::uint32_t>(S_ISGID);
}

bool is_access_list(std::string_view name) {
    return name == media::kAccessListName || name == media::kDefaultListName;
}

Expected<void> check_attribute_name(std::string_view name) {
    if (is_access_list(name)) return {};
    for (const std::string_view prefix : {"user.", "trusted.", "security."})
        if (name.starts_with(prefix)) {
            if (name.size() == prefix.size()) return fail(Cause::invalid_argument);
            if (name.size() > kNameBytesMax) return fail(Cause::attribute_too_small);
            return {};
        }
    return fail(Cause::not_supported);
}

}  // namespace

Expected<Attributes> Volume::Core::attributes(Ino ino) {
    TRY(admit_read());
    const Use state = use(ino);
    const Shared lock{state->mutex};
    const auto inode = TRY(read_inode(*state));
    return attributes_of(inode, *state);
}

/// Whether a protected inode lets `change` happen. A flag that protects keeps all flags as they are
/// until it is cleared.
Expected<void> Volume::Core::admit(const AttributeChange& change, const media::Inode& inode) {
    const bool sets_times = (change.atime || change.mtime) && !change.touch;
    if (change.mode || change.uid || change.gid || sets_times) TRY(refuse_protected(inode));
    if (change.touch || change.kill_privileges) TRY(refuse_immutable(inode));
    const bool keeps_flags =
        !change.flags || (*change.flags & kUserFlags) == (inode.flags & kUserFlags);
    const bool keeps_project = !change.project || *change.project == inode.project;
    if (keeps_flags && keeps_project) return {};
    const bool stays = !change.flags || (*change.flags & media::kInodeImmutable) != 0;
    return stays ? refuse_immutable(inode) : Expected<void>{};
}

Expected<void> Volume::Core::apply(Change& one, const AttributeChange& change,
                                   media::Inode& inode) {
    if (change.mode) inode.mode = (inode.mode & S_IFMT) | (*change.mode & ~std::uint32_t{S_IFMT});
    if (change.uid) inode.uid = *change.uid;
    if (change.gid) inode.gid = *change.gid;
    if (change.atime) {
        inode.atime = change.atime->seconds;
        inode.atime_ns = change.atime->nanoseconds;
    }
    if (change.mtime) {
        inode.mtime = change.mtime->seconds;
        inode.mtime_ns = change.mtime->nanoseconds;
    }
    if (change.flags) inode.flags = (inode.flags & ~kUserFlags) | (*change.flags & kUserFlags);
    if (change.project) inode.project = *change.project;
    if (!change.mode && !S_ISDIR(inode.mode)) {
        if (change.kill_privileges) kill_privilege_bits(inode);
        if (change.kill_setgid) inode.mode &= ~static_cast<std::uint32_t>(S_ISGID);
    }
    set_ctime(inode, change.ctime.value_or(now()));
    return change.mode ? list_follows_mode(one, inode) : Expected<void>{};
}

Expected<Attributes> Volume::Core::change_attributes(Ino ino, const AttributeChange& change) {
    TRY(admit_change());
    const Use state = use(ino);
    if (change.size_bytes)
        return with_space([&] { return truncate(*state, *change.size_bytes, change); });
    return with_space([&]() -> Expected<Attributes> {
        const Exclusive lock{state->mutex};
        Change one = this->change(space::Reserve::use);
        auto* inode = TRY(edit_inode(one, *state));
        TRY(admit(change, *inode));
        TRY(apply(one, change, *inode));
        const media::Inode changed = *inode;
        TRY(one.commit());
        return attributes_of(changed, *state);
    });
}

Expected<std::vector<std::byte>> Volume::Core::attribute(Ino ino, std::string_view name) {
    TRY(admit_read());
    TRY(check_attribute_name(name));
    const Use state = use(ino);
    const Shared lock{state->mutex};
    const auto inode = TRY(read_inode(*state));
    if (inode.attributes == 0) return fail(Cause::no_attribute);
    auto value = TRY(inode::find_attribute(TRY(inode::read_attributes(units_, inode)), name));
    if (!value) return fail(Cause::no_attribute);
    return *std::move(value);
}

Expected<std::vector<std::string>> Volume::Core::attribute_names(Ino ino) {
    TRY(admit_read());
    const Use state = use(ino);
    const Shared lock{state->mutex};
    const auto inode = TRY(read_inode(*state));
    std::vector<std::string> names;
    TRY(inode::for_each_attribute(TRY(inode::read_attributes(units_, inode)),
                                  [&](std::string_view name, std::span<const std::byte>) {
                                      names.emplace_back(name);
                                      return true;
                                  }));
    return names;
}

Expected<void> Volume::Core::set_attribute(Ino ino, std::string_view name,
                                           std::span<const std::byte> value, SetAttribute how,
                                           bool kill_setgid) {
    TRY(admit_change());
    TRY(check_attribute_name(name));
    if (value.size() > media::kAttributeValueMax) return fail(Cause::attribute_value_large);
    if (finished_.of_this_thread()) return {};
    return with_space([&]() -> Expected<void> {
        const Use state = use(ino);
        const Exclusive lock{state->mutex};
        Change one = change(space::Reserve::keep);
        auto* inode = TRY(edit_inode(one, *state));
        TRY(refuse_protected(*inode));
        const auto bytes = TRY(inode::read_attributes(units_, *inode));
        const bool there = TRY(inode::find_attribute(bytes, name)).has_value();
        if (there && how == SetAttribute::create) return fail(Cause::attribute_exists);
        if (!there && how == SetAttribute::replace) return fail(Cause::no_attribute);
        const bool stored =
            !is_access_list(name) || TRY(adopt_list(*inode, name, value, kill_setgid));
        if (stored || there)
            TRY(inode::write_attributes(
                one, *inode, TRY(inode::with_attribute(bytes, name, stored ? &value : nullptr))));
        set_ctime(*inode, now());
        if (name == kCapability) state->no_capability = false;
        finished_.note(one, {});
        return one.commit();
    });
}

/// Errors: no_attribute.
Expected<void> Volume::Core::erase_attribute(Change& change, media::Inode& inode,
                                             std::string_view name) {
    const auto bytes = TRY(inode::read_attributes(units_, inode));
    const bool there = TRY(inode::find_attribute(bytes, name)).has_value();
    if (!there) return fail(Cause::no_attribute);
    TRY(inode::write_attributes(change, inode, TRY(inode::with_attribute(bytes, name, nullptr))));
    set_ctime(inode, now());
    return {};
}

Expected<void> Volume::Core::remove_attribute(Ino ino, std::string_view name) {
    TRY(admit_change());
    TRY(check_attribute_name(name));
    if (finished_.of_this_thread()) return {};
    const Use state = use(ino);
    const Exclusive lock{state->mutex};
    Change one = change(space::Reserve::use);
    auto* inode = TRY(edit_inode(one, *state));
    TRY(refuse_protected(*inode));
    const auto erased = erase_attribute(one, *inode, name);
    // A mode without a list is a list too.
    if (!erased && erased.error().cause == Cause::no_attribute && is_access_list(name)) return {};
    if (!erased) return erased;
    finished_.note(one, {});
    return one.commit();
}

Expected<void> Volume::Core::drop_capability(InodeState& state) {
    if (state.no_capability.load()) return {};
    const Exclusive lock{state.mutex};
    Change one = change(space::Reserve::use);
    auto* inode = TRY(edit_inode(one, state));
    TRY(refuse_immutable(*inode));  // it will not be written
    const auto erased = erase_attribute(one, *inode, kCapability);
    const bool had_none = !erased && erased.error().cause == Cause::no_attribute;
    if (!erased && !had_none) return erased;
    if (erased) TRY(one.commit());
    state.no_capability = true;  // who sets one has the lock exclusively
    return {};
}

}  // namespace pinfs

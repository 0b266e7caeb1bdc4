// SPDX-License-Identifier: Apache-2.0
//
// Extended attributes: the size protocol of getxattr(2) and listxattr(2), and which names there
// are.
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <optional>
#include <string>
#include <string_view>

#include "fs/format/access_list.h"
#include "fs/fuse/caller.h"
#include "fs/fuse/edge.h"
#include "fs/fuse/virtual_attributes.h"

namespace pinfs::fuse {
namespace {

/// Answers with `bytes`, or with their number if the caller asked with size 0.
void reply_sized(fuse_req_t req, const char* bytes, std::size_t count, std::size_t size,
                 const char* operation, fuse_ino_t ino) noexcept {
    if (size == 0)
        fuse_reply_xattr(req, count);
    else if (size < count)
        reply_error(req, Error{Cause::attribute_too_small}, operation, ino);
    else
        fuse_reply_buf(req, bytes, count);
}

void on_getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, std::size_t size) noexcept {
    if (is_virtual_attribute(name)) {
        const auto text = guarded([&] { return virtual_attribute(req, Ino{ino}, name); });
        if (!text) return reply_error(req, text.error(), "getxattr", ino);
        return reply_sized(req, text->data(), text->size(), size, "getxattr", ino);
    }
    const auto value = guarded([&] { return volume_of(req).attribute(Ino{ino}, name); });
    if (!value) return reply_error(req, value.error(), "getxattr", ino);
    reply_sized(req, reinterpret_cast<const char*>(value->data()), value->size(), size, "getxattr",
                ino);
}

void on_listxattr(fuse_req_t req, fuse_ino_t ino, std::size_t size) noexcept {
    const auto list = guarded([&]() -> Expected<std::string> {
        std::string names;
        std::optional<bool> trusted;  // as local file systems do it: names for who may use them
        for (const std::string& name : TRY(volume_of(req).attribute_names(Ino{ino}))) {
            if (name.starts_with("trusted.")) {
                if (!trusted) trusted = has_capability(req, CAP_SYS_ADMIN);
                if (!*trusted) continue;
            }
            names.append(name).push_back('\0');
        }
        return names;
    });
    if (!list) return reply_error(req, list.error(), "listxattr", ino);
    reply_sized(req, list->data(), list->size(), size, "listxattr", ino);
}

/// Whether the caller could not have set the setgid bit: then an access list takes it away. The
/// kernel says so in a flag that libfuse does not hand on.
bool loses_setgid(fuse_req_t req, Ino ino, std::string_view name) {
    if (name != media::kAccessListName) return false;
    const auto attributes = volume_of(req).attributes(ino);
    return attributes && (attributes->mode & S_ISGID) != 0 && !is_in_group(req, attributes->gid) &&
           !has_capability(req, CAP_FSETID);
}

void on_setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value,
                 std::size_t size, int flags) noexcept {
    const auto result = guarded([&]() -> Expected<void> {
        if (is_virtual_attribute(name)) return fail(Cause::not_permitted);
        SetAttribute how = SetAttribute::create_or_replace;
        if (flags == XATTR_CREATE)
            how = SetAttribute::create;
        else if (flags == XATTR_REPLACE)
            how = SetAttribute::replace;
        else if (flags != 0)
            return fail(Cause::invalid_argument);
        return volume_of(req).set_attribute(Ino{ino}, name, std::as_bytes(std::span{value, size}),
                                            how, loses_setgid(req, Ino{ino}, name));
    });
    reply_done(req, result, "setxattr", ino);
}

void on_removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) noexcept {
    const auto result = guarded([&]() -> Expected<void> {
        if (is_virtual_attribute(name)) return fail(Cause::not_permitted);
        return volume_of(req).remove_attribute(Ino{ino}, name);
    });
    reply_done(req, result, "removexattr", ino);
}

}  // namespace

void add_extended_attribute_operations(fuse_lowlevel_ops& operations) {
    operations.getxattr = on_getxattr;
    operations.listxattr = on_listxattr;
    operations.setxattr = on_setxattr;
    operations.removexattr = on_removexattr;
}

}  // namespace pinfs::fuse

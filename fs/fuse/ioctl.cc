// SPDX-License-Identifier: Apache-2.0
//
// The ioctls of attributes, by which a file's DAX flag is shown and set (SPEC 1.2):
// FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR. Of the flags that a file
// has, DAX alone can be changed here; one that nothing would obey is refused.
//
// An ioctl of others gets ENOTTY: isatty(3) asks so.
#include <linux/fs.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "fs/format/inode.h"
#include "fs/fuse/edge.h"

namespace pinfs::fuse {
namespace {

struct FlagNames {
    std::uint32_t stored;     ///< media::kInode*
    std::uint32_t attribute;  ///< FS_*_FL
    std::uint32_t extended;   ///< FS_XFLAG_*
};
constexpr std::array kFlags{
    FlagNames{media::kInodeDax, FS_DAX_FL, FS_XFLAG_DAX},
    FlagNames{media::kInodeImmutable, FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE},
    FlagNames{media::kInodeAppendOnly, FS_APPEND_FL, FS_XFLAG_APPEND},
    FlagNames{media::kInodeNoDump, FS_NODUMP_FL, FS_XFLAG_NODUMP},
    FlagNames{media::kInodeNoAtime, FS_NOATIME_FL, FS_XFLAG_NOATIME},
    FlagNames{media::kInodeSync, FS_SYNC_FL, FS_XFLAG_SYNC},
    FlagNames{media::kInodeProjectInherit, FS_PROJINHERIT_FL, FS_XFLAG_PROJINHERIT},
};

constexpr std::uint32_t kSettable = [] {
    std::uint32_t all = 0;
    for (const FlagNames& flag : kFlags) all |= flag.stored;
    return all;
}();

std::uint32_t shown(std::uint32_t stored, std::uint32_t FlagNames::*name) {
    std::uint32_t flags = 0;
    for (const FlagNames& flag : kFlags)
        if (stored & flag.stored) flags |= flag.*name;
    return flags;
}

/// Makes the flags of `ino` those that `wanted` names; on error nothing changed.
Expected<void> set_flags(fuse_req_t req, Ino ino, std::uint32_t wanted,
                         std::uint32_t FlagNames::*name, const fsxattr* extended) {
    Volume& volume = volume_of(req);
    const Attributes before = TRY(volume.attributes(ino));
    const uid_t caller = fuse_req_ctx(req)->uid;
    if (caller != 0 && caller != before.uid) return fail(Cause::not_permitted);

    constexpr const FlagNames& dax = kFlags[0];
    if ((wanted ^ shown(before.flags, name)) & ~(dax.*name)) return fail(Cause::not_supported);
    if (extended != nullptr && (extended->fsx_extsize != 0 || extended->fsx_cowextsize != 0 ||
                                extended->fsx_projid != before.project))
        return fail(Cause::not_supported);

    const std::uint32_t old_flags = before.flags & kSettable;
    const std::uint32_t new_flags =
        (old_flags & ~dax.stored) | (wanted & dax.*name ? dax.stored : 0);
    if (new_flags == old_flags) return {};
    AttributeChange change;
    change.flags = new_flags;
    TRY(volume.change_attributes(ino, change));
    edge_of(req).invalidator.attributes(ino);  // ctime
    return {};
}

void reply_flags(fuse_req_t req, Ino ino, std::size_t out_size) noexcept {
    const auto attributes = guarded([&] { return volume_of(req).attributes(ino); });
    if (!attributes) return reply_error(req, attributes.error(), "getflags", ino.value);
    // The kernel asks with an int; the ioctl's number says long, and some ask with that.
    std::array<char, sizeof(long)> out{};
    const std::uint32_t flags = shown(attributes->flags, &FlagNames::attribute);
    std::memcpy(out.data(), &flags, sizeof(flags));
    fuse_reply_ioctl(req, 0, out.data(), std::min(out.size(), out_size));
}

void reply_extended_flags(fuse_req_t req, Ino ino, std::size_t out_size) noexcept {
    const auto attributes = guarded([&] { return volume_of(req).attributes(ino); });
    if (!attributes) return reply_error(req, attributes.error(), "fsgetxattr", ino.value);
    fsxattr out{};
    out.fsx_xflags = shown(attributes->flags, &FlagNames::extended);
    out.fsx_projid = attributes->project;
    fuse_reply_ioctl(req, 0, &out, std::min(sizeof(out), out_size));
}

void reply_set(fuse_req_t req, const Expected<void>& result, const char* operation,
               Ino ino) noexcept {
    if (!result) return reply_error(req, result.error(), operation, ino.value);
    fuse_reply_ioctl(req, 0, nullptr, 0);
}

void on_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned command, void*, fuse_file_info*, unsigned,
              const void* in, std::size_t in_size, std::size_t out_size) noexcept {
    switch (command) {
        case FS_IOC_GETFLAGS:
            return reply_flags(req, Ino{ino}, out_size);
        case FS_IOC_FSGETXATTR:
            return reply_extended_flags(req, Ino{ino}, out_size);
        case FS_IOC_SETFLAGS: {
            const auto result = guarded([&]() -> Expected<void> {
                std::uint32_t wanted = 0;
                if (in_size < sizeof(wanted)) return fail(Cause::invalid_argument);
                std::memcpy(&wanted, in, sizeof(wanted));
                return set_flags(req, Ino{ino}, wanted, &FlagNames::attribute, nullptr);
            });
            return reply_set(req, result, "setflags", Ino{ino});
        }
        case FS_IOC_FSSETXATTR: {
            const auto result = guarded([&]() -> Expected<void> {
                fsxattr wanted{};
                if (in_size < sizeof(wanted)) return fail(Cause::invalid_argument);
                std::memcpy(&wanted, in, sizeof(wanted));
                return set_flags(req, Ino{ino}, wanted.fsx_xflags, &FlagNames::extended, &wanted);
            });
            return reply_set(req, result, "fssetxattr", Ino{ino});
        }
        default:
            fuse_reply_err(req, errno_of(Cause::not_an_ioctl));
    }
}

}  // namespace

void add_ioctl_operations(fuse_lowlevel_ops& operations) { operations.ioctl = on_ioctl; }

}  // namespace pinfs::fuse

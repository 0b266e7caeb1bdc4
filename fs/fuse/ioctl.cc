// SPDX-License-Identifier: Apache-2.0
//
// The ioctls of attributes: flags and project (FS_IOC_GETFLAGS, SETFLAGS, FSGETXATTR, FSSETXATTR;
// the DAX flag is one of them, SPEC 1.2), generation (FS_IOC_GETVERSION), label (FS_IOC_GETFSLABEL,
// SETFSLABEL), shutdown (FS_IOC_SHUTDOWN). What the volume enforces and what is stored and shown
// only, format/inode.h says.
//
// Who may set what is checked here too: kernels before 5.14 hand the ioctl on unchecked.
//
// An ioctl of others gets ENOTTY: isatty(3) asks so.
#include <linux/capability.h>
#include <linux/fs.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string_view>

#include "fs/format/inode.h"
#include "fs/fuse/caller.h"
#include "fs/fuse/edge.h"
#include "fs/fuse/file_requests.h"
#include "fs/fuse/ledger.h"

namespace pinfs::fuse {
namespace {

/// FS_IOC_SHUTDOWN, which headers have for single file systems only.
constexpr unsigned kShutdown = _IOR('X', 125, std::uint32_t);

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

std::uint32_t shown(std::uint32_t stored, std::uint32_t FlagNames::*name) {
    std::uint32_t flags = 0;
    for (const FlagNames& flag : kFlags)
        if (stored & flag.stored) flags |= flag.*name;
    return flags;
}

/// The flags as they are stored; nullopt if `names` has one that is not ours.
std::optional<std::uint32_t> stored_flags(std::uint32_t names, std::uint32_t FlagNames::*name) {
    std::uint32_t flags = 0;
    for (const FlagNames& flag : kFlags) {
        if (names & flag.*name) flags |= flag.stored;
        names &= ~(flag.*name);
    }
    return names == 0 ? std::optional{flags} : std::nullopt;
}

/// Makes the flags of `ino` those that `wanted` names; on error nothing changed.
Expected<void> set_flags(fuse_req_t req, Ino ino, std::uint32_t wanted,
                         std::uint32_t FlagNames::*name, std::optional<std::uint32_t> project) {
    Volume& volume = volume_of(req);
    const Attributes before = TRY(volume.attributes(ino));
    if (fuse_req_ctx(req)->uid != before.uid && !has_capability(req, CAP_FOWNER))
        return fail(Cause::not_permitted);
    const auto flags = stored_flags(wanted, name);
    if (!flags || ((*flags & media::kInodeProjectInherit) != 0 && !S_ISDIR(before.mode)))
        return fail(Cause::not_supported);

    const std::uint32_t changed = *flags ^ stored_flags(shown(before.flags, name), name).value();
    if ((changed & (media::kInodeImmutable | media::kInodeAppendOnly)) != 0 &&
        !has_capability(req, CAP_LINUX_IMMUTABLE))
        return fail(Cause::not_permitted);
    AttributeChange change;
    if (changed != 0) change.flags = *flags;
    if (project && *project != before.project) change.project = project;
    if (!change.flags && !change.project) return {};
    TRY(volume.change_attributes(ino, change));
    edge_of(req).invalidator.attributes(ino);  // ctime
    return {};
}

Expected<void> set_flags(fuse_req_t req, Ino ino, const fsxattr& wanted) {
    if (wanted.fsx_extsize != 0 || wanted.fsx_cowextsize != 0) return fail(Cause::not_supported);
    return set_flags(req, ino, wanted.fsx_xflags, &FlagNames::extended, wanted.fsx_projid);
}

/// The argument of the request. Errors: invalid_argument, if it is shorter.
template <class Argument>
Expected<Argument> argument_of(const void* in, std::size_t in_size) {
    Argument argument{};
    if (in_size < sizeof(argument)) return fail(Cause::invalid_argument);
    std::memcpy(&argument, in, sizeof(argument));
    return argument;
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

void reply_generation(fuse_req_t req, Ino ino, std::size_t out_size) noexcept {
    const auto attributes = guarded([&] { return volume_of(req).attributes(ino); });
    if (!attributes) return reply_error(req, attributes.error(), "getversion", ino.value);
    // An int, whatever the ioctl's number says: callers have no room for more.
    const auto generation = static_cast<std::uint32_t>(attributes->generation);
    fuse_reply_ioctl(req, 0, &generation, std::min(sizeof(generation), out_size));
}

void reply_label(fuse_req_t req, std::size_t out_size) noexcept {
    std::array<char, FSLABEL_MAX> out{};
    const std::string_view label = volume_of(req).label();
    std::memcpy(out.data(), label.data(), std::min(label.size(), out.size() - 1));
    fuse_reply_ioctl(req, 0, out.data(), std::min(out.size(), out_size));
}

void reply_set(fuse_req_t req, const Expected<void>& result, const char* operation,
               Ino ino) noexcept {
    if (!result) return reply_error(req, result.error(), operation, ino.value);
    fuse_reply_ioctl(req, 0, nullptr, 0);
}

/// SPEC 6.6. What the flags ask for does not reach us: nothing is flushed.
Expected<void> shut_down(fuse_req_t req, Ino ino) {
    if (!has_capability(req, CAP_SYS_ADMIN)) return fail(Cause::not_permitted);
    if (ino != kRootIno) return fail(Cause::invalid_argument);
    Volume& volume = volume_of(req);
    const std::vector<Ino> known = volume.known_inodes();
    if (edge_of(req).ledger != nullptr) edge_of(req).ledger->set_shut_down();
    volume.shut_down();
    spdlog::warn("shut down by process {}: every operation fails until it is unmounted",
                 fuse_req_ctx(req)->pid);
    edge_of(req).invalidator.everything(known);
    return {};
}

void on_ioctl(fuse_req_t req, fuse_ino_t number, unsigned command, void*, fuse_file_info* file,
              unsigned kernel_flags, const void* in, std::size_t in_size,
              std::size_t out_size) noexcept {
    const Ino ino{number};
    if (is_protocol_request(command))
        return answer_file_request(req, {.ino = ino, .handle = file->fh},
                                   (kernel_flags & FUSE_IOCTL_DIR) != 0, command,
                                   {in, in_size, out_size});
    switch (command) {
        case FS_IOC_GETFLAGS:
            return reply_flags(req, ino, out_size);
        case FS_IOC_FSGETXATTR:
            return reply_extended_flags(req, ino, out_size);
        case FS_IOC_GETVERSION:
            return reply_generation(req, ino, out_size);
        case FS_IOC_GETFSLABEL:
            return reply_label(req, out_size);
        case FS_IOC_SETFLAGS: {
            const auto result = guarded([&]() -> Expected<void> {
                const auto wanted = TRY(argument_of<std::uint32_t>(in, in_size));
                return set_flags(req, ino, wanted, &FlagNames::attribute, std::nullopt);
            });
            return reply_set(req, result, "setflags", ino);
        }
        case FS_IOC_FSSETXATTR: {
            const auto result = guarded([&]() -> Expected<void> {
                return set_flags(req, ino, TRY(argument_of<fsxattr>(in, in_size)));
            });
            return reply_set(req, result, "fssetxattr", ino);
        }
        case FS_IOC_SETFSLABEL: {
            // The superblock does not change while it is mounted.
            const auto result = guarded([&]() -> Expected<void> {
                return fail(has_capability(req, CAP_SYS_ADMIN) ? Cause::not_supported
                                                               : Cause::not_permitted);
            });
            return reply_set(req, result, "setfslabel", ino);
        }
        case kShutdown:
            return reply_set(req, guarded([&] { return shut_down(req, ino); }), "shutdown", ino);
        default:
            reply_error(req, Error{Cause::not_an_ioctl}, "ioctl", ino.value);
    }
}

}  // namespace

void add_ioctl_operations(fuse_lowlevel_ops& operations) { operations.ioctl = on_ioctl; }

}  // namespace pinfs::fuse

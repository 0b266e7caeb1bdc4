// SPDX-License-Identifier: Apache-2.0
//
// Attributes of inodes and of the file system.
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "fs/fuse/caller.h"
#include "fs/fuse/edge.h"

namespace pinfs::fuse {
namespace {

void on_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) noexcept {
    const auto attributes = guarded([&] { return volume_of(req).attributes(Ino{ino}); });
    if (!attributes) return reply_error(req, attributes.error(), "getattr", ino);
    reply_attributes(req, *attributes);
}

Time time_of(const timespec& time) {
    return {.seconds = time.tv_sec, .nanoseconds = static_cast<std::uint32_t>(time.tv_nsec)};
}

/// The bit the kernel sends with a truncation by somebody without CAP_FSETID (FATTR_KILL_SUIDGID).
constexpr int kKillSetIds = FUSE_SET_ATTR_KILL_SUID;

AttributeChange change_of(const struct stat& wanted, int to_set) {
    AttributeChange change;
    if (to_set & FUSE_SET_ATTR_MODE) change.mode = wanted.st_mode & 07777;
    if (to_set & FUSE_SET_ATTR_UID) change.uid = wanted.st_uid;
    if (to_set & FUSE_SET_ATTR_GID) change.gid = wanted.st_gid;
    if (to_set & FUSE_SET_ATTR_SIZE) change.size_bytes = static_cast<std::uint64_t>(wanted.st_size);
    if (to_set & FUSE_SET_ATTR_ATIME_NOW)
        change.atime = time_now();
    else if (to_set & FUSE_SET_ATTR_ATIME)
        change.atime = time_of(wanted.st_atim);
    if (to_set & FUSE_SET_ATTR_MTIME_NOW)
        change.mtime = time_now();
    else if (to_set & FUSE_SET_ATTR_MTIME)
        change.mtime = time_of(wanted.st_mtim);
    constexpr int kBothNow = FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;
    change.touch = (to_set & kBothNow) == kBothNow;
    if (to_set & FUSE_SET_ATTR_CTIME) change.ctime = time_of(wanted.st_ctim);
    return change;
}

void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat* wanted, int to_set,
                fuse_file_info*) noexcept {
    const auto attributes = guarded([&]() -> Expected<Attributes> {
        Volume& volume = volume_of(req);
        if (to_set == 0) return volume.attributes(Ino{ino});
        AttributeChange change = change_of(*wanted, to_set);
        change.kill_privileges = (to_set & kKillSetIds) != 0;
        if (change.uid || change.gid) {
            // A change of owner takes the bits away, from whoever it comes. Setgid without group
            // execute stays with who might set it.
            change.kill_privileges = true;
            const Attributes before = TRY(volume.attributes(Ino{ino}));
            change.kill_setgid = (before.mode & (S_ISGID | S_IXGRP)) == S_ISGID &&
                                 !is_in_group(req, before.gid) && !has_capability(req, CAP_FSETID);
        }
        return volume.change_attributes(Ino{ino}, change);
    });
    if (!attributes && (to_set & FUSE_SET_ATTR_SIZE))
        return reply_refusal(req, attributes.error(), "truncate", ino,
                             static_cast<std::uint64_t>(wanted->st_size));
    if (!attributes) return reply_error(req, attributes.error(), "setattr", ino);
    reply_attributes(req, *attributes);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
/// Asked for where a program wants the time of birth; the kernel takes nothing else that getattr
/// does not give.
void on_statx(fuse_req_t req, fuse_ino_t ino, int, int, fuse_file_info*) noexcept {
    const auto attributes = guarded([&] { return volume_of(req).attributes(Ino{ino}); });
    if (!attributes) return reply_error(req, attributes.error(), "statx", ino);
    const struct stat st = stat_of(*attributes);
    struct statx out {};
    out.stx_mask = STATX_BASIC_STATS | STATX_BTIME;
    out.stx_blksize = static_cast<std::uint32_t>(st.st_blksize);
    out.stx_nlink = attributes->nlink;
    out.stx_uid = attributes->uid;
    out.stx_gid = attributes->gid;
    out.stx_mode = static_cast<std::uint16_t>(attributes->mode);
    out.stx_ino = st.st_ino;
    out.stx_size = attributes->size_bytes;
    out.stx_blocks = static_cast<std::uint64_t>(st.st_blocks);
    const auto timestamp_of = [](const Time& time) {
        return statx_timestamp{
            .tv_sec = time.seconds, .tv_nsec = time.nanoseconds, .__reserved = 0};
    };
    out.stx_atime = timestamp_of(attributes->atime);
    out.stx_btime = timestamp_of(attributes->btime);
    out.stx_ctime = timestamp_of(attributes->ctime);
    out.stx_mtime = timestamp_of(attributes->mtime);
    out.stx_rdev_major = attributes->device_major;
    out.stx_rdev_minor = attributes->device_minor;
    fuse_reply_statx(req, 0, &out, attribute_timeout_of(*attributes));
}
#endif

void on_statfs(fuse_req_t req, fuse_ino_t ino) noexcept {
    const auto statistics = guarded([&]() -> Expected<Statistics> {
        if (volume_of(req).is_shut_down()) return fail(Cause::shut_down);
        return volume_of(req).statistics();
    });
    if (!statistics) return reply_error(req, statistics.error(), "statfs", ino);
    struct statvfs st {};
    st.f_bsize = kBlockBytes;
    st.f_frsize = kBlockBytes;
    st.f_blocks = statistics->blocks;
    st.f_bfree = statistics->blocks_free;
    st.f_bavail = statistics->blocks_available;
    st.f_files = statistics->inodes + statistics->inodes_available;
    st.f_ffree = statistics->inodes_available;
    st.f_favail = statistics->inodes_available;
    st.f_namemax = kNameBytesMax;
    fuse_reply_statfs(req, &st);
}

}  // namespace

void add_attribute_operations(fuse_lowlevel_ops& operations) {
    operations.getattr = on_getattr;
    operations.setattr = on_setattr;
    operations.statfs = on_statfs;
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
    operations.statx = on_statx;
#endif
}

}  // namespace pinfs::fuse

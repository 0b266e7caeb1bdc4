// SPDX-License-Identifier: Apache-2.0
//
// Names: looking them up, making, moving and removing them.
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs/fuse/edge.h"

namespace pinfs::fuse {
namespace {

void on_lookup(fuse_req_t req, fuse_ino_t parent, const char* name) noexcept {
    const auto entry = guarded([&] { return volume_of(req).lookup(Ino{parent}, name); });
    if (entry) return reply_entry(req, *entry);
    if (entry.error().cause != Cause::not_found)
        return reply_error(req, entry.error(), "lookup", parent);
    // The kernel may remember that there is no such name: it is the only one that makes names.
    fuse_entry_param none{};
    none.entry_timeout = kEntryTimeoutSeconds;
    fuse_reply_entry(req, &none);
}

void on_forget(fuse_req_t req, fuse_ino_t ino, std::uint64_t count) noexcept {
    volume_of(req).forget(Ino{ino}, count);
    fuse_reply_none(req);
}

void on_forget_multi(fuse_req_t req, std::size_t count, fuse_forget_data* forgets) noexcept {
    for (std::size_t i = 0; i < count; ++i)
        volume_of(req).forget(Ino{forgets[i].ino}, forgets[i].nlookup);
    fuse_reply_none(req);
}

void make(fuse_req_t req, fuse_ino_t parent, const char* name, const NewInode& inode,
          const char* operation) noexcept {
    const auto entry =
        guarded([&] { return volume_of(req).make(Ino{parent}, name, inode, caller_of(req)); });
    if (!entry) return reply_error(req, entry.error(), operation, parent);
    reply_entry(req, *entry);
}

void on_mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
              dev_t device) noexcept {
    NewInode inode;
    inode.mode = mode;
    inode.umask = fuse_req_ctx(req)->umask;
    if (S_ISCHR(mode) || S_ISBLK(mode)) {
        inode.device_major = major(device);
        inode.device_minor = minor(device);
    }
    make(req, parent, name, inode, "mknod");
}

void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) noexcept {
    NewInode inode;
    inode.mode = (mode & ~static_cast<mode_t>(S_IFMT)) | S_IFDIR;
    inode.umask = fuse_req_ctx(req)->umask;
    make(req, parent, name, inode, "mkdir");
}

void on_symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) noexcept {
    NewInode inode;
    inode.mode = S_IFLNK | 0777;
    inode.target = target;
    make(req, parent, name, inode, "symlink");
}

void on_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char* name) noexcept {
    const auto entry = guarded([&] { return volume_of(req).link(Ino{ino}, Ino{parent}, name); });
    if (!entry) return reply_error(req, entry.error(), "link", ino);
    reply_entry(req, *entry);
}

void on_unlink(fuse_req_t req, fuse_ino_t parent, const char* name) noexcept {
    const auto result = guarded([&] { return volume_of(req).unlink(Ino{parent}, name); });
    reply_done(req, result, "unlink", parent);
}

void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) noexcept {
    const auto result = guarded([&] { return volume_of(req).remove_directory(Ino{parent}, name); });
    reply_done(req, result, "rmdir", parent);
}

void on_rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
               const char* new_name, unsigned flags) noexcept {
    const auto result = guarded([&] {
        return volume_of(req).rename(Ino{parent}, name, Ino{new_parent}, new_name, flags,
                                     caller_of(req));
    });
    reply_done(req, result, "rename", parent);
}

void on_readlink(fuse_req_t req, fuse_ino_t ino) noexcept {
    const auto target = guarded([&] { return volume_of(req).read_link(Ino{ino}); });
    if (!target) return reply_error(req, target.error(), "readlink", ino);
    fuse_reply_readlink(req, target->c_str());
}

}  // namespace

void add_name_operations(fuse_lowlevel_ops& operations) {
    operations.lookup = on_lookup;
    operations.forget = on_forget;
    operations.forget_multi = on_forget_multi;
    operations.mknod = on_mknod;
    operations.mkdir = on_mkdir;
    operations.symlink = on_symlink;
    operations.link = on_link;
    operations.unlink = on_unlink;
    operations.rmdir = on_rmdir;
    operations.rename = on_rename;
    operations.readlink = on_readlink;
}

}  // namespace pinfs::fuse

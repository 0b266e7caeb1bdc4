// SPDX-License-Identifier: Apache-2.0
//
// What immutable and append-only inodes refuse, and where projects end; the rules of ext4. Nobody
// is above them: who may clear the flag clears it first. The inode's lock is held.
//
// An append-only file takes writes at its end; an append-only directory takes new names.
#pragma once

#include "fs/error.h"
#include "fs/format/inode.h"

namespace pinfs {

/// For writes, and for new names in a directory.
inline Expected<void> refuse_immutable(const media::Inode& inode) {
    if ((inode.flags & media::kInodeImmutable) != 0) return fail(Cause::immutable);
    return {};
}

/// For what changes or takes away what is there: content, attributes, names.
inline Expected<void> refuse_protected(const media::Inode& inode) {
    TRY(refuse_immutable(inode));
    if ((inode.flags & media::kInodeAppendOnly) != 0) return fail(Cause::append_only);
    return {};
}

/// A write at `offset_bytes`.
inline Expected<void> admit_write(const media::Inode& inode, std::uint64_t offset_bytes) {
    return offset_bytes < inode.size ? refuse_protected(inode) : refuse_immutable(inode);
}

/// `inode` loses its name in `directory`.
inline Expected<void> admit_removal(const media::Inode& directory, const media::Inode& inode) {
    TRY(refuse_protected(directory));
    return refuse_protected(inode);
}

/// `inode` gets a name in `directory`: a tree that passes its project on holds nothing of another.
inline Expected<void> admit_project(const media::Inode& directory, const media::Inode& inode) {
    if ((directory.flags & media::kInodeProjectInherit) != 0 && directory.project != inode.project)
        return fail(Cause::across_projects);
    return {};
}

}  // namespace pinfs

// SPDX-License-Identifier: Apache-2.0
//
// New inodes: with a name, and without one yet (O_TMPFILE).
#include <sys/stat.h>

#include <cstring>

#include "fs/volume/core.h"
#include "fs/volume/protection.h"

namespace pinfs {

/// Keeps the target of a symbolic link: inline if it fits, else as the data of one block.
Expected<void> Volume::Core::store_target(Change& change, media::Inode& inode,
                                          std::string_view target) {
    inode.size = target.size();
    const auto bytes = std::as_bytes(std::span{target});
    if (bytes.size() <= media::kInlineBytes) {
        std::memcpy(inode.inline_map, bytes.data(), bytes.size());
        inode.map_bytes = static_cast<std::uint32_t>(bytes.size());
        return {};
    }
    if (bytes.size() >= kBlockBytes) return fail(Cause::name_too_long);
    const std::uint64_t offset = TRY(change.allocate_block());
    TRY(region_.copy_in(offset, bytes));  // fenced with the commit's first step, before its seal
    TRY(inode::Extents(change, inode)
            .add({.file_block = 0, .blocks = 1, .start_block = offset / kBlockBytes}));
    ++inode.blocks;
    return {};
}

namespace {

constexpr std::uint32_t inherited_flags(std::uint32_t mode) {
    constexpr std::uint32_t kAny = media::kInodeNoDump | media::kInodeNoAtime;
    constexpr std::uint32_t kFile = kAny | media::kInodeDax | media::kInodeSync;
    if (S_ISDIR(mode)) return kFile | media::kInodeProjectInherit;
    return S_ISREG(mode) ? kFile : kAny;
}

}  // namespace

/// A slot and the inode in it, as one that `above` will have or has. The table's lock is held, and
/// `generation` is new.
Expected<Volume::Core::Fresh> Volume::Core::new_inode(Change& change, std::uint64_t generation,
                                                      const media::Inode& above,
                                                      const NewInode& wanted, Caller caller) {
    const auto slot = TRY(inodes_.allocate(change));
    const Time time = now();
    auto& inode = *reinterpret_cast<media::Inode*>(
        change.transaction().create(slot.offset, sizeof(media::Inode)).data());
    const bool is_directory = S_ISDIR(wanted.mode);
    inode.magic = media::kInodeMagic;
    inode.ino = slot.number;
    inode.generation = generation;
    inode.mode = wanted.mode;
    inode.nlink = is_directory ? 2 : 1;
    inode.uid = caller.uid;
    inode.gid = caller.gid;
    inode.flags = above.flags & inherited_flags(wanted.mode);
    if ((above.flags & media::kInodeProjectInherit) != 0) inode.project = above.project;
    if ((above.mode & S_ISGID) != 0) {
        inode.gid = above.gid;
        if (is_directory) inode.mode |= S_ISGID;
    }
    inode.device_major = wanted.device_major;
    inode.device_minor = wanted.device_minor;
    inode.atime = inode.btime = time.seconds;
    inode.atime_ns = inode.btime_ns = time.nanoseconds;
    touch(inode, time);
    if (is_directory) inode.parent = above.ino;
    if (S_ISLNK(wanted.mode)) TRY(store_target(change, inode, wanted.target));
    change.add_inodes(1);
    return Fresh{&inode, slot.offset};
}

/// What the caller of a committed new inode gets: it, with one reference.
Entry Volume::Core::known(const media::Inode& inode, std::uint64_t slot_offset) {
    inodes_in_use_.fetch_add(1);
    const Use made = use(Ino{inode.ino});
    made->slot_offset.store(slot_offset, std::memory_order_release);
    states_.add_lookup(*made);
    if (inode.nlink == 0) {
        made->unnamed = true;
        states_.mark_orphan(*made);
    }
    return Entry{attributes_of(inode, *made)};
}

Expected<Entry> Volume::Core::make_once(Ino parent, std::string_view name, const NewInode& wanted,
                                        Caller caller) {
    const Use above = use(parent);
    const Exclusive lock{above->mutex};
    {
        const auto inode = TRY(read_directory_inode(*above));
        if (inode.nlink == 0) return fail(Cause::not_found);
        const auto there = TRY(directory(inode).find(name));
        if (there) return fail(Cause::exists);
        TRY(refuse_immutable(inode));
    }
    const TableLock table_lock{inodes_.mutex()};
    const std::uint64_t generation = TRY(next_generation());
    Change one = change(space::Reserve::keep);
    auto* above_inode = TRY(edit_inode(one, *above));
    const Fresh made = TRY(new_inode(one, generation, *above_inode, wanted, caller));
    TRY(inherit_lists(one, *above_inode, *made.inode, wanted.umask));
    if (S_ISDIR(wanted.mode)) ++above_inode->nlink;
    const std::uint64_t key =
        TRY(directory(one, *above_inode).add(name, Ino{made.inode->ino}, made.inode->mode));
    touch(*above_inode, {made.inode->mtime, made.inode->mtime_ns});
    finished_.note(one, {.id = made.inode->ino, .generation = generation});
    const MustFinish finish;
    TRY(one.commit());
    Entry entry = known(*made.inode, made.slot_offset);
    use(entry.attributes.ino)->set_name(parent, key);
    return entry;
}

Expected<Entry> Volume::Core::make(Ino parent, std::string_view name, const NewInode& wanted,
                                   Caller caller) {
    TRY(admit_change());
    TRY(inode::check_name(name));
    if (const auto done = finished_.of_this_thread()) return finished_entry(*done);
    return with_space([&] { return make_once(parent, name, wanted, caller); });
}

Expected<Entry> Volume::Core::make_unnamed_once(Ino parent, const NewInode& wanted, Caller caller) {
    const Use above = use(parent);
    const Shared lock{above->mutex};
    const auto above_inode = TRY(read_directory_inode(*above));
    if (above_inode.nlink == 0) return fail(Cause::not_found);
    TRY(refuse_immutable(above_inode));
    const TableLock table_lock{inodes_.mutex()};
    const std::uint64_t generation = TRY(next_generation());
    Change one = change(space::Reserve::keep);
    const Fresh made = TRY(new_inode(one, generation, above_inode, wanted, caller));
    TRY(inherit_lists(one, above_inode, *made.inode, wanted.umask));
    made.inode->nlink = 0;
    TRY(inodes_.set_pending(one, made.inode->ino, true));
    finished_.note(one, {.id = made.inode->ino, .generation = generation});
    const MustFinish finish;
    TRY(one.commit());
    return known(*made.inode, made.slot_offset);
}

Expected<Entry> Volume::Core::make_unnamed(Ino parent, const NewInode& wanted, Caller caller) {
    TRY(admit_change());
    if (!S_ISREG(wanted.mode)) return fail(Cause::invalid_argument);
    if (const auto done = finished_.of_this_thread()) return finished_entry(*done);
    return with_space([&] { return make_unnamed_once(parent, wanted, caller); });
}

/// The first name of an inode that was made without one: no orphan any more. The table's lock is
/// held; the inode's link count follows.
Expected<void> Volume::Core::adopt_orphan(Change& change, InodeState& state,
                                          const media::Inode& inode) {
    if ((inode.flags & media::kInodeCutting) == 0)
        TRY(inodes_.set_pending(change, inode.ino, false));
    change.after_commit([this, &state] {
        state.unnamed = false;
        states_.unmark_orphan(state);
    });
    return {};
}

}  // namespace pinfs

// SPDX-License-Identifier: Apache-2.0
//
// Names: look up, make, link, remove, list.
#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <cstring>

#include "fs/inode/extended_attributes.h"
#include "fs/volume/core.h"

namespace pinfs {

Expected<std::optional<inode::Name>> Volume::Core::find_name(Ino parent, std::string_view name) {
    const Use state = use(parent);
    const Shared lock{state->mutex};
    const auto inode = TRY(read_directory_inode(*state));
    return directory(inode).find(name);
}

Attributes Volume::Core::attributes_of(const media::Inode& inode, const InodeState& state) {
    Attributes attributes{.ino = Ino{inode.ino},
                          .generation = inode.generation,
                          .size_bytes = inode.size,
                          .blocks = inode.blocks,
                          .mode = inode.mode,
                          .nlink = inode.nlink,
                          .uid = inode.uid,
                          .gid = inode.gid,
                          .device_major = inode.device_major,
                          .device_minor = inode.device_minor,
                          .flags = inode.flags,
                          .project = inode.project,
                          .atime = {inode.atime, inode.atime_ns},
                          .mtime = {inode.mtime, inode.mtime_ns},
                          .ctime = {inode.ctime, inode.ctime_ns},
                          .btime = {inode.btime, inode.btime_ns}};
    if (const std::int64_t lazy = state.lazy_time_ns.load(); lazy != 0)
        attributes.mtime = attributes.ctime = {lazy / 1'000'000'000,
                                               static_cast<std::uint32_t>(lazy % 1'000'000'000)};
    return attributes;
}

Expected<Entry> Volume::Core::lookup(Ino parent, std::string_view name) {
    TRY(admit_read());
    Ino ino = parent;
    if (name == "..") {
        const Use state = use(parent);
        const Shared lock{state->mutex};
        ino = Ino{TRY(read_directory_inode(*state)).parent};
    } else if (name != ".") {
        if (name.size() > kNameBytesMax) return fail(Cause::name_too_long);
        const auto found = TRY(find_name(parent, name));
        if (!found) return fail(Cause::not_found);
        ino = found->ino;
    }
    const Use state = use(ino);
    const Shared lock{state->mutex};
    const auto inode = TRY(read_inode(*state));
    states_.add_lookup(*state);
    return Entry{attributes_of(inode, *state)};
}

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

Expected<Entry> Volume::Core::make_once(Ino parent, std::string_view name, const NewInode& wanted,
                                        Caller caller) {
    const Use above = use(parent);
    const Exclusive lock{above->mutex};
    {
        const auto inode = TRY(read_directory_inode(*above));
        if (inode.nlink == 0) return fail(Cause::not_found);
        const auto there = TRY(directory(inode).find(name));
        if (there) return fail(Cause::exists);
    }
    const TableLock table_lock{inodes_.mutex()};
    const std::uint64_t generation = TRY(next_generation());
    Change one = change(space::Reserve::keep);
    auto* above_inode = TRY(edit_inode(one, *above));
    const auto slot = TRY(inodes_.allocate(one));

    const Time time = now();
    auto& inode = *reinterpret_cast<media::Inode*>(
        one.transaction().create(slot.offset, sizeof(media::Inode)).data());
    const bool is_directory = S_ISDIR(wanted.mode);
    inode.magic = media::kInodeMagic;
    inode.ino = slot.number;
    inode.generation = generation;
    inode.mode = wanted.mode;
    inode.nlink = is_directory ? 2 : 1;
    inode.uid = caller.uid;
    inode.gid = caller.gid;
    inode.flags = above_inode->flags & (media::kInodeDax | media::kInodeProjectInherit);
    if (!is_directory && !S_ISREG(wanted.mode)) inode.flags = 0;
    if ((above_inode->flags & media::kInodeProjectInherit) != 0)
        inode.project = above_inode->project;
    if ((above_inode->mode & S_ISGID) != 0) {
        inode.gid = above_inode->gid;
        if (is_directory) inode.mode |= S_ISGID;
    }
    inode.device_major = wanted.device_major;
    inode.device_minor = wanted.device_minor;
    inode.atime = inode.btime = time.seconds;
    inode.atime_ns = inode.btime_ns = time.nanoseconds;
    touch(inode, time);
    if (is_directory) {
        inode.parent = parent.value;
        ++above_inode->nlink;
    }
    if (S_ISLNK(wanted.mode)) TRY(store_target(one, inode, wanted.target));

    TRY(directory(one, *above_inode).add(name, Ino{slot.number}, inode.mode));
    touch(*above_inode, time);
    one.add_inodes(1);
    TRY(one.commit());
    inodes_in_use_.fetch_add(1);

    const Use made = use(Ino{slot.number});
    made->slot_offset.store(slot.offset, std::memory_order_release);
    states_.add_lookup(*made);
    return Entry{attributes_of(inode, *made)};
}

Expected<Entry> Volume::Core::make(Ino parent, std::string_view name, const NewInode& wanted,
                                   Caller caller) {
    TRY(admit_change());
    TRY(inode::check_name(name));
    return with_space([&] { return make_once(parent, name, wanted, caller); });
}

Expected<Entry> Volume::Core::link(Ino ino, Ino parent, std::string_view name) {
    TRY(admit_change());
    TRY(inode::check_name(name));
    return with_space([&]() -> Expected<Entry> {
        const Use above = use(parent);
        const Use state = use(ino);
        if (ino == parent) return fail(Cause::not_permitted);
        const auto locks = lock_all({&*above, &*state});
        const auto above_now = TRY(read_directory_inode(*above));
        if (above_now.nlink == 0) return fail(Cause::not_found);
        const auto there = TRY(directory(above_now).find(name));
        if (there) return fail(Cause::exists);
        Change one = change(space::Reserve::keep);
        auto* inode = TRY(edit_inode(one, *state));
        if (S_ISDIR(inode->mode)) return fail(Cause::not_permitted);
        if (inode->nlink == 0) return fail(Cause::not_found);
        if (inode->nlink >= kLinksMax) return fail(Cause::too_many_links);
        auto* above_inode = TRY(edit_inode(one, *above));
        const Time time = now();
        TRY(directory(one, *above_inode).add(name, ino, inode->mode));
        touch(*above_inode, time);
        ++inode->nlink;
        set_ctime(*inode, time);
        const media::Inode linked = *inode;
        TRY(one.commit());
        states_.add_lookup(*state);
        return Entry{attributes_of(linked, *state)};
    });
}

/// Takes one name away from `inode`; without a name it is an orphan, which mount would free. The
/// table's lock is held; mark_orphan follows the commit.
Expected<void> Volume::Core::drop_link(Change& change, InodeState& state, media::Inode& inode,
                                       Time time) {
    if (inode.nlink == 0) return fail(Cause::media_corrupt, 0, inode.ino);
    inode.nlink = S_ISDIR(inode.mode) ? 0 : inode.nlink - 1;
    set_ctime(inode, time);
    if (inode.nlink > 0) return {};
    TRY(inodes_.set_pending(change, inode.ino, true));
    change.after_commit([this, &state] { states_.mark_orphan(state); });
    return {};
}

/// False: the name changed hands while it was not locked; try again.
Expected<bool> Volume::Core::remove_once(Ino parent, std::string_view name, bool is_directory) {
    const auto found = TRY(find_name(parent, name));
    if (!found) return fail(Cause::not_found);
    const Use above = use(parent);
    const Use state = use(found->ino);
    const auto locks = lock_all({&*above, &*state});
    const auto above_now = TRY(read_directory_inode(*above));
    const auto still = TRY(directory(above_now).find(name));
    if (!still || still->ino != found->ino) return false;
    TRY(locate(*state));

    const TableLock table_lock{inodes_.mutex()};
    Change one = change(space::Reserve::use);
    auto* inode = TRY(edit_inode(one, *state));
    if (is_directory != S_ISDIR(inode->mode))
        return fail(is_directory ? Cause::not_a_directory : Cause::is_a_directory);
    if (is_directory && inode->size != 0) return fail(Cause::directory_not_empty);
    auto* above_inode = TRY(edit_inode(one, *above));
    const Time time = now();
    TRY(directory(one, *above_inode).remove(still->key, name));
    touch(*above_inode, time);
    if (is_directory) --above_inode->nlink;
    TRY(drop_link(one, *state, *inode, time));
    TRY(one.commit());
    return true;
}

Expected<void> Volume::Core::remove(Ino parent, std::string_view name, bool is_directory) {
    TRY(admit_change());
    if (name == ".") return fail(Cause::invalid_argument);
    if (name == "..") return fail(Cause::directory_not_empty);
    if (name.size() > kNameBytesMax) return fail(Cause::name_too_long);
    for (;;) {
        const bool done = TRY(remove_once(parent, name, is_directory));
        if (done) return {};
    }
}

Expected<void> Volume::Core::read_directory(Ino ino, std::uint64_t cookie,
                                            const std::function<bool(const DirectoryItem&)>& sink) {
    TRY(admit_read());
    const Use state = use(ino);
    const Shared lock{state->mutex};
    const auto inode = TRY(read_directory_inode(*state));
    if (cookie < 1 && !sink({.name = ".", .ino = ino, .mode = S_IFDIR, .cookie = 1})) return {};
    if (cookie < 2 && !sink({.name = "..", .ino = Ino{inode.parent}, .mode = S_IFDIR, .cookie = 2}))
        return {};
    if (cookie == UINT64_MAX) return {};
    return directory(inode).for_each(cookie + 1, [&](const inode::Name& entry) {
        return sink(
            {.name = entry.name, .ino = entry.ino, .mode = entry.mode, .cookie = entry.key});
    });
}

Expected<std::string> Volume::Core::read_link(Ino ino) {
    TRY(admit_read());
    const Use state = use(ino);
    const Shared lock{state->mutex};
    const auto inode = TRY(read_inode(*state));
    if (!S_ISLNK(inode.mode)) return fail(Cause::invalid_argument);
    if (inode.size >= kBlockBytes) return fail(Cause::media_corrupt, 0, ino.value);
    if (inode.size <= media::kInlineBytes)
        return std::string{reinterpret_cast<const char*>(inode.inline_map), inode.size};
    const auto pieces = TRY(inode::Extents(units_, inode).map(0, 1));
    if (pieces.size() != 1 || !pieces[0].is_written())
        return fail(Cause::media_corrupt, 0, ino.value);
    std::string target(inode.size, '\0');
    TRY(region_.copy_out(pieces[0].start_block * kBlockBytes,
                         std::as_writable_bytes(std::span{target})));
    return target;
}

}  // namespace pinfs

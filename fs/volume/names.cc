// SPDX-License-Identifier: Apache-2.0
//
// Names: look up, link, remove, list.
#include <sys/stat.h>

#include <algorithm>

#include "fs/volume/core.h"
#include "fs/volume/protection.h"

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
        attributes.mtime = attributes.ctime = time_of_ns(lazy);
    if (const std::int64_t lazy = state.lazy_atime_ns.load(); lazy != 0)
        attributes.atime = time_of_ns(lazy);
    return attributes;
}

Expected<Entry> Volume::Core::lookup(Ino parent, std::string_view name) {
    TRY(admit_read());
    Ino ino = parent;
    std::uint64_t key = 0;
    if (name == "..") {
        const Use state = use(parent);
        const Shared lock{state->mutex};
        ino = Ino{TRY(read_directory_inode(*state)).parent};
    } else if (name != ".") {
        if (name.size() > kNameBytesMax) return fail(Cause::name_too_long);
        const auto found = TRY(find_name(parent, name));
        if (!found) return fail(Cause::not_found);
        ino = found->ino;
        key = found->key;
    }
    const Use state = use(ino);
    const Shared lock{state->mutex};
    const auto inode = TRY(read_inode(*state));
    if (key != 0) state->set_name(parent, key);
    // The kernel asks for "." with a file handle of what it does not know any more; an orphan that
    // it forgot is on its way out.
    if (name == "." && inode.nlink == 0) return fail(Cause::stale_inode, 0, ino.value);
    states_.add_lookup(*state);
    return Entry{attributes_of(inode, *state)};
}

Expected<Entry> Volume::Core::link(Ino ino, Ino parent, std::string_view name) {
    TRY(admit_change());
    TRY(inode::check_name(name));
    if (const auto done = finished_.of_this_thread()) return finished_entry(*done);
    return with_space([&]() -> Expected<Entry> {
        const Use above = use(parent);
        const Use state = use(ino);
        if (ino == parent) return fail(Cause::not_permitted);
        const auto locks = lock_all({&*above, &*state});
        const auto above_now = TRY(read_directory_inode(*above));
        if (above_now.nlink == 0) return fail(Cause::not_found);
        const auto there = TRY(directory(above_now).find(name));
        if (there) return fail(Cause::exists);
        TRY(refuse_immutable(above_now));
        const auto now_linked = TRY(read_inode(*state));
        TRY(refuse_protected(now_linked));
        if (S_ISDIR(now_linked.mode)) return fail(Cause::not_permitted);
        const bool unnamed = now_linked.nlink == 0;
        if (unnamed && !state->unnamed) return fail(Cause::not_found);
        if (now_linked.nlink >= kLinksMax) return fail(Cause::too_many_links);
        TRY(admit_project(above_now, now_linked));
        TableLock table_lock{inodes_.mutex(), std::defer_lock};
        if (unnamed) table_lock.lock();
        Change one = change(space::Reserve::keep);
        auto* inode = TRY(edit_inode(one, *state));
        if (unnamed) TRY(adopt_orphan(one, *state, *inode));
        auto* above_inode = TRY(edit_inode(one, *above));
        const Time time = now();
        const std::uint64_t key = TRY(directory(one, *above_inode).add(name, ino, inode->mode));
        touch(*above_inode, time);
        ++inode->nlink;
        set_ctime(*inode, time);
        const media::Inode linked = *inode;
        finished_.note(one, {.id = linked.ino, .generation = linked.generation});
        TRY(one.commit());
        state->set_name(parent, key);
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
    remember_name(*state, parent, name);
    const auto locks = lock_all({&*above, &*state});
    const auto above_now = TRY(read_directory_inode(*above));
    const auto still = TRY(directory(above_now).find(name));
    if (!still || still->ino != found->ino) return false;
    TRY(locate(*state));

    const TableLock table_lock{inodes_.mutex()};
    Change one = change(space::Reserve::use);
    auto* inode = TRY(edit_inode(one, *state));
    TRY(admit_removal(above_now, *inode));
    if (is_directory != S_ISDIR(inode->mode))
        return fail(is_directory ? Cause::not_a_directory : Cause::is_a_directory);
    if (is_directory && inode->size != 0) return fail(Cause::directory_not_empty);
    auto* above_inode = TRY(edit_inode(one, *above));
    const Time time = now();
    TRY(directory(one, *above_inode).remove(still->key, name));
    touch(*above_inode, time);
    if (is_directory) --above_inode->nlink;
    TRY(drop_link(one, *state, *inode, time));
    finished_.note(one, {});
    TRY(one.commit());
    return true;
}

Expected<void> Volume::Core::remove(Ino parent, std::string_view name, bool is_directory) {
    TRY(admit_change());
    if (name == ".") return fail(Cause::invalid_argument);
    if (name == "..") return fail(Cause::directory_not_empty);
    if (name.size() > kNameBytesMax) return fail(Cause::name_too_long);
    if (finished_.of_this_thread()) return {};
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
    note_access(*state, inode);
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
    note_access(*state, inode);
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

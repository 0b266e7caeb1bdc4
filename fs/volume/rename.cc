// SPDX-License-Identifier: Apache-2.0
//
// Rename, with NOREPLACE, EXCHANGE and WHITEOUT: one change over up to four inodes, and a new one.
#include <sys/stat.h>

#include <optional>

#include "fs/volume/core.h"
#include "fs/volume/protection.h"

namespace pinfs {

struct Volume::Core::Renaming {
    Ino parent;
    std::string_view name;
    Ino new_parent;
    std::string_view new_name;
    std::uint32_t flags;
    Caller caller;  ///< owner of a whiteout
};

/// Whether `ino` is `ancestor` or below it. The rename lock is held: no directory changes its
/// parent.
Expected<bool> Volume::Core::is_below(Ino ino, Ino ancestor) {
    for (;;) {
        if (ino == ancestor) return true;
        if (ino == kRootIno) return false;
        const Use state = use(ino);
        const Shared lock{state->mutex};
        ino = Ino{TRY(read_directory_inode(*state)).parent};
    }
}

/// False: a name changed hands while it was not locked; try again.
Expected<bool> Volume::Core::rename_once(const Renaming& r) {
    const auto source = TRY(find_name(r.parent, r.name));
    if (!source) return fail(Cause::not_found);
    const auto target = TRY(find_name(r.new_parent, r.new_name));
    const bool exchange = (r.flags & kRenameExchange) != 0;
    const bool whiteout = (r.flags & kRenameWhiteout) != 0;
    if (target && (r.flags & kRenameNoReplace) != 0) return fail(Cause::exists);
    if (!target && exchange) return fail(Cause::not_found);
    const bool across = r.parent != r.new_parent;
    if (across) {
        if (S_ISDIR(source->mode)) {
            const bool inside = TRY(is_below(r.new_parent, source->ino));
            if (inside) return fail(Cause::would_be_ancestor);
        }
        if (target && S_ISDIR(target->mode)) {
            const bool inside = TRY(is_below(r.parent, target->ino));
            if (inside)
                return fail(exchange ? Cause::would_be_ancestor : Cause::directory_not_empty);
        }
    }

    const Use from = use(r.parent);
    const Use to = use(r.new_parent);
    const Use moved = use(source->ino);
    const std::optional<Use> replaced =
        target ? std::optional<Use>{use(target->ino)} : std::nullopt;
    if (replaced && !exchange) remember_name(**replaced, r.new_parent, r.new_name);
    const auto locks = lock_all({&*from, &*to, &*moved, replaced ? &**replaced : nullptr});

    const auto from_now = TRY(read_directory_inode(*from));
    const auto to_now = TRY(read_directory_inode(*to));
    if (to_now.nlink == 0) return fail(Cause::not_found);
    const auto source_now = TRY(directory(from_now).find(r.name));
    const auto target_now = TRY(directory(to_now).find(r.new_name));
    if (!source_now || source_now->ino != source->ino ||
        target_now.has_value() != target.has_value() || (target && target_now->ino != target->ino))
        return false;
    if (target && target->ino == source->ino) return true;  // two names of one inode: POSIX

    TRY(locate(*moved));
    if (replaced) TRY(locate(**replaced));
    const TableLock table_lock{inodes_.mutex()};
    const std::uint64_t generation = whiteout ? TRY(next_generation()) : 0;
    Change one = change(target && !whiteout ? space::Reserve::use : space::Reserve::keep);
    auto* from_inode = TRY(edit_inode(one, *from));
    auto* to_inode = TRY(edit_inode(one, *to));
    auto* moved_inode = TRY(edit_inode(one, *moved));
    const bool moves_directory = S_ISDIR(moved_inode->mode);
    TRY(admit_removal(*from_inode, *moved_inode));
    TRY(refuse_immutable(*to_inode));
    TRY(admit_project(*to_inode, *moved_inode));
    const Time time = now();

    std::optional<Fresh> left;  // at the old name
    const auto leave = [&]() -> Expected<void> {
        if (!whiteout) return directory(one, *from_inode).remove(source_now->key, r.name);
        left = TRY(new_inode(one, generation, *from_inode, {.mode = S_IFCHR}, r.caller));
        return directory(one, *from_inode)
            .retarget(source_now->key, r.name, Ino{left->inode->ino}, S_IFCHR);
    };
    std::uint64_t new_key = target ? target_now->key : 0;
    if (!target) {
        TRY(leave());
        new_key = TRY(directory(one, *to_inode).add(r.new_name, source->ino, moved_inode->mode));
        if (moves_directory) {
            --from_inode->nlink;
            ++to_inode->nlink;
        }
    } else {
        auto* replaced_inode = TRY(edit_inode(one, **replaced));
        const bool replaces_directory = S_ISDIR(replaced_inode->mode);
        TRY(admit_removal(*to_inode, *replaced_inode));
        if (exchange) {
            TRY(admit_project(*from_inode, *replaced_inode));
            TRY(directory(one, *from_inode)
                    .retarget(source_now->key, r.name, target->ino, replaced_inode->mode));
            if (replaces_directory) {
                replaced_inode->parent = r.parent.value;
                --to_inode->nlink;
                ++from_inode->nlink;
            }
            set_ctime(*replaced_inode, time);
            if (moves_directory) {
                --from_inode->nlink;
                ++to_inode->nlink;
            }
        } else {
            if (replaces_directory && !moves_directory) return fail(Cause::is_a_directory);
            if (!replaces_directory && moves_directory) return fail(Cause::not_a_directory);
            if (replaces_directory && replaced_inode->size != 0)
                return fail(Cause::directory_not_empty);
            TRY(leave());
            if (moves_directory) --from_inode->nlink;  // one comes to `to` and one goes
            TRY(drop_link(one, **replaced, *replaced_inode, time));
        }
        TRY(directory(one, *to_inode)
                .retarget(target_now->key, r.new_name, source->ino, moved_inode->mode));
    }
    if (moves_directory) moved_inode->parent = r.new_parent.value;
    set_ctime(*moved_inode, time);
    touch(*from_inode, time);
    touch(*to_inode, time);
    finished_.note(one, {});
    TRY(one.commit());
    moved->set_name(r.new_parent, new_key);
    if (exchange) (*replaced)->set_name(r.parent, source_now->key);
    if (left) inodes_in_use_.fetch_add(1);
    return true;
}

Expected<void> Volume::Core::rename(Ino parent, std::string_view name, Ino new_parent,
                                    std::string_view new_name, std::uint32_t flags, Caller caller) {
    TRY(admit_change());
    const bool known = (flags & ~(kRenameNoReplace | kRenameExchange | kRenameWhiteout)) == 0;
    const bool only_exchange = (flags & (kRenameNoReplace | kRenameWhiteout)) == 0;
    if (!known || ((flags & kRenameExchange) != 0 && !only_exchange))
        return fail(Cause::invalid_argument);
    TRY(inode::check_name(name));
    TRY(inode::check_name(new_name));
    if (finished_.of_this_thread()) return {};
    const Renaming renaming{parent, name, new_parent, new_name, flags, caller};
    return with_space([&]() -> Expected<void> {
        std::unique_lock<RankedMutex<LockRank::rename>> ancestry{rename_mutex_, std::defer_lock};
        if (parent != new_parent) ancestry.lock();
        for (;;) {
            const bool done = TRY(rename_once(renaming));
            if (done) return {};
        }
    });
}

}  // namespace pinfs

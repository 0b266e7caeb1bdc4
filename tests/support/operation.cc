// SPDX-License-Identifier: Apache-2.0
#include "tests/support/operation.h"

#include <array>
#include <thread>
#include <utility>

namespace pinfs::test {

namespace {

const char* name_of(Do what) {
    switch (what) {
        case Do::create:
            return "create";
        case Do::make_directory:
            return "make_directory";
        case Do::make_node:
            return "make_node";
        case Do::make_unnamed:
            return "make_unnamed";
        case Do::symbolic_link:
            return "symbolic_link";
        case Do::link:
            return "link";
        case Do::rename:
            return "rename";
        case Do::unlink:
            return "unlink";
        case Do::remove_directory:
            return "remove_directory";
        case Do::write:
            return "write";
        case Do::append:
            return "append";
        case Do::truncate:
            return "truncate";
        case Do::allocate:
            return "allocate";
        case Do::zero_range:
            return "zero_range";
        case Do::punch_hole:
            return "punch_hole";
        case Do::copy:
            return "copy";
        case Do::set_attribute:
            return "set_attribute";
        case Do::set_list:
            return "set_list";
        case Do::remove_attribute:
            return "remove_attribute";
        case Do::change_mode:
            return "change_mode";
        case Do::change_owner:
            return "change_owner";
        case Do::set_times:
            return "set_times";
        case Do::sync:
            return "sync";
        case Do::open:
            return "open";
        case Do::release:
            return "release";
        case Do::lease:
            return "lease";
        case Do::drop_lease:
            return "drop_lease";
        case Do::map:
            return "map";
        case Do::pin:
            return "pin";
        case Do::drop:
            return "drop";
        case Do::reload:
            return "reload";
        case Do::lose_owner:
            return "lose_owner";
        case Do::finish_pending:
            return "finish_pending";
        case Do::unmount:
            return "unmount";
        case Do::abandon:
            return "abandon";
        case Do::mount:
            return "mount";
    }
    return "?";
}

}  // namespace

Bytes list_of(std::uint64_t seed) {
    constexpr std::array kTags{1, 2, 4, 16, 32};
    const bool short_one = (seed >> 15 & 1) != 0;
    std::vector<std::uint8_t> bytes{2, 0, 0, 0};
    for (const int tag : kTags) {
        if (short_one && (tag == 2 || tag == 16)) continue;
        const std::uint8_t id_low = tag == 2 ? 1000 & 0xff : 0xff;
        const std::uint8_t id_high = tag == 2 ? 1000 >> 8 : 0xff;
        const std::uint8_t rest = tag == 2 ? 0 : 0xff;
        bytes.insert(bytes.end(),
                     {static_cast<std::uint8_t>(tag), 0, static_cast<std::uint8_t>(seed & 7), 0,
                      id_low, id_high, rest, rest});
        seed >>= 3;
    }
    const auto span = std::as_bytes(std::span{bytes});
    return {span.begin(), span.end()};
}

std::string Operation::text() const {
    std::string text = name_of(what);
    if (!path.empty()) text += " " + path;
    if (!other.empty()) text += " " + (other.size() < 60 ? other : other.substr(0, 60) + "...");
    if (offset != 0 || length != 0)
        text += " [" + std::to_string(offset) + ", +" + std::to_string(length) + ")";
    if (number != 0) text += " " + std::to_string(number);
    return text;
}

Expected<Ino> Runner::find(const std::string& path) const {
    if (!is_handle(path)) return fs_.find(path);
    const auto open = open_.find(handle_of(path));
    if (open == open_.end()) return fail_errno(EBADF);
    return open->second;
}

Expected<void> Runner::make(const Operation& operation, std::uint32_t mode) {
    const auto place = TRY(fs_.place_of(operation.path));
    NewInode inode;
    inode.mode = mode;
    if (operation.what == Do::make_node) {
        inode.device_major = static_cast<std::uint32_t>(operation.offset);
        inode.device_minor = static_cast<std::uint32_t>(operation.length);
    }
    if (operation.what == Do::symbolic_link) inode.target = operation.other;
    const Entry made = TRY(fs_->make(place.parent, place.name, inode, {.uid = 1000, .gid = 100}));
    fs_->forget(made.attributes.ino, 1);
    return {};
}

Expected<void> Runner::change(const Operation& operation) {
    const Ino ino = TRY(find(operation.path));
    AttributeChange change;
    switch (operation.what) {
        case Do::truncate:
            change.size_bytes = operation.length;
            break;
        case Do::change_mode:
            change.mode = operation.number;
            break;
        case Do::change_owner:
            change.uid = operation.number;
            change.gid = static_cast<std::uint32_t>(operation.seed);
            break;
        default:
            change.atime = Time{static_cast<std::int64_t>(operation.offset), 1};
            change.mtime = Time{static_cast<std::int64_t>(operation.length), 2};
            break;
    }
    TRY(fs_->change_attributes(ino, change));
    return {};
}

Expected<void> Runner::run(const Operation& operation) {
    if (!operation.elsewhere) return run_here(operation);
    Expected<void> result;
    std::thread{[&] {
        result = run_here(operation);
    }}.join();
    return result;
}

Expected<void> Runner::run_here(const Operation& operation) {
    switch (operation.what) {
        case Do::create:
            return make(operation, S_IFREG | operation.number);
        case Do::make_directory:
            return make(operation, S_IFDIR | operation.number);
        case Do::make_node:
            return make(operation, operation.number);
        case Do::make_unnamed: {
            const Ino parent = TRY(find(operation.path));
            const NewInode inode{.mode = S_IFREG | static_cast<std::uint32_t>(operation.seed)};
            const Entry made = TRY(fs_->make_unnamed(parent, inode, {.uid = 1000, .gid = 100}));
            TRY(fs_->open(made.attributes.ino));
            fs_->forget(made.attributes.ino, 1);
            open_[operation.number] = made.attributes.ino;
            return {};
        }
        case Do::symbolic_link:
            return make(operation, S_IFLNK | 0777);
        case Do::link: {
            const Ino ino = TRY(find(operation.path));
            const auto place = TRY(fs_.place_of(operation.other));
            TRY(fs_->link(ino, place.parent, place.name));
            fs_->forget(ino, 1);
            return {};
        }
        case Do::rename: {
            const auto from = TRY(fs_.place_of(operation.path));
            const auto to = TRY(fs_.place_of(operation.other));
            return fs_->rename(from.parent, from.name, to.parent, to.name, operation.number,
                               {.uid = 1000, .gid = 100});
        }
        case Do::unlink: {
            const auto place = TRY(fs_.place_of(operation.path));
            return fs_->unlink(place.parent, place.name);
        }
        case Do::remove_directory: {
            const auto place = TRY(fs_.place_of(operation.path));
            return fs_->remove_directory(place.parent, place.name);
        }
        case Do::write:
        case Do::append: {
            const bool append = operation.what == Do::append;
            const Ino ino = TRY(find(operation.path));
            // The pattern of an append does not depend on where it lands: one seed, one content.
            const Bytes bytes =
                pattern(append ? 0 : operation.offset, operation.length, operation.seed);
            const std::size_t done =
                TRY(fs_->write(ino, operation.offset, bytes, append, operation.number != 0));
            written_ = done;
            return {};
        }
        case Do::allocate:
            return fs_->allocate(TRY(find(operation.path)), operation.offset, operation.length,
                                 operation.number != 0);
        case Do::zero_range:
            return fs_->zero_range(TRY(find(operation.path)), operation.offset, operation.length,
                                   operation.number != 0);
        case Do::punch_hole:
            return fs_->punch_hole(TRY(find(operation.path)), operation.offset, operation.length);
        case Do::copy: {
            const Ino from = TRY(find(operation.path));
            const Ino to = TRY(find(operation.other));
            const std::size_t done =
                TRY(fs_->copy(from, operation.offset, to, operation.seed, operation.length));
            written_ = done;
            return {};
        }
        case Do::truncate:
        case Do::change_mode:
        case Do::change_owner:
        case Do::set_times:
            return change(operation);
        case Do::set_attribute: {
            const Ino ino = TRY(find(operation.path));
            return fs_->set_attribute(ino, operation.other,
                                      pattern(0, operation.length, operation.seed),
                                      static_cast<SetAttribute>(operation.number));
        }
        case Do::set_list:
            return fs_->set_attribute(TRY(find(operation.path)), operation.other,
                                      list_of(operation.seed), SetAttribute::create_or_replace);
        case Do::remove_attribute: {
            const Ino ino = TRY(find(operation.path));
            return fs_->remove_attribute(ino, operation.other);
        }
        case Do::sync:
            return fs_->sync(TRY(find(operation.path)));
        case Do::open: {
            const Ino ino = TRY(find(operation.path));
            TRY(fs_->open(ino));
            open_[operation.number] = ino;
            return {};
        }
        case Do::release:
            fs_->release(TRY(find("#" + std::to_string(operation.number))));
            open_.erase(operation.number);
            return {};
        case Do::lease:
            return lease(TRY(find(operation.path)), operation.number,
                         operation.seed == 1 ? pin::LeaseKind::exclusive : pin::LeaseKind::layout);
        case Do::drop_lease:
            return fs_->drop_lease({TRY(find(operation.path)), operation.number}, 0, 0);
        case Do::map:
        case Do::pin:
            return reach(operation);
        case Do::drop:
            return drop(operation.number);
        case Do::reload:
            return reload(operation.number);
        case Do::lose_owner:
            fs_->close_context(owner_.context);
            fs_->close_guard(guard_);
            owner_ = {};
            reached_.clear();
            return {};
        case Do::finish_pending:
            return fs_->finish_pending();
        case Do::unmount:
            fs_.unmount();
            open_.clear();
            reached_.clear();
            owner_ = {};
            return {};
        case Do::abandon:
            fs_.abandon();
            open_.clear();
            reached_.clear();
            owner_ = {};
            return {};
        case Do::mount:
            fs_.mount();
            return {};
    }
    std::unreachable();
}

/// As a process that is not there when a mount looks for it.
Expected<void> Runner::lease(Ino ino, std::uint32_t number, pin::LeaseKind kind) {
    if (owner_.context == 0) {
        owner_ = {.context = 0,
                  .process = {.pid = (1u << 22) + 1, .start_ticks = 1, .pid_namespace = 1},
                  .uid = 0,
                  .command = "test"};
        owner_.context = TRY(fs_->open_context(owner_));
        guard_ = TRY(fs_->open_guard(owner_.context));
    }
    TRY(fs_->set_lease({ino, number}, {.kind = kind,
                                       .offset_bytes = 0,
                                       .length_bytes = 0,
                                       .owner = owner_,
                                       .user_data = 0,
                                       .may_exclude = true}));
    return {};
}

Expected<void> Runner::reach(const Operation& operation) {
    const bool pins = operation.what == Do::pin;
    const Ino ino = TRY(find(operation.path));
    const OpenFile file{ino, operation.number};
    TRY(lease(ino, operation.number, pins ? pin::LeaseKind::exclusive : pin::LeaseKind::layout));
    Reached reached{.ino = ino};
    if (pins) {
        const auto pinned = fs_->pin(file, {.offset_bytes = operation.offset,
                                            .length_bytes = operation.length,
                                            .owner = owner_,
                                            .label = {}});
        fs_->drop_leases(file);
        reached.id = TRY(pinned).id;
        reached.generation = pinned->generation;
    } else {
        reached.id = TRY(fs_->map(file, {.offset_bytes = operation.offset,
                                         .length_bytes = operation.length,
                                         .writable = true,
                                         .owner = owner_,
                                         .guard = guard_}))
                         .id;
    }
    reached_[operation.number] = reached;
    return {};
}

Expected<void> Runner::drop(std::uint32_t number) {
    if (!reached_.contains(number)) return fail(Cause::no_such_record);
    const Reached reached = reached_.at(number);
    reached_.erase(number);
    return reached.generation == 0 ? fs_->unmap(owner_.context, reached.id)
                                   : fs_->unpin(owner_, reached.id, reached.generation);
}

Expected<void> Runner::reload(std::uint32_t number) {
    if (!reached_.contains(number)) return fail(Cause::no_such_record);
    TRY(fs_->reload_map(owner_.context, reached_.at(number).id, 0, kFileBytesMax));
    return {};
}

Ino Runner::reached(std::uint32_t number) const {
    const auto found = reached_.find(number);
    return found == reached_.end() ? Ino{} : found->second.ino;
}

}  // namespace pinfs::test

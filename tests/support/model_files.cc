// SPDX-License-Identifier: Apache-2.0
#include "tests/support/model_files.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <utility>

namespace pinfs::test {

namespace {

constexpr std::size_t kAttributesBytesMax = 256 * 1024;
constexpr std::size_t kAttributeHeadBytes = 8;

bool is_directory(std::uint32_t mode) { return S_ISDIR(mode); }

// Access lists as list_of() makes them: of five entries, or of the three that a mode has.
const std::string kAccessList = "system.posix_acl_access";
const std::string kDefaultList = "system.posix_acl_default";

/// The entries that the bits of owner, group and others stand for, in a list's bytes.
std::array<std::byte*, 3> entries_of(Bytes& list) {
    const auto at = [&](std::size_t entry) {
        return &list[4 + 8 * entry + 2];
    };
    const std::size_t entries = (list.size() - 4) / 8;
    return {at(0), at(entries - 2), at(entries - 1)};
}

std::uint32_t permissions_of(Bytes list) {
    std::uint32_t permissions = 0;
    for (const std::byte* entry : entries_of(list))
        permissions = permissions << 3 | static_cast<std::uint32_t>(*entry);
    return permissions;
}

Bytes with_permissions(Bytes list, std::uint32_t permissions) {
    const auto entries = entries_of(list);
    for (std::size_t i = 0; i < 3; ++i)
        *entries[i] = static_cast<std::byte>(permissions >> (6 - 3 * i) & 7);
    return list;
}

bool says_more_than_a_mode(const Bytes& list) { return list.size() > 4 + 3 * 8; }

}  // namespace

ModelFiles::ModelFiles() : root_{std::make_shared<Node>()} {
    root_->mode = S_IFDIR | 0755;
    root_->nlink = 2;
    root_->uid = root_->gid = 0;
}

int ModelFiles::find(const std::string& path, NodePointer& out) const {
    if (is_handle(path)) {
        const auto open = open_.find(handle_of(path));
        if (open == open_.end()) return EBADF;
        out = open->second;
        return 0;
    }
    out = root_;
    for (std::size_t at = 1; at < path.size();) {
        const std::size_t end = std::min(path.find('/', at), path.size());
        if (!is_directory(out->mode)) return ENOTDIR;
        const auto child = out->children.find(path.substr(at, end - at));
        if (child == out->children.end()) return ENOENT;
        out = child->second;
        at = end + 1;
    }
    return 0;
}

int ModelFiles::find_place(const std::string& path, Place& out) const {
    const auto slash = path.rfind('/');
    if (const int error = find(path.substr(0, slash), out.directory); error != 0) return error;
    out.name = path.substr(slash + 1);
    if (!is_directory(out.directory->mode)) return 0;  // ENOTDIR is the operation's own
    const auto child = out.directory->children.find(out.name);
    out.node = child == out.directory->children.end() ? nullptr : child->second;
    return 0;
}

bool ModelFiles::is_below(const NodePointer& node, const NodePointer& top) {
    if (node == top) return true;
    return std::ranges::any_of(top->children,
                               [&](const auto& child) { return is_below(node, child.second); });
}

void ModelFiles::inherit(Node& node, const Node& directory) {
    if ((directory.mode & S_ISGID) != 0) {
        node.gid = directory.gid;
        if (is_directory(node.mode)) node.mode |= S_ISGID;
    }
    const auto found = directory.attributes.find(kDefaultList);
    if (found == directory.attributes.end() || S_ISLNK(node.mode)) return;
    const std::uint32_t permissions = node.mode & permissions_of(found->second);
    node.mode = (node.mode & ~0777u) | permissions;
    if (says_more_than_a_mode(found->second))
        node.attributes[kAccessList] = with_permissions(found->second, permissions);
    if (is_directory(node.mode)) node.attributes[kDefaultList] = found->second;
}

int ModelFiles::make_unnamed(const Operation& operation) {
    NodePointer directory;
    if (const int error = find(operation.path, directory); error != 0) return error;
    if (!is_directory(directory->mode)) return ENOTDIR;
    auto node = std::make_shared<Node>();
    node->mode = S_IFREG | static_cast<std::uint32_t>(operation.seed);
    node->nlink = 0;
    node->unnamed = true;
    inherit(*node, *directory);
    open_[operation.number] = std::move(node);
    return 0;
}

int ModelFiles::make(const Operation& operation, std::uint32_t mode) {
    Place place;
    if (const int error = find_place(operation.path, place); error != 0) return error;
    if (!is_directory(place.directory->mode)) return ENOTDIR;
    if (place.node) return EEXIST;
    auto node = std::make_shared<Node>();
    node->mode = mode;
    inherit(*node, *place.directory);
    if (operation.what == Do::make_node) {
        node->device_major = static_cast<std::uint32_t>(operation.offset);
        node->device_minor = static_cast<std::uint32_t>(operation.length);
    }
    if (operation.what == Do::symbolic_link) {
        node->target = operation.other;
        node->size = node->target.size();
    }
    if (is_directory(mode)) {
        node->nlink = 2;
        ++place.directory->nlink;
    }
    place.directory->children[place.name] = std::move(node);
    place.directory->mtime.reset();
    return 0;
}

int ModelFiles::link(const Operation& operation) {
    NodePointer node;
    Place place;
    if (const int error = find(operation.path, node); error != 0) return error;
    if (const int error = find_place(operation.other, place); error != 0) return error;
    if (node == place.directory) return EPERM;
    if (!is_directory(place.directory->mode)) return ENOTDIR;
    if (place.node) return EEXIST;
    if (is_directory(node->mode)) return EPERM;
    if (node->nlink == 0 && !node->unnamed) return ENOENT;
    node->unnamed = false;
    ++node->nlink;
    place.directory->children[place.name] = node;
    place.directory->mtime.reset();
    return 0;
}

int ModelFiles::rename(const Operation& operation) {
    Place from;
    Place to;
    if (const int error = find_place(operation.path, from); error != 0) return error;
    if (const int error = find_place(operation.other, to); error != 0) return error;
    const bool exchange = (operation.number & kRenameExchange) != 0;
    if (!is_directory(from.directory->mode)) return ENOTDIR;
    if (!from.node) return ENOENT;
    if (!is_directory(to.directory->mode)) return ENOTDIR;
    if (to.node && (operation.number & kRenameNoReplace) != 0) return EEXIST;
    if (!to.node && exchange) return ENOENT;
    if (is_directory(from.node->mode) && is_below(to.directory, from.node)) return EINVAL;
    if (to.node && is_directory(to.node->mode) && is_below(from.directory, to.node))
        return exchange ? EINVAL : ENOTEMPTY;
    if (to.node == from.node) return 0;
    const bool moves_directory = is_directory(from.node->mode);
    const bool replaces_directory = to.node && is_directory(to.node->mode);
    if (to.node && !exchange) {
        if (replaces_directory && !moves_directory) return EISDIR;
        if (!replaces_directory && moves_directory) return ENOTDIR;
        if (replaces_directory && !to.node->children.empty()) return ENOTEMPTY;
    }
    if (moves_directory) {
        --from.directory->nlink;
        ++to.directory->nlink;
    }
    if (replaces_directory) --to.directory->nlink;
    if (exchange) {
        if (replaces_directory) ++from.directory->nlink;
        from.directory->children[from.name] = to.node;
    } else {
        if (to.node) to.node->nlink = replaces_directory ? 0 : to.node->nlink - 1;
        from.directory->children.erase(from.name);
        if ((operation.number & kRenameWhiteout) != 0) {
            auto whiteout = std::make_shared<Node>();
            whiteout->mode = S_IFCHR;
            if ((from.directory->mode & S_ISGID) != 0) whiteout->gid = from.directory->gid;
            from.directory->children[from.name] = std::move(whiteout);
        }
    }
    to.directory->children[to.name] = from.node;
    from.directory->mtime.reset();
    to.directory->mtime.reset();
    return 0;
}

int ModelFiles::remove(const Operation& operation) {
    Place place;
    if (const int error = find_place(operation.path, place); error != 0) return error;
    if (!is_directory(place.directory->mode)) return ENOTDIR;
    if (!place.node) return ENOENT;
    const bool directory = operation.what == Do::remove_directory;
    if (directory != is_directory(place.node->mode)) return directory ? ENOTDIR : EISDIR;
    if (!place.node->children.empty()) return ENOTEMPTY;
    place.node->nlink = directory ? 0 : place.node->nlink - 1;
    if (directory) --place.directory->nlink;
    place.directory->children.erase(place.name);
    place.directory->mtime.reset();
    return 0;
}

std::uint64_t ModelFiles::offset_of(const Operation& operation) const {
    NodePointer node;
    if (operation.what == Do::copy) return operation.seed;
    if (operation.what != Do::append || find(operation.path, node) != 0) return operation.offset;
    return node->size;
}

std::set<std::uint64_t> ModelFiles::whole_blocks(const Operation& operation) const {
    std::set<std::uint64_t> whole;
    NodePointer node;
    const std::string& path = operation.what == Do::copy ? operation.other : operation.path;
    if (find(path, node) != 0) return whole;
    const std::uint64_t begin = offset_of(operation);
    const std::uint64_t end = begin + operation.length;
    const bool zeroes = operation.what == Do::punch_hole || operation.what == Do::zero_range;
    const std::uint64_t first = zeroes ? blocks_of(begin) : begin / kBlockBytes;
    const std::uint64_t last = zeroes ? end_of_zeroed(operation, *node) : blocks_of(end);
    for (std::uint64_t block = first; block < last; ++block)
        if (zeroes || !node->blocks.contains(block)) whole.insert(block);
    return whole;
}

std::uint64_t ModelFiles::end_of_zeroed(const Operation& operation, const Node& node) {
    const std::uint64_t end = operation.offset + operation.length;
    return operation.what == Do::punch_hole && end >= node.size ? blocks_of(end)
                                                                : end / kBlockBytes;
}

int ModelFiles::write_at(Node& node, std::uint64_t offset, Bytes bytes) {
    if (offset >= kFileBytesMax) return EFBIG;
    bytes.resize(std::min<std::uint64_t>(bytes.size(), kFileBytesMax - offset));
    for (std::size_t done = 0; done < bytes.size();) {
        const std::uint64_t at = offset + done;
        const std::size_t piece =
            std::min<std::size_t>(bytes.size() - done, kBlockBytes - at % kBlockBytes);
        Bytes& block = node.blocks[at / kBlockBytes];
        block.resize(kBlockBytes);
        std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(done), piece,
                    block.begin() + static_cast<std::ptrdiff_t>(at % kBlockBytes));
        done += piece;
    }
    node.size = std::max(node.size, offset + bytes.size());
    node.mtime.reset();
    return 0;
}

int ModelFiles::write(const Operation& operation) {
    NodePointer node;
    if (const int error = find(operation.path, node); error != 0) return error;
    if (!S_ISREG(node->mode)) return is_directory(node->mode) ? EISDIR : EINVAL;
    const bool append = operation.what == Do::append;
    const std::uint64_t offset = append ? node->size : operation.offset;
    if (operation.length == 0) return 0;
    const int error =
        write_at(*node, offset, pattern(append ? 0 : offset, operation.length, operation.seed));
    if (error != 0) return error;
    if (operation.number != 0) {
        node->mode &= ~static_cast<std::uint32_t>(S_ISUID);
        if ((node->mode & S_IXGRP) != 0) node->mode &= ~static_cast<std::uint32_t>(S_ISGID);
    }
    return 0;
}

int ModelFiles::copy(const Operation& operation) {
    NodePointer from;
    NodePointer to;
    if (const int error = find(operation.path, from); error != 0) return error;
    if (const int error = find(operation.other, to); error != 0) return error;
    if (operation.length == 0 || operation.offset >= kFileBytesMax) return 0;
    if (!S_ISREG(from->mode)) return is_directory(from->mode) ? EISDIR : EINVAL;
    if (operation.offset >= from->size) return 0;
    if (!S_ISREG(to->mode)) return is_directory(to->mode) ? EISDIR : EINVAL;
    Bytes bytes(std::min(operation.length, from->size - operation.offset));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const std::uint64_t at = operation.offset + i;
        const auto block = from->blocks.find(at / kBlockBytes);
        if (block != from->blocks.end()) bytes[i] = block->second[at % kBlockBytes];
    }
    return write_at(*to, operation.seed, std::move(bytes));
}

int ModelFiles::change_range(const Operation& operation) {
    NodePointer node;
    if (const int error = find(operation.path, node); error != 0) return error;
    const std::uint64_t begin = operation.offset;
    const std::uint64_t end = begin + operation.length;
    if (begin >= end) return EINVAL;
    if (end > kFileBytesMax) return EFBIG;
    if (!S_ISREG(node->mode)) return is_directory(node->mode) ? EISDIR : EINVAL;
    if (operation.what != Do::allocate) {
        if (keeps(node, begin, end)) return EBUSY;
        node->blocks.erase(
            node->blocks.lower_bound(blocks_of(begin)),
            node->blocks.lower_bound(std::max(blocks_of(begin), end_of_zeroed(operation, *node))));
        for (auto& [block, bytes] : node->blocks) {
            const std::uint64_t at = block * kBlockBytes;
            const std::uint64_t from = std::max(begin, at);
            const std::uint64_t to = std::min(end, at + kBlockBytes);
            if (from < to)
                std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(from - at), to - from,
                            std::byte{0});
        }
    }
    if (operation.what != Do::punch_hole && operation.number == 0)
        node->size = std::max(node->size, end);
    node->mtime.reset();
    return 0;
}

int ModelFiles::truncate(const Operation& operation) {
    NodePointer node;
    if (const int error = find(operation.path, node); error != 0) return error;
    const std::uint64_t size = operation.length;
    if (size > kFileBytesMax) return EFBIG;
    if (is_directory(node->mode)) return EISDIR;
    if (!S_ISREG(node->mode)) return EINVAL;
    if (size < node->size) {
        if (keeps(node, size, UINT64_MAX)) return EBUSY;
        node->blocks.erase(node->blocks.lower_bound(blocks_of(size)), node->blocks.end());
        const auto last = node->blocks.find(size / kBlockBytes);
        if (last != node->blocks.end())
            std::fill(last->second.begin() + static_cast<std::ptrdiff_t>(size % kBlockBytes),
                      last->second.end(), std::byte{0});
    }
    node->size = size;
    node->mtime.reset();
    return 0;
}

int ModelFiles::change(const Operation& operation) {
    NodePointer node;
    if (const int error = find(operation.path, node); error != 0) return error;
    switch (operation.what) {
        case Do::change_mode:
            node->mode = (node->mode & S_IFMT) | operation.number;
            if (const auto list = node->attributes.find(kAccessList);
                list != node->attributes.end())
                list->second = with_permissions(list->second, operation.number);
            break;
        case Do::change_owner:
            node->uid = operation.number;
            node->gid = static_cast<std::uint32_t>(operation.seed);
            break;
        default:
            node->atime = Time{static_cast<std::int64_t>(operation.offset), 1};
            node->mtime = Time{static_cast<std::int64_t>(operation.length), 2};
            break;
    }
    return 0;
}

bool ModelFiles::has_room(const Node& node, const std::string& name, std::size_t value_bytes) {
    std::size_t bytes = kAttributeHeadBytes + name.size() + value_bytes;
    for (const auto& [other, value] : node.attributes)
        if (other != name) bytes += kAttributeHeadBytes + other.size() + value.size();
    return bytes <= kAttributesBytesMax;
}

int ModelFiles::set_attribute(const Operation& operation) {
    NodePointer node;
    if (const int error = find(operation.path, node); error != 0) return error;
    const bool there = node->attributes.contains(operation.other);
    if (operation.what == Do::remove_attribute) {
        if (!there) return operation.other.starts_with("system.") ? 0 : ENODATA;
        node->attributes.erase(operation.other);
        return 0;
    }
    const auto how = static_cast<SetAttribute>(operation.number);
    if (there && how == SetAttribute::create) return EEXIST;
    if (!there && how == SetAttribute::replace) return ENODATA;
    if (!has_room(*node, operation.other, operation.length)) return ENOSPC;
    node->attributes[operation.other] = pattern(0, operation.length, operation.seed);
    return 0;
}

int ModelFiles::set_list(const Operation& operation) {
    NodePointer node;
    if (const int error = find(operation.path, node); error != 0) return error;
    const Bytes list = list_of(operation.seed);
    if (S_ISLNK(node->mode)) return EOPNOTSUPP;
    const bool is_default = operation.other == kDefaultList;
    if (is_default && !is_directory(node->mode)) return EACCES;
    const bool stored = is_default || says_more_than_a_mode(list);
    if (stored && !has_room(*node, operation.other, list.size())) return ENOSPC;
    if (!is_default) node->mode = (node->mode & ~0777u) | permissions_of(list);
    if (stored)
        node->attributes[operation.other] = list;
    else
        node->attributes.erase(operation.other);
    return 0;
}

int ModelFiles::apply(const Operation& operation) {
    switch (operation.what) {
        case Do::create:
            return make(operation, S_IFREG | operation.number);
        case Do::make_directory:
            return make(operation, S_IFDIR | operation.number);
        case Do::make_node:
            return make(operation, operation.number);
        case Do::make_unnamed:
            return make_unnamed(operation);
        case Do::symbolic_link:
            return make(operation, S_IFLNK | 0777);
        case Do::link:
            return link(operation);
        case Do::rename:
            return rename(operation);
        case Do::unlink:
        case Do::remove_directory:
            return remove(operation);
        case Do::write:
        case Do::append:
            return write(operation);
        case Do::truncate:
            return truncate(operation);
        case Do::set_list:
            return set_list(operation);
        case Do::allocate:
        case Do::zero_range:
        case Do::punch_hole:
            return change_range(operation);
        case Do::copy:
            return copy(operation);
        case Do::set_attribute:
        case Do::remove_attribute:
            return set_attribute(operation);
        case Do::change_mode:
        case Do::change_owner:
        case Do::set_times:
            return change(operation);
        case Do::lease:
            return lease(operation);
        case Do::drop_lease:
            return drop_lease(operation);
        case Do::map:
        case Do::pin:
            return reach(operation);
        case Do::reload:
            return reload(operation);
        case Do::drop:
            return reached_.erase(operation.number) == 1 ? 0 : ENOENT;
        case Do::lose_owner:
            reached_.clear();
            return 0;
        case Do::sync: {
            NodePointer node;
            return find(operation.path, node);
        }
        case Do::open: {
            NodePointer node;
            if (const int error = find(operation.path, node); error != 0) return error;
            if (is_directory(node->mode)) return EISDIR;
            open_[operation.number] = node;
            return 0;
        }
        case Do::release:
            return open_.erase(operation.number) == 1 ? 0 : EBADF;
        case Do::unmount:
        case Do::abandon:
            open_.clear();
            exclusive_.clear();
            reached_.clear();
            return 0;
        case Do::finish_pending:
        case Do::mount:
            return 0;
    }
    std::unreachable();
}

FileState ModelFiles::state_of(const Node& node) {
    FileState file{.mode = node.mode,
                   .nlink = node.nlink,
                   .uid = node.uid,
                   .gid = node.gid,
                   .device_major = node.device_major,
                   .device_minor = node.device_minor,
                   .size = node.size,
                   .atime = node.atime,
                   .mtime = node.reached ? std::nullopt : node.mtime,
                   .ctime = {},
                   .btime = {},
                   .flags = {},
                   .ino = {},
                   .generation = {},
                   .target = node.target,
                   .first_name = {},
                   .attributes = node.attributes,
                   .blocks = {}};
    for (const auto& [block, bytes] : node.blocks) {
        const std::uint64_t begin = block * kBlockBytes;
        if (begin >= node.size) break;
        const auto in_file = static_cast<std::ptrdiff_t>(std::min(kBlockBytes, node.size - begin));
        const auto end = bytes.begin() + in_file;
        if (std::any_of(bytes.begin(), end, [](std::byte byte) { return byte != std::byte{0}; }))
            file.blocks[block].assign(bytes.begin(), end);
    }
    return file;
}

FileState ModelFiles::opened(std::uint32_t handle) const { return state_of(*open_.at(handle)); }

Snapshot ModelFiles::snapshot() const {
    Snapshot snapshot;
    std::map<const Node*, std::string> first_names;
    const std::function<void(const NodePointer&, const std::string&)> visit =
        [&](const NodePointer& node, const std::string& path) {
            snapshot[path] = state_of(*node);
            for (const auto& [name, child] : node->children)
                visit(child, (path == "/" ? path : path + "/") + name);
        };
    visit(root_, "/");
    // Lowest path of each inode, in the order of the snapshot.
    for (auto& [path, file] : snapshot) {
        NodePointer node;
        if (find(path, node) == 0)
            file.first_name = first_names.try_emplace(node.get(), path).first->second;
    }
    return snapshot;
}

}  // namespace pinfs::test

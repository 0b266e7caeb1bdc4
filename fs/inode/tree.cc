// SPDX-License-Identifier: Apache-2.0
#include "fs/inode/tree.h"

#include <algorithm>
#include <array>
#include <cassert>

namespace pinfs::inode {

namespace {

using media::BlockHeader;
using media::kInlineBytes;
using media::kPayloadBytes;
using media::TreeIndexEntry;

/// A root leaf goes back into the inode when it has shrunk to this; below what fits, so that a
/// record that comes and goes does not make and free a block each time.
constexpr std::size_t kBackInlineBytes = kInlineBytes / 2;

BlockHeader& header_of(std::span<std::byte> node) {
    return *reinterpret_cast<BlockHeader*>(node.data());
}
const BlockHeader& header_of(const std::byte* node) {
    return *reinterpret_cast<const BlockHeader*>(node);
}
std::span<const std::byte> payload_of(const std::byte* node) {
    return {node + sizeof(BlockHeader), header_of(node).used_bytes};
}
std::span<const TreeIndexEntry> children_of(const std::byte* node) {
    return {reinterpret_cast<const TreeIndexEntry*>(node + sizeof(BlockHeader)),
            header_of(node).used_bytes / sizeof(TreeIndexEntry)};
}
TreeIndexEntry* children_of(std::span<std::byte> node) {
    return reinterpret_cast<TreeIndexEntry*>(node.data() + sizeof(BlockHeader));
}

/// The child whose range holds `key`: the last with a key not above it, else the first.
std::size_t child_for(std::span<const TreeIndexEntry> children, std::uint64_t key) {
    const auto after = std::ranges::upper_bound(children, key, {}, &TreeIndexEntry::key);
    return after == children.begin() ? 0 : static_cast<std::size_t>(after - children.begin()) - 1;
}

/// Puts `record` at `at` into `used` bytes at `data`, in place of `old_bytes` there.
void splice(std::byte* data, std::size_t used, std::size_t at, std::size_t old_bytes,
            Record record) {
    std::memmove(data + at + record.size(), data + at + old_bytes, used - at - old_bytes);
    if (!record.empty()) std::memcpy(data + at, record.data(), record.size());
}

}  // namespace

/// One index node on the way down, and which child was taken.
struct Tree::Step {
    std::uint64_t offset;
    unsigned level;
    std::size_t child;
    std::size_t children;
    std::uint64_t lowest;  ///< key of its first child
};

std::uint64_t Tree::root() const {
    std::uint64_t offset;
    std::memcpy(&offset, inode_.inline_map, sizeof offset);
    return offset;
}

Expected<void> Tree::read_node(std::uint64_t offset, unsigned level, std::byte* out) const {
    const std::byte* staged = change_ == nullptr ? nullptr : change_->transaction().staged(offset);
    if (staged != nullptr)
        std::memcpy(out, staged, kBlockBytes);
    else
        TRY(units_.look_into_block(offset, identity(), {out, kBlockBytes}));
    const BlockHeader& header = header_of(out);
    if (header.level != level || header.used_bytes == 0 ||
        (level > 1 && header.used_bytes % sizeof(TreeIndexEntry) != 0))
        return fail(Cause::media_corrupt, offset, inode_.ino);
    return {};
}

Expected<bool> Tree::visit_records(std::span<const std::byte> records, std::uint64_t offset,
                                   std::uint64_t from,
                                   const std::function<bool(Record)>& visit) const {
    while (!records.empty()) {
        const std::size_t bytes = shape_.record_bytes(records);
        if (bytes == 0) return fail(Cause::media_corrupt, offset, inode_.ino);
        const Record record = records.first(bytes);
        if (key_of(record) >= from && !visit(record)) return false;
        records = records.subspan(bytes);
    }
    return true;
}

Expected<bool> Tree::visit_below(std::uint64_t offset, unsigned level, std::uint64_t from,
                                 const std::function<bool(Record)>& visit) const {
    alignas(8) std::array<std::byte, kBlockBytes> node;
    TRY(read_node(offset, level, node.data()));
    if (level == 1) return visit_records(payload_of(node.data()), offset, from, visit);
    const auto children = children_of(node.data());
    for (std::size_t i = child_for(children, from); i < children.size(); ++i) {
        const bool go_on = TRY(visit_below(children[i].child, level - 1, from, visit));
        if (!go_on) return false;
    }
    return true;
}

Expected<void> Tree::for_each(std::uint64_t from, const std::function<bool(Record)>& visit) const {
    if (inode_.map_level > media::kTreeLevelsMax ||
        (inode_.map_level == 0 && inode_.map_bytes > kInlineBytes))
        return fail(Cause::media_corrupt, 0, inode_.ino);
    if (inode_.map_level == 0)
        TRY(visit_records(std::as_bytes(std::span{inode_.inline_map}.first(inode_.map_bytes)), 0,
                          from, visit));
    else
        TRY(visit_below(root(), inode_.map_level, from, visit));
    return {};
}

struct Tree::Verification {
    const std::uint64_t from;
    const std::function<bool(const Expected<void>&)>& seen;
    std::optional<std::uint64_t> next = {};  ///< where to go on, once it was stopped
};

/// False if it was stopped. `low`: no key below the node is lower.
bool Tree::verify_below(std::uint64_t offset, unsigned level, std::uint64_t low,
                        Verification& walk) const {
    if (level == 1 && low < walk.from) return true;
    alignas(8) std::array<std::byte, kBlockBytes> node;
    const auto read = read_node(offset, level, node.data());
    if (level == 1) {
        if (!read) return walk.seen(read);
        const auto records =
            visit_records(payload_of(node.data()), offset, 0, [](Record) { return true; });
        return walk.seen(records ? Expected<void>{} : std::unexpected(records.error()));
    }
    if (!read || low >= walk.from) static_cast<void>(walk.seen(read));
    if (!read) return true;
    const auto children = children_of(node.data());
    for (std::size_t i = child_for(children, walk.from); i < children.size(); ++i) {
        if (verify_below(children[i].child, level - 1, i == 0 ? low : children[i].key, walk))
            continue;
        if (!walk.next && i + 1 < children.size()) walk.next = children[i + 1].key;
        return false;
    }
    return true;
}

std::optional<std::uint64_t> Tree::verify(
    std::uint64_t from, const std::function<bool(const Expected<void>&)>& seen) const {
    if (inode_.map_level > media::kTreeLevelsMax ||
        (inode_.map_level == 0 && inode_.map_bytes > kInlineBytes)) {
        static_cast<void>(seen(fail(Cause::media_corrupt, 0, inode_.ino)));
        return std::nullopt;
    }
    if (inode_.map_level == 0) {
        const auto records =
            visit_records(std::as_bytes(std::span{inode_.inline_map}.first(inode_.map_bytes)), 0, 0,
                          [](Record) { return true; });
        if (!records) static_cast<void>(seen(std::unexpected(records.error())));
        return std::nullopt;
    }
    Verification walk{.from = from, .seen = seen};
    verify_below(root(), inode_.map_level, 0, walk);
    return walk.next;
}

Expected<bool> Tree::floor_in(std::span<const std::byte> records, std::uint64_t offset,
                              std::uint64_t key, std::vector<std::byte>& found) const {
    Record best;
    while (!records.empty()) {
        const std::size_t bytes = shape_.record_bytes(records);
        if (bytes == 0) return fail(Cause::media_corrupt, offset, inode_.ino);
        if (key_of(records) > key) break;
        best = records.first(bytes);
        records = records.subspan(bytes);
    }
    found.assign(best.begin(), best.end());
    return !best.empty();
}

Expected<bool> Tree::floor_below(std::uint64_t offset, unsigned level, std::uint64_t key,
                                 std::vector<std::byte>& found) const {
    alignas(8) std::array<std::byte, kBlockBytes> node;
    TRY(read_node(offset, level, node.data()));
    if (level == 1) return floor_in(payload_of(node.data()), offset, key, found);
    const auto children = children_of(node.data());
    for (std::size_t i = child_for(children, key) + 1; i-- > 0;) {
        const bool there = TRY(floor_below(children[i].child, level - 1, key, found));
        if (there) return true;
    }
    return false;
}

Expected<std::vector<std::byte>> Tree::floor(std::uint64_t key) const {
    if (inode_.map_level > media::kTreeLevelsMax ||
        (inode_.map_level == 0 && inode_.map_bytes > kInlineBytes))
        return fail(Cause::media_corrupt, 0, inode_.ino);
    std::vector<std::byte> found;
    if (inode_.map_level == 0)
        TRY(floor_in(std::as_bytes(std::span{inode_.inline_map}.first(inode_.map_bytes)), 0, key,
                     found));
    else
        TRY(floor_below(root(), inode_.map_level, key, found));
    return found;
}

Expected<std::size_t> Tree::position(std::span<const std::byte> records, std::uint64_t offset,
                                     std::uint64_t key) const {
    std::size_t at = 0;
    while (at < records.size()) {
        const auto rest = records.subspan(at);
        const std::size_t bytes = shape_.record_bytes(rest);
        if (bytes == 0) return fail(Cause::media_corrupt, offset, inode_.ino);
        if (key_of(rest) >= key) break;
        at += bytes;
    }
    return at;
}

/// The way to the leaf for `key`; the last step stands for the leaf itself.
Expected<Tree::Path> Tree::descend(std::uint64_t key) const {
    if (inode_.map_level > media::kTreeLevelsMax) return fail(Cause::media_corrupt, 0, inode_.ino);
    Path path;
    std::uint64_t offset = root();
    alignas(8) std::array<std::byte, kBlockBytes> node;
    for (unsigned level = inode_.map_level; level > 1; --level) {
        TRY(read_node(offset, level, node.data()));
        const auto children = children_of(node.data());
        const std::size_t child = child_for(children, key);
        path.push_back({offset, level, child, children.size(), children.front().key});
        offset = children[child].child;
    }
    path.push_back({offset, 1, 0, 0, 0});
    return path;
}

/// Index nodes on the way to a record with `key` have keys that are not above it: a first child may
/// have a key of its own (after the one before it went, or by another writer of the format).
Expected<void> Tree::lower_keys(const Path& path, std::uint64_t key) {
    for (const Step& step : path)
        if (step.lowest > key) children_of(TRY(edit_node(step.offset)))[0].key = key;
    return {};
}

Expected<std::span<std::byte>> Tree::edit_node(std::uint64_t offset) {
    return change_->transaction().edit_block(offset, identity());
}

Expected<std::uint64_t> Tree::make_node(unsigned level, std::uint64_t near) {
    const std::uint64_t offset =
        TRY(change_->allocate_block(near == 0 ? 0 : near / kBlockBytes + 1));
    change_->transaction().create_block(offset, identity(), level);
    ++edited_->blocks;
    return offset;
}

/// Moves the inline records into a first leaf.
Expected<void> Tree::leave_inline() {
    const std::uint64_t offset = TRY(make_node(1, 0));
    const auto leaf = TRY(edit_node(offset));
    std::memcpy(leaf.data() + sizeof(BlockHeader), edited_->inline_map, edited_->map_bytes);
    header_of(leaf).used_bytes = edited_->map_bytes;
    std::memset(edited_->inline_map, 0, kInlineBytes);
    std::memcpy(edited_->inline_map, &offset, sizeof offset);
    edited_->map_bytes = sizeof offset;
    edited_->map_level = 1;
    return {};
}

Expected<void> Tree::insert(Record record) {
    const std::uint64_t key = key_of(record);
    if (edited_->map_level == 0) {
        auto* inline_bytes = reinterpret_cast<std::byte*>(edited_->inline_map);
        if (edited_->map_bytes > kInlineBytes) return fail(Cause::media_corrupt, 0, inode_.ino);
        if (edited_->map_bytes + record.size() <= kInlineBytes) {
            const std::size_t at = TRY(position({inline_bytes, edited_->map_bytes}, 0, key));
            splice(inline_bytes, edited_->map_bytes, at, 0, record);
            edited_->map_bytes += static_cast<std::uint32_t>(record.size());
            return {};
        }
        TRY(leave_inline());
    }
    Path path = TRY(descend(key));
    TRY(lower_keys(path, key));
    const auto leaf = TRY(edit_node(path.back().offset));
    auto& header = header_of(leaf);
    if (header.level != 1) return fail(Cause::media_corrupt, path.back().offset, inode_.ino);
    const std::size_t at = TRY(position(payload_of(leaf.data()), path.back().offset, key));
    if (header.used_bytes + record.size() > kPayloadBytes) return split_leaf(path, at, record);
    splice(leaf.data() + sizeof(BlockHeader), header.used_bytes, at, 0, record);
    header.used_bytes += static_cast<std::uint32_t>(record.size());
    return {};
}

/// Splits a full leaf and adds `record` at byte `at` of the old records. At the very end the new
/// leaf takes the new record alone, so that leaves filled in order stay full.
Expected<void> Tree::split_leaf(Path& path, std::size_t at, Record record) {
    const std::uint64_t left_offset = path.back().offset;
    const auto left = TRY(edit_node(left_offset));
    auto& left_header = header_of(left);
    std::byte* left_data = left.data() + sizeof(BlockHeader);
    const std::size_t used = left_header.used_bytes;

    std::size_t cut = used;
    if (at != used) {
        cut = 0;
        while (cut < used / 2) cut += shape_.record_bytes({left_data + cut, used - cut});
    }
    const std::uint64_t right_offset = TRY(make_node(1, left_offset));
    const auto right = TRY(edit_node(right_offset));
    std::byte* right_data = right.data() + sizeof(BlockHeader);
    std::memcpy(right_data, left_data + cut, used - cut);
    auto& right_header = header_of(right);
    right_header.used_bytes = static_cast<std::uint32_t>(used - cut);
    left_header.used_bytes = static_cast<std::uint32_t>(cut);

    if (at >= cut) {
        splice(right_data, right_header.used_bytes, at - cut, 0, record);
        right_header.used_bytes += static_cast<std::uint32_t>(record.size());
    } else {
        splice(left_data, left_header.used_bytes, at, 0, record);
        left_header.used_bytes += static_cast<std::uint32_t>(record.size());
    }
    return insert_child(path, key_of({right_data, right_header.used_bytes}), right_offset);
}

/// Adds a node beside the one that `path` ends in, and goes up as nodes split.
Expected<void> Tree::insert_child(Path& path, std::uint64_t key, std::uint64_t child) {
    const Step below = path.back();
    path.pop_back();
    if (path.empty()) {
        if (below.level >= media::kTreeLevelsMax) return fail(Cause::no_space, 0, inode_.ino);
        const std::uint64_t offset = TRY(make_node(below.level + 1, below.offset));
        const auto node = TRY(edit_node(offset));
        children_of(node)[0] = {.key = 0, .child = below.offset};
        children_of(node)[1] = {.key = key, .child = child};
        header_of(node).used_bytes = 2 * sizeof(TreeIndexEntry);
        std::memcpy(edited_->inline_map, &offset, sizeof offset);
        edited_->map_level = static_cast<std::uint16_t>(below.level + 1);
        return {};
    }
    const Step step = path.back();
    const auto node = TRY(edit_node(step.offset));
    auto& header = header_of(node);
    const TreeIndexEntry entry{.key = key, .child = child};
    const auto record = std::as_bytes(std::span{&entry, 1});
    const std::size_t at = (step.child + 1) * sizeof entry;
    std::byte* data = node.data() + sizeof(BlockHeader);
    if (header.used_bytes + sizeof entry <= kPayloadBytes) {
        splice(data, header.used_bytes, at, 0, record);
        header.used_bytes += sizeof entry;
        return {};
    }
    const std::size_t used = header.used_bytes;
    const std::size_t cut = at == used ? used : used / 2 / sizeof entry * sizeof entry;
    const std::uint64_t right_offset = TRY(make_node(step.level, step.offset));
    const auto right = TRY(edit_node(right_offset));
    std::byte* right_data = right.data() + sizeof(BlockHeader);
    std::memcpy(right_data, data + cut, used - cut);
    header_of(right).used_bytes = static_cast<std::uint32_t>(used - cut);
    header.used_bytes = static_cast<std::uint32_t>(cut);
    if (at >= cut) {
        splice(right_data, used - cut, at - cut, 0, record);
        header_of(right).used_bytes += sizeof entry;
    } else {
        splice(data, cut, at, 0, record);
        header.used_bytes += sizeof entry;
    }
    return insert_child(path, children_of(right)[0].key, right_offset);
}

Expected<void> Tree::replace(std::uint64_t old_key, Record record) {
    std::byte* data = reinterpret_cast<std::byte*>(edited_->inline_map);
    std::uint32_t* used = &edited_->map_bytes;
    std::size_t capacity = kInlineBytes;
    std::uint64_t offset = 0;
    if (edited_->map_level != 0) {
        const Path path = TRY(descend(old_key));
        TRY(lower_keys(path, key_of(record)));
        offset = path.back().offset;
        const auto leaf = TRY(edit_node(offset));
        data = leaf.data() + sizeof(BlockHeader);
        used = &header_of(leaf).used_bytes;
        capacity = kPayloadBytes;
    }
    if (*used > capacity) return fail(Cause::media_corrupt, offset, inode_.ino);
    const std::size_t at = TRY(position({data, *used}, offset, old_key));
    if (at == *used || key_of({data + at, *used - at}) != old_key)
        return fail(Cause::media_corrupt, offset, inode_.ino);
    const std::size_t old_bytes = shape_.record_bytes({data + at, *used - at});
    assert(old_bytes == record.size());
    splice(data, *used, at, old_bytes, record);
    return {};
}

Expected<void> Tree::erase(std::uint64_t key) {
    std::byte* data = reinterpret_cast<std::byte*>(edited_->inline_map);
    std::uint32_t* used = &edited_->map_bytes;
    std::uint64_t offset = 0;
    Path path;
    if (edited_->map_level != 0) {
        path = TRY(descend(key));
        offset = path.back().offset;
        const auto leaf = TRY(edit_node(offset));
        data = leaf.data() + sizeof(BlockHeader);
        used = &header_of(leaf).used_bytes;
    }
    if (edited_->map_level == 0 && *used > kInlineBytes)
        return fail(Cause::media_corrupt, 0, inode_.ino);
    const std::size_t at = TRY(position({data, *used}, offset, key));
    if (at == *used || key_of({data + at, *used - at}) != key)
        return fail(Cause::media_corrupt, offset, inode_.ino);
    const std::size_t old_bytes = shape_.record_bytes({data + at, *used - at});
    splice(data, *used, at, old_bytes, {});
    *used -= static_cast<std::uint32_t>(old_bytes);
    if (edited_->map_level == 0) {
        std::memset(data + *used, 0, old_bytes);
        return {};
    }
    if (*used == 0) TRY(remove_child(path));
    return shrink_root();
}

/// Frees the empty node that `path` ends in, and those above it that become empty.
Expected<void> Tree::remove_child(Path& path) {
    change_->free_block(path.back().offset);
    --edited_->blocks;
    path.pop_back();
    if (path.empty()) {
        std::memset(edited_->inline_map, 0, kInlineBytes);
        edited_->map_level = 0;
        edited_->map_bytes = 0;
        return {};
    }
    const Step step = path.back();
    const auto node = TRY(edit_node(step.offset));
    auto& header = header_of(node);
    std::byte* data = node.data() + sizeof(BlockHeader);
    // The range of a first child goes to the second, of another to the one before it.
    const std::uint64_t lowest = children_of(node)[0].key;
    splice(data, header.used_bytes, step.child * sizeof(TreeIndexEntry), sizeof(TreeIndexEntry),
           {});
    header.used_bytes -= sizeof(TreeIndexEntry);
    if (header.used_bytes == 0) return remove_child(path);
    if (step.child == 0) children_of(node)[0].key = lowest;
    return {};
}

Expected<void> Tree::shrink_root() {
    while (edited_->map_level > 0) {
        const std::uint64_t offset = root();
        const auto node = TRY(edit_node(offset));
        const std::size_t used = header_of(node).used_bytes;
        std::byte* data = node.data() + sizeof(BlockHeader);
        if (edited_->map_level == 1) {
            if (used > kBackInlineBytes) return {};
            std::memset(edited_->inline_map, 0, kInlineBytes);
            std::memcpy(edited_->inline_map, data, used);
            edited_->map_bytes = static_cast<std::uint32_t>(used);
        } else {
            if (used != sizeof(TreeIndexEntry)) return {};
            std::memcpy(edited_->inline_map, &children_of(node)[0].child, sizeof(std::uint64_t));
        }
        --edited_->map_level;
        --edited_->blocks;
        change_->free_block(offset);
    }
    return {};
}

}  // namespace pinfs::inode

// SPDX-License-Identifier: Apache-2.0
#include "fs/inode/directory.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace pinfs::inode {

namespace {

using media::DirectoryEntry;
using media::kNameCollisionBits;

constexpr std::uint64_t kCollisionMask = (std::uint64_t{1} << kNameCollisionBits) - 1;
constexpr std::uint64_t kHashMax = (std::uint64_t{1} << media::kNameHashBits) - 1;

std::size_t record_bytes(std::span<const std::byte> bytes) {
    if (bytes.size() < sizeof(DirectoryEntry)) return 0;
    const std::size_t size = sizeof(DirectoryEntry) +
                             static_cast<std::size_t>(bytes[offsetof(DirectoryEntry, name_bytes)]);
    return size > bytes.size() || size == sizeof(DirectoryEntry) ? 0 : size;
}

Name name_of(Record record) {
    DirectoryEntry head;
    std::memcpy(&head, record.data(), sizeof head);
    return {.key = head.key,
            .ino = Ino{head.ino},
            .mode = static_cast<std::uint32_t>(head.type) << 12,
            .name = {reinterpret_cast<const char*>(record.data()) + sizeof head, head.name_bytes}};
}

std::vector<std::byte> record_of(std::uint64_t key, std::string_view name, Ino ino,
                                 std::uint32_t mode) {
    const DirectoryEntry head{.key = key,
                              .ino = ino.value,
                              .type = static_cast<std::uint8_t>((mode & S_IFMT) >> 12),
                              .name_bytes = static_cast<std::uint8_t>(name.size())};
    std::vector<std::byte> record(sizeof head + name.size());
    std::memcpy(record.data(), &head, sizeof head);
    std::memcpy(record.data() + sizeof head, name.data(), name.size());
    return record;
}

}  // namespace

std::uint64_t NameHash::first_key(std::string_view name) const {
    const std::uint64_t hash = XXH3_64bits_withSeed(name.data(), name.size(), seed);
    return std::min((hash >> (64 - bits)) + 1, kHashMax) << kNameCollisionBits;
}

const TreeShape& Directory::shape() {
    static constexpr TreeShape kShape{.kind = media::BlockKind::directory_tree,
                                      .record_bytes = record_bytes};
    return kShape;
}

Expected<std::optional<Name>> Directory::find(std::string_view name) const {
    const std::uint64_t first = hash_.first_key(name);
    std::optional<Name> found;
    TRY(tree_.for_each(first, [&](Record record) {
        const Name entry = name_of(record);
        if (entry.key > (first | kCollisionMask)) return false;
        if (entry.name != name) return true;
        found = entry;
        found->name = {};
        return false;
    }));
    return found;
}

Expected<void> Directory::for_each(std::uint64_t from,
                                   const std::function<bool(const Name&)>& visit) const {
    return tree_.for_each(from, [&](Record record) { return visit(name_of(record)); });
}

Expected<std::uint64_t> Directory::add(std::string_view name, Ino ino, std::uint32_t mode) {
    // The lowest collision index that no entry has: keys come in order, so the first gap.
    std::uint64_t key = hash_.first_key(name);
    const std::uint64_t last = key | kCollisionMask;
    TRY(tree_.for_each(key, [&](Record record) {
        if (key_of(record) != key || key > last) return false;
        ++key;
        return true;
    }));
    if (key > last) return fail(Cause::name_collisions, 0, edited_->ino);
    const auto record = record_of(key, name, ino, mode);
    TRY(tree_.insert(record));
    edited_->size += record.size();
    return key;
}

Expected<void> Directory::remove(std::uint64_t key, std::string_view name) {
    TRY(tree_.erase(key));
    edited_->size -= sizeof(DirectoryEntry) + name.size();
    return {};
}

Expected<void> Directory::retarget(std::uint64_t key, std::string_view name, Ino ino,
                                   std::uint32_t mode) {
    return tree_.replace(key, record_of(key, name, ino, mode));
}

Expected<void> check_name(std::string_view name) {
    if (name.size() > kNameBytesMax) return fail(Cause::name_too_long);
    if (name.empty() || name == "." || name == ".." || name.contains('/') || name.contains('\0'))
        return fail(Cause::invalid_argument);
    return {};
}

}  // namespace pinfs::inode

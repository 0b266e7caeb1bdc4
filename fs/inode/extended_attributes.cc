// SPDX-License-Identifier: Apache-2.0
#include "fs/inode/extended_attributes.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace pinfs::inode {

namespace {

using media::AttributeEntry;
using media::BlockHeader;
using media::kPayloadBytes;

journal::BlockIdentity identity_of(const media::Inode& inode) {
    return {
        .kind = media::BlockKind::attributes, .owner = inode.ino, .generation = inode.generation};
}

/// Visits the blocks of the list: offset, and the block's bytes.
template <class Visit>
Expected<void> for_each_block(const journal::Units& units, const media::Inode& inode,
                              const Visit& visit) {
    if (inode.attributes_bytes > media::kAttributesBytesMax)
        return fail(Cause::media_corrupt, inode.attributes, inode.ino);
    std::size_t left = inode.attributes_bytes;
    std::uint64_t offset = inode.attributes;
    alignas(8) std::array<std::byte, kBlockBytes> block;
    while (offset != 0) {
        TRY(units.read_block(offset, identity_of(inode), block));
        BlockHeader header;
        std::memcpy(&header, block.data(), sizeof header);
        if (header.used_bytes == 0 || header.used_bytes > left)
            return fail(Cause::media_corrupt, offset, inode.ino);
        left -= header.used_bytes;
        visit(offset, std::span<const std::byte>{block}.subspan(sizeof header, header.used_bytes));
        offset = header.next;
    }
    if (left != 0) return fail(Cause::media_corrupt, inode.attributes, inode.ino);
    return {};
}

}  // namespace

Expected<AttributeBytes> read_attributes(const journal::Units& units, const media::Inode& inode) {
    AttributeBytes bytes;
    TRY(for_each_block(units, inode, [&](std::uint64_t, std::span<const std::byte> piece) {
        bytes.insert(bytes.end(), piece.begin(), piece.end());
    }));
    return bytes;
}

std::pair<std::uint64_t, Expected<void>> verify_attributes(const journal::Units& units,
                                                           const media::Inode& inode) {
    std::uint64_t blocks = 0;
    auto result =
        for_each_block(units, inode, [&](std::uint64_t, std::span<const std::byte>) { ++blocks; });
    return {blocks, std::move(result)};
}

Expected<void> for_each_attribute(
    const AttributeBytes& bytes,
    const std::function<bool(std::string_view, std::span<const std::byte>)>& visit) {
    std::span<const std::byte> rest{bytes};
    while (!rest.empty()) {
        AttributeEntry head;
        if (rest.size() < sizeof head) return fail(Cause::media_corrupt);
        std::memcpy(&head, rest.data(), sizeof head);
        const std::size_t size = sizeof head + head.name_bytes + std::size_t{head.value_bytes};
        if (head.name_bytes == 0 || size > rest.size()) return fail(Cause::media_corrupt);
        const std::string_view name{reinterpret_cast<const char*>(rest.data()) + sizeof head,
                                    head.name_bytes};
        if (!visit(name, rest.subspan(sizeof head + head.name_bytes, head.value_bytes))) break;
        rest = rest.subspan(size);
    }
    return {};
}

Expected<std::optional<AttributeBytes>> find_attribute(const AttributeBytes& bytes,
                                                       std::string_view name) {
    std::optional<AttributeBytes> found;
    TRY(for_each_attribute(bytes, [&](std::string_view other, std::span<const std::byte> value) {
        if (other != name) return true;
        found.emplace(value.begin(), value.end());
        return false;
    }));
    return found;
}

Expected<AttributeBytes> with_attribute(const AttributeBytes& bytes, std::string_view name,
                                        const std::span<const std::byte>* value) {
    AttributeBytes result;
    result.reserve(bytes.size());
    const auto append = [&](std::string_view entry_name, std::span<const std::byte> entry_value) {
        const AttributeEntry head{.name_bytes = static_cast<std::uint16_t>(entry_name.size()),
                                  .reserved = 0,
                                  .value_bytes = static_cast<std::uint32_t>(entry_value.size())};
        const auto head_bytes = std::as_bytes(std::span{&head, 1});
        const auto name_bytes = std::as_bytes(std::span{entry_name});
        result.insert(result.end(), head_bytes.begin(), head_bytes.end());
        result.insert(result.end(), name_bytes.begin(), name_bytes.end());
        result.insert(result.end(), entry_value.begin(), entry_value.end());
    };
    TRY(for_each_attribute(bytes,
                           [&](std::string_view other, std::span<const std::byte> other_value) {
                               if (other != name) append(other, other_value);
                               return true;
                           }));
    if (value != nullptr) append(name, *value);
    return result;
}

Expected<void> free_attributes(space::Change& change, media::Inode& inode) {
    std::vector<std::uint64_t> offsets;
    TRY(for_each_block(
        change.units(), inode,
        [&](std::uint64_t offset, std::span<const std::byte>) { offsets.push_back(offset); }));
    for (const std::uint64_t offset : offsets) change.free_block(offset);
    inode.blocks -= offsets.size();
    inode.attributes = 0;
    inode.attributes_bytes = 0;
    return {};
}

Expected<void> write_attributes(space::Change& change, media::Inode& inode,
                                const AttributeBytes& bytes) {
    if (bytes.size() > media::kAttributesBytesMax)
        return fail(Cause::attributes_too_large, 0, inode.ino);
    TRY(free_attributes(change, inode));
    const std::size_t blocks = (bytes.size() + kPayloadBytes - 1) / kPayloadBytes;
    std::uint64_t next = 0;
    for (std::size_t i = blocks; i-- > 0;) {
        const std::size_t begin = i * kPayloadBytes;
        const std::size_t piece = std::min(kPayloadBytes, bytes.size() - begin);
        const std::uint64_t offset = TRY(change.allocate_block());
        const auto block = change.transaction().create_block(offset, identity_of(inode), 0);
        auto& header = *reinterpret_cast<BlockHeader*>(block.data());
        header.used_bytes = static_cast<std::uint32_t>(piece);
        header.next = next;
        std::memcpy(block.data() + sizeof header, bytes.data() + begin, piece);
        next = offset;
    }
    inode.attributes = next;
    inode.attributes_bytes = static_cast<std::uint32_t>(bytes.size());
    inode.blocks += blocks;
    return {};
}

}  // namespace pinfs::inode

// SPDX-License-Identifier: Apache-2.0
#include "fs/journal/transaction.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace pinfs::journal {

Transaction::Staged* Transaction::find(std::uint64_t offset) {
    const auto it = std::ranges::find(staged_, offset, &Staged::offset);
    return it == staged_.end() ? nullptr : &*it;
}

Transaction::Staged& Transaction::add(std::uint64_t offset, std::size_t bytes) {
    return staged_.emplace_back(offset, static_cast<std::uint32_t>(bytes), false, false,
                                std::make_unique<std::byte[]>(bytes), nullptr);
}

Expected<std::span<std::byte>> Transaction::edit_block(std::uint64_t offset,
                                                       const BlockIdentity& identity) {
    if (Staged* staged = find(offset)) return std::span{staged->after.get(), staged->bytes};
    auto after = std::make_unique_for_overwrite<std::byte[]>(kBlockBytes);
    TRY(units_.read_block(offset, identity, {after.get(), kBlockBytes}));
    auto before = std::make_unique_for_overwrite<std::byte[]>(kBlockBytes);
    std::memcpy(before.get(), after.get(), kBlockBytes);
    staged_.emplace_back(offset, static_cast<std::uint32_t>(kBlockBytes), false, false,
                         std::move(after), std::move(before));
    return std::span{staged_.back().after.get(), kBlockBytes};
}

Expected<std::span<std::byte>> Transaction::edit(std::uint64_t offset, std::uint32_t magic,
                                                 std::size_t bytes) {
    if (Staged* staged = find(offset)) return std::span{staged->after.get(), staged->bytes};
    auto after = std::make_unique_for_overwrite<std::byte[]>(bytes);
    TRY(units_.read(offset, magic, {after.get(), bytes}));
    auto before = std::make_unique_for_overwrite<std::byte[]>(bytes);
    std::memcpy(before.get(), after.get(), bytes);
    staged_.emplace_back(offset, static_cast<std::uint32_t>(bytes), false, false, std::move(after),
                         std::move(before));
    return std::span{staged_.back().after.get(), bytes};
}

std::span<std::byte> Transaction::create(std::uint64_t offset, std::size_t bytes) {
    assert(find(offset) == nullptr);
    Staged& staged = add(offset, bytes);
    staged.whole = true;
    return {staged.after.get(), bytes};
}

std::span<std::byte> Transaction::create_block(std::uint64_t offset, const BlockIdentity& identity,
                                               unsigned level) {
    assert(find(offset) == nullptr);
    Staged& staged = add(offset, kBlockBytes);
    staged.fresh = true;
    const media::BlockHeader header{.magic = media::kBlockMagic,
                                    .crc32c = 0,
                                    .kind = static_cast<std::uint16_t>(identity.kind),
                                    .level = static_cast<std::uint16_t>(level),
                                    .used_bytes = 0,
                                    .own_offset = offset,
                                    .owner = identity.owner,
                                    .generation = identity.generation,
                                    .next = 0,
                                    .reserved = {}};
    std::memcpy(staged.after.get(), &header, sizeof header);
    return {staged.after.get(), kBlockBytes};
}

void Transaction::drop(std::uint64_t offset) {
    std::erase_if(staged_, [&](const Staged& staged) { return staged.offset == offset; });
}

const std::byte* Transaction::staged(std::uint64_t offset) const {
    const auto it = std::ranges::find(staged_, offset, &Staged::offset);
    return it == staged_.end() ? nullptr : it->after.get();
}

}  // namespace pinfs::journal

// SPDX-License-Identifier: Apache-2.0
#include "fs/journal/transaction.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <utility>

#include "fs/format/lane.h"

namespace pinfs::journal {

namespace {

/// Blocks that no transaction of this thread uses now: as many as most changes stage.
struct Spare {
    std::array<std::unique_ptr<std::byte[]>, 16> blocks;
    std::size_t count = 0;
};
thread_local Spare spare;

/// Bytes that may hold anything.
UnitMemory memory_of(std::size_t bytes) {
    std::byte* const memory = bytes == kBlockBytes && spare.count > 0
                                  ? spare.blocks[--spare.count].release()
                                  : new std::byte[bytes];
    return {memory, GiveUnitBack{bytes}};
}

}  // namespace

void GiveUnitBack::operator()(std::byte* unit) const noexcept {
    std::unique_ptr<std::byte[]> memory{unit};
    if (bytes == kBlockBytes && spare.count < spare.blocks.size())
        spare.blocks[spare.count++] = std::move(memory);
}

Transaction::Staged* Transaction::find(std::uint64_t offset) {
    const auto it = std::ranges::find(staged_, offset, &Staged::offset);
    return it == staged_.end() ? nullptr : &*it;
}

Transaction::Staged& Transaction::add(std::uint64_t offset, std::size_t bytes) {
    Staged& staged = staged_.emplace_back();
    staged.offset = offset;
    staged.bytes = static_cast<std::uint32_t>(bytes);
    staged.after = memory_of(bytes);
    std::memset(staged.after.get(), 0, bytes);
    return staged;
}

/// Stages a unit that `read` fills.
template <class Read>
Expected<std::span<std::byte>> Transaction::stage(std::uint64_t offset, std::size_t bytes,
                                                  const Read& read) {
    if (Staged* staged = find(offset)) return std::span{staged->after.get(), staged->bytes};
    auto after = memory_of(bytes);
    TRY(read(std::span{after.get(), bytes}));
    auto before = memory_of(bytes);
    std::memcpy(before.get(), after.get(), bytes);
    Staged& staged = staged_.emplace_back();
    staged.offset = offset;
    staged.bytes = static_cast<std::uint32_t>(bytes);
    staged.after = std::move(after);
    staged.before = std::move(before);
    return std::span{staged.after.get(), bytes};
}

Expected<std::span<std::byte>> Transaction::edit_block(std::uint64_t offset,
                                                       const BlockIdentity& identity) {
    return stage(offset, kBlockBytes, [&](std::span<std::byte> out) {
        return units_.read_block(offset, identity, out);
    });
}

Expected<std::span<std::byte>> Transaction::edit(std::uint64_t offset, std::uint32_t magic,
                                                 std::size_t bytes) {
    return stage(offset, bytes,
                 [&](std::span<std::byte> out) { return units_.read(offset, magic, out); });
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

std::size_t Transaction::log_bytes_max() const {
    std::size_t bytes = 0;
    for (const Staged& staged : staged_)
        if (!staged.fresh) bytes += staged.bytes + sizeof(media::LogRecord) + 8;
    return bytes;
}

}  // namespace pinfs::journal

// SPDX-License-Identifier: Apache-2.0
#include "fs/inode/table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>

namespace pinfs::inode {

namespace {

using media::kChunkSlots;
using media::kTableFanOut;
using media::kTableFlags;
using media::kTableHasFree;
using media::kTableHasPending;

constexpr std::uint64_t kNone = UINT64_MAX;
constexpr std::uint64_t kChunksMax = std::uint64_t{1} << 29;  // 2^33 slots
constexpr unsigned kAllUsed = 0xffff;
// What set_entry may log: every index block above the chunk, and the root.
constexpr std::size_t kEntryLogBytes = (media::kTableLevelsMax + 1) * media::kBlockBytes;

/// Chunks below one entry of a node at `level`.
constexpr std::uint64_t chunks_per_entry(std::uint32_t level) {
    std::uint64_t chunks = 1;
    for (std::uint32_t i = 1; i < level; ++i) chunks *= kTableFanOut;
    return chunks;
}

std::uint64_t offset_in(std::uint64_t entry) { return entry & ~kTableFlags; }

template <class T>
T& as(std::span<std::byte> bytes) {
    return *reinterpret_cast<T*>(bytes.data());
}

bool entry_has_free(std::uint64_t entry) { return entry == 0 || (entry & kTableHasFree) != 0; }
bool entry_has_pending(std::uint64_t entry) { return (entry & kTableHasPending) != 0; }

}  // namespace

/// From the root down to a chunk; entries are as stored, flags included, 0 where nothing is.
struct Table::Path {
    std::uint32_t levels = 0;                                       // index blocks
    std::array<std::uint64_t, media::kTableLevelsMax + 1> entry{};  // [level]; [0] is the chunk
};

Expected<void> Table::load() {
    media::State state;
    TRY(units_.read_block(state_offset_,
                          {.kind = media::BlockKind::state, .owner = 0, .generation = 0},
                          std::as_writable_bytes(std::span{&state, 1})));
    std::memcpy(&root_, reinterpret_cast<const std::byte*>(&state) + root_offset_, sizeof root_);
    if (root_.levels > media::kTableLevelsMax || root_.window_chunks > kChunksMax)
        return fail(Cause::media_corrupt, state_offset_);
    return {};
}

media::TableRoot Table::root_of(const journal::Transaction* staged) const {
    const std::byte* state = staged == nullptr ? nullptr : staged->staged(state_offset_);
    if (state == nullptr) return root_;
    media::TableRoot root;
    std::memcpy(&root, state + root_offset_, sizeof root);
    return root;
}

Expected<media::TableRoot*> Table::edit_root(space::Change& change) {
    const auto bytes = TRY(change.transaction().edit_block(
        state_offset_, {.kind = media::BlockKind::state, .owner = 0, .generation = 0}));
    auto* root = reinterpret_cast<media::TableRoot*>(bytes.data() + root_offset_);
    change.after_commit([this, root] { root_ = *root; });
    return root;
}

Expected<void> Table::read_index(const journal::Transaction* staged, std::uint64_t offset,
                                 std::uint32_t level, media::TableIndex& out) const {
    if (const std::byte* bytes = staged == nullptr ? nullptr : staged->staged(offset)) {
        std::memcpy(&out, bytes, sizeof out);
        return {};
    }
    TRY(units_.look_into_block(offset, identity(), std::as_writable_bytes(std::span{&out, 1})));
    if (out.header.level != level) return fail(Cause::media_corrupt, offset);
    return {};
}

Expected<media::ChunkHeader> Table::read_chunk(const journal::Transaction* staged,
                                               std::uint64_t offset, std::uint64_t chunk) const {
    media::ChunkHeader header;
    if (const std::byte* bytes = staged == nullptr ? nullptr : staged->staged(offset)) {
        std::memcpy(&header, bytes, sizeof header);
        return header;
    }
    TRY(units_.read(offset, media::kChunkMagic, std::as_writable_bytes(std::span{&header, 1})));
    if (header.own_offset != offset || header.table != table_ || header.chunk != chunk)
        return fail(Cause::bad_magic, offset);
    return header;
}

Expected<Table::Path> Table::walk(const journal::Transaction* staged, std::uint64_t chunk) {
    const media::TableRoot root = root_of(staged);
    Path path{.levels = root.levels, .entry = {}};
    path.entry[root.levels] = root.root;
    if (chunk >= chunks_per_entry(root.levels + 1)) {
        path.entry[0] = 0;
        return path;
    }
    for (std::uint32_t level = root.levels; level > 0 && path.entry[level] != 0; --level) {
        media::TableIndex node;
        TRY(read_index(staged, offset_in(path.entry[level]), level, node));
        path.entry[level - 1] = node.entries[chunk / chunks_per_entry(level) % kTableFanOut];
    }
    return path;
}

Expected<std::uint64_t> Table::locate(std::uint64_t number) {
    const std::uint64_t chunk = number / kChunkSlots;
    const unsigned slot = number % kChunkSlots;
    if (slot == 0 || chunk >= kChunksMax) return fail(Cause::stale_inode, 0, number);
    const Path path = TRY(walk(nullptr, chunk));
    if (path.entry[0] == 0) return fail(Cause::stale_inode, 0, number);
    const std::uint64_t offset = offset_in(path.entry[0]);
    const media::ChunkHeader header = TRY(read_chunk(nullptr, offset, chunk));
    if ((header.used >> slot & 1) == 0) return fail(Cause::stale_inode, 0, number);
    return offset + slot * media::kSlotBytes;
}

/// First chunk index in [from, end) below `node` that is missing or has a free slot.
Expected<std::uint64_t> Table::next_below(const journal::Transaction& staged, std::uint64_t node,
                                          std::uint32_t level, std::uint64_t base,
                                          std::uint64_t from, std::uint64_t end) {
    media::TableIndex index;
    TRY(read_index(&staged, offset_in(node), level, index));
    const std::uint64_t span = chunks_per_entry(level);
    for (std::uint64_t i = from > base ? (from - base) / span : 0; i < kTableFanOut; ++i) {
        const std::uint64_t begin = base + i * span;
        if (begin >= end) break;
        const std::uint64_t entry = index.entries[i];
        if (!entry_has_free(entry)) continue;
        if (entry == 0 || level == 1) return std::max(begin, from);
        const std::uint64_t found = TRY(next_below(staged, entry, level - 1, begin, from, end));
        if (found != kNone) return found;
    }
    return kNone;
}

Expected<std::uint64_t> Table::next_with_free(const journal::Transaction& staged,
                                              std::uint64_t from, std::uint64_t end) {
    if (from >= end) return kNone;
    const media::TableRoot root = root_of(&staged);
    const std::uint64_t capacity = chunks_per_entry(root.levels + 1);
    if (from < capacity && entry_has_free(root.root)) {
        if (root.root == 0 || root.levels == 0) return from;
        const std::uint64_t found = TRY(next_below(staged, root.root, root.levels, 0, from, end));
        if (found != kNone) return found;
    }
    return capacity < end ? std::max(capacity, from) : kNone;
}

/// The chunk to take the next slot from: the next one after the rotor with room; back to the start
/// while a quarter of the window is free, else the window grows.
Expected<std::uint64_t> Table::choose_chunk(space::Change& change) {
    const auto& staged = change.transaction();
    const std::uint64_t window = root_of(&staged).window_chunks;
    const std::uint64_t after = rotor_ / kChunkSlots;
    std::uint64_t found = TRY(next_with_free(staged, after, window));
    if (found == after && found < window) {
        // The rotor's own chunk serves only slots above the rotor.
        const Path path = TRY(walk(&staged, after));
        unsigned usable = 0;
        if (path.entry[0] != 0) {
            const auto header = TRY(read_chunk(&staged, offset_in(path.entry[0]), after));
            const unsigned free_bits = static_cast<unsigned>(~header.used) & kAllUsed;
            usable = free_bits >> (rotor_ % kChunkSlots + 1) << (rotor_ % kChunkSlots + 1);
        } else {
            usable = 1;
        }
        if ((usable & kAllUsed) == 0) found = TRY(next_with_free(staged, after + 1, window));
    }
    if (found != kNone) return found;
    if (used_ < window * (kChunkSlots - 1) / 4 * 3) {
        found = TRY(next_with_free(staged, 0, window));
        if (found != kNone) return found;
    }
    if (window >= kChunksMax) return fail(Cause::no_inodes);
    auto* root = TRY(edit_root(change));
    root->window_chunks = std::min(kChunksMax, window + std::max<std::uint64_t>(64, window / 4));
    return window;
}

/// Stores `entry` for `chunk` and brings the free and pending bits above it up to date; index
/// blocks are made as needed and freed when empty.
Expected<void> Table::set_entry(space::Change& change, std::uint64_t chunk, std::uint64_t entry) {
    auto& transaction = change.transaction();
    while (chunk >= chunks_per_entry(root_of(&transaction).levels + 1)) {
        // One more level: the old root becomes entry 0 of the new one.
        const std::uint64_t offset = TRY(change.allocate_block());
        auto* root = TRY(edit_root(change));
        auto& index =
            as<media::TableIndex>(transaction.create_block(offset, identity(), root->levels + 1));
        index.entries[0] = root->root;
        index.header.used_bytes = root->root != 0 ? 8 : 0;
        root->root = offset | kTableHasFree | (root->root & kTableHasPending);
        ++root->levels;
    }
    const Path path = TRY(walk(&transaction, chunk));
    std::uint64_t below = entry;
    for (std::uint32_t level = 1; level <= path.levels; ++level) {
        const std::uint64_t slot = chunk / chunks_per_entry(level) % kTableFanOut;
        const std::uint64_t old = path.entry[level];
        std::uint64_t offset = offset_in(old);
        std::span<std::byte> bytes;
        if (old == 0) {
            if (below == 0) return {};
            offset = TRY(change.allocate_block());
            bytes = transaction.create_block(offset, identity(), level);
        } else {
            if (path.entry[level - 1] == below) return {};  // nothing changes from here up
            bytes = TRY(transaction.edit_block(offset, identity()));
        }
        auto& index = as<media::TableIndex>(bytes);
        if ((index.entries[slot] == 0) != (below == 0))
            index.header.used_bytes += below == 0 ? -8u : 8u;
        index.entries[slot] = below;
        if (index.header.used_bytes == 0) {
            change.free_block(offset);
            below = 0;
            continue;
        }
        const bool has_free = std::ranges::any_of(index.entries, entry_has_free);
        const bool has_pending = std::ranges::any_of(index.entries, entry_has_pending);
        below = offset | (has_free ? kTableHasFree : 0) | (has_pending ? kTableHasPending : 0);
    }
    if (path.entry[path.levels] != below) {
        auto* root = TRY(edit_root(change));
        root->root = below;
        if (below == 0) root->levels = 0;
    }
    return shrink_root(change);
}

/// Frees index blocks at the top that only lead to the first block below them.
Expected<void> Table::shrink_root(space::Change& change) {
    for (;;) {
        const media::TableRoot now = root_of(&change.transaction());
        if (now.levels == 0) return {};
        const std::uint64_t offset = offset_in(now.root);
        media::TableIndex index;
        TRY(read_index(&change.transaction(), offset, now.levels, index));
        if (index.header.used_bytes != sizeof index.entries[0] || index.entries[0] == 0) return {};
        auto* root = TRY(edit_root(change));
        root->root = index.entries[0];
        --root->levels;
        change.free_block(offset);
    }
}

Expected<std::uint64_t> Table::make_chunk(space::Change& change, std::uint64_t chunk) {
    const std::uint64_t offset = TRY(change.allocate_block());
    // A chunk is no unit itself: only its header is created; slots come with their use.
    auto& header =
        as<media::ChunkHeader>(change.transaction().create(offset, sizeof(media::ChunkHeader)));
    header.magic = media::kChunkMagic;
    header.own_offset = offset;
    header.table = table_;
    header.chunk = chunk;
    header.used = 1;
    TRY(set_entry(change, chunk, offset | kTableHasFree));
    return offset;
}

Expected<Table::Slot> Table::allocate(space::Change& change) {
    auto& transaction = change.transaction();
    const std::uint64_t chunk = TRY(choose_chunk(change));
    const Path path = TRY(walk(&transaction, chunk));
    const std::uint64_t offset =
        path.entry[0] != 0 ? offset_in(path.entry[0]) : TRY(make_chunk(change, chunk));
    // A chunk that was just made is staged already.
    auto& header = as<media::ChunkHeader>(
        TRY(transaction.edit(offset, media::kChunkMagic, sizeof(media::ChunkHeader))));
    if (header.own_offset != offset || header.table != table_ || header.chunk != chunk)
        return fail(Cause::bad_magic, offset);

    unsigned free_bits = static_cast<unsigned>(~header.used) & kAllUsed;
    if (free_bits == 0) return fail(Cause::media_corrupt, offset);
    if (chunk == rotor_ / kChunkSlots) {
        const unsigned above = rotor_ % kChunkSlots + 1;
        const unsigned later = free_bits >> above << above;
        if (later != 0) free_bits = later;
    }
    const auto slot = static_cast<unsigned>(std::countr_zero(free_bits));
    header.used = static_cast<std::uint16_t>(header.used | 1u << slot);
    if (header.used == kAllUsed) {
        const Path now = TRY(walk(&transaction, chunk));
        TRY(set_entry(change, chunk, now.entry[0] & ~kTableHasFree));
    }
    const Slot result{chunk * kChunkSlots + slot, offset + slot * media::kSlotBytes};
    change.after_commit([this, number = result.number] {
        if (reuse_ == Reuse::late) rotor_ = number;
        ++used_;
    });
    return result;
}

Expected<void> Table::release(space::Change& change, std::uint64_t number) {
    auto& transaction = change.transaction();
    const std::uint64_t chunk = number / kChunkSlots;
    const auto bit = static_cast<std::uint16_t>(1u << (number % kChunkSlots));
    const Path path = TRY(walk(&transaction, chunk));
    if (path.entry[0] == 0) return fail(Cause::media_corrupt, state_offset_, number);
    const std::uint64_t offset = offset_in(path.entry[0]);
    auto& header = as<media::ChunkHeader>(
        TRY(transaction.edit(offset, media::kChunkMagic, sizeof(media::ChunkHeader))));
    if ((header.used & bit) == 0) return fail(Cause::media_corrupt, offset, number);
    const bool was_full = header.used == kAllUsed;
    header.used = static_cast<std::uint16_t>(header.used & ~bit);
    header.pending = static_cast<std::uint16_t>(header.pending & ~bit);
    if (header.used == 1) {
        TRY(set_entry(change, chunk, 0));
        change.free_block(offset);
        if (entry_has_pending(path.entry[0])) change.after_commit([this] { --hints_; });
    } else if (was_full) {
        TRY(set_entry(change, chunk, path.entry[0] | kTableHasFree));
    }
    change.after_commit([this] { --used_; });
    return {};
}

Expected<void> Table::set_pending(space::Change& change, std::uint64_t number, bool pending) {
    auto& transaction = change.transaction();
    const std::uint64_t chunk = number / kChunkSlots;
    const auto bit = static_cast<std::uint16_t>(1u << (number % kChunkSlots));
    const Path path = TRY(walk(&transaction, chunk));
    if (path.entry[0] == 0) return fail(Cause::media_corrupt, state_offset_, number);
    auto& header = as<media::ChunkHeader>(TRY(transaction.edit(
        offset_in(path.entry[0]), media::kChunkMagic, sizeof(media::ChunkHeader))));
    header.pending =
        static_cast<std::uint16_t>(pending ? header.pending | bit : header.pending & ~bit);
    // A hint stays when nothing is pending any more: taking it away each time would cost more than
    // all mounts pay that look there in vain.
    if (!pending || entry_has_pending(path.entry[0])) return {};
    TRY(set_entry(change, chunk, path.entry[0] | kTableHasPending));
    change.after_commit([this] { ++hints_; });
    return {};
}

bool Table::hinted_below(std::uint64_t entry, std::uint32_t level, std::uint64_t base,
                         std::uint64_t from, const std::function<bool(const Hinted&)>& visit,
                         const std::function<void(const Error&)>& damaged) {
    if (!entry_has_pending(entry) || base + chunks_per_entry(level + 1) <= from) return true;
    if (level == 0) {
        const auto header = read_chunk(nullptr, offset_in(entry), base);
        if (!header) damaged(header.error());
        return !header || visit({base, entry, *header});
    }
    media::TableIndex index;
    if (const auto read = read_index(nullptr, offset_in(entry), level, index); !read) {
        damaged(read.error());
        return true;
    }
    for (std::uint64_t i = 0; i < kTableFanOut; ++i)
        if (!hinted_below(index.entries[i], level - 1, base + i * chunks_per_entry(level), from,
                          visit, damaged))
            return false;
    return true;
}

void Table::for_each_pending(const std::function<void(std::uint64_t)>& visit,
                             const std::function<void(const Error&)>& damaged) {
    hints_ = 0;
    const auto visit_chunk = [&](const Hinted& hinted) {
        ++hints_;
        for (unsigned slot = 1; slot < kChunkSlots; ++slot)
            if ((hinted.header.pending >> slot & 1) != 0) visit(hinted.chunk * kChunkSlots + slot);
        return true;
    };
    hinted_below(root_.root, root_.levels, 0, 0, visit_chunk, damaged);
}

Expected<std::optional<std::uint64_t>> Table::drop_idle_hints(space::Change& change,
                                                              std::uint64_t from) {
    std::optional<std::uint64_t> next;
    std::uint64_t seen = 0;
    Expected<void> result;
    const auto visit_chunk = [&](const Hinted& hinted) {
        if (++seen > kTableFanOut || !change.has_room(kEntryLogBytes)) {
            next = hinted.chunk;
            return false;
        }
        if (hinted.header.pending != 0) return true;
        result = set_entry(change, hinted.chunk, hinted.entry & ~kTableHasPending);
        if (result) change.after_commit([this] { --hints_; });
        return result.has_value();
    };
    hinted_below(root_.root, root_.levels, 0, from, visit_chunk, [](const Error&) {});
    TRY(result);
    return next;
}

Expected<void> Table::used_below(std::uint64_t entry, std::uint32_t level, std::uint64_t base,
                                 const std::function<Expected<void>(const Slot&)>& visit) {
    if (entry == 0) return {};
    if (level == 0) {
        const auto header = TRY(read_chunk(nullptr, offset_in(entry), base));
        for (unsigned slot = 1; slot < kChunkSlots; ++slot)
            if ((header.used >> slot & 1) != 0)
                TRY(visit(
                    {base * kChunkSlots + slot, offset_in(entry) + slot * media::kSlotBytes}));
        return {};
    }
    media::TableIndex index;
    TRY(read_index(nullptr, offset_in(entry), level, index));
    for (std::uint64_t i = 0; i < kTableFanOut; ++i)
        TRY(used_below(index.entries[i], level - 1, base + i * chunks_per_entry(level), visit));
    return {};
}

std::optional<Table::Chunk> Table::next_chunk_below(
    std::uint64_t entry, std::uint32_t level, std::uint64_t base, std::uint64_t from,
    const std::function<void(const Expected<void>&)>& seen) const {
    // A root that is a chunk may lie before `from`.
    if (entry == 0 || (level == 0 && base < from)) return std::nullopt;
    const std::uint64_t offset = offset_in(entry);
    if (level == 0) {
        const auto header = read_chunk(nullptr, offset, base);
        seen(header ? Expected<void>{} : std::unexpected(header.error()));
        return header ? std::optional{Chunk{base, offset, header->used}} : std::nullopt;
    }
    media::TableIndex index;
    const auto read = read_index(nullptr, offset, level, index);
    if (!read || base >= from) seen(read);
    if (!read) return std::nullopt;
    const std::uint64_t span = chunks_per_entry(level);
    for (std::uint64_t i = from > base ? (from - base) / span : 0; i < kTableFanOut; ++i)
        if (const auto chunk =
                next_chunk_below(index.entries[i], level - 1, base + i * span, from, seen))
            return chunk;
    return std::nullopt;
}

Expected<void> Table::for_each(const std::function<Expected<void>(const Slot&)>& visit) {
    return used_below(root_.root, root_.levels, 0, visit);
}

}  // namespace pinfs::inode

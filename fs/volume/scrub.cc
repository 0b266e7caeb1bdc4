// SPDX-License-Identifier: Apache-2.0
//
// Reads every unit in use through the readers that operations use, each under the lock of what it
// belongs to. What is not looked at: lanes, whose content means something to a mount alone, and the
// table of finished requests.
#include "fs/volume/scrub.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>

#include "fs/inode/extended_attributes.h"
#include "fs/volume/core.h"

namespace pinfs {
namespace {

constexpr auto kPieceTime = std::chrono::milliseconds{5};
constexpr std::uint64_t kPieceUnits = 2048;
/// Units that are read under one lock of an inode.
constexpr std::uint64_t kUnitsPerLock = 64;
constexpr std::size_t kReadBytes = 256 * 1024;

/// Not what comes of operations beside this one: an inode that was freed, a shutdown.
bool is_damage(const Error& error) {
    return error.cause == Cause::media_error || errno_of(error.cause) == EUCLEAN;
}

}  // namespace

class Volume::Core::Scrubber {
public:
    Scrubber(Core& core, const ScrubPlace& from, const ScrubOptions& options)
        : core_{core}, options_{options} {
        piece_.next = from;
    }

    ScrubPiece run() {
        piece_.items_in_all = core_.allocator_.group_count() + core_.inodes_in_use_.load();
        // At least one, however long ago the time was taken: who asks again must come further.
        do step();
        while (place().phase < ScrubPhase::done && !is_enough());
        return std::move(piece_);
    }

private:
    ScrubPlace& place() { return piece_.next; }
    [[nodiscard]] bool is_enough() const {
        return piece_.units >= kPieceUnits || piece_.findings.size() >= options_.findings_max ||
               std::chrono::steady_clock::now() >= end_;
    }
    void note(const Expected<void>& unit) {
        ++piece_.units;
        if (!unit && is_damage(unit.error())) piece_.findings.push_back({.error = unit.error()});
    }
    void note_inode(Ino ino, Error error) {
        error.ino = ino.value;
        note(std::unexpected(error));
    }

    void step() {
        switch (place().phase) {
            case ScrubPhase::superblocks:
                return superblocks();
            case ScrubPhase::groups:
                return group();
            case ScrubPhase::inodes:
                return inodes();
            case ScrubPhase::data:
                return data();
            case ScrubPhase::records:
                return records();
            case ScrubPhase::done:
                return;
        }
    }

    void superblocks() {
        for (const std::uint64_t offset : {std::uint64_t{0}, media::kSuperCopyOffset})
            note(verify_superblock(core_.region_, offset));
        {
            const TableLock lock{core_.table_mutex_};
            alignas(8) std::array<std::byte, kBlockBytes> state;
            note(core_.units_.read_block(
                core_.super_.state_offset,
                {.kind = media::BlockKind::state, .owner = 0, .generation = 0}, state));
        }
        place() = {ScrubPhase::groups};
    }

    void group() {
        if (place().number >= core_.allocator_.group_count()) {
            place() = {ScrubPhase::inodes};
            return;
        }
        note(core_.allocator_.verify(place().number++));
        ++piece_.items;
    }

    /// The first chunk of `table` from the one with `number` on; its lock is held. Units on the
    /// way to a chunk of which slots were read before count no second time.
    std::optional<inode::Table::Chunk> chunk_from(const inode::Table& table, std::uint64_t number) {
        const bool is_new = number % media::kChunkSlots == 0;
        return table.next_chunk(number / media::kChunkSlots, [&](const Expected<void>& unit) {
            if (is_new || !unit) note(unit);
        });
    }

    /// Inodes of one chunk.
    void inodes() {
        std::optional<inode::Table::Chunk> chunk;
        {
            const TableLock lock{core_.table_mutex_};
            chunk = chunk_from(core_.inodes_, place().number);
        }
        if (!chunk) {
            place() = {ScrubPhase::records};
            return;
        }
        const std::uint64_t first = chunk->index * media::kChunkSlots;
        if (place().number < first) place() = {ScrubPhase::inodes, first};
        while (place().number < first + media::kChunkSlots) {
            const std::uint64_t slot = place().number - first;
            const bool is_used = slot != 0 && (chunk->used >> slot & 1) != 0;
            if (is_used && !inode(Ino{place().number})) return;
            if (place().phase != ScrubPhase::inodes) return;  // its data comes next
            place() = {ScrubPhase::inodes, place().number + 1};
        }
    }

    /// The inode from the place's key on; false if the piece ends before it does.
    bool inode(Ino ino) {
        const bool is_new = place().key == 0;
        if (is_new) ++piece_.items;
        const Use state = core_.use(ino);
        do {
            const Shared lock{state->mutex};
            const auto inode = core_.read_inode(*state);
            if (!inode) {
                note_inode(ino, inode.error());
                return true;
            }
            if (place().key == 0) {
                ++piece_.units;
                attributes(*inode);
            }
            const auto next = nodes(*inode);
            if (!next) {
                if (options_.data && S_ISREG(inode->mode) && inode->size != 0)
                    place() = {ScrubPhase::data, ino.value};
                return true;
            }
            place().key = *next;
        } while (!is_enough());
        return false;
    }

    void attributes(const media::Inode& inode) {
        const auto [blocks, result] = inode::verify_attributes(core_.units_, inode);
        piece_.units += blocks;
        if (!result) note_inode(Ino{inode.ino}, result.error());
    }

    /// Some nodes of its tree; where to go on, nullopt at the end.
    std::optional<std::uint64_t> nodes(const media::Inode& inode) {
        const std::uint64_t enough = piece_.units + kUnitsPerLock;
        const auto seen = [&](const Expected<void>& unit) {
            if (unit)
                ++piece_.units;
            else
                note_inode(Ino{inode.ino}, unit.error());
            return piece_.units < enough;
        };
        if (S_ISDIR(inode.mode)) return core_.directory(inode).verify(place().key, seen);
        const bool has_extents =
            S_ISREG(inode.mode) || (S_ISLNK(inode.mode) && inode.size > media::kInlineBytes);
        if (!has_extents) return std::nullopt;
        return inode::Extents(core_.units_, inode).verify(place().key, seen);
    }

    /// Reads a stretch of a file's data; where that fails, block by block.
    void data() {
        const Ino ino{place().number};
        const auto begin = core_.seek(ino, place().key, SeekTo::data);
        if (!begin) {
            // Its end, or it is gone; damage of its extents was found before.
            place() = {ScrubPhase::inodes, ino.value + 1};
            return;
        }
        buffer_.resize(kReadBytes);
        const std::uint64_t first = round_down(*begin, kBlockBytes);
        const auto count = core_.read(ino, first, buffer_, /*noted=*/false);
        if (count && *count == 0) {  // it was cut meanwhile
            place() = {ScrubPhase::inodes, ino.value + 1};
            return;
        }
        place().key = first + (count ? *count : kReadBytes);
        piece_.data_bytes += count.value_or(0);
        for (std::uint64_t at = first; !count && at < place().key; at += kBlockBytes) {
            const auto block =
                core_.read(ino, at, std::span{buffer_}.first(kBlockBytes), /*noted=*/false);
            piece_.data_bytes += block.value_or(0);
            if (block || !is_damage(block.error())) continue;
            Error error = block.error();
            error.ino = ino.value;
            piece_.findings.push_back({error, at, true});
        }
    }

    /// Records of one chunk.
    void records() {
        const TableLock lock{core_.table_mutex_};
        const auto chunk = chunk_from(core_.records_, place().number);
        if (!chunk) {
            place() = {ScrubPhase::done};
            return;
        }
        for (std::uint64_t slot = 1; slot < media::kChunkSlots; ++slot) {
            if ((chunk->used >> slot & 1) == 0) continue;
            media::Record record;
            note(core_.units_.read(chunk->offset + slot * media::kSlotBytes, media::kRecordMagic,
                                   std::as_writable_bytes(std::span{&record, 1})));
        }
        place() = {ScrubPhase::records, (chunk->index + 1) * media::kChunkSlots};
    }

    Core& core_;
    const ScrubOptions options_;
    const std::chrono::steady_clock::time_point end_ =
        std::chrono::steady_clock::now() + kPieceTime;
    ScrubPiece piece_;
    std::vector<std::byte> buffer_;
};

Expected<ScrubPiece> Volume::Core::scrub(const ScrubPlace& from, const ScrubOptions& options) {
    TRY(admit_read());
    units_.forget_all();
    return Scrubber{*this, from, options}.run();
}

}  // namespace pinfs

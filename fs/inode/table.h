// SPDX-License-Identifier: Apache-2.0
//
// A table of 256-byte slots that grows on demand and gives chunks back (format/table.h): inodes, or
// records of maps, pins and holds. Slots of inodes are handed out in rotation, so that a number
// comes back as late as may be; numbers of records mean nothing to anybody, so the lowest is taken.
//
// Thread rules: whoever changes the table, or walks it, holds mutex() - a changer until its Change
// is committed. Tables whose roots stand in one state block have one mutex. The slots themselves
// are units of their own: an inode's under its lock, a record's under this mutex.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "fs/error.h"
#include "fs/format/state.h"
#include "fs/format/table.h"
#include "fs/lock.h"
#include "fs/space/change.h"

namespace pinfs::inode {

enum class Reuse : std::uint8_t { late, early };

class Table {
public:
    /// `root_offset`: where in the state block (at `state_offset`) this table's TableRoot stands.
    Table(const journal::Units& units, std::uint64_t table, std::uint64_t state_offset,
          std::size_t root_offset, RankedMutex<LockRank::inode_chunk>& mutex,
          Reuse reuse = Reuse::late)
        : units_{units},
          table_{table},
          state_offset_{state_offset},
          root_offset_{root_offset},
          mutex_{mutex},
          reuse_{reuse} {}

    /// Reads the root from the state block; once, after replay.
    Expected<void> load();

    RankedMutex<LockRank::inode_chunk>& mutex() { return mutex_; }

    /// Region offset of slot `number`. Errors: stale_inode if it is not in use.
    Expected<std::uint64_t> locate(std::uint64_t number);

    struct Slot {
        std::uint64_t number;
        std::uint64_t offset;
    };
    /// Takes a free slot; the caller creates the unit in it. Errors: no_space, no_inodes.
    Expected<Slot> allocate(space::Change& change);
    /// Gives a slot back, and with the last one its chunk.
    Expected<void> release(space::Change& change, std::uint64_t number);
    /// Marks a slot for mount to finish, or not any more.
    Expected<void> set_pending(space::Change& change, std::uint64_t number, bool pending);

    /// Visits numbers of pending slots. Follows the hints: its cost is theirs, not the table's.
    /// What cannot be read is passed over, and shown to `damaged`.
    void for_each_pending(const std::function<void(std::uint64_t)>& visit,
                          const std::function<void(const Error&)>& damaged);
    /// Chunks with a hint, as far as seen: those that for_each_pending visited, and later ones.
    [[nodiscard]] std::uint64_t hints() const { return hints_; }
    /// Takes hints of chunks away in which nothing is pending, in order from chunk `from` on, as
    /// many as one change holds and nobody waits for. Where to go on; nothing: it came to the end.
    Expected<std::optional<std::uint64_t>> drop_idle_hints(space::Change& change,
                                                           std::uint64_t from);
    /// Visits all slots in use. Its cost is the table's.
    Expected<void> for_each(const std::function<Expected<void>(const Slot&)>& visit);
    /// The first chunk from index `from` on. Every unit on the way is read and shown to `seen`;
    /// damage ends what lies below it, not the search. A unit is shown once in all the calls that
    /// visit the chunks in order.
    struct Chunk {
        std::uint64_t index;
        std::uint64_t offset;
        std::uint16_t used;  ///< bit s: slot s is in use; bit 0 means nothing
    };
    std::optional<Chunk> next_chunk(std::uint64_t from,
                                    const std::function<void(const Expected<void>&)>& seen) const {
        return next_chunk_below(root_.root, root_.levels, 0, from, seen);
    }
    /// Slots in use, for the choice between reuse and growth.
    void set_used(std::uint64_t used) { used_ = used; }

private:
    struct Path;
    Expected<Path> walk(const journal::Transaction* staged, std::uint64_t chunk);
    Expected<std::uint64_t> next_with_free(const journal::Transaction& staged, std::uint64_t from,
                                           std::uint64_t end);
    Expected<std::uint64_t> next_below(const journal::Transaction& staged, std::uint64_t node,
                                       std::uint32_t level, std::uint64_t base, std::uint64_t from,
                                       std::uint64_t end);
    Expected<std::uint64_t> choose_chunk(space::Change& change);
    Expected<std::uint64_t> make_chunk(space::Change& change, std::uint64_t chunk);
    Expected<void> set_entry(space::Change& change, std::uint64_t chunk, std::uint64_t entry);
    Expected<void> shrink_root(space::Change& change);
    Expected<media::TableRoot*> edit_root(space::Change& change);
    struct Hinted {
        std::uint64_t chunk;
        std::uint64_t entry;
        media::ChunkHeader header;
    };
    /// Follows the hints from chunk `from` on, until `visit` says false. Whether it came to the
    /// end.
    bool hinted_below(std::uint64_t entry, std::uint32_t level, std::uint64_t base,
                      std::uint64_t from, const std::function<bool(const Hinted&)>& visit,
                      const std::function<void(const Error&)>& damaged);
    Expected<void> used_below(std::uint64_t entry, std::uint32_t level, std::uint64_t base,
                              const std::function<Expected<void>(const Slot&)>& visit);
    std::optional<Chunk> next_chunk_below(
        std::uint64_t entry, std::uint32_t level, std::uint64_t base, std::uint64_t from,
        const std::function<void(const Expected<void>&)>& seen) const;
    [[nodiscard]] journal::BlockIdentity identity() const {
        return {.kind = media::BlockKind::table_index, .owner = table_, .generation = 0};
    }
    Expected<void> read_index(const journal::Transaction* staged, std::uint64_t offset,
                              std::uint32_t level, media::TableIndex& out) const;
    Expected<media::ChunkHeader> read_chunk(const journal::Transaction* staged,
                                            std::uint64_t offset, std::uint64_t chunk) const;
    [[nodiscard]] media::TableRoot root_of(const journal::Transaction* staged) const;

    const journal::Units& units_;
    const std::uint64_t table_;
    const std::uint64_t state_offset_;
    const std::size_t root_offset_;
    RankedMutex<LockRank::inode_chunk>& mutex_;
    const Reuse reuse_;
    media::TableRoot root_{};  // as committed
    std::uint64_t rotor_ = 0;  // last number handed out; 0 where numbers come back early
    std::uint64_t used_ = 0;
    std::uint64_t hints_ = 0;
};

}  // namespace pinfs::inode

// SPDX-License-Identifier: Apache-2.0
//
// One round of a repair: the survey it decides by, the writer, and what its parts share. Each part
// says true if it changed the region; then the round is over, for the survey is history.
#pragma once

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "fs/check/survey.h"
#include "fs/check/table.h"
#include "fs/format/record.h"
#include "fs/format/tree.h"
#include "fs/repair/repair.h"
#include "fs/repair/writer.h"

namespace pinfs::repairing {

using checking::InodeNote;
using media::kBlockBytes;

/// A metadata block of any kind.
struct AnyBlock {
    media::BlockHeader header;
    std::array<media::u8, media::kPayloadBytes> payload;
};
static_assert(sizeof(AnyBlock) == kBlockBytes);

class Work {
public:
    Work(pmem::Region& of, checking::Survey& found, const RepairOptions& wanted,
         RepairReport& outcome)
        : region(of),
          survey(found),
          options(wanted),
          report(outcome),
          writer(of, found.image.superblock(), found.claims ? &*found.claims : nullptr) {
        if (!survey.state) return;
        state = *survey.state;
        for (std::size_t i = 0; i < std::min<std::size_t>(state.bad_ranges, media::kBadRangesMax);
             ++i)
            writer.avoid({state.bad[i].begin, state.bad[i].blocks});
    }

    pmem::Region& region;
    checking::Survey& survey;
    const RepairOptions& options;
    RepairReport& report;
    Writer writer;
    media::State state{};  ///< as it will be

    [[nodiscard]] const media::Superblock& super() const { return survey.image.superblock(); }
    [[nodiscard]] checking::Walk& walk() const { return *survey.walk; }
    [[nodiscard]] std::span<const Finding> findings() const { return survey.report.findings; }
    [[nodiscard]] bool holds_block(std::uint64_t offset) const {
        return survey.image.holds_block(offset);
    }

    /// Says what was done, with the place before it.
    [[gnu::format(printf, 4, 5)]] void tell(std::uint64_t offset, std::uint64_t ino,
                                            const char* format, ...);

    /// What the file has is not proven to be what was written to it.
    void doubt(std::uint64_t ino) { report.doubted.try_emplace(ino); }

    template <class T>
    bool read(std::uint64_t offset, T& out) const {
        return bool(region.read(offset, std::as_writable_bytes(std::span(&out, 1))));
    }
    /// Checksum and magic are right.
    template <class T>
    [[nodiscard]] bool is_whole(const T& unit, media::le32 magic) const {
        return unit.magic == magic && survey.image.sum_matches(unit);
    }
    /// The inode in use; nullopt if there is none, or it cannot be read.
    std::optional<media::Inode> inode(std::uint64_t ino) const;
    [[nodiscard]] std::uint64_t offset_of(std::uint64_t ino) const;
    [[nodiscard]] InodeNote* note(std::uint64_t ino) const { return walk().inodes.find(ino); }
    Expected<void> stage_inode(media::Inode& inode) {
        return writer.stage_unit(offset_of(inode.ino), inode);
    }
    /// A header for a new block, checksum still to be set.
    [[nodiscard]] media::BlockHeader header(media::BlockKind kind, std::uint64_t block,
                                            unsigned level, std::size_t used_bytes,
                                            std::uint64_t owner, std::uint64_t generation) const;
    Expected<void> store_new(std::uint64_t block, AnyBlock& bytes) {
        writer.seal_block(bytes);
        return writer.store_new(block, bytes);
    }

    /// A record that cannot be read may be of this boot: what it held must not be freed.
    [[nodiscard]] bool may_have_records_of_this_boot() const;
    /// Marks slots of inodes used or not, in their chunks.
    Expected<void> use_slots(const std::map<std::uint64_t, bool>& used_by_ino);
    /// A generation that no inode had; the state must be staged after it.
    std::uint64_t next_generation();
    Expected<void> stage_state() {
        writer.seal_block(state);
        return writer.stage_value(super().state_offset, state);
    }

    /// Blocks that the bitmap has in use (or whose group is damaged) and nobody claims, and whose
    /// content is metadata with a right checksum, or inodes that have one: what damage has cut off.
    void for_each_lost(
        const std::function<void(std::uint64_t offset, const AnyBlock& block)>& visit);
    [[nodiscard]] bool is_in_use_unclaimed(std::uint64_t block);
    /// The index of a chunk by its whole inodes that have names; nullopt: there are none.
    [[nodiscard]] std::optional<std::uint64_t> chunk_by_inodes(std::uint64_t offset) const;
};

/// The byte of a unit that is wrong, if it is one, and its wrong bits.
struct WrongByte {
    std::size_t at;
    std::byte bits;
};
std::optional<WrongByte> wrong_byte(std::uint32_t seed, std::span<const std::byte> unit);

/// A unit as it was before one of its bytes changed, and who found fault with it.
struct WrongUnit {
    Finding finding;
    std::vector<std::byte> unit;
};
std::vector<WrongUnit> find_wrong_bytes(const Work& work);

/// Its path, of several names the first; empty if it has none.
std::string path_of(Work& work, std::uint64_t ino);

// The parts. Each repairs all of its subject.
Expected<void> set_bytes_right(Work& work, std::span<const WrongUnit> units);
Expected<bool> repair_superblocks(Work& work);
Expected<bool> replay_journal(Work& work);
Expected<bool> repair_state(Work& work);
Expected<bool> repair_finished_requests(Work& work);
/// media::kTableInodes or kTableRecords: index, chunk headers, slots in use without an inode.
/// `extra` are chunks to be added, by index.
Expected<bool> repair_table(Work& work, std::uint64_t table,
                            const std::map<std::uint64_t, std::uint64_t>& extra = {});
Expected<bool> repair_inodes(Work& work);
Expected<bool> repair_names(Work& work);
Expected<bool> repair_records(Work& work);
Expected<bool> repair_groups(Work& work);
Expected<bool> repair_totals(Work& work);

}  // namespace pinfs::repairing

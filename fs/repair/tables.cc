// SPDX-License-Identifier: Apache-2.0
//
// Tables are found again from their chunks, which name themselves: whatever the index says, it is
// made anew. A chunk that no index has any more is looked for among the blocks that are lost.
#include <sys/stat.h>

#include <algorithm>
#include <initializer_list>

#include "fs/check/values.h"
#include "fs/repair/doubtful.h"

namespace pinfs::repairing {
namespace {

using checking::Chunk;

constexpr std::uint64_t kWindowMax = std::uint64_t{1} << 40;

struct Found {
    std::uint64_t offset;
    media::le16 used;
    media::le16 pending;
};

class TableRepair {
public:
    TableRepair(Work& work, std::uint64_t table) : work_(work), table_(table) {}

    Expected<bool> run(const std::map<std::uint64_t, std::uint64_t>& extra) {
        const media::TableRoot& root = of(work_.state);
        if (root.root != 0) TRY(visit(root.root & ~media::kTableFlags, media::kTableLevelsMax));
        if (gap_ || must_look_) TRY(look_for_lost());
        TRY(take_doubtful());
        if (refused_) return false;
        for (const auto& [index, offset] : extra) chunks_.try_emplace(index, Found{offset, 1, 0});
        TRY(write());
        work_.tell(work_.super().state_offset, 0, "the index of the %s was made anew: %zu chunks",
                   name(), chunks_.size());
        TRY(work_.writer.commit());
        return true;
    }
    /// What is missing may be nowhere in the index.
    void look_for_all() { must_look_ = true; }

private:
    [[nodiscard]] const char* name() const {
        return table_ == media::kTableInodes ? "inode table" : "record table";
    }
    media::TableRoot& of(media::State& state) const {
        return table_ == media::kTableInodes ? state.inodes : state.records;
    }

    // What stands there: an index block of at most `level_max`, or a chunk.
    Expected<void> visit(std::uint64_t offset, unsigned level_max) {
        media::TableIndex block;
        if (!work_.holds_block(offset) || !seen_.insert(offset).second) {
            gap_ = true;
            return {};
        }
        const media::BlockHeader& header = block.header;
        const bool is_index =
            work_.read(offset, block) && header.magic == media::kBlockMagic &&
            work_.survey.image.sum_matches(block) && header.own_offset == offset &&
            header.owner == table_ && header.level <= level_max &&
            header.kind == static_cast<media::le16>(media::BlockKind::table_index);
        if (!is_index) return chunk(offset);
        for (const std::uint64_t entry : block.entries)
            if (entry != 0)
                TRY(visit(entry & ~media::kTableFlags, std::max<unsigned>(header.level, 1) - 1));
        return {};
    }

    Expected<void> chunk(std::uint64_t offset) {
        Chunk chunk{};
        if (!work_.read(offset, chunk)) read_slots(offset, chunk);
        const media::ChunkHeader& header = chunk.header;
        if (!work_.is_whole(header, media::kChunkMagic) || header.own_offset != offset ||
            header.table != table_) {
            gap_ = true;
            refused_ |= table_ == media::kTableRecords && work_.may_have_records_of_this_boot();
            doubtful_.push_back(offset);
            return {};
        }
        // Inodes know better where they are.
        media::ChunkHeader taken = header;
        media::ChunkHeader own;
        if (table_ == media::kTableInodes && header_of_inodes(chunk, offset, own))
            taken.chunk = own.chunk;
        return take(chunk, taken, offset);
    }

    // Of what is not a chunk by its header, where no other is: the inodes in it.
    Expected<void> take_doubtful() {
        for (const std::uint64_t offset : doubtful_) {
            Chunk chunk{};
            if (!work_.read(offset, chunk)) read_slots(offset, chunk);
            media::ChunkHeader header;
            if (table_ != media::kTableInodes || !header_of_inodes(chunk, offset, header) ||
                chunks_.contains(header.chunk))
                continue;
            work_.tell(offset, 0,
                       "the header of chunk %lu of the inode table was made from its inodes",
                       header.chunk);
            TRY(take(chunk, header, offset));
        }
        return {};
    }

    Expected<void> take(const Chunk& chunk, media::ChunkHeader header, std::uint64_t offset) {
        if (chunks_.contains(header.chunk)) {
            gap_ = true;
            return {};
        }
        header.used |= 1;
        header.pending = 0;
        // Names are missing: what has link counts here was not freed.
        media::ChunkHeader own;
        if (header.used == 1 && must_look_ && table_ == media::kTableInodes &&
            header_of_inodes(chunk, offset, own)) {
            header.used |= own.used;
            work_.tell(offset, 0, "slots of chunk %lu that have inodes are in use again",
                       header.chunk);
        }
        if (table_ == media::kTableInodes)
            for (unsigned slot = 1; slot < media::kChunkSlots; ++slot)
                if ((header.used >> slot & 1) != 0) TRY(slot_in_use(chunk, slot, header));
        if (header.used == 1) {
            work_.tell(offset, 0, "chunk %lu of the %s, without anything in use, was dropped",
                       header.chunk, name());
            return {};
        }
        chunks_.emplace(header.chunk, Found{offset, header.used, header.pending});
        work_.writer.seal(header);
        if (std::memcmp(&header, &chunk.header, sizeof header) != 0)
            TRY(work_.writer.stage_value(offset, header));
        return {};
    }

    // One by one: a media error takes what it hits.
    void read_slots(std::uint64_t offset, Chunk& chunk) const {
        const auto bytes = std::as_writable_bytes(std::span(&chunk, 1));
        for (std::size_t slot = 0; slot < media::kChunkSlots; ++slot)
            (void)work_.region.read(offset + slot * media::kSlotBytes,
                                    bytes.subspan(slot * media::kSlotBytes, media::kSlotBytes));
    }

    // Inodes with names prove their slots in use, and know in which chunk they are.
    bool header_of_inodes(const Chunk& chunk, std::uint64_t offset,
                          media::ChunkHeader& header) const {
        header = {};
        header.magic = media::kChunkMagic;
        header.own_offset = offset;
        header.table = table_;
        bool any = false;
        for (unsigned slot = 1; slot < media::kChunkSlots; ++slot) {
            const media::Inode inode = inode_in(chunk, slot);
            const std::uint64_t index = inode.ino / media::kChunkSlots;
            if (!work_.is_whole(inode, media::kInodeMagic) || inode.nlink == 0 ||
                inode.ino % media::kChunkSlots != slot || (any && index != header.chunk))
                continue;
            any = true;
            header.chunk = index;
            header.used = static_cast<media::le16>(header.used | 1u << slot);
        }
        return any;
    }

    static media::Inode inode_in(const Chunk& chunk, unsigned slot) {
        media::Inode inode;
        std::memcpy(&inode, chunk.slots[slot - 1].data(), sizeof inode);
        return inode;
    }

    Expected<void> slot_in_use(const Chunk& chunk, unsigned slot, media::ChunkHeader& header) {
        media::Inode inode = inode_in(chunk, slot);
        const std::uint64_t ino = header.chunk * media::kChunkSlots + slot;
        const std::uint64_t offset = header.own_offset + slot * media::kSlotBytes;
        const auto bit = static_cast<media::le16>(1u << slot);
        if (!work_.is_whole(inode, media::kInodeMagic) || inode.ino != ino) {
            if (!doubtful_inodes_.mend(inode, ino)) {
                header.used = static_cast<media::le16>(header.used & ~bit);
                work_.tell(offset, ino, "the inode cannot be read: its slot is free now");
                return {};
            }
            TRY(work_.writer.stage_unit(offset, inode));
            work_.doubt(ino);
            work_.tell(offset, ino,
                       "the inode's checksum was wrong; what it says can be, and was kept; it is "
                       "root's alone now");
        }
        if (inode.nlink == 0 || (inode.flags & media::kInodeCutting) != 0)
            header.pending = static_cast<media::le16>(header.pending | bit);
        return {};
    }

    Expected<void> look_for_lost() {
        std::vector<std::uint64_t> offsets;
        work_.for_each_lost([&](std::uint64_t offset, const AnyBlock& block) {
            media::ChunkHeader header;
            std::memcpy(&header, &block, sizeof header);
            const bool is_ours =
                work_.is_whole(header, media::kChunkMagic)
                    ? header.table == table_ && header.chunk < kWindowMax &&
                          !chunks_.contains(header.chunk)
                    : table_ == media::kTableInodes && header.magic != media::kBlockMagic;
            if (is_ours && !seen_.contains(offset)) offsets.push_back(offset);
        });
        for (const std::uint64_t offset : offsets) {
            TRY(chunk(offset));
            work_.tell(offset, 0, "a lost chunk of the %s was found", name());
        }
        return {};
    }

    Expected<void> write() {
        std::map<std::uint64_t, std::uint64_t> entries;  // of one level: index, entry
        std::uint64_t window = 0;
        for (const auto& [index, found] : chunks_) {
            entries[index] = found.offset | (found.used != 0xffff ? media::kTableHasFree : 0) |
                             (found.pending != 0 ? media::kTableHasPending : 0);
            window = index + 1;
        }
        media::TableRoot& root = of(work_.state);
        root.levels = 0;
        while (!entries.empty() && (entries.size() > 1 || !entries.contains(0)))
            entries = TRY(write_level(entries, ++root.levels));
        root.root = entries.empty() ? 0 : entries.begin()->second;
        if (root.window_chunks < window || root.window_chunks > kWindowMax)
            root.window_chunks = window;
        root.reserved = 0;
        return work_.stage_state();
    }

    Expected<std::map<std::uint64_t, std::uint64_t>> write_level(
        const std::map<std::uint64_t, std::uint64_t>& entries, unsigned level) {
        std::map<std::uint64_t, std::uint64_t> above;
        for (auto entry = entries.begin(); entry != entries.end();) {
            const std::uint64_t node = entry->first / media::kTableFanOut;
            media::TableIndex index{};
            std::uint64_t bits = 0;
            std::size_t used = 0;
            for (; entry != entries.end() && entry->first / media::kTableFanOut == node; ++entry) {
                index.entries[entry->first % media::kTableFanOut] = entry->second;
                bits |= entry->second & media::kTableFlags;
                ++used;
            }
            if (used != media::kTableFanOut) bits |= media::kTableHasFree;
            const std::uint64_t block = TRY(work_.writer.allocate());
            index.header = work_.header(media::BlockKind::table_index, block, level,
                                        used * sizeof(media::le64), table_, 0);
            work_.writer.seal_block(index);
            TRY(work_.writer.store_new(block, index));
            above[node] = block * kBlockBytes | bits;
        }
        return above;
    }

    Work& work_;
    std::uint64_t table_;
    bool gap_ = false;
    bool must_look_ = false;
    bool refused_ = false;  // records that cannot be read may be of this boot
    std::set<std::uint64_t> seen_;
    std::vector<std::uint64_t> doubtful_;
    DoubtfulInodes doubtful_inodes_{work_};
    std::map<std::uint64_t, Found> chunks_;
};

bool has_one_of(const Work& work, std::initializer_list<FindingKind> kinds) {
    return std::ranges::any_of(work.findings(), [&](const Finding& finding) {
        return std::ranges::find(kinds, finding.kind) != kinds.end();
    });
}

// Index and chunk headers are as they must be. (Not: what stands in the slots.)
bool is_right(Work& work, std::uint64_t table) {
    CheckReport report;
    checking::Findings count(report, 0);
    const checking::Image image(work.survey.image, count);
    checking::Claims claims(image.blocks(), 1);
    claim_fixed_areas(image, claims);
    bool pending = false;  // which records never are
    const bool is_of_inodes = table == media::kTableInodes;
    const bool complete = checking::TableWalk(image, claims, table)
                              .walk(is_of_inodes ? work.state.inodes : work.state.records,
                                    [&](const Chunk& chunk, std::uint64_t, std::uint64_t, bool) {
                                        pending |= !is_of_inodes && chunk.header.pending != 0;
                                    });
    return complete && report.clean() && !pending && claims.shared().empty();
}

}  // namespace

Expected<bool> repair_table(Work& work, std::uint64_t table,
                            const std::map<std::uint64_t, std::uint64_t>& extra) {
    using Kind = FindingKind;
    const bool names_are_missing = has_one_of(work, {Kind::root_directory, Kind::entry_dangling});
    const bool slots_are_wrong =
        table == media::kTableInodes &&
        (names_are_missing || has_one_of(work, {Kind::inode_damaged, Kind::chunk_pending}));
    if (extra.empty() && !slots_are_wrong && is_right(work, table)) return false;
    TableRepair repair(work, table);
    if (names_are_missing || has_one_of(work, {Kind::table_node_damaged})) repair.look_for_all();
    return repair.run(extra);
}

}  // namespace pinfs::repairing

// SPDX-License-Identifier: Apache-2.0
//
// What stands at fixed places: superblocks, journal, state, finished requests.
#include <algorithm>
#include <array>

#include "fs/format/record.h"
#include "fs/repair/work.h"

namespace pinfs::repairing {
namespace {

constexpr std::uint64_t kGenerationBatch = 4096;

struct SuperBlock {
    media::Superblock superblock;
    std::array<media::u8, kBlockBytes - sizeof(media::Superblock)> rest;
};
static_assert(sizeof(SuperBlock) == kBlockBytes);

// The root of a table that nobody names any more: of its index blocks the one that no other points
// to, else chunk 0.
class RootSearch {
public:
    void add(std::uint64_t table, std::uint64_t offset, const AnyBlock& block) {
        if (block.header.magic == media::kChunkMagic) {
            media::ChunkHeader header;
            std::memcpy(&header, &block, sizeof header);
            if (header.table == table && header.chunk == 0 && chunk_ == 0) chunk_ = offset;
            return;
        }
        if (block.header.magic != media::kBlockMagic ||
            block.header.kind != static_cast<media::le16>(media::BlockKind::table_index) ||
            block.header.owner != table)
            return;
        levels_[offset] = block.header.level;
        media::TableIndex index;
        std::memcpy(&index, &block, sizeof index);
        for (const std::uint64_t entry : index.entries)
            if (entry != 0) below_.insert(entry & ~media::kTableFlags);
    }
    [[nodiscard]] media::TableRoot found() const {
        media::TableRoot root{};
        root.root = chunk_;
        for (const auto& [offset, level] : levels_)
            if (!below_.contains(offset) && level > root.levels) {
                root.root = offset;
                root.levels = level;
            }
        return root;
    }

private:
    std::uint64_t chunk_ = 0;
    std::map<std::uint64_t, unsigned> levels_;
    std::set<std::uint64_t> below_;
};

// Without a state block nothing is claimed but what has a fixed place.
void find_roots(Work& work, media::State& state) {
    RootSearch inodes;
    RootSearch records;
    work.survey.claims.emplace(work.survey.image.blocks());
    claim_fixed_areas(work.survey.image, *work.survey.claims);
    work.for_each_lost([&](std::uint64_t offset, const AnyBlock& block) {
        inodes.add(media::kTableInodes, offset, block);
        records.add(media::kTableRecords, offset, block);
    });
    state.inodes = inodes.found();
    state.records = records.found();
}

}  // namespace

Expected<bool> repair_superblocks(Work& work) {
    pmem::Region& region = work.region;
    SuperBlock block{};
    block.superblock = work.super();
    std::fill(std::begin(block.superblock.reserved), std::end(block.superblock.reserved), 0);
    auto* const label_end =
        std::find(std::begin(block.superblock.label), std::end(block.superblock.label), 0);
    std::fill(label_end, std::end(block.superblock.label), 0);
    // The one we did not believe first: a crash leaves the other.
    const bool from_copy = block.superblock.own_offset != 0;
    for (const bool copy : {!from_copy, from_copy}) {
        const std::uint64_t offset = copy ? media::kSuperCopyOffset : 0;
        block.superblock.own_offset = offset;
        block.superblock.crc32c =
            unit_checksum(0xffffffff, std::as_bytes(std::span(&block.superblock, 1)));
        SuperBlock old;
        if (work.read(offset, old) && std::memcmp(&old, &block, sizeof old) == 0) continue;
        TRY(region.store_flush(offset, std::as_bytes(std::span(&block, 1))));
        region.fence();
        work.tell(offset, 0, "the superblock%s was written anew", copy ? "'s copy" : "");
    }
    return true;
}

Expected<bool> replay_journal(Work& work) {
    const checking::Journal& journal = *work.survey.journal;
    for (const auto& log : journal.logs())
        for (const auto& record : log.records)
            TRY(work.region.store_flush(record.offset, record.bytes));
    work.region.fence();
    const media::Superblock& super = work.super();
    for (std::uint64_t lane = 0; lane < super.lane_count; ++lane) {
        const std::uint64_t seal_at =
            super.lanes_offset + lane * super.lane_bytes + media::kSealOffset;
        std::uint64_t seal = 0;
        // One that cannot be read is written anew with the totals.
        if (work.read(seal_at, seal)) TRY(work.region.store8_flush(seal_at, 0));
    }
    work.region.fence();
    const std::uint64_t dropped = journal.sealed() - journal.logs().size();
    work.tell(super.lanes_offset, 0,
              "%zu journal logs were replayed, %lu that are damaged were "
              "dropped",
              journal.logs().size(), dropped);
    return true;
}

Expected<bool> repair_state(Work& work) {
    const std::uint64_t offset = work.super().state_offset;
    media::State& state = work.state;
    const bool is_damaged = !work.survey.state;
    if (is_damaged) {
        // Nothing of it can be trusted, nor must be: the roots are found, limits are raised to what
        // is there, and the next mount writes the rest.
        state = {};
        find_roots(work, state);
        state.header = work.header(media::BlockKind::state, offset / kBlockBytes, 0, 0, 0, 0);
        state.mounted = 1;
    }
    if (state.mounted > 1) state.mounted = 1;
    if (state.generation_limit == 0) state.generation_limit = 1;
    const bool list_is_wrong = std::ranges::any_of(work.findings(), [](const Finding& finding) {
        return finding.kind == FindingKind::state_bad_blocks;
    });
    if (list_is_wrong) {
        // Whoever meets one of them again lists it again.
        state.bad_ranges = 0;
        state.bad_unlisted = 0;
        std::ranges::fill(state.bad, media::BadRange{});
    }
    TRY(work.stage_state());
    TRY(work.writer.commit());
    work.tell(offset, 0,
              is_damaged ? "the state block was made anew" : "the state block was mended");
    return true;
}

Expected<bool> repair_finished_requests(Work& work) {
    const std::uint64_t begin = work.super().finished_offset;
    std::set<std::uint64_t> offsets;
    for (const Finding& finding : work.findings())
        if (finding.kind == FindingKind::finished_request) offsets.insert(finding.offset);
    const media::FinishedRequest unused{};
    if (offsets.empty())  // not even readable
        for (std::size_t i = 0; i < media::kFinishedSlots; ++i)
            offsets.insert(begin + i * sizeof unused);
    for (const std::uint64_t offset : offsets) {
        TRY(work.writer.stage_value(offset, unused));
        work.tell(offset, 0, "a finished request was forgotten");
    }
    TRY(work.writer.commit());
    return true;
}

}  // namespace pinfs::repairing

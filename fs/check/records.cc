// SPDX-License-Identifier: Apache-2.0
//
// Records of maps, pins and holds: their fields, the files they name, the blocks that holds own.
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "fs/check/table.h"
#include "fs/check/walk.h"
#include "fs/format/record.h"

namespace pinfs::checking {
namespace {

constexpr std::uint64_t kFileBlocksMax = std::uint64_t{1} << 32;

bool is_kind(const media::Record& record, media::RecordKind kind) {
    return record.kind == static_cast<media::le16>(kind);
}

void judge_fields(Walk& walk, const media::Record& record, std::uint64_t offset) {
    const auto wrong = [&](const char* field, std::uint64_t value) {
        walk.findings().add(FindingKind::record_field, offset, record.ino,
                            "the %s of record %lu cannot be %lu", field, record.id, value);
    };
    const auto is_generation = [&](std::uint64_t generation) {
        return generation < walk.state.generation_limit && (generation & 0xffffffff) != 0;
    };
    if (record.kind < static_cast<media::le16>(media::RecordKind::map) ||
        record.kind > static_cast<media::le16>(media::RecordKind::hold))
        wrong("kind", record.kind);
    if ((record.flags & ~media::kRecordFlagsKnown) != 0) wrong("flags", record.flags);
    if (is_kind(record, media::RecordKind::pin) && record.count == 0) wrong("count", record.count);
    if (!is_generation(record.generation)) wrong("generation", record.generation);
    if (!is_generation(record.ino_generation)) wrong("inode's generation", record.ino_generation);
    if (record.blocks == 0 || record.file_block >= kFileBlocksMax ||
        record.blocks > kFileBlocksMax - record.file_block) {
        walk.findings().add(FindingKind::record_field, offset, record.ino,
                            "record %lu names %lu file blocks from %lu on", record.id,
                            record.blocks, record.file_block);
    }
    if (is_kind(record, media::RecordKind::hold)) return;

    if (record.start_block != 0) wrong("first region block", record.start_block);
    const InodeNote* const file = walk.inodes.find(record.ino);
    if (file != nullptr && file->state == InodeNote::State::damaged) return;
    if (file == nullptr || file->state == InodeNote::State::unused || file->type != S_IFREG >> 12 ||
        file->generation != record.ino_generation)
        walk.findings().add(FindingKind::record_field, offset, record.ino,
                            "record %lu is of generation %lu of a file that is not in use",
                            record.id, record.ino_generation);
}

void claim_hold(Walk& walk, const media::Record& record, std::uint64_t offset,
                std::uint64_t number) {
    const std::uint64_t blocks = walk.image.blocks();
    if (record.start_block == 0 || record.start_block >= blocks || record.blocks == 0 ||
        record.blocks > blocks - record.start_block) {
        walk.findings().add(FindingKind::block_outside, offset, record.ino,
                            "hold %lu names region blocks [%lu, +%lu), not inside the region",
                            record.id, record.start_block, record.blocks);
        return;
    }
    walk.claims.take(record.start_block, record.blocks, {OwnerKind::hold, number});
}

}  // namespace

void walk_records(Walk& walk) {
    struct Given {
        std::uint64_t id;
        std::uint64_t offset;
    };
    std::vector<Given> ids;
    TableWalk table(walk.image, walk.claims, media::kTableRecords);
    const auto judge = [&](const media::Record& record, std::uint64_t offset,
                           std::uint64_t number) {
        ++walk.totals.records;
        if (record.magic != media::kRecordMagic || !walk.image.sum_matches(record)) {
            walk.findings().add(FindingKind::record_damaged, offset, 0,
                                "record slot %lu is in use, but the magic or checksum is wrong",
                                number);
            return;
        }
        judge_fields(walk, record, offset);
        if (record.id == 0 || record.id >= walk.state.record_id_limit)
            walk.findings().add(FindingKind::record_id, offset, record.ino,
                                "the record's id cannot be %lu (the limit is %lu)", record.id,
                                walk.state.record_id_limit);
        ids.push_back({record.id, offset});
        if (is_kind(record, media::RecordKind::hold)) claim_hold(walk, record, offset, number);
    };
    table.walk(walk.state.records, [&](const Chunk& chunk, std::uint64_t offset,
                                       std::uint64_t index, bool header_whole) {
        if (!header_whole) return;
        if (chunk.header.pending != 0)
            walk.findings().add(FindingKind::chunk_pending, offset, 0,
                                "chunk %lu of the record table has pending slots, 0x%04x", index,
                                chunk.header.pending);
        for (std::size_t slot = 1; slot < media::kChunkSlots; ++slot) {
            if ((chunk.header.used >> slot & 1) == 0) continue;
            media::Record record;
            std::memcpy(&record, chunk.slots[slot - 1].data(), sizeof record);
            judge(record, offset + slot * media::kSlotBytes, index * media::kChunkSlots + slot);
        }
    });
    std::sort(ids.begin(), ids.end(), [](const Given& a, const Given& b) { return a.id < b.id; });
    for (std::size_t i = 1; i < ids.size(); ++i)
        if (ids[i].id == ids[i - 1].id)
            walk.findings().add(FindingKind::record_id, ids[i].offset, 0,
                                "the record's id, %lu, is also that of the one at %lu", ids[i].id,
                                ids[i - 1].offset);
}

}  // namespace pinfs::checking

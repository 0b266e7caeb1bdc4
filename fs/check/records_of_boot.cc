// SPDX-License-Identifier: Apache-2.0
#include "fs/check/records_of_boot.h"

#include <cstring>
#include <new>

#include "fs/check/check.h"
#include "fs/check/journal.h"
#include "fs/check/state.h"
#include "fs/check/superblock.h"
#include "fs/check/table.h"
#include "fs/check/walk.h"
#include "fs/format/record.h"

namespace pinfs {
namespace {

using namespace checking;

void add(RecordsOfBoot& found, const Image& image, const media::Record& record,
         const BootId& boot_id) {
    if (record.magic != media::kRecordMagic || !image.sum_matches(record) ||
        std::memcmp(record.boot_id, boot_id.data(), boot_id.size()) != 0)
        return;
    ++found.count;
    if (found.pid != 0) return;
    found.pid = record.pid;
    const auto* const command = reinterpret_cast<const char*>(record.command);
    found.command.assign(command, strnlen(command, sizeof record.command));
}

RecordsOfBoot find(const Image& image, const BootId& boot_id) {
    RecordsOfBoot found;
    const std::optional<media::State> state = judge_state(image);
    if (!state) return found;
    Claims claims(image.blocks());
    claim_fixed_areas(image, claims);
    TableWalk table(image, claims, media::kTableRecords);
    table.walk(state->records,
               [&](const Chunk& chunk, std::uint64_t, std::uint64_t, bool header_whole) {
                   for (std::size_t slot = 1; header_whole && slot < media::kChunkSlots; ++slot) {
                       if ((chunk.header.used >> slot & 1) == 0) continue;
                       media::Record record;
                       std::memcpy(&record, chunk.slots[slot - 1].data(), sizeof record);
                       add(found, image, record, boot_id);
                   }
               });
    return found;
}

}  // namespace

Expected<RecordsOfBoot> records_of_boot(pmem::Region& region, const BootId& boot_id) {
    if (region.bytes() < media::kRegionBytesMin) return fail(Cause::region_too_small);
    try {
        CheckReport unheard;
        Findings silent(unheard, 0);
        Image image(region, silent);
        const auto superblock = TRY(judge_superblocks(image, region.bytes()));
        if (!superblock) return RecordsOfBoot{};
        image.set_superblock(*superblock);
        const Journal journal(image);
        return find(image, boot_id);
    } catch (const std::bad_alloc&) {
        return fail(Cause::out_of_memory);
    }
}

}  // namespace pinfs

// SPDX-License-Identifier: Apache-2.0
//
// Records of maps, pins and holds. None is of this boot, so that all they may still say is which
// blocks to free: what cannot be right is dropped, and its blocks are lost ones.
#include <sys/stat.h>

#include <algorithm>

#include "fs/format/record.h"
#include "fs/repair/work.h"

namespace pinfs::repairing {
Expected<bool> repair_records(Work& work) {
    std::set<std::uint64_t> wrong;  // offsets of slots
    for (const Finding& finding : work.findings()) {
        if (finding.offset % kBlockBytes == 0 || finding.offset % media::kSlotBytes != 0) continue;
        media::Record record;
        media::ChunkHeader header;
        const std::uint64_t chunk = finding.offset / kBlockBytes * kBlockBytes;
        if (!work.read(chunk, header) || !work.is_whole(header, media::kChunkMagic) ||
            header.table != media::kTableRecords)
            continue;
        const bool whole =
            work.read(finding.offset, record) && work.is_whole(record, media::kRecordMagic);
        if (!whole && work.may_have_records_of_this_boot()) continue;
        wrong.insert(finding.offset);
    }
    std::set<std::uint64_t> numbers;
    for (const auto& watched : work.survey.shared)
        for (const checking::Owner& owner : watched.owners)
            if (owner.kind == checking::OwnerKind::hold) numbers.insert(owner.id);
    CheckReport unheard;
    checking::Findings silent(unheard, 0);
    const checking::Image image(work.survey.image, silent);
    checking::Claims claims(image.blocks());
    claim_fixed_areas(image, claims);
    if (!numbers.empty())
        checking::TableWalk(image, claims, media::kTableRecords)
            .walk(work.state.records,
                  [&](const checking::Chunk&, std::uint64_t offset, std::uint64_t index, bool) {
                      for (unsigned slot = 1; slot < media::kChunkSlots; ++slot)
                          if (numbers.contains(index * media::kChunkSlots + slot))
                              wrong.insert(offset + slot * media::kSlotBytes);
                  });

    std::map<std::uint64_t, media::ChunkHeader> headers;
    for (const std::uint64_t offset : wrong) {
        const std::uint64_t chunk = offset / kBlockBytes * kBlockBytes;
        const auto [place, is_new] = headers.try_emplace(chunk);
        if (is_new && !work.read(chunk, place->second)) return fail(Cause::media_error, chunk);
        const unsigned slot = static_cast<unsigned>(offset % kBlockBytes / media::kSlotBytes);
        place->second.used = static_cast<media::le16>(place->second.used & ~(1u << slot));
        work.tell(offset, 0, "a record of a map, pin or hold was dropped");
    }
    for (auto& [offset, header] : headers) TRY(work.writer.stage_unit(offset, header));
    TRY(work.writer.commit());
    return !wrong.empty();
}

}  // namespace pinfs::repairing

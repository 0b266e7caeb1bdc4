// SPDX-License-Identifier: Apache-2.0
//
// Maps, pins and holds that a mount finds on record (SPEC 3.10): what a living process of this boot
// owns goes on; what nobody owns any more ends by proof; what is of another boot ended with it.
#include <cstring>

#include "fs/pin/process.h"
#include "fs/volume/core.h"
#include "fs/volume/records.h"

namespace pinfs {

namespace {

constexpr std::uint64_t kFormerContext = std::uint64_t{1} << 63;

/// Its range is one of a file, and a hold's one of the region's `blocks`.
bool is_possible(const media::Record& record, std::uint64_t blocks) {
    constexpr std::uint64_t kFileBlocksMax = kFileBytesMax / kBlockBytes;
    if (record.blocks == 0 || record.file_block >= kFileBlocksMax ||
        record.blocks > kFileBlocksMax - record.file_block)
        return false;
    return record.kind != static_cast<media::le16>(media::RecordKind::hold) ||
           (record.start_block != 0 && record.start_block < blocks &&
            record.blocks <= blocks - record.start_block);
}

}  // namespace

Expected<void> Volume::Core::load_records() {
    TRY(records_.load());
    struct Found {
        media::Record record;
        inode::Table::Slot slot;
    };
    std::vector<Found> found;
    {
        const TableLock lock{table_mutex_};
        TRY(records_.for_each([&](const inode::Table::Slot& slot) -> Expected<void> {
            Found each{.record = {}, .slot = slot};
            TRY(units_.read(slot.offset, media::kRecordMagic,
                            std::as_writable_bytes(std::span{&each.record, 1})));
            if (!is_possible(each.record, super_.region_bytes / kBlockBytes))
                return fail(Cause::media_corrupt, slot.offset, each.record.ino);
            found.push_back(each);
            return {};
        }));
        records_.set_used(found.size());
    }
    if (read_only_) return {};
    records_known_ = true;
    std::vector<inode::Table::Slot> ended;
    for (const auto& [record, slot] : found) {
        const bool ours =
            std::memcmp(record.boot_id, boot_id_.data(), boot_id_.size()) == 0 &&
            std::memcmp(record.machine_id, machine_id_.data(), machine_id_.size()) == 0;
        if (record.kind == static_cast<media::le16>(media::RecordKind::hold)) {
            auto hold = hold_of(record, slot);
            hold->needs_proof = ours;
            const PinsLock lock{pins_mutex_};
            registry_.add_hold(std::move(hold));
        } else if (ours) {
            recover(record, slot);
        } else {
            ended.push_back(slot);
        }
    }
    const PinsLock lock{pins_mutex_};
    link_holds();
    return erase_slots(ended);
}

/// Enters a map or pin of this boot.
void Volume::Core::recover(const media::Record& record, const inode::Table::Slot& slot) {
    auto reference = reference_of(record, slot);
    if (const Survivors* const survivors = options_.supervision.survivors) {
        const auto guard = survivors->guards_of_maps.find(reference->id);
        if (guard != survivors->guards_of_maps.end()) reference->guard = guard->second;
    }
    const Survival survival = survival_of(*reference);
    const bool of_context = reference->owner.context != 0;
    // Numbers of contexts begin anew with each mount: that one is no context of ours.
    if (of_context && survival == Survival::unknown) reference->owner.context |= kFormerContext;
    if (survival == Survival::lives && reference->state == pin::ReferenceState::recovered)
        reference->state = pin::ReferenceState::live;
    const bool owned_by_context = of_context && survival == Survival::lives;
    if (survival == Survival::ended ||
        (!owned_by_context && !pin::is_alive(reference->owner.process))) {
        if (reference->state != pin::ReferenceState::gone) unwritten_gone_.push_back(reference->id);
        reference->state = pin::ReferenceState::gone;
        reference->gone_ns = monotonic_ns();
    }
    const bool owned = reference->state != pin::ReferenceState::gone;
    const Use state = use(Ino{reference->ino});
    state->parent.store(record.parent);
    state->name_key.store(record.name_key);
    state->watched.store(true);
    states_.add_record(*state, owned);
    const PinsLock lock{pins_mutex_};
    registry_.charges.add_found(reference->owner.uid, reference->end - reference->begin);
    registry_.add(std::move(reference));
}

/// A hold waits for the maps that were there before it, of the same part of the same file.
void Volume::Core::link_holds() {
    for (const auto& entry : registry_.holds()) {
        pin::Hold& hold = *entry.second;
        const pin::FilePins* const file = registry_.find(hold.ino);
        if (file == nullptr) continue;
        const std::uint64_t begin = hold.file_block * kBlockBytes;
        file->maps.for_each(begin, begin + hold.bytes(), [&](const pin::Map& map) {
            if (map.id < hold.id && map.ino_generation == hold.ino_generation)
                registry_.wait_for(hold, map.id);
            return true;
        });
    }
}

Expected<void> Volume::Core::erase_slots(const std::vector<inode::Table::Slot>& slots) {
    constexpr std::size_t kLogBytes = 2048;  // one slot, its chunk and the index above
    const TableLock table_lock{table_mutex_};
    for (auto next = slots.begin(); next != slots.end();) {
        Change one = change(space::Reserve::use);
        for (; next != slots.end() && one.has_room(kLogBytes); ++next)
            TRY(erase_record(one, next->number, next->offset));
        TRY(one.commit());
    }
    return {};
}

}  // namespace pinfs

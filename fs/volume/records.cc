// SPDX-License-Identifier: Apache-2.0
//
// Maps, pins and holds on media (format/record.h): written before a call that makes one answers,
// erased when it ends.
#include "fs/volume/records.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "fs/volume/core.h"

namespace pinfs {

namespace {

/// Ids that the records of one change may take, every other number; what fits a lane is less.
constexpr std::uint64_t kIdsPerChange = 4096;
constexpr std::uint64_t kIdsBatch = 8192;
/// Log bytes for one record's slot, chunk header and the index above, and the bitmaps of five
/// groups.
constexpr std::size_t kEraseLogBytes = 14 * 1024;

template <std::size_t kBytes>
void set_text(media::u8 (&field)[kBytes], std::string_view text) {
    std::memcpy(field, text.data(), std::min(text.size(), kBytes));
}

template <std::size_t kBytes>
std::string text_of(const media::u8 (&field)[kBytes]) {
    const auto* text = reinterpret_cast<const char*>(field);
    return {text, strnlen(text, kBytes)};
}

void set_owner(media::Record& record, const pin::Owner& owner) {
    record.pid_namespace = owner.process.pid_namespace;
    record.start_ticks = owner.process.start_ticks;
    record.pid = owner.process.pid;
    record.uid = owner.uid;
    record.context = owner.context;
    set_text(record.command, owner.command);
}

pin::Owner owner_of(const media::Record& record) {
    return {.context = record.context,
            .process = {.pid = record.pid,
                        .start_ticks = record.start_ticks,
                        .pid_namespace = record.pid_namespace},
            .uid = record.uid,
            .command = text_of(record.command)};
}

void fill(media::Record& record, const pin::Reference& reference) {
    const bool is_pin = reference.kind == pin::ReferenceKind::pin;
    record.kind =
        static_cast<media::le16>(is_pin ? media::RecordKind::pin : media::RecordKind::map);
    record.flags = static_cast<media::le16>(
        (reference.writable ? media::kRecordWritable : 0) |
        (reference.self_flushed ? media::kRecordSelfFlushed : 0) |
        (is_pin && reference.owner.context == 0 ? media::kRecordProcessOwned : 0) |
        (reference.shared ? media::kRecordShared : 0) |
        (reference.state == pin::ReferenceState::gone ? media::kRecordGone : 0));
    record.count = is_pin ? 1 : 0;
    record.id = reference.id;
    record.generation = reference.generation;
    record.ino = reference.ino;
    record.ino_generation = reference.ino_generation;
    record.file_block = reference.begin / kBlockBytes;
    record.blocks = (reference.end - reference.begin) / kBlockBytes;
    record.made_seconds = reference.made_seconds;
    set_owner(record, reference.owner);
    std::ranges::copy(reference.secret, record.secret);
    record.descriptor = reference.descriptor;
    record.user_data = reference.user_data;
    set_text(record.label, reference.label);
}

void fill(media::Record& record, const pin::Hold& hold) {
    record.kind = static_cast<media::le16>(media::RecordKind::hold);
    record.id = hold.id;
    record.generation = hold.generation;
    record.ino = hold.ino;
    record.ino_generation = hold.ino_generation;
    record.file_block = hold.file_block;
    record.blocks = hold.run.count;
    record.start_block = hold.run.begin;
    record.made_seconds = hold.made_seconds;
    set_owner(record, hold.owner);
    record.descriptor = UINT32_MAX;
}

}  // namespace

std::unique_ptr<pin::Reference> reference_of(const media::Record& record,
                                             const inode::Table::Slot& slot) {
    auto reference = std::make_unique<pin::Reference>();
    reference->begin = record.file_block * kBlockBytes;
    reference->end = reference->begin + record.blocks * kBlockBytes;
    reference->kind = record.kind == static_cast<media::le16>(media::RecordKind::pin)
                          ? pin::ReferenceKind::pin
                          : pin::ReferenceKind::map;
    reference->state = (record.flags & media::kRecordGone) != 0 ? pin::ReferenceState::gone
                                                                : pin::ReferenceState::recovered;
    reference->id = record.id;
    reference->generation = record.generation;
    reference->ino = record.ino;
    reference->ino_generation = record.ino_generation;
    reference->owner = owner_of(record);
    reference->user_data = record.user_data;
    reference->made_seconds = record.made_seconds;
    reference->writable = (record.flags & media::kRecordWritable) != 0;
    reference->self_flushed = (record.flags & media::kRecordSelfFlushed) != 0;
    reference->shared = (record.flags & media::kRecordShared) != 0;
    reference->slot = slot.number;
    reference->slot_offset = slot.offset;
    std::ranges::copy(record.secret, reference->secret.begin());
    reference->descriptor = record.descriptor;
    reference->label = text_of(record.label);
    return reference;
}

std::unique_ptr<pin::Hold> hold_of(const media::Record& record, const inode::Table::Slot& slot) {
    auto hold = std::make_unique<pin::Hold>();
    hold->id = record.id;
    hold->generation = record.generation;
    hold->ino = record.ino;
    hold->ino_generation = record.ino_generation;
    hold->file_block = record.file_block;
    hold->run = {record.start_block, record.blocks};
    hold->owner = owner_of(record);
    hold->made_seconds = record.made_seconds;
    hold->needs_proof = true;
    hold->may_be_mapped = true;
    hold->slot = slot.number;
    hold->slot_offset = slot.offset;
    return hold;
}

Expected<void> Volume::Core::prepare_records() {
    while (record_id_limit_ - next_record_id_ < kIdsPerChange ||
           generation_limit_ - next_generation_ < kIdsPerChange) {
        Change one = change(space::Reserve::use);
        const auto bytes = TRY(one.transaction().edit_block(
            super_.state_offset, {.kind = media::BlockKind::state, .owner = 0, .generation = 0}));
        auto& state = *reinterpret_cast<media::State*>(bytes.data());
        if (record_id_limit_ - next_record_id_ < kIdsPerChange) state.record_id_limit += kIdsBatch;
        if (generation_limit_ - next_generation_ < kIdsPerChange)
            state.generation_limit += kIdsBatch;
        const media::State after = state;
        TRY(one.commit());
        record_id_limit_ = after.record_id_limit;
        generation_limit_ = after.generation_limit;
    }
    return {};
}

std::uint64_t Volume::Core::take_record_id() {
    const std::uint64_t id = next_record_id_ + (next_record_id_ & 1);
    assert(id < record_id_limit_);
    next_record_id_ = id + 1;
    return id;
}

std::uint64_t Volume::Core::take_generation() {
    assert(next_generation_ + 1 < generation_limit_);
    while ((next_generation_ & UINT32_MAX) == 0) ++next_generation_;
    return next_generation_++;
}

Expected<void> Volume::Core::store_record(Change& change, media::Record& wanted,
                                          inode::Table::Slot& slot) {
    slot = TRY(records_.allocate(change));
    auto& record = *reinterpret_cast<media::Record*>(
        change.transaction().create(slot.offset, sizeof(media::Record)).data());
    std::ranges::copy(boot_id_, wanted.boot_id);
    std::ranges::copy(machine_id_, wanted.machine_id);
    wanted.magic = media::kRecordMagic;
    record = wanted;
    return {};
}

Expected<void> Volume::Core::store_hold(Change& change, std::unique_ptr<pin::Hold> hold) {
    hold->id = take_record_id();
    hold->generation = take_generation();
    hold->made_seconds = now().seconds;
    hold->made_ns = monotonic_ns();
    media::Record record{};
    fill(record, *hold);
    inode::Table::Slot slot{};
    TRY(store_record(change, record, slot));
    hold->slot = slot.number;
    hold->slot_offset = slot.offset;
    // (An action is copied; it runs once.)
    auto shared = std::make_shared<std::unique_ptr<pin::Hold>>(std::move(hold));
    change.after_commit([this, shared] {
        registry_.add_hold(std::move(*shared));
        disturb_keeper();
    });
    return {};
}

Expected<void> Volume::Core::store_reference(Change& change, InodeState& state,
                                             std::unique_ptr<pin::Reference> reference) {
    media::Record record{};
    fill(record, *reference);
    record.parent = state.parent.load();
    record.name_key = state.name_key.load();
    inode::Table::Slot slot{};
    TRY(store_record(change, record, slot));
    reference->slot = slot.number;
    reference->slot_offset = slot.offset;
    auto shared = std::make_shared<std::unique_ptr<pin::Reference>>(std::move(reference));
    change.after_commit([this, shared, &state] {
        registry_.add(std::move(*shared));
        states_.add_record(state, /*owned=*/true);
        state.watched.store(true);
    });
    return {};
}

Expected<void> Volume::Core::update_record(Change& change, const pin::Reference& reference) {
    const auto bytes = TRY(change.transaction().edit(reference.slot_offset, media::kRecordMagic,
                                                     sizeof(media::Record)));
    auto& record = *reinterpret_cast<media::Record*>(bytes.data());
    if (record.id != reference.id) return fail(Cause::media_corrupt, reference.slot_offset);
    fill(record, reference);
    return {};
}

Expected<void> Volume::Core::erase_record(Change& change, std::uint64_t slot,
                                          std::uint64_t slot_offset) {
    change.transaction().drop(slot_offset);
    return records_.release(change, slot);
}

Expected<void> Volume::Core::end_reference(InodeState& state, pin::Reference& reference) {
    const TableLock table_lock{table_mutex_};
    Change one = change(space::Reserve::use);
    TRY(erase_record(one, reference.slot, reference.slot_offset));
    finished_.note(one, {});
    one.after_commit([&] {
        states_.remove_record(state, reference.state != pin::ReferenceState::gone);
        registry_.remove(reference);
    });
    return one.commit();
}

/// Blocks that nobody reaches any more are free at once for who asks next.
Expected<void> Volume::Core::release_free_holds() {
    std::vector<std::uint64_t> free;
    {
        const PinsLock lock{pins_mutex_};
        free.assign(registry_.free_holds().begin(), registry_.free_holds().end());
    }
    return release_holds(free);
}

/// In as few changes as their log allows. The locks of pins and tables are free.
Expected<void> Volume::Core::release_holds(const std::vector<std::uint64_t>& ids) {
    for (auto next = ids.begin(); next != ids.end();) {
        const PinsLock pins{pins_mutex_};
        const TableLock table_lock{table_mutex_};
        Change one = change(space::Reserve::use);
        for (; next != ids.end() && one.has_room(kEraseLogBytes); ++next) {
            const pin::Hold* const hold = registry_.hold(*next);
            if (hold == nullptr || hold->kept) continue;
            TRY(erase_record(one, hold->slot, hold->slot_offset));
            one.free(hold->run);
            one.after_commit([this, id = hold->id] { registry_.remove_hold(id); });
        }
        if (!one.transaction().empty()) TRY(one.commit());
    }
    return {};
}

}  // namespace pinfs

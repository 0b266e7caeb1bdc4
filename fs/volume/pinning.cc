// SPDX-License-Identifier: Apache-2.0
//
// Pins (SPEC 3).
#include <sys/random.h>

#include <algorithm>
#include <utility>

#include "fs/volume/core.h"

namespace pinfs {

namespace {

/// Of the kernel's random bytes, fetched many at a time: a system call costs more than a pin.
pin::Secret next_secret() {
    thread_local std::array<pin::Secret, 256> secrets;
    thread_local std::size_t left = 0;
    if (left == 0) {
        // As many bytes come whole, once the kernel has any.
        auto* const bytes = secrets.data()->data();
        for (std::size_t done = 0; done < sizeof secrets;) {
            const ssize_t got = ::getrandom(bytes + done, sizeof secrets - done, 0);
            if (got > 0) done += static_cast<std::size_t>(got);
        }
        left = secrets.size();
    }
    return std::exchange(secrets[--left], {});
}

PinAnswer answer_of(const pin::Pin& pin) {
    return {.id = pin.id,
            .generation = pin.generation,
            .begin = pin.begin,
            .end = pin.end,
            .user_data = pin.user_data,
            .secret = pin.secret,
            .extent_count = 0};
}

}  // namespace

Expected<PinAnswer> Volume::Core::pin(OpenFile file, const PinRequest& request) {
    TRY(admit_change());
    if (request.length_bytes == 0 || request.offset_bytes > kFileBytesMax ||
        request.length_bytes > kFileBytesMax - request.offset_bytes)
        return fail(Cause::invalid_argument);
    const std::uint64_t wanted_end = request.offset_bytes + request.length_bytes;
    const std::uint64_t begin = round_down(request.offset_bytes, kBlockBytes);
    const std::uint64_t end = round_up(wanted_end, kBlockBytes);
    if (request.owner.context == 0 && request.owner.process.pid == 0)
        return fail(Cause::outside_namespace);
    const Use state = use(file.ino);
    TRY(read_leasable(*state));
    if (!region_.capabilities().pinnable) return fail(Cause::region_not_pinnable);
    auto pin = std::make_unique<pin::Pin>();
    pin->begin = begin;
    pin->end = end;
    pin->kind = pin::ReferenceKind::pin;
    pin->owner = request.owner;
    pin->user_data = request.user_data;
    pin->writable = request.device_writes;
    pin->descriptor = request.descriptor;
    pin->label = request.label;
    pin->secret = next_secret();
    const pin::Secret secret = pin->secret;
    const auto reached =
        TRY(reach(*state, std::move(pin), {.end_bytes = wanted_end},
                  [&](pin::Reference& wanted) -> Expected<void> {
                      const pin::FilePins* const pins = registry_.find(file.ino.value);
                      if (pins == nullptr) return fail(Cause::no_exclusive_lease);
                      wanted.shared = TRY(pins->admit_pin(file.handle, begin, end));
                      return {};
                  }));
    return PinAnswer{.id = reached.id,
                     .generation = reached.generation,
                     .begin = begin,
                     .end = end,
                     .user_data = request.user_data,
                     .secret = secret,
                     .extent_count = reached.extents.size()};
}

/// A pin of `who` that has not ended. The pins' lock is held.
pin::Pin* Volume::Core::find_pin(const pin::Owner& who, std::uint64_t id,
                                 std::uint64_t generation) {
    pin::Reference* const found = registry_.reference(id);
    const bool is_its =
        found != nullptr && found->kind == pin::ReferenceKind::pin &&
        found->state != pin::ReferenceState::gone && found->generation == generation &&
        (found->owner.context != 0 ? found->owner.context == who.context
                                   : who.process.pid != 0 && found->owner.process == who.process);
    return is_its ? found : nullptr;
}

Expected<void> Volume::Core::unpin(const pin::Owner& who, std::uint64_t id,
                                   std::uint64_t generation) {
    TRY(admit_read());
    if (finished_.of_this_thread()) return {};
    Ino ino;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    bool writable = false;
    {
        const PinsLock lock{pins_mutex_};
        const pin::Pin* const pin = find_pin(who, id, generation);
        if (pin == nullptr) return fail(Cause::no_such_record);
        ino = Ino{pin->ino};
        begin = pin->begin;
        end = pin->end;
        writable = pin->writable;
    }
    inject_delay();
    const Use state = use(ino);
    if (writable) TRY(flush_range(*state, begin, end));
    {
        const PinsLock lock{pins_mutex_};
        pin::Pin* const pin = find_pin(who, id, generation);
        if (pin == nullptr) return fail(Cause::no_such_record);
        if (writable) note_outside_change(*state);
        TRY(end_reference(*state, *pin));
        forget_if_unwatched(*state);
    }
    return {};
}

Expected<std::vector<Extent>> Volume::Core::pin_extents(const pin::Owner& who, std::uint64_t id,
                                                        std::uint64_t generation,
                                                        std::uint64_t offset_bytes,
                                                        std::uint64_t length_bytes) {
    TRY(admit_read());
    if (length_bytes > UINT64_MAX - kBlockBytes - offset_bytes)
        return fail(Cause::invalid_argument);
    Ino ino;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    {
        const PinsLock lock{pins_mutex_};
        const pin::Pin* const pin = find_pin(who, id, generation);
        if (pin == nullptr) return fail(Cause::no_such_record);
        ino = Ino{pin->ino};
        begin = std::max(pin->begin, round_down(offset_bytes, kBlockBytes));
        end = length_bytes == 0
                  ? pin->end
                  : std::min(pin->end, round_up(offset_bytes + length_bytes, kBlockBytes));
    }
    const Use state = use(ino);
    return extents_of(*state, begin, end, /*holes_too=*/false);
}

/// Makes `pin` another owner's, durably. The pins' lock is held.
Expected<PinAnswer> Volume::Core::give_pin(pin::Pin& pin, const pin::Owner& to) {
    const std::uint64_t bytes = pin.end - pin.begin;
    const MustFinish finish;
    TRY(registry_.charges.add(to.uid, bytes));
    pin::Reference changed;
    changed.kind = pin.kind;
    changed.begin = pin.begin;
    changed.end = pin.end;
    changed.state = pin::ReferenceState::live;
    changed.id = pin.id;
    changed.generation = pin.generation;
    changed.ino = pin.ino;
    changed.ino_generation = pin.ino_generation;
    changed.owner = to;
    changed.user_data = pin.user_data;
    changed.made_seconds = pin.made_seconds;
    changed.writable = pin.writable;
    changed.shared = pin.shared;
    changed.secret = pin.secret;
    changed.descriptor = pin.descriptor;
    changed.label = pin.label;
    changed.slot_offset = pin.slot_offset;
    const auto written = [&]() -> Expected<void> {
        const TableLock table_lock{table_mutex_};
        Change one = change(space::Reserve::use);
        TRY(update_record(one, changed));
        finished_.note(one, {});
        return one.commit();
    }();
    registry_.charges.remove(to.uid, bytes);  // moved with the pin, below
    if (!written) return std::unexpected(written.error());
    registry_.move(pin, to);
    return answer_of(pin);
}

Expected<PinAnswer> Volume::Core::adopt_pin(const pin::Owner& who, std::uint64_t id,
                                            std::uint64_t generation, const pin::Secret& secret) {
    TRY(admit_change());
    const PinsLock lock{pins_mutex_};
    if (registry_.context(who.context) == nullptr) return fail(Cause::no_such_context);
    pin::Reference* const pin = registry_.reference(id);
    if (pin != nullptr && finished_.of_this_thread()) return answer_of(*pin);
    if (pin == nullptr || pin->kind != pin::ReferenceKind::pin || pin->generation != generation ||
        pin->state != pin::ReferenceState::recovered)
        return fail(Cause::no_such_record);
    const bool is_owner = who.process.pid != 0 && pin->owner.process == who.process;
    // Compared whole, so that its time tells nothing.
    unsigned differs = 0;
    for (std::size_t i = 0; i < secret.size(); ++i)
        differs |= static_cast<unsigned>(secret[i] ^ pin->secret[i]);
    if (!is_owner && differs != 0) return fail(Cause::not_adoptable);
    return give_pin(*pin, who);
}

Expected<PinAnswer> Volume::Core::transfer_pin(std::uint64_t from, const pin::Owner& to,
                                               std::uint64_t id, std::uint64_t generation) {
    TRY(admit_change());
    const PinsLock lock{pins_mutex_};
    if (registry_.context(from) == nullptr || registry_.context(to.context) == nullptr)
        return fail(Cause::no_such_context);
    if (const pin::Reference* const given = registry_.reference(id);
        given != nullptr && finished_.of_this_thread())
        return answer_of(*given);
    pin::Pin* const pin =
        find_pin({.context = from, .process = {}, .uid = 0, .command = {}}, id, generation);
    if (pin == nullptr) return fail(Cause::no_such_record);
    return give_pin(*pin, to);
}

}  // namespace pinfs

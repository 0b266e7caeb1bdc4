// SPDX-License-Identifier: Apache-2.0
#include "fs/volume/finished_requests.h"

#include <algorithm>
#include <atomic>
#include <cassert>

namespace pinfs {

ServedRequest& served_request() {
    thread_local ServedRequest request;
    return request;
}

std::uint64_t FinishedRequests::next_instance() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
}

Expected<void> FinishedRequests::load(std::span<const std::uint64_t> unanswered) {
    for (std::size_t i = 0; i < media::kFinishedSlots; ++i) {
        media::FinishedRequest slot;
        const auto read = units_.read(offset_ + i * sizeof slot, media::kFinishedMagic,
                                      std::as_writable_bytes(std::span{&slot, 1}));
        if (!read && read.error().cause == Cause::bad_magic) continue;  // unused
        TRY(read);
        if (slot.session != session_ ||
            std::ranges::find(unanswered, slot.request) == unanswered.end())
            continue;
        unanswered_[slot.request] = {.id = slot.ino, .generation = slot.generation};
        taken_[i] = true;
    }
    return {};
}

std::optional<FinishedRequests::Made> FinishedRequests::of_this_thread() const {
    const ServedRequest& request = served_request();
    if (!request.resent) return std::nullopt;
    const auto found = unanswered_.find(request.number);
    return found == unanswered_.end() ? std::nullopt : std::optional{found->second};
}

std::size_t FinishedRequests::slot_of_this_thread() {
    struct Mine {
        std::uint64_t instance = 0;
        std::size_t slot = 0;
    };
    thread_local Mine mine;
    if (mine.instance == instance_) return mine.slot;
    const std::scoped_lock lock{mutex_};
    const auto free = std::ranges::find(taken_, false);
    assert(free != taken_.end());
    *free = true;
    mine = {instance_, static_cast<std::size_t>(free - taken_.begin())};
    return mine.slot;
}

void FinishedRequests::note(space::Change& change, const Made& made) {
    const std::uint64_t number = served_request().number;
    if (session_ == 0 || number == 0) return;
    const std::uint64_t at = offset_ + slot_of_this_thread() * sizeof(media::FinishedRequest);
    auto& slot = *reinterpret_cast<media::FinishedRequest*>(
        change.transaction().create(at, sizeof(media::FinishedRequest)).data());
    slot.magic = media::kFinishedMagic;
    slot.session = session_;
    slot.request = number;
    slot.ino = made.id;
    slot.generation = made.generation;
}

}  // namespace pinfs

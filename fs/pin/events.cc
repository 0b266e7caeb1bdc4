// SPDX-License-Identifier: Apache-2.0
#include "fs/pin/events.h"

#include <algorithm>

namespace pinfs::pin {

bool EventQueue::post(const Event& event) {
    const auto [found, is_new] = by_id_.try_emplace({event.id, event.type});
    if (is_new) {
        const bool was_empty = events_.empty();
        found->second = events_.insert(events_.end(), event);
        return was_empty;
    }
    Event& there = *found->second;
    there.begin = std::min(there.begin, event.begin);
    there.end = std::max(there.end, event.end);
    if (event.deadline_ns != 0)
        there.deadline_ns = there.deadline_ns == 0 ? event.deadline_ns
                                                   : std::min(there.deadline_ns, event.deadline_ns);
    return false;
}

std::optional<Event> EventQueue::take() {
    if (events_.empty()) return std::nullopt;
    const Event event = events_.front();
    by_id_.erase({event.id, event.type});
    events_.pop_front();
    return event;
}

void EventQueue::forget(std::uint64_t id) {
    auto at = by_id_.lower_bound({id, EventType{}});
    while (at != by_id_.end() && at->first.first == id) {
        events_.erase(at->second);
        at = by_id_.erase(at);
    }
}

}  // namespace pinfs::pin

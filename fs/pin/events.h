// SPDX-License-Identifier: Apache-2.0
//
// What a context is to be told (SPEC 2.5). Nobody waits for it to listen: events of one kind about
// the same lease, map or pin are one until it is taken, so the queue never has more than a few for
// each of them.
//
// Not thread-safe: the caller holds the lock of rank `pins`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <utility>

namespace pinfs::pin {

enum class EventType : std::uint8_t { gone = 1, revoking, revoked, media_error, shut_down };

struct Event {
    EventType type = EventType::gone;
    std::uint64_t id = 0;  ///< of the lease, map or pin
    std::uint64_t user_data = 0;
    std::uint64_t begin = 0;  ///< bytes of the file; several changes: what covers them
    std::uint64_t end = 0;
    std::uint64_t deadline_ns = 0;  ///< CLOCK_MONOTONIC; 0: none
    std::uint64_t ino = 0;          ///< of the file, where a lease is told
};

class EventQueue {
public:
    /// True if the queue was empty: a poller is to be woken.
    bool post(const Event& event);
    [[nodiscard]] bool has(std::uint64_t id, EventType type) const {
        return by_id_.contains({id, type});
    }
    /// In the order in which the first of each was posted.
    std::optional<Event> take();
    /// The lease, map or pin is gone: nothing more is to be said of it.
    void forget(std::uint64_t id);
    [[nodiscard]] std::size_t size() const { return events_.size(); }

private:
    std::list<Event> events_;
    std::map<std::pair<std::uint64_t, EventType>, std::list<Event>::iterator> by_id_;
};

}  // namespace pinfs::pin

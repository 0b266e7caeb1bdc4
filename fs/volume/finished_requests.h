// SPDX-License-Identifier: Apache-2.0
//
// Each request of a supervised mount takes effect once, whatever happens to the daemon. The kernel
// sends what was not answered again; what such a request did, if it would do something else the
// second time, stands in the table of finished requests (format/state.h), written in the same
// change as the effect.
//
// Invariants
//   - A slot belongs to one thread for the life of the volume, so nobody else logs its bytes.
//   - What the last daemon finished and did not answer keeps its slot as long as this one lives.
// Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>

#include "fs/error.h"
#include "fs/format/state.h"
#include "fs/space/change.h"
#include "fs/units.h"

namespace pinfs {

/// The request that this thread serves.
struct ServedRequest {
    std::uint64_t number = 0;  ///< the kernel's; 0: none
    bool resent = false;       ///< a daemon that is no more had it too
};
ServedRequest& served_request();

class FinishedRequests {
public:
    /// Threads that may finish requests at a time. As many can be unanswered when a daemon dies,
    /// and keep their slots.
    static constexpr std::size_t kThreadsMax = media::kFinishedSlots / 2;

    FinishedRequests(const journal::Units& units, std::uint64_t offset, std::uint64_t session)
        : units_{units}, offset_{offset}, session_{session} {}

    /// What a request made: an inode, or the record of a map or pin; `id` 0: nothing.
    struct Made {
        std::uint64_t id = 0;
        std::uint64_t generation = 0;
    };
    /// Reads the table: what of `unanswered` is finished. Before anything is served.
    Expected<void> load(std::span<const std::uint64_t> unanswered);
    [[nodiscard]] const std::unordered_map<std::uint64_t, Made>& unanswered() const {
        return unanswered_;
    }
    /// The request's effect is to be brought about again.
    void forget(std::uint64_t number) { unanswered_.erase(number); }

    /// If the request that this thread serves was finished by another daemon: what it made.
    [[nodiscard]] std::optional<Made> of_this_thread() const;
    /// `change` is the effect of the request that this thread serves.
    void note(space::Change& change, const Made& made);

private:
    static std::uint64_t next_instance();
    std::size_t slot_of_this_thread();

    const journal::Units& units_;
    const std::uint64_t offset_;  // of the table
    const std::uint64_t session_;
    const std::uint64_t instance_ = next_instance();
    std::unordered_map<std::uint64_t, Made> unanswered_;
    std::mutex mutex_;  // guards `taken_`
    std::array<bool, media::kFinishedSlots> taken_{};
};

}  // namespace pinfs

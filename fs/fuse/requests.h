// SPDX-License-Identifier: Apache-2.0
//
// A request from when it was read to when it was answered, for metrics and the trace. The thread
// that answers it has it in hand; one that leaves the answer to another thread hands it over.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "fs/fuse/counters.h"
#include "fs/fuse/tick_clock.h"
#include "fs/fuse/trace.h"

namespace pinfs::fuse {

/// What is kept of requests; of a mount.
struct Observed {
    explicit Observed(Trace* to) : trace(to) {}

    Counters counters;
    const TickClock clock;
    Trace* const trace;  ///< nullptr: there is none
};

struct Request {
    Operation operation;
    std::uint64_t begin_ticks;
    std::int64_t result = 0;  ///< negative errno, or how many bytes
    TracedRequest traced;     ///< set where there is a trace
};

/// Counts a request when it goes.
class RequestInHand {
public:
    RequestInHand(Observed& observed, const Request& request) noexcept
        : observed_(observed), request_(request) {
        in_hand = this;
    }
    ~RequestInHand() {
        in_hand = nullptr;
        if (handed_over_) return;
        const std::uint64_t ns =
            observed_.clock.nanoseconds(request_.begin_ticks, observed_.clock.now());
        observed_.counters.answered(request_.operation, ns, request_.result);
        if (observed_.trace != nullptr)
            observed_.trace->answered(name_of(request_.operation), request_.traced, ns,
                                      request_.result);
    }
    RequestInHand(const RequestInHand&) = delete;
    RequestInHand& operator=(const RequestInHand&) = delete;

    /// How this thread answers: a negative errno, or how many bytes. Unless said, 0.
    static void set_result(std::int64_t result) noexcept {
        if (in_hand != nullptr) in_hand->request_.result = result;
    }
    /// What this thread had in hand, for the thread that answers it.
    static Request hand_over() noexcept {
        in_hand->handed_over_ = true;
        return in_hand->request_;
    }
    /// It was not handed over after all.
    static void take_back() noexcept { in_hand->handed_over_ = false; }

private:
    static inline constinit thread_local RequestInHand* in_hand = nullptr;

    Observed& observed_;
    Request request_;
    bool handed_over_ = false;
};

}  // namespace pinfs::fuse

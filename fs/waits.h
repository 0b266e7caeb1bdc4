// SPDX-License-Identifier: Apache-2.0
//
// How often and how long threads waited for a lock, by its rank, for metrics; what a request waited
// for is most of why it was slow. A lock that is free costs nothing more.
#pragma once

#include <cstdint>

namespace pinfs {

enum class LockRank : std::uint8_t;

struct Waits {
    std::uint64_t count = 0;
    std::uint64_t ns = 0;
};
/// Of all threads, since the program began.
Waits waits_for(LockRank rank);
/// Of this thread, for locks of all ranks.
std::uint64_t waited_by_this_thread_ns();

/// While it lives, this thread waits.
class Waiting {
public:
    explicit Waiting(LockRank rank) noexcept;
    ~Waiting();
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

private:
    const LockRank rank_;
    const std::uint64_t begin_ns_;
};

}  // namespace pinfs

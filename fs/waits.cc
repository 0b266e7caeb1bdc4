// SPDX-License-Identifier: Apache-2.0
#include "fs/waits.h"

#include <array>
#include <atomic>
#include <ctime>

#include "fs/lock.h"

namespace pinfs {
namespace {

struct alignas(64) OfRank {
    std::atomic<std::uint64_t> count{0};
    std::atomic<std::uint64_t> ns{0};
};
std::array<OfRank, kLockRanks> of_ranks;
thread_local std::uint64_t of_this_thread_ns = 0;

std::uint64_t now_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

Waits waits_for(LockRank rank) {
    const OfRank& of = of_ranks[static_cast<std::size_t>(rank)];
    return {.count = of.count.load(std::memory_order_relaxed),
            .ns = of.ns.load(std::memory_order_relaxed)};
}

std::uint64_t waited_by_this_thread_ns() { return of_this_thread_ns; }

Waiting::Waiting(LockRank rank) noexcept : rank_(rank), begin_ns_(now_ns()) {}

Waiting::~Waiting() {
    const std::uint64_t ns = now_ns() - begin_ns_;
    OfRank& of = of_ranks[static_cast<std::size_t>(rank_)];
    of.count.fetch_add(1, std::memory_order_relaxed);
    of.ns.fetch_add(ns, std::memory_order_relaxed);
    of_this_thread_ns += ns;
}

}  // namespace pinfs

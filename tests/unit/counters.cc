// SPDX-License-Identifier: Apache-2.0
//
// What is kept of requests: counts, durations in buckets, results; and of waits for locks.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <iostream>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "fs/fuse/requests.h"
#include "fs/lock.h"
#include "fs/volume/range_lock.h"

using namespace pinfs;
using namespace pinfs::fuse;

namespace {

std::uint64_t count_of(const Counters& counters, Operation operation) {
    return counters.durations(operation).count();
}

Request begun(const Observed& observed, Operation operation) {
    return {.operation = operation, .begin_ticks = observed.clock.now(), .traced = {}};
}

}  // namespace

TEST_CASE("a duration is in the first bucket whose bound it does not exceed", "[fuse][unit]") {
    for (std::size_t bucket = 0; bucket + 1 < Durations::kBuckets; ++bucket) {
        const std::uint64_t bound = Durations::bound_ns(bucket);
        CHECK(Durations::bucket_of(bound) == bucket);
        CHECK(Durations::bucket_of(bound + 1) == bucket + 1);
    }
    CHECK(Durations::bucket_of(0) == 0);
    CHECK(Durations::bucket_of(UINT64_MAX) == Durations::kBuckets - 1);
}

TEST_CASE("what more threads than there are rows count is counted once",
          "[fuse][unit][concurrency]") {
    Counters counters;
    constexpr std::uint64_t kEach = 1000;
    constexpr std::uint64_t kThreads = 200;
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < kThreads; ++i)
        threads.emplace_back([&] {
            for (std::uint64_t j = 0; j < kEach; ++j) {
                counters.answered(Operation::read, 3000, 10);
                counters.answered(Operation::write, 5, 3);
                counters.answered(Operation::write, 5, -ENOSPC);
            }
        });
    for (std::thread& thread : threads) thread.join();
    const Durations reads = counters.durations(Operation::read);
    CHECK(reads.counts[2] == kThreads * kEach);
    CHECK(count_of(counters, Operation::read) == kThreads * kEach);
    CHECK(reads.sum_ns == kThreads * kEach * 3000);
    CHECK(counters.durations(Operation::write).counts[0] == 2 * kThreads * kEach);
    CHECK(count_of(counters, Operation::lookup) == 0);
    CHECK(counters.read_bytes() == kThreads * kEach * 10);
    CHECK(counters.written_bytes() == kThreads * kEach * 3);
    CHECK(counters.failures(Operation::write) == kThreads * kEach);
    CHECK(counters.failures(Operation::read) == 0);
    CHECK(counters.errors(ENOSPC) == kThreads * kEach);
}

TEST_CASE("a request that another thread answers is counted once, with all its time",
          "[fuse][unit][concurrency]") {
    Observed observed{nullptr};
    constexpr std::uint64_t kPauseNs = 20'000'000;
    Request request{};
    {
        const RequestInHand in_hand{observed, begun(observed, Operation::open)};
        request = RequestInHand::hand_over();
    }
    CHECK(count_of(observed.counters, Operation::open) == 0);
    std::thread{[&] {
        usleep(kPauseNs / 1000);
        const RequestInHand in_hand{observed, request};
        RequestInHand::set_result(-EMFILE);
    }}.join();
    CHECK(count_of(observed.counters, Operation::open) == 1);
    CHECK(observed.counters.durations(Operation::open).sum_ns >= kPauseNs * 99 / 100);
    CHECK(observed.counters.errors(EMFILE) == 1);
    RequestInHand::set_result(-EIO);  // nothing is in hand
    CHECK(observed.counters.errors(EIO) == 0);
    {
        const RequestInHand in_hand{observed, begun(observed, Operation::open)};
        RequestInHand::hand_over();
        RequestInHand::take_back();
    }
    CHECK(count_of(observed.counters, Operation::open) == 2);
}

TEST_CASE("the clock of durations agrees with the kernel's", "[fuse][unit]") {
    const TickClock clock;
    const std::uint64_t begin_ns = monotonic_ns();
    const std::uint64_t begin = clock.now();
    usleep(50'000);
    const std::uint64_t end = clock.now();
    const std::uint64_t end_ns = monotonic_ns();
    // Between the calls the thread may stand still.
    CHECK(static_cast<double>(clock.nanoseconds(begin, end)) <=
          static_cast<double>(end_ns - begin_ns) * 1.001);
    CHECK(clock.nanoseconds(begin, end) >= 50'000'000 * 0.999);
    CHECK(clock.nanoseconds(end, begin) == 0);
}

TEST_CASE("who waits for a lock is counted with the time, who finds it free is not",
          "[lock][unit]") {
    RankedMutex<LockRank::rename> mutex;
    const Waits before = waits_for(LockRank::rename);
    { const std::scoped_lock lock{mutex}; }
    CHECK(waits_for(LockRank::rename).count == before.count);
    std::unique_lock lock{mutex};
    std::uint64_t waited_ns = 0;
    std::atomic<bool> about_to{false};
    std::thread waiting{[&] {
        const std::uint64_t so_far_ns = waited_by_this_thread_ns();
        about_to = true;
        const std::scoped_lock other{mutex};
        waited_ns = waited_by_this_thread_ns() - so_far_ns;
    }};
    while (!about_to) usleep(1000);
    usleep(100'000);
    lock.unlock();
    waiting.join();
    const Waits after = waits_for(LockRank::rename);
    CHECK(after.count == before.count + 1);
    CHECK(after.ns - before.ns == waited_ns);
    CHECK(waited_ns > 0);
    CHECK(waited_by_this_thread_ns() == 0);
}

TEST_CASE("who waits for a range of a file is counted, who shares it or takes another is not",
          "[lock][unit]") {
    RangeLock ranges;
    const auto count = [] {
        return waits_for(LockRank::range).count;
    };
    const std::uint64_t before = count();
    std::optional<RangeLock::Hold> held;
    held.emplace(ranges, 0, 4096, RangeLock::Mode::shared);
    std::atomic<bool> about_to{false};
    const auto hold = [&](std::uint64_t begin, RangeLock::Mode mode) {
        return std::thread{[&ranges, &about_to, begin, mode] {
            about_to = true;
            const RangeLock::Hold other{ranges, begin, begin + 4096, mode};
        }};
    };
    hold(0, RangeLock::Mode::shared).join();
    hold(4096, RangeLock::Mode::exclusive).join();
    CHECK(count() == before);
    about_to = false;
    std::thread waiting = hold(0, RangeLock::Mode::exclusive);
    while (!about_to) usleep(1000);
    usleep(100'000);
    held.reset();
    waiting.join();
    CHECK(count() == before + 1);
}

// Not a test: fs/fuse/README.md has its figure.
TEST_CASE("what it costs to count a request", "[.][speed]") {
    Observed observed{nullptr};
    constexpr std::uint64_t kRequests = 2'000'000;
    std::vector<double> rounds;
    for (int round = 0; round < 15; ++round) {
        const std::uint64_t begin_ns = monotonic_ns();
        for (std::uint64_t i = 0; i < kRequests; ++i) {
            const RequestInHand in_hand{observed, begun(observed, Operation::read)};
            RequestInHand::set_result(4096);
        }
        rounds.push_back(static_cast<double>(monotonic_ns() - begin_ns) / kRequests);
    }
    std::ranges::sort(rounds);
    std::cout << "ns per request: median " << rounds[rounds.size() / 2] << ", least " << rounds[0]
              << '\n';
    CHECK(observed.counters.read_bytes() == 15 * kRequests * 4096);
}

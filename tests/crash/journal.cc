// SPDX-License-Identifier: Apache-2.0
//
// The journal alone: transactions over a few units, replayed by hand. What a crash leaves is what
// some number of whole transactions left, and no fewer than had returned.
#include "fs/journal/journal.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "fs/checksum.h"
#include "fs/format/unit.h"
#include "tests/support/crash_region.h"
#include "tests/support/mounted.h"
#include "tests/support/recording.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

constexpr std::uint32_t kSeed = 77;
constexpr std::size_t kUnits = 8;
constexpr std::size_t kUnitBytes = 256;
constexpr std::uint64_t kLanes = 64_KiB;
constexpr journal::Geometry kGeometry{
    .lanes_offset = kLanes, .lane_count = 3, .lane_bytes = 32_KiB};
constexpr std::uint64_t kBlocks = 256_KiB;
constexpr std::uint64_t kRegion = 512_KiB;
constexpr std::uint64_t kTransactions = 7;

std::uint64_t unit_offset(std::size_t thread, std::size_t unit) {
    return thread * 16_KiB + unit * kUnitBytes;
}
std::uint64_t block_offset(std::size_t thread, std::uint64_t transaction) {
    return kBlocks + (thread * kTransactions + transaction) * kBlockBytes;
}
journal::BlockIdentity identity(std::uint64_t transaction) {
    return {.kind = media::BlockKind::attributes, .owner = transaction, .generation = 1};
}

/// Transaction t writes value t + 1 to the three units from t on, and the units with a block that
/// it makes: its offset is in the units.
Expected<void> commit(journal::Journal& journal, const journal::Units& units, std::size_t thread,
                      std::uint64_t transaction) {
    journal::Transaction change{units};
    const std::uint64_t offset = block_offset(thread, transaction);
    const auto block = change.create_block(offset, identity(transaction), 0);
    std::memset(block.data() + sizeof(media::BlockHeader), static_cast<int>(transaction + 1), 64);
    for (std::size_t i = 0; i < 3; ++i) {
        const std::uint64_t at = unit_offset(thread, (transaction + i) % kUnits);
        const auto bytes = TRY(change.edit(at, media::kInodeMagic, kUnitBytes));
        const std::uint64_t value = transaction + 1;
        std::memcpy(bytes.data() + 8, &value, sizeof value);
        std::memset(bytes.data() + 16, static_cast<int>(value), kUnitBytes - 16);
    }
    return journal.commit(change, {});
}

/// What unit `unit` holds when `transactions` of them were done.
std::uint64_t value_after(std::uint64_t transactions, std::size_t unit) {
    std::uint64_t value = 0;
    for (std::uint64_t t = 0; t < transactions; ++t)
        for (std::size_t i = 0; i < 3; ++i)
            if ((t + i) % kUnits == unit) value = t + 1;
    return value;
}

/// Number of whole transactions that the units of `thread` show; throws if there is none.
std::uint64_t transactions_in(const journal::Units& units, std::size_t thread) {
    std::vector<std::uint64_t> values;
    std::vector<std::byte> bytes(kUnitBytes);
    for (std::size_t unit = 0; unit < kUnits; ++unit) {
        must(units.read(unit_offset(thread, unit), media::kInodeMagic, bytes));
        values.push_back(0);
        std::memcpy(&values.back(), bytes.data() + 8, sizeof values.back());
        for (std::size_t i = 16; i < kUnitBytes; ++i)
            if (bytes[i] != static_cast<std::byte>(values.back()))
                throw std::runtime_error("a unit is torn");
    }
    for (std::uint64_t done = 0; done <= kTransactions; ++done) {
        bool same = true;
        for (std::size_t unit = 0; unit < kUnits; ++unit)
            same = same && values[unit] == value_after(done, unit);
        if (!same) continue;
        std::vector<std::byte> block(kBlockBytes);
        for (std::uint64_t t = 0; t < done; ++t)
            must(units.read_block(block_offset(thread, t), identity(t), block));
        return done;
    }
    throw std::runtime_error("a transaction is partly there");
}

void make_units(CrashRegion& crash, std::size_t threads) {
    std::ranges::fill(crash.memory(), kPoison);
    must(crash.region().zero(kLanes, kBlocks - kLanes));
    std::vector<std::byte> bytes(kUnitBytes);
    std::memcpy(bytes.data(), &media::kInodeMagic, sizeof media::kInodeMagic);
    const std::uint32_t sum = unit_checksum(kSeed, bytes);
    std::memcpy(bytes.data() + 4, &sum, sizeof sum);
    for (std::size_t thread = 0; thread < threads; ++thread)
        for (std::size_t unit = 0; unit < kUnits; ++unit)
            must(crash.region().store_flush(unit_offset(thread, unit), bytes));
    crash.region().fence();
}

/// Replays an image and says how many transactions each thread has.
std::vector<std::uint64_t> recovered(pmem::Region& region, std::size_t threads) {
    const journal::Units units{region, kSeed};
    journal::Journal journal{units, kGeometry};
    must(journal.replay(false));
    std::vector<std::uint64_t> done;
    for (std::size_t thread = 0; thread < threads; ++thread)
        done.push_back(transactions_in(units, thread));
    return done;
}

TEST_CASE("journal: a transaction is there whole or not at all, and is there once it returned",
          "[journal][crash]") {
    CrashRegion crash{kRegion};
    make_units(crash, 1);
    const journal::Units units{crash.region(), kSeed};
    journal::Journal journal{units, kGeometry};
    must(journal.replay(false));
    crash.record([&] {
        for (std::uint64_t t = 0; t < kTransactions; ++t) {
            must(commit(journal, units, 0, t));
            crash.mark(t + 1);
        }
    });
    std::size_t nested = 0;
    crash.for_each_image({.per_fence_max = 4 * effort().per_fence_max, .seed = 3},
                         [&](CrashImage& image) {
                             CAPTURE(image.label);
                             std::uint64_t first = 0;
                             CrashRegion again{image};
                             again.record([&] { first = recovered(again.region(), 1)[0]; });
                             REQUIRE((first == image.completed || first == image.completed + 1));
                             if (image.index % 8 != 0) return;
                             // A crash in replay: replayed again to the same end.
                             again.for_each_image({.per_fence_max = 64}, [&](CrashImage& inner) {
                                 ++nested;
                                 if (recovered(inner.region, 1)[0] != first) FAIL(inner.label);
                             });
                         });
    CHECK(nested > 100);
}

/// One recording of two threads; how many images had both lanes sealed.
std::size_t judge_two_threads(std::uint64_t seed) {
    CrashRegion crash{kRegion};
    make_units(crash, 2);
    const journal::Units units{crash.region(), kSeed};
    journal::Journal journal{units, kGeometry};
    must(journal.replay(false));
    std::mutex mutex;
    std::uint64_t completed = 0;
    std::atomic<bool> failed{false};
    crash.pause_at_fences(std::chrono::microseconds{100});
    std::barrier together{2};
    crash.record([&] {
        std::vector<std::thread> threads;
        for (std::size_t thread = 0; thread < 2; ++thread)
            threads.emplace_back([&, thread] {
                for (std::uint64_t t = 0; t < kTransactions; ++t) {
                    together.arrive_and_wait();
                    if (!commit(journal, units, thread, t)) failed = true;
                    const std::scoped_lock lock{mutex};
                    completed += std::uint64_t{1} << (8 * thread);
                    crash.mark(completed);
                }
            });
        for (std::thread& thread : threads) thread.join();
    });
    REQUIRE_FALSE(failed);
    std::size_t both_sealed = 0;
    crash.for_each_image({.per_fence_max = 2 * effort().per_fence_max, .seed = seed},
                         [&](CrashImage& image) {
                             const journal::Units image_units{image.region, kSeed};
                             journal::Journal looker{image_units, kGeometry};
                             if (must(looker.replay(true)).lanes == 2) ++both_sealed;
                             const auto done = recovered(image.region, 2);
                             for (std::size_t thread = 0; thread < 2; ++thread) {
                                 const std::uint64_t least = image.completed >> (8 * thread) & 0xff;
                                 if (done[thread] != least && done[thread] != least + 1)
                                     FAIL(image.label);
                             }
                         });
    return both_sealed;
}

TEST_CASE("journal: transactions of two threads are each whole", "[journal][crash][concurrency]") {
    // On a busy machine two threads may just not meet.
    std::size_t both_sealed = 0;
    for (std::uint64_t round = 1; round <= 20 && both_sealed == 0; ++round)
        both_sealed += judge_two_threads(round);
    CHECK(both_sealed > 0);
}

TEST_CASE("journal: what does not fit a lane changes nothing", "[journal][crash]") {
    CrashRegion crash{kRegion};
    make_units(crash, 1);
    const journal::Units units{crash.region(), kSeed};
    journal::Journal journal{units, kGeometry};
    must(journal.replay(false));
    must(commit(journal, units, 0, 0));
    journal::Transaction change{units};
    for (std::size_t i = 0; i < 120; ++i) {
        const auto bytes = change.create(kBlocks + i * kUnitBytes, kUnitBytes);
        std::memset(bytes.data() + 8, 0x77, kUnitBytes - 8);
    }
    const std::vector<std::byte> before{crash.memory().begin(), crash.memory().end()};
    const auto done = journal.commit(change, {});
    REQUIRE_FALSE(done);
    CHECK(done.error().cause == Cause::change_too_large);
    CHECK(std::ranges::equal(before, crash.memory()));
    CHECK_FALSE(journal.failed());
    must(commit(journal, units, 0, 1));
    CHECK(transactions_in(units, 0) == 2);
}

}  // namespace

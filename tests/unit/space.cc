// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>
#include <random>
#include <set>
#include <thread>

#include "fs/space/allocator.h"
#include "fs/space/change.h"
#include "tests/support/layers.h"
#include "tests/support/seed.h"

using namespace pinfs;
using namespace pinfs::unit_literals;
using space::Request;
using space::Reserve;
using test::Layers;
using test::must;

namespace {

std::vector<BlockRun> reserve(Layers& layers, const Request& request) {
    std::vector<BlockRun> runs;
    must(layers.allocator().reserve(request, runs));
    return runs;
}

std::uint64_t sum(const std::vector<BlockRun>& runs) {
    std::uint64_t blocks = 0;
    for (const BlockRun run : runs) blocks += run.count;
    return blocks;
}

}  // namespace

TEST_CASE("a reservation is gone when its change is dropped, and stays when it is committed",
          "[space][unit]") {
    Layers layers{16_MiB};
    const std::uint64_t free = layers.allocator().free_blocks();
    {
        auto change = layers.change();
        CHECK(sum(must(change.allocate({.blocks = 100}))) == 100);
        CHECK(layers.allocator().free_blocks() == free - 100);
    }
    CHECK(layers.allocator().free_blocks() == free);

    auto change = layers.change();
    const auto runs = must(change.allocate({.blocks = 100}));
    must(change.commit());
    layers.open();
    CHECK(layers.allocator().free_blocks() == free - 100);
    auto back = layers.change();
    for (const BlockRun run : runs) back.free(run);
    must(back.commit());
    layers.open();
    CHECK(layers.allocator().free_blocks() == free);
}

TEST_CASE("no block is given out twice, by any number of threads", "[space][concurrency]") {
    Layers layers{256_MiB};
    std::vector<std::vector<BlockRun>> given(4);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < given.size(); ++t)
        threads.emplace_back([&, t] {
            for (std::uint64_t i = 0; i < 200; ++i) {
                auto change = layers.change();
                const auto runs = must(change.allocate({.blocks = i % 37 + 1}));
                if (i % 3 == 0) continue;
                must(change.commit());
                given[t].insert(given[t].end(), runs.begin(), runs.end());
            }
        });
    for (auto& thread : threads) thread.join();
    std::set<std::uint64_t> seen;
    for (const auto& runs : given)
        for (const BlockRun run : runs)
            for (std::uint64_t block = run.begin; block < run.end(); ++block)
                REQUIRE(seen.insert(block).second);
}

TEST_CASE("the goal is taken as far as it is free", "[space][unit]") {
    Layers layers{16_MiB};
    const auto first = reserve(layers, {.blocks = 10});
    const auto next = reserve(layers, {.blocks = 10, .goal = first[0].end()});
    CHECK(next == std::vector<BlockRun>{{first[0].end(), 10}});
}

TEST_CASE("large requests get whole aligned runs, small ones the broken ones", "[space][unit]") {
    Layers layers{64_MiB};
    const auto small = reserve(layers, {.blocks = 3});
    const auto large = reserve(layers, {.blocks = 3 * kRunBlocks, .aligned = true});
    REQUIRE(large.size() == 1);
    CHECK(large[0].begin % kRunBlocks == 0);
    const auto whole = must(layers.allocator().free_in_whole_runs());
    const auto more = reserve(layers, {.blocks = 5});
    CHECK(more[0].begin / kRunBlocks == small[0].begin / kRunBlocks);
    CHECK(must(layers.allocator().free_in_whole_runs()) == whole);
}

TEST_CASE("whole runs begin where 2 MiB of the file begin", "[space][unit]") {
    Layers layers{64_MiB};
    const auto first = reserve(layers, {.blocks = 100});
    const std::uint64_t goal = first[0].end();
    SECTION("the goal is followed up to there") {
        const auto runs = reserve(
            layers, {.blocks = 3 * kRunBlocks, .goal = goal, .aligned = true, .file_block = 400});
        CHECK(sum(runs) == 3 * kRunBlocks);
        CHECK(runs[0] == BlockRun{goal, 112});
        CHECK(runs[1].begin % kRunBlocks == 0);
        CHECK(runs[1].count >= 2 * kRunBlocks);
    }
    SECTION("and on, if it lies as the file does") {
        const auto runs = reserve(layers, {.blocks = 3 * kRunBlocks,
                                           .goal = goal,
                                           .aligned = true,
                                           .file_block = goal % kRunBlocks});
        CHECK(runs == std::vector<BlockRun>{{goal, 3 * kRunBlocks}});
    }
    SECTION("what has no whole run goes on at the goal") {
        const auto rest = layers.allocator().free_blocks() - layers.allocator().reserve_blocks();
        const auto all = reserve(layers, {.blocks = rest - kRunBlocks});
        CHECK(must(layers.allocator().free_in_whole_runs()) < 2 * kRunBlocks);
        const auto runs = reserve(layers, {.blocks = kRunBlocks, .aligned = true, .file_block = 7});
        CHECK(sum(runs) == kRunBlocks);
    }
}

TEST_CASE("a whole run is not broken while broken ones have room, also elsewhere and in pieces",
          "[space][unit]") {
    Layers layers{256_MiB};
    auto& allocator = layers.allocator();
    // All but a few whole runs are in use; of every other block of 128 in the rest half is free.
    const auto all = reserve(
        layers, {.blocks = allocator.free_blocks() - allocator.reserve_blocks() - 8 * kRunBlocks});
    std::uint64_t given_back = 0;
    for (const BlockRun run : all)
        for (std::uint64_t at = round_up(run.begin, 256); at + 256 <= run.end(); at += 256) {
            allocator.release({at, 128});
            given_back += 128;
        }
    const auto whole = must(allocator.free_in_whole_runs());
    REQUIRE(whole >= 4 * kRunBlocks);
    REQUIRE(given_back > 20'000);
    for (std::uint64_t taken = 0; taken + 400 < given_back / 2; taken += 400) {
        const auto runs = reserve(layers, {.blocks = 400});
        CHECK(runs.size() <= 4);
    }
    CHECK(must(allocator.free_in_whole_runs()) == whole);
}

TEST_CASE("the reserve serves only those who may use it, and everything can be given out",
          "[space][unit]") {
    Layers layers{1_MiB};
    auto& allocator = layers.allocator();
    CHECK(allocator.reserve_blocks() == 8);
    std::vector<BlockRun> runs;
    must(allocator.reserve({.blocks = allocator.free_blocks() - 8}, runs));
    CHECK(allocator.reserve({.blocks = 1}, runs).error().cause == Cause::no_space);
    must(allocator.reserve({.blocks = 8, .reserve = Reserve::use}, runs));
    CHECK(allocator.reserve({.blocks = 1, .reserve = Reserve::use}, runs).error().cause ==
          Cause::no_space);
    CHECK(allocator.free_blocks() == 0);
    for (const BlockRun run : runs) allocator.release(run);
    CHECK(allocator.free_blocks() == sum(runs));
}

TEST_CASE("a random history keeps bitmaps, summaries and totals together", "[space][model]") {
    const auto seed = test::seed_of_test("space", 11);
    std::mt19937_64 random{seed};
    Layers layers{130_MiB};
    const std::uint64_t free = layers.allocator().free_blocks();
    std::vector<BlockRun> owned;
    for (int step = 0; step < 600; ++step) {
        auto change = layers.change();
        std::vector<BlockRun> added;
        if (random() % 5 < 3) {
            const Request request{
                .blocks = random() % 4 == 0 ? random() % 3000 + 1 : random() % 20 + 1,
                .goal = random() % 33280,
                .aligned = random() % 2 == 0};
            const auto runs = change.allocate(request);
            if (runs) added = *runs;
        }
        std::vector<BlockRun> removed;
        while (!owned.empty() && random() % 3 == 0) {
            std::swap(owned[random() % owned.size()], owned.back());
            removed.push_back(owned.back());
            change.free(owned.back());
            owned.pop_back();
        }
        if (random() % 8 == 0) {
            owned.insert(owned.end(), removed.begin(), removed.end());
            continue;  // dropped
        }
        must(change.commit());
        owned.insert(owned.end(), added.begin(), added.end());
        if (step % 50 == 0) layers.open();
        REQUIRE(layers.allocator().free_blocks() == free - sum(owned));
    }
    layers.open();
    auto change = layers.change(Reserve::use);
    for (const BlockRun run : owned) change.free(run);
    must(change.commit());
    auto found = must(check(layers.region()));
    INFO(found.text());
    CHECK(found.clean());
}

TEST_CASE("freeing what is free, or lies outside, is damage and changes nothing",
          "[space][fault]") {
    Layers layers{16_MiB};
    const auto runs = reserve(layers, {.blocks = 1});
    layers.allocator().release(runs[0]);
    for (const BlockRun run : {runs[0], BlockRun{1u << 30, 1}, BlockRun{0, 1}}) {
        auto change = layers.change();
        change.free(run);
        CHECK(change.commit().error().cause == Cause::media_corrupt);
    }
    CHECK(must(check(layers.region())).clean());
}

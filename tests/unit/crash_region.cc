// SPDX-License-Identifier: Apache-2.0
//
// The judge of all crash tests is judged here: which images it shows, and which it does not.
#include "tests/support/crash_region.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <set>
#include <thread>

#include "tests/support/mounted.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;
using Words = std::vector<std::uint64_t>;

std::uint64_t word_at(std::span<const std::byte> memory, std::uint64_t offset) {
    std::uint64_t value;
    std::memcpy(&value, memory.data() + offset, sizeof(value));
    return value;
}

/// Where store_only stores: a site that tests leave out, so that nothing of it is flushed.
const std::source_location kNotFlushed = std::source_location::current();
const Site kNotFlushedSite = site_of(kNotFlushed, false);

void store_only(CrashRegion& crash, std::uint64_t offset, const Words& words) {
    REQUIRE(crash.region().store_flush(offset, std::as_bytes(std::span(words)), kNotFlushed));
}

void store_flush(CrashRegion& crash, std::uint64_t offset, const Words& words) {
    if (!crash.region().store_flush(offset, std::as_bytes(std::span(words)))) std::abort();
}

/// The values that the words at `offsets` take together, over all images.
std::set<Words> seen_at(CrashRegion& crash, const Words& offsets, ImageOptions options = {}) {
    std::set<Words> seen;
    crash.for_each_image(options, [&](CrashImage& image) {
        Words words;
        for (const std::uint64_t offset : offsets) words.push_back(word_at(image.memory, offset));
        seen.insert(words);
    });
    return seen;
}

TEST_CASE("crash_region: a store that was not flushed may be there or not, fenced or not",
          "[support][unit]") {
    CrashRegion crash{64_KiB};
    crash.record([&] {
        store_only(crash, 4096, {1});
        crash.region().fence();
    });
    CHECK(seen_at(crash, {4096}, {.without = kNotFlushedSite}) == std::set<Words>{{0}, {1}});
}

TEST_CASE("crash_region: a store is durable once it was flushed and then fenced",
          "[support][unit]") {
    CrashRegion crash{64_KiB};
    crash.record([&] {
        store_flush(crash, 4096, {1});
        crash.region().fence();
        crash.mark(1);
        store_flush(crash, 8192, {2});
    });
    crash.for_each_image({}, [&](CrashImage& image) {
        CAPTURE(image.label);
        if (image.completed == 1) CHECK(word_at(image.memory, 4096) == 1);
        if (word_at(image.memory, 8192) == 2) CHECK(word_at(image.memory, 4096) == 1);
    });
    CHECK(seen_at(crash, {4096, 8192}) == std::set<Words>{{0, 0}, {1, 0}, {1, 2}});
}

TEST_CASE("crash_region: a flush does not cover a later store to its line", "[support][unit]") {
    CrashRegion crash{64_KiB};
    crash.record([&] {
        store_flush(crash, 4096, {1});
        store_only(crash, 4096, {2});
        crash.region().fence();
        crash.mark(1);
    });
    std::set<std::uint64_t> after;
    crash.for_each_image({.without = kNotFlushedSite}, [&](CrashImage& image) {
        if (image.completed == 1) after.insert(word_at(image.memory, 4096));
    });
    CHECK(after == std::set<std::uint64_t>{1, 2});
}

TEST_CASE("crash_region: stores to one line persist in their order, to two lines in any",
          "[support][unit]") {
    CrashRegion crash{64_KiB};
    crash.record([&] {
        store_flush(crash, 4096, {1});
        store_flush(crash, 4104, {2});
    });
    CHECK(seen_at(crash, {4096, 4104}) == std::set<Words>{{0, 0}, {1, 0}, {1, 2}});
    crash.record([&] {
        store_flush(crash, 8192, {1});
        store_flush(crash, 8256, {2});
    });
    CHECK(seen_at(crash, {8192, 8256}) == std::set<Words>{{0, 0}, {1, 0}, {0, 2}, {1, 2}});
}

TEST_CASE("crash_region: one store is torn at its words, and nowhere else", "[support][unit]") {
    CrashRegion crash{64_KiB};
    const std::uint64_t a = 0x1111111111111111;
    crash.record([&] { store_flush(crash, 4096, {a, a, a}); });
    std::set<Words> all;
    for (unsigned subset = 0; subset < 8; ++subset)
        all.insert(
            {(subset & 1) != 0 ? a : 0, (subset & 2) != 0 ? a : 0, (subset & 4) != 0 ? a : 0});
    CHECK(seen_at(crash, {4096, 4104, 4112}) == all);

    // Across the border of two words, the bytes of each go together.
    CrashRegion unaligned{64_KiB};
    unaligned.record([&] { store_flush(unaligned, 4100, {~std::uint64_t{0}}); });
    CHECK(seen_at(unaligned, {4096, 4104}) ==
          std::set<Words>{{0, 0},
                          {0xffffffff00000000, 0},
                          {0, 0x00000000ffffffff},
                          {0xffffffff00000000, 0x00000000ffffffff}});
}

TEST_CASE("crash_region: a fence orders only what its own thread flushed",
          "[support][unit][concurrency]") {
    CrashRegion crash{64_KiB};
    const auto elsewhere = [](const std::function<void()>& work) {
        std::thread(work).join();
    };
    SECTION("the fence of another thread does not help") {
        crash.record([&] {
            store_flush(crash, 4096, {1});
            elsewhere([&] { crash.region().fence(); });
            crash.mark(1);
        });
        CHECK(seen_at(crash, {4096}) == std::set<Words>{{0}, {1}});
        std::set<std::uint64_t> after;
        crash.for_each_image({}, [&](CrashImage& image) {
            if (image.completed == 1) after.insert(word_at(image.memory, 4096));
        });
        CHECK(after == std::set<std::uint64_t>{0, 1});
    }
    SECTION("who flushes another's store makes it durable with a fence of its own") {
        crash.record([&] {
            store_flush(crash, 4096, {1});
            elsewhere([&] {
                store_flush(crash, 4104, {2});  // the same line
                crash.region().fence();
            });
            crash.mark(1);
        });
        crash.for_each_image({}, [&](CrashImage& image) {
            CAPTURE(image.label);
            if (image.completed == 1) CHECK(word_at(image.memory, 4096) == 1);
        });
    }
}

TEST_CASE("crash_region: what a store found there already is no reason for an image",
          "[support][unit]") {
    CrashRegion crash{64_KiB};
    crash.record([&] {
        REQUIRE(crash.region().zero(0, 64_KiB));
        crash.region().fence();
    });
    const ImageTotals totals = crash.for_each_image({}, [](CrashImage&) {});
    CHECK(totals.images == 1);
    CHECK(totals.crash_points == 2);
}

TEST_CASE("crash_region: equal contents are shown once for each number of operations",
          "[support][unit]") {
    CrashRegion crash{64_KiB};
    crash.record([&] {
        for (std::uint64_t i = 0; i < 10; ++i) {
            store_flush(crash, 4096, {i % 2});
            crash.region().fence();
        }
        crash.mark(1);
    });
    std::multiset<std::pair<std::uint64_t, std::uint64_t>> seen;
    crash.for_each_image({}, [&](CrashImage& image) {
        seen.insert({image.completed, word_at(image.memory, 4096)});
    });
    CHECK(seen == std::multiset<std::pair<std::uint64_t, std::uint64_t>>{{0, 0}, {0, 1}, {1, 1}});
}

TEST_CASE("crash_region: a large set is sampled: nothing, all, lines alone, prefixes",
          "[support][unit]") {
    const std::uint64_t seed = seed_of_test("crash_region sampling", 7);
    CrashRegion crash{64_KiB};
    crash.record([&] {
        for (std::uint64_t i = 0; i < 20; ++i) store_flush(crash, 4096 + i * 64, {i + 1});
    });
    std::set<std::uint32_t> pictures;
    const ImageTotals totals =
        crash.for_each_image({.per_fence_max = 256, .seed = seed}, [&](CrashImage& image) {
            std::uint32_t picture = 0;
            for (std::uint32_t i = 0; i < 20; ++i)
                if (word_at(image.memory, 4096 + i * 64) != 0) picture |= 1u << i;
            pictures.insert(picture);
        });
    CHECK(totals.images == pictures.size());
    CHECK(totals.images <= 256);
    CHECK(totals.images >= 200);
    CHECK(totals.enumerated == 0);
    const std::uint32_t all = (1u << 20) - 1;
    for (std::uint32_t i = 0; i <= 20; ++i) CHECK(pictures.contains((1u << i) - 1));  // prefixes
    for (std::uint32_t i = 0; i < 20; ++i) {
        CHECK(pictures.contains(1u << i));
        CHECK(pictures.contains(all & ~(1u << i)));
    }
    // The same seed gives the same images, and each can be had alone.
    std::vector<std::string> labels;
    crash.for_each_image({.seed = seed}, [&](CrashImage& image) { labels.push_back(image.label); });
    REQUIRE(labels.size() == totals.images);
    crash.for_each_image({.seed = seed, .only_image = 100}, [&](CrashImage& image) {
        CHECK(image.index == 100);
        CHECK(image.label == labels[100]);
    });
}

TEST_CASE("crash_region: of a large set, lines that recovery reads are varied by themselves",
          "[support][unit]") {
    constexpr std::uint64_t kLines = 300;
    const std::set<std::uint64_t> read{7, 100, 101};
    CrashRegion crash{64_KiB};
    crash.record([&] {
        for (std::uint64_t i = 0; i < kLines; ++i) store_only(crash, 4096 + i * kLineBytes, {1});
    });
    std::set<Words> of_these;
    std::size_t alone = 0;
    const ImageOptions options{
        .per_fence_max = 64,
        .seed = 5,
        .without = kNotFlushedSite,
        .recover = [&](pmem::Region& region) {
            Words word(1);
            for (const std::uint64_t i : read)
                must(region.read(4096 + i * kLineBytes, std::as_writable_bytes(std::span(word))));
        }};
    crash.for_each_image(options, [&](CrashImage& image) {
        if (image.label.find("of what recovery reads") == std::string::npos) return;
        ++alone;
        Words these;
        std::set<std::uint64_t> others;
        for (std::uint64_t i = 0; i < kLines; ++i) {
            const std::uint64_t value = word_at(image.memory, 4096 + i * kLineBytes);
            if (read.contains(i))
                these.push_back(value);
            else
                others.insert(value);
        }
        of_these.insert(these);
        CHECK(others.size() == 1);
    });
    CHECK(alone > 4);
    CHECK(of_these.size() > 4);
}

TEST_CASE("crash_region: what a visitor does to an image is not in the next one",
          "[support][unit]") {
    CrashRegion crash{1_MiB};
    crash.record([&] {
        for (std::uint64_t i = 0; i < 8; ++i) store_flush(crash, 4096 + i * 64, {1});
    });
    std::size_t images = 0;
    crash.for_each_image({}, [&](CrashImage& image) {
        ++images;
        REQUIRE(word_at(image.memory, 512_KiB) == 0);
        REQUIRE(word_at(image.memory, 4096 + 512) == 0);
        const std::vector<std::byte> junk(10'000, std::byte{0xa5});
        REQUIRE(image.region.copy_in(512_KiB, junk));
        REQUIRE(image.region.copy_in(4096, junk));
    });
    CHECK(images == 256);
    CHECK(word_at(crash.memory(), 512_KiB) == 0);
}

TEST_CASE("crash_region: a crash during recovery has images of its own", "[support][unit]") {
    CrashRegion crash{64_KiB};
    crash.record([&] { store_flush(crash, 4096, {1}); });
    std::set<Words> seen;
    crash.for_each_image({}, [&](CrashImage& image) {
        CrashRegion again{image};
        again.record([&] {
            store_flush(again, 8192, {2});
            again.region().fence();
        });
        for (const Words& words : seen_at(again, {4096, 8192})) seen.insert(words);
    });
    CHECK(seen == std::set<Words>{{0, 0}, {0, 2}, {1, 0}, {1, 2}});
    CHECK(seen_at(crash, {8192}) == std::set<Words>{{0}});
}

/// A commit in two steps that relies on its flush and on its fence.
void commit(CrashRegion& crash) {
    store_flush(crash, 4096, {7});
    crash.region().fence();
    if (!crash.region().store8_flush(8192, 1)) std::abort();
    crash.region().fence();
    crash.mark(1);
}

TEST_CASE("crash_region: leaving out one flush or fence is seen, place by place",
          "[support][unit]") {
    CrashRegion crash{64_KiB};
    crash.record([&] { commit(crash); });
    const auto holds = [&](CrashRegion& region) {
        bool result = true;
        region.for_each_image({}, [&](CrashImage& image) {
            if (word_at(image.memory, 8192) == 1 && word_at(image.memory, 4096) != 7)
                result = false;
            if (image.completed == 1 && word_at(image.memory, 8192) != 1) result = false;
        });
        return result;
    };
    REQUIRE(crash.sites().size() == 4);
    CHECK(holds(crash));
    for (const auto& [site, count] : crash.sites()) {
        CAPTURE(site.text());
        CHECK(count == 1);
        CHECK(site.file == "tests/unit/crash_region.cc");
        crash.drop_site(site);
        CHECK_FALSE(holds(crash));
        crash.drop_nothing();
    }
}

TEST_CASE("crash_region: the n-th load, the n-th store, or a range of loads fails",
          "[support][unit]") {
    CrashRegion crash{64_KiB};
    std::vector<std::byte> buffer(64);
    crash.fail_load(2);
    CHECK(crash.region().read(0, buffer));
    const auto failed = crash.region().read(4096, buffer);
    REQUIRE_FALSE(failed);
    CHECK(failed.error().cause == Cause::media_error);
    CHECK(failed.error().offset == 4096);
    CHECK(crash.region().copy_out(4096, buffer));

    crash.fail_store(1);
    const auto not_stored = crash.region().store8_flush(4096, 1);
    REQUIRE_FALSE(not_stored);
    CHECK(not_stored.error().cause == Cause::media_error);
    CHECK(word_at(crash.memory(), 4096) == 0);
    CHECK(crash.region().store8_flush(4096, 1));

    crash.poison(8192, 1);
    CHECK_FALSE(crash.region().read(8192 - 32, buffer));
    CHECK(crash.region().read(8192 - 64, buffer));
    CHECK_FALSE(crash.region().read(8192, buffer));
    crash.poison(0, 0);
    CHECK(crash.region().read(8192, buffer));
    CHECK(crash.loads() == 7);
    CHECK(crash.stores() == 2);
}

TEST_CASE("crash_region: threads that store at the same time are recorded in one order",
          "[support][unit][concurrency]") {
    CrashRegion crash{1_MiB};
    crash.start_recording();
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 4; ++t)
        threads.emplace_back([&crash, t] {
            for (std::uint64_t i = 0; i < 50; ++i) {
                store_flush(crash, 4096 + 8 * t, {i + 1});  // one line for all
                crash.region().fence();
            }
        });
    for (std::thread& thread : threads) thread.join();
    crash.mark(1);
    crash.stop_recording();
    crash.for_each_image({}, [&](CrashImage& image) {
        if (image.completed != 1) return;
        for (std::uint64_t t = 0; t < 4; ++t) REQUIRE(word_at(image.memory, 4096 + 8 * t) == 50);
    });
}

}  // namespace

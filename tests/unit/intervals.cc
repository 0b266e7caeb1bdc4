// SPDX-License-Identifier: Apache-2.0
#include "fs/pin/intervals.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <vector>

#include "tests/support/seed.h"

using namespace pinfs::pin;

namespace {

struct Numbered : Interval {
    Numbered(std::uint64_t from, std::uint64_t to, int id) : number{id} {
        begin = from;
        end = to;
    }
    int number;
};

}  // namespace

TEST_CASE("a range meets those that share a number with it, and no others", "[pin][unit]") {
    Intervals<Numbered> set;
    CHECK(set.first(0, UINT64_MAX) == nullptr);
    Numbered low{10, 20, 1};
    Numbered high{30, UINT64_MAX, 2};
    set.insert(high);
    set.insert(low);
    CHECK(set.first(0, 10) == nullptr);
    CHECK(set.first(9, 11) == &low);
    CHECK(set.first(19, 20) == &low);
    CHECK(set.first(20, 30) == nullptr);
    CHECK(set.first(15, 15) == nullptr);
    CHECK(set.first(20, 31) == &high);
    CHECK(set.next(low, 0, UINT64_MAX) == &high);
    CHECK(set.next(low, 0, 30) == nullptr);
    set.erase(low);
    CHECK(set.first(0, 30) == nullptr);
    CHECK(set.size() == 1);
}

TEST_CASE("equal ranges are all kept, in the order of their insertion", "[pin][unit]") {
    Intervals<Numbered> set;
    std::vector<std::unique_ptr<Numbered>> nodes;
    for (int i = 0; i < 100; ++i) {
        nodes.push_back(std::make_unique<Numbered>(5, 8, i));
        set.insert(*nodes.back());
    }
    int expected = 0;
    CHECK(set.for_each(7, 9, [&](const Numbered& node) { return node.number == expected++; }));
    CHECK(expected == 100);
    CHECK_FALSE(set.for_each(7, 9, [&](const Numbered& node) { return node.number < 50; }));
}

TEST_CASE("random ranges come and go as in a plain list", "[pin][unit]") {
    const std::uint64_t seed = pinfs::test::seed_of_test("intervals", 1);
    std::mt19937_64 random{seed};
    for (const std::uint64_t space : {20, 1000, 1'000'000}) {
        Intervals<Numbered> set;
        std::vector<std::unique_ptr<Numbered>> list;  // by begin, then by insertion
        for (int step = 0; step < 6000; ++step) {
            const std::uint64_t from = random() % space;
            const std::uint64_t to = from + 1 + random() % (step % 3 == 0 ? space : 5);
            if (random() % 5 < 3 || list.empty()) {
                auto node = std::make_unique<Numbered>(from, to, step);
                set.insert(*node);
                const auto at = std::ranges::upper_bound(
                    list, from, {}, [](const auto& other) { return other->begin; });
                list.insert(at, std::move(node));
            } else {
                const auto at = list.begin() + static_cast<std::ptrdiff_t>(random() % list.size());
                set.erase(**at);
                list.erase(at);
            }
            if (step % 7 != 0) continue;
            std::vector<const Numbered*> expected;
            for (const auto& node : list)
                if (node->meets(from, to)) expected.push_back(node.get());
            std::vector<const Numbered*> found;
            set.for_each(from, to, [&](const Numbered& node) {
                found.push_back(&node);
                return true;
            });
            REQUIRE(found == expected);
            REQUIRE(set.size() == list.size());
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//
// SPEC 2.1, 2.2: how leases of one file are given, merged and dropped.
#include "fs/pin/leases.h"

#include <array>
#include <catch2/catch.hpp>
#include <random>

#include "tests/support/seed.h"

using namespace pinfs;
using namespace pinfs::pin;

namespace {

constexpr std::uint64_t kEnd = UINT64_MAX;

Lease lease(std::uint64_t handle, LeaseKind kind, std::uint64_t begin, std::uint64_t end,
            std::uint64_t id = 1) {
    Lease wanted;
    wanted.begin = begin;
    wanted.end = end;
    wanted.id = id;
    wanted.handle = handle;
    wanted.kind = kind;
    return wanted;
}

bool given(Leases& leases, const Lease& wanted) {
    const auto done = leases.set(wanted);
    if (!done) CHECK(done.error().cause == Cause::lease_conflict);
    return done.has_value();
}

}  // namespace

TEST_CASE("any number of handles have layout leases, also beside an exclusive one", "[pin][unit]") {
    Leases leases;
    CHECK(given(leases, lease(1, LeaseKind::layout, 0, kEnd)));
    CHECK(given(leases, lease(2, LeaseKind::layout, 0, 100)));
    CHECK(given(leases, lease(3, LeaseKind::exclusive, 50, 60)));
    CHECK(given(leases, lease(4, LeaseKind::layout, 55, 56)));
    CHECK(leases.holders(LeaseKind::layout, 55, 56) == 3);
    CHECK(leases.holders(LeaseKind::exclusive, 55, 56) == 1);
    std::uint64_t told = 0;
    leases.tell(99, 101, [&](const Lease&) {
        ++told;
        return true;
    });
    CHECK(told == 2);
}

TEST_CASE("one handle has an exclusive lease on a range, unless all of them share", "[pin][unit]") {
    Leases leases;
    CHECK(given(leases, lease(1, LeaseKind::exclusive, 100, 200)));
    CHECK_FALSE(given(leases, lease(2, LeaseKind::exclusive, 199, 300)));
    CHECK_FALSE(given(leases, lease(2, LeaseKind::shared, 0, 101)));
    CHECK(given(leases, lease(2, LeaseKind::exclusive, 200, 300)));
    CHECK(given(leases, lease(1, LeaseKind::exclusive, 120, 130)));
    CHECK(given(leases, lease(3, LeaseKind::shared, 400, 500)));
    CHECK(given(leases, lease(4, LeaseKind::shared, 450, 550)));
    CHECK_FALSE(given(leases, lease(4, LeaseKind::exclusive, 450, 550)));
    CHECK(leases.find(4, 450, 550)->kind == LeaseKind::shared);
    CHECK(given(leases, lease(4, LeaseKind::exclusive, 500, 550)));
}

TEST_CASE("ranges of one handle merge; a change of kind takes the place of what was there",
          "[pin][unit]") {
    Leases leases;
    REQUIRE(given(leases, lease(1, LeaseKind::layout, 0, 100, 7)));
    REQUIRE(given(leases, lease(1, LeaseKind::layout, 100, 200, 8)));
    CHECK(leases.size() == 1);
    CHECK(leases.find(1, 150, 151)->id == 7);
    REQUIRE(given(leases, lease(1, LeaseKind::exclusive, 50, 60, 9)));
    CHECK(leases.size() == 3);
    CHECK(leases.forbids(1, 50, 60));
    CHECK_FALSE(leases.forbids(1, 49, 60));
    CHECK_FALSE(leases.forbids(1, 50, 61));
    REQUIRE(given(leases, lease(1, LeaseKind::shared, 60, 70, 10)));
    CHECK(leases.forbids(1, 50, 70));
    REQUIRE(given(leases, lease(1, LeaseKind::layout, 0, kEnd, 11)));
    CHECK(leases.size() == 1);
    CHECK(leases.forbidding(0, kEnd) == nullptr);
}

TEST_CASE("a part of a lease can be dropped", "[pin][unit]") {
    Leases leases;
    REQUIRE(given(leases, lease(1, LeaseKind::exclusive, 0, kEnd, 5)));
    leases.drop(1, 100, 200);
    leases.drop(2, 0, kEnd);
    CHECK(leases.forbids(1, 0, 100));
    CHECK(leases.forbids(1, 200, kEnd));
    CHECK(leases.forbidding(100, 200) == nullptr);
    CHECK(given(leases, lease(2, LeaseKind::exclusive, 100, 200)));
    leases.drop_all(1);
    CHECK(leases.size() == 1);
    CHECK(leases.find(1, 0, kEnd) == nullptr);
}

TEST_CASE("random leases are as a table of single units has them", "[pin][unit]") {
    const std::uint64_t seed = test::seed_of_test("leases", 1);
    std::mt19937_64 random{seed};
    constexpr std::uint64_t kUnits = 40;
    constexpr std::uint64_t kHandles = 4;
    // 0: none, else 1 + kind
    std::array<std::array<int, kUnits>, kHandles> table{};
    Leases leases;
    for (int step = 0; step < 20'000; ++step) {
        const std::uint64_t handle = random() % kHandles;
        const std::uint64_t begin = random() % kUnits;
        const std::uint64_t end = begin + 1 + random() % (kUnits - begin);
        auto& mine = table.at(handle);
        if (random() % 3 == 0) {
            leases.drop(handle, begin, end);
            std::fill(mine.begin() + static_cast<std::ptrdiff_t>(begin),
                      mine.begin() + static_cast<std::ptrdiff_t>(end), 0);
        } else {
            const auto kind = static_cast<LeaseKind>(random() % 3);
            bool possible = true;
            for (std::uint64_t other = 0; other < kHandles; ++other)
                for (std::uint64_t unit = begin; unit < end; ++unit) {
                    const int there = table.at(other).at(unit);
                    if (other != handle && kind != LeaseKind::layout && there > 1 &&
                        (there == 2 || kind == LeaseKind::exclusive))
                        possible = false;
                }
            REQUIRE(given(leases, lease(handle, kind, begin, end)) == possible);
            if (possible)
                std::fill(mine.begin() + static_cast<std::ptrdiff_t>(begin),
                          mine.begin() + static_cast<std::ptrdiff_t>(end),
                          1 + static_cast<int>(kind));
        }
        for (std::uint64_t unit = 0; unit < kUnits; ++unit) {
            const Lease* found = leases.find(handle, unit, unit + 1);
            REQUIRE((found == nullptr ? 0 : 1 + static_cast<int>(found->kind)) == mine.at(unit));
            bool forbidden = false;
            for (const auto& of : table) forbidden |= of.at(unit) > 1;
            REQUIRE((leases.forbidding(unit, unit + 1) != nullptr) == forbidden);
        }
    }
}

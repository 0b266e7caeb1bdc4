// SPDX-License-Identifier: Apache-2.0
//
// SPEC 2.2, 2.4, 3.1, 3.4, 3.6, 5.1: what leases, maps and pins of one file say.
#include "fs/pin/pins.h"

#include <catch2/catch.hpp>

using namespace pinfs;
using namespace pinfs::pin;

namespace {

constexpr std::uint64_t kEnd = UINT64_MAX;

Owner context(std::uint64_t id) {
    Owner owner;
    owner.context = id;
    owner.process.pid = 100;
    return owner;
}
Owner process(std::uint32_t pid, std::uint64_t start) {
    Owner owner;
    owner.process = {.pid = pid, .start_ticks = start, .pid_namespace = 1};
    return owner;
}
Lease lease(std::uint64_t handle, LeaseKind kind, std::uint64_t begin, std::uint64_t end) {
    Lease wanted;
    wanted.begin = begin;
    wanted.end = end;
    wanted.id = handle;
    wanted.handle = handle;
    wanted.kind = kind;
    return wanted;
}
/// A pin as the volume enters it, after it was admitted.
Pin entered(FilePins& file, std::uint64_t handle, std::uint64_t begin, std::uint64_t end,
            const Owner& owner) {
    Pin pin;
    pin.begin = begin;
    pin.end = end;
    pin.owner = owner;
    const auto shared = file.admit_pin(handle, begin, end);
    REQUIRE(shared);
    pin.shared = *shared;
    return pin;
}
template <class Result>
Cause cause_of(const Result& result) {
    REQUIRE(!result);
    return result.error().cause;
}

}  // namespace

TEST_CASE("an owner is its context, or a process told apart by its start", "[pin][unit]") {
    CHECK(context(3).is(context(3)));
    CHECK_FALSE(context(3).is(context(4)));
    CHECK(process(7, 100).is(process(7, 100)));
    CHECK_FALSE(process(7, 100).is(process(7, 101)));
    CHECK_FALSE(context(3).is(process(100, 0)));
}

TEST_CASE("3.1 a pin needs an exclusive lease on all of its range, through the same handle",
          "[pin][unit]") {
    FilePins file;
    CHECK(cause_of(file.admit_pin(1, 0, 10)) == Cause::no_exclusive_lease);
    REQUIRE(file.set_lease(lease(1, LeaseKind::layout, 0, kEnd), context(1)));
    CHECK(cause_of(file.admit_pin(1, 0, 10)) == Cause::no_exclusive_lease);
    REQUIRE(file.set_lease(lease(1, LeaseKind::exclusive, 100, 200), context(1)));
    CHECK(file.admit_pin(1, 100, 200) == false);
    CHECK(cause_of(file.admit_pin(1, 99, 200)) == Cause::no_exclusive_lease);
    CHECK(cause_of(file.admit_pin(1, 100, 201)) == Cause::no_exclusive_lease);
    CHECK(cause_of(file.admit_pin(2, 100, 200)) == Cause::no_exclusive_lease);
    CHECK(cause_of(file.admit_pin(1, 150, 150)) == Cause::invalid_argument);
    REQUIRE(file.set_lease(lease(1, LeaseKind::shared, 200, 300), context(1)));
    CHECK(file.admit_pin(1, 200, 300) == true);
    CHECK(file.admit_pin(1, 150, 250) == false);
    file.leases.drop(1, 150, 151);
    CHECK(cause_of(file.admit_pin(1, 100, 200)) == Cause::no_exclusive_lease);
}

TEST_CASE("5.1 a map needs a lease of any kind on all of its range", "[pin][unit]") {
    FilePins file;
    CHECK(cause_of(file.admit_map(1, 0, 10)) == Cause::no_lease);
    REQUIRE(file.set_lease(lease(1, LeaseKind::layout, 0, 10), context(1)));
    REQUIRE(file.set_lease(lease(1, LeaseKind::exclusive, 10, 20), context(1)));
    CHECK(file.admit_map(1, 0, 20));
    CHECK(cause_of(file.admit_map(1, 0, 21)) == Cause::no_lease);
    CHECK(cause_of(file.admit_map(2, 0, 5)) == Cause::no_lease);
}

TEST_CASE("3.6 a change is refused where it meets a pin or an exclusive lease, and only there",
          "[pin][unit]") {
    FilePins file;
    REQUIRE(file.set_lease(lease(1, LeaseKind::exclusive, 100, 200), context(1)));
    REQUIRE(file.set_lease(lease(2, LeaseKind::layout, 0, kEnd), context(2)));
    Pin pin = entered(file, 1, 120, 140, context(1));
    file.pins.insert(pin);
    CHECK(file.admit_change(0, 100));
    CHECK(file.admit_change(200, kEnd));
    CHECK(cause_of(file.admit_change(199, 201)) == Cause::range_leased);
    CHECK(cause_of(file.admit_change(110, 121)) == Cause::range_pinned);

    // 3.4: without its lease the pin lives on, and nothing else is refused.
    file.leases.drop_all(1);
    CHECK(cause_of(file.admit_change(139, kEnd)) == Cause::range_pinned);
    CHECK(file.admit_change(140, kEnd));
    CHECK(cause_of(file.admit_pin(1, 120, 140)) == Cause::no_exclusive_lease);
    file.pins.erase(pin);
    CHECK(file.admit_change(0, kEnd));
}

TEST_CASE("3.4 two pins of one range need two unpins", "[pin][unit]") {
    FilePins file;
    REQUIRE(file.set_lease(lease(1, LeaseKind::exclusive, 0, 10), context(1)));
    Pin one = entered(file, 1, 0, 10, context(1));
    Pin two = entered(file, 1, 0, 10, context(1));
    file.pins.insert(one);
    file.pins.insert(two);
    file.leases.drop_all(1);
    file.pins.erase(one);
    CHECK(cause_of(file.admit_change(0, 10)) == Cause::range_pinned);
    file.pins.erase(two);
    CHECK(file.admit_change(0, 10));
    CHECK_FALSE(file.is_pinned(0, kEnd));
}

TEST_CASE("2.4 over pins that outlived their lease only their owner gets another", "[pin][unit]") {
    FilePins file;
    REQUIRE(file.set_lease(lease(1, LeaseKind::exclusive, 0, 100), context(1)));
    Pin pin = entered(file, 1, 10, 20, context(1));
    file.pins.insert(pin);
    // While the lease lives, its own rule answers.
    CHECK(cause_of(file.set_lease(lease(2, LeaseKind::exclusive, 0, 15), context(2))) ==
          Cause::lease_conflict);
    file.leases.drop_all(1);
    CHECK(cause_of(file.set_lease(lease(2, LeaseKind::exclusive, 0, 15), context(2))) ==
          Cause::pins_outlive_lease);
    CHECK(cause_of(file.set_lease(lease(2, LeaseKind::shared, 0, 15), context(2))) ==
          Cause::pins_outlive_lease);
    CHECK(file.set_lease(lease(2, LeaseKind::exclusive, 20, 30), context(2)));
    CHECK(file.set_lease(lease(2, LeaseKind::layout, 0, kEnd), context(2)));
    CHECK(file.set_lease(lease(3, LeaseKind::exclusive, 0, 15), context(1)));
    CHECK(file.admit_pin(3, 0, 15) == false);
}

TEST_CASE("2.4 pins of several owners: all must be the asker's, or all shared", "[pin][unit]") {
    FilePins file;
    REQUIRE(file.set_lease(lease(1, LeaseKind::shared, 0, 100), context(1)));
    REQUIRE(file.set_lease(lease(2, LeaseKind::shared, 0, 100), context(2)));
    Pin one = entered(file, 1, 10, 20, context(1));
    Pin two = entered(file, 2, 15, 30, context(2));
    file.pins.insert(one);
    file.pins.insert(two);
    file.leases.drop_all(1);
    file.leases.drop_all(2);
    CHECK(cause_of(file.set_lease(lease(3, LeaseKind::exclusive, 0, 100), context(1))) ==
          Cause::pins_outlive_lease);
    CHECK(file.set_lease(lease(3, LeaseKind::exclusive, 0, 15), context(1)));
    CHECK(file.set_lease(lease(4, LeaseKind::shared, 15, 100), context(4)));
}

// SPDX-License-Identifier: Apache-2.0
//
// Crashes in the change of a region's uuid and label.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <string>

#include "fs/check/check.h"
#include "fs/volume/describe.h"
#include "fs/volume/volume.h"
#include "tests/support/crash_region.h"
#include "tests/support/recording_mounts.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

constexpr std::array<std::uint8_t, 16> kOld{1, 2, 3, 4};
constexpr std::array<std::uint8_t, 16> kNew{9, 8, 7, 6};

void make_old(pmem::Region& region) {
    MakeOptions options;
    options.uuid = kOld;
    options.label = "old";
    REQUIRE(make_file_system(region, options));
}

TEST_CASE("crash: a change of identity leaves the old one or the new one", "[volume][crash]") {
    using Damaged = RecordedIdentity::Damaged;
    const Damaged damaged = GENERATE(Damaged::none, Damaged::first, Damaged::second);
    RecordedIdentity identity{damaged};
    judge_images(identity, effort(), seed_of_test("identity", 1));
}

TEST_CASE("a change of identity changes only what is asked, and repairs a superblock",
          "[volume][crash]") {
    CrashRegion crash{1_MiB};
    pmem::Region& region = crash.region();
    make_old(region);
    std::ranges::fill(crash.memory().first(512), std::byte{0});
    REQUIRE(change_identity(region, {.uuid = {}, .label = "new"}));
    CHECK(describe_identity(region)->uuid == kOld);
    CHECK(describe_identity(region)->label == "new");
    CHECK(check(region)->clean());
    REQUIRE(change_identity(region, {.uuid = kNew, .label = {}}));
    CHECK(describe_identity(region)->uuid == kNew);
    CHECK(describe_identity(region)->label == "new");
    REQUIRE(change_identity(region, {.uuid = {}, .label = ""}));
    CHECK(describe_identity(region)->label.empty());
    CHECK(!change_identity(region, {.uuid = {}, .label = std::string(65, 'x')}));
    CHECK(describe_identity(region)->uuid == kNew);
    CHECK(check(region)->clean());
}

}  // namespace

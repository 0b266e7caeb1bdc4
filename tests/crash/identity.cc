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
    CrashRegion crash{1_MiB};
    make_old(crash.region());
    crash.record([&] {
        REQUIRE(change_identity(crash.region(), {.uuid = kNew, .label = std::string(60, 'n')}));
        crash.mark(1);
    });
    std::size_t old = 0;
    std::size_t changed = 0;
    const auto totals = crash.for_each_image(
        {.per_fence_max = 4096, .seed = seed_of_test("identity", 1)}, [&](CrashImage& image) {
            CAPTURE(image.label);
            const auto found = describe_identity(image.region);
            REQUIRE(found);
            const bool is_new = found->uuid == kNew;
            CHECK(found->uuid == (is_new ? kNew : kOld));
            CHECK(found->label == (is_new ? std::string(60, 'n') : "old"));
            CHECK((is_new || image.completed == 0));
            ++(is_new ? changed : old);
            {
                MountOptions options;
                options.background = false;
                const auto volume = Volume::mount(image.region, options);
                REQUIRE(volume);
                REQUIRE((*volume)->unmount());
            }
            const auto report = check(image.region);
            REQUIRE(report);
            CHECK(report->clean());
            CHECK(describe_identity(image.region)->uuid == found->uuid);
        });
    CHECK(totals.images > 10);
    CHECK(old > 0);
    CHECK(changed > 0);
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

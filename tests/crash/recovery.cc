// SPDX-License-Identifier: Apache-2.0
//
// Crashes around mounts: in mkfs, in the repair of a superblock, in the recovery from a crash.
#include <catch2/catch.hpp>
#include <cstdio>

#include "tests/support/crash_workloads.h"
#include "tests/support/recording_mounts.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs::test;

std::string judged(Recording& recording, std::uint64_t seed) {
    try {
        judge_images(recording, effort(), seed);
    } catch (const std::exception& error) {
        return error.what();
    }
    return {};
}

TEST_CASE("crash: mkfs leaves the old file system, none, or the new one", "[volume][crash]") {
    const bool over_file_system = GENERATE(true, false);
    RecordedMake make{over_file_system};
    CHECK(judged(make, seed_of_test("mkfs", 1)) == "");
}

TEST_CASE("crash: the repair of a superblock can be cut and repeated", "[volume][crash]") {
    const bool first = GENERATE(true, false);
    RecordedRepair repair{first};
    CHECK(judged(repair, seed_of_test("repair", 1)) == "");
}

TEST_CASE("crash: a recovery that is cut is repeated, to the same end", "[journal][crash]") {
    const std::uint64_t seed = seed_of_test("recovery", 1);
    std::size_t recoveries = 0;
    for (const Workload& workload : all_workloads()) {
        RecordedWorkload recording{workload};
        for (const auto& recovery : recoveries_of(recording, 2, 1)) {
            ++recoveries;
            const std::string wrong = judged(*recovery, seed);
            INFO(wrong);
            CHECK(wrong.empty());
        }
    }
    std::printf("recoveries: %zu\n", recoveries);
    CHECK(recoveries > 50);
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
//
// Several threads at work when the power goes: what each had done is there.
#include <catch2/catch.hpp>
#include <cstdio>

#include "tests/support/recording_mounts.h"
#include "tests/support/seed.h"
#include "tests/support/thread_workloads.h"

namespace {

using namespace pinfs::test;

TEST_CASE("crash: what two threads had done is there, of each up to its own point",
          "[volume][crash][concurrency]") {
    const std::uint64_t seed = seed_of_test("threads", 1);
    const auto rounds = static_cast<std::size_t>(1 + 3 * effort().scale);
    std::size_t recoveries = 0;
    for (std::size_t round = 0; round < rounds; ++round)
        for (const auto& make : thread_workloads()) {
            const auto recording = make();
            std::string wrong;
            try {
                judge_images(*recording, effort(), seed + round);
                for (const auto& recovery : recoveries_of(*recording, 2, 2)) {
                    ++recoveries;
                    judge_images(*recovery, effort(), seed + round);
                }
            } catch (const std::exception& error) {
                wrong = error.what();
            }
            INFO(wrong);
            CHECK(wrong.empty());
        }
    std::printf("recoveries of two lanes: %zu\n", recoveries);
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
//
// Repairs of more than one fault at a time. The faults one by one stand in check_*.cc, beside what
// the judge says of them.
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "fs/repair/repair.h"
#include "tests/support/damage.h"
#include "tests/support/random_damage.h"
#include "tests/support/repaired.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;

TEST_CASE("repair: random damage in several places at once", "[repair][corruption]") {
    Random random(seed_of_test("repair random damage", 31));
    Sample sample;
    HandImage& image = sample.image;
    const std::vector<std::byte> pristine(image.memory().begin(), image.memory().end());
    const auto files = readable(pristine);
    const RandomDamage damage(pristine);
#ifdef __SANITIZE_ADDRESS__
    constexpr int kRounds = 150;
#else
    constexpr int kRounds = 1000;
#endif
    int judged = 0;
    for (int round = 0; round < kRounds; ++round) {
        CAPTURE(round);
        std::ranges::copy(pristine, image.memory().begin());
        damage.apply(image, random, 4, round % 2 == 0);
        const auto report = check(image.region());
        if (!report || report->clean()) continue;
        ++judged;
        check_repair(image.region(), image.memory(), files);
    }
    CHECK(judged > kRounds / 2);
}

}  // namespace

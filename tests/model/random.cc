// SPDX-License-Identifier: Apache-2.0
//
// Random operations against a model of a file system, on regions of many sizes, full ones too.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/operations.h"
#include "tests/support/random_operations.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kScale = 4;
#else
constexpr std::uint64_t kScale = 1;
#endif

struct Run {
    MountedOptions fs;
    RandomOptions random;
    std::uint64_t operations = 0;
    std::uint64_t compare_every = 200;
};

struct RunResult {
    std::uint64_t succeeded = 0;
    std::uint64_t refused = 0;
};

/// `between` is called after each comparison.
template <class Between>
RunResult run(const Run& plan, std::uint64_t seed, const Between& between) {
    Mounted fs{plan.fs};
    const Statistics empty = fs->statistics();
    ModelFiles model;
    Compared both{fs, model};
    RandomOperations random{seed, plan.random};
    RunResult result;
    std::vector<std::string> last;
    const std::uint64_t operations = plan.operations / kScale;
    for (const char* directory : {"/d0", "/d1", "/d0/d2", "/d0/d2/d3"})
        both.run(operations::make_directory(directory));
    try {
        for (std::uint64_t i = 1; i <= operations; ++i) {
            const Operation operation = random.next();
            last.push_back(operation.text());
            if (both.run(operation)) {
                ++result.succeeded;
                random.was_done(operation);
            }
            if (i % plan.compare_every == 0) {
                both.compare();
                last.clear();
                between(fs, random);
            }
            if (i % (plan.compare_every * 4) == 0) {
                both.remount();
                random.close_all();
            }
        }
        both.remount();
        fs.remove_all();
        fs.check_clean();
        const Statistics now = fs->statistics();
        if (now.blocks_free != empty.blocks_free || now.inodes != 1)
            throw std::runtime_error("emptied, it has " + std::to_string(now.blocks_free) +
                                     " free blocks of " + std::to_string(empty.blocks_free) +
                                     " and " + std::to_string(now.inodes) + " inodes");
    } catch (const std::exception& error) {
        std::string text = error.what();
        text += "\nlast operations:\n";
        for (std::size_t i = last.size() > 30 ? last.size() - 30 : 0; i < last.size(); ++i)
            text += last[i] + "\n";
        FAIL(text);
    }
    result.refused = both.refused();
    return result;
}

void no_more(Mounted&, RandomOperations&) {}

TEST_CASE("model: random operations on a region with room", "[volume][model]") {
    const std::uint64_t seed = seed_of_test("random", 1);
    const std::uint64_t bytes = GENERATE(4_MiB, 16_MiB, 64_MiB, 130_MiB);
    const Run plan{.fs = {.bytes = bytes},
                   .random = {.names = 14, .offset_bytes_max = bytes / 100},
                   .operations = 12'000};
    const RunResult result = run(plan, seed + bytes, no_more);
    std::printf("%llu MiB: %llu succeeded, %llu without space\n",
                static_cast<unsigned long long>(bytes >> 20),
                static_cast<unsigned long long>(result.succeeded),
                static_cast<unsigned long long>(result.refused));
    CHECK(result.succeeded > 1000 / kScale);
}

TEST_CASE("model: random operations on a region that is nearly always full", "[volume][model]") {
    const std::uint64_t seed = seed_of_test("full", 2);
    const std::uint64_t bytes = GENERATE(1_MiB, 2_MiB, 8_MiB, 20_MiB);
    const Run plan{.fs = {.bytes = bytes},
                   .random = {.names = 20,
                              .write_bytes_max = std::min(bytes / 6, 1_MiB),
                              .offset_bytes_max = bytes / 2,
                              .removals = 2},
                   .operations = 12'000};
    bool emptying = false;
    const RunResult result = run(plan, seed + bytes, [&](Mounted& fs, RandomOperations& random) {
        // Full for a while, then a part of it removed.
        const Statistics now = fs->statistics();
        if (now.blocks_available < now.blocks / 20) emptying = random.number(4) == 0;
        if (now.blocks_available > now.blocks / 4) emptying = false;
        random.set_removals(emptying ? 14 : 2);
    });
    std::printf("%llu MiB: %llu succeeded, %llu without space\n",
                static_cast<unsigned long long>(bytes >> 20),
                static_cast<unsigned long long>(result.succeeded),
                static_cast<unsigned long long>(result.refused));
    CHECK(result.refused > 0);
}

TEST_CASE("model: names that share a few hashes", "[volume][model]") {
    const std::uint64_t seed = seed_of_test("collisions", 3);
    const unsigned bits = GENERATE(1u, 2u, 4u, 6u);
    const Run plan{.fs = {.bytes = 8_MiB, .name_hash_bits = bits},
                   .random = {.names = 400,
                              .write_bytes_max = 500,
                              .far_offsets = false,
                              .attribute_bytes_max = 100,
                              .long_names = 1},
                   .operations = 10'000,
                   .compare_every = 500};
    const RunResult result = run(plan, seed + bits, no_more);
    CHECK(result.succeeded > 1000 / kScale);
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
//
// Two operations after each other, any two of a small set over a small tree, as ACE makes them:
// most known crash bugs of file systems need no more. Sampled; nightly runs take all of them.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdio>
#include <random>

#include "tests/support/operations.h"
#include "tests/support/recording.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::test::operations;
// Not the system calls of these names.
using operations::link;
using operations::open;
using operations::rename;
using operations::sync;
using operations::truncate;
using operations::unlink;
using operations::write;

const Operations kTree{make_directory("/d"),
                       make_directory("/e"),
                       make_directory("/e/empty"),
                       create("/a"),
                       write("/a", 0, 10000, 1),
                       create("/b"),
                       write("/b", 40960, 5000, 2),
                       link("/a", "/d/l"),
                       create("/d/c"),
                       append("/d/c", 3000, 3),
                       append("/d/c", 3000, 4),
                       symbolic_link("/s", std::string(150, 's')),
                       set_attribute("/b", "user.x", 5000),
                       open("/b", 1)};

const Operations kOperations{
    create("/n"),
    create("/d/n"),
    make_directory("/d/m"),
    make_node("/e/fifo", S_IFIFO | 0600),
    symbolic_link("/e/s", std::string(200, 't')),
    link("/a", "/e/l"),
    link("/d/c", "/n"),
    unlink("/a"),
    unlink("/d/l"),
    unlink("/b"),
    unlink("/d/c"),
    unlink("/s"),
    remove_directory("/e/empty"),
    remove_directory("/d"),
    rename("/a", "/b"),
    rename("/a", "/d/l"),
    rename("/b", "/d/c"),
    rename("/d/c", "/n"),
    rename("/d", "/e/empty"),
    rename("/d", "/e/d"),
    rename("/e/empty", "/d/m"),
    rename("/a", "/d/c", kRenameExchange),
    rename("/d", "/e/empty", kRenameExchange),
    rename("/d", "/s", kRenameExchange),
    write("/a", 100, 3000, 5),
    write("/a", 9000, 9000, 6),
    write("/a", 30000, 10, 7),
    write("/b", 8192, 4096, 8),
    write("/b", 40000, 3000, 9),
    append("/d/c", 100, 10),
    append("/d/c", 9000, 11),
    append("/a", 4096, 12),
    write("#1", 10, 100, 13),
    truncate("/a", 0),
    truncate("/a", 4999),
    truncate("/a", 50000),
    truncate("/b", 41000),
    truncate("/b", 100),
    truncate("/d/c", 5999),
    truncate("#1", 44000),
    allocate("/a", 8000, 20000),
    allocate("/b", 30000, 40000, true),
    punch_hole("/a", 1000, 6000),
    punch_hole("/b", 0, 60000),
    zero_range("/a", 3000, 20000),
    zero_range("#1", 41000, 20000, true),
    copy("/a", 100, "/b", 38000, 9000),
    set_attribute("/a", "user.y", 100),
    set_attribute("/b", "user.x", 9000, 2),
    remove_attribute("/b", "user.x"),
    set_attribute("/d", "user.z", 30000),
    change_mode("/a", 0400),
    change_owner("/d", 3, 4),
    set_times("/b", 1000, 2000),
    sync("/a"),
    release(1),
    finish_pending(),
};

TEST_CASE("crash: any two operations after each other", "[volume][crash]") {
    const std::uint64_t seed = seed_of_test("pairs", 20);
    const Effort much = effort();
    std::vector<std::pair<std::size_t, std::size_t>> pairs;
    for (std::size_t first = 0; first < kOperations.size(); ++first)
        for (std::size_t second = 0; second < kOperations.size(); ++second) {
            // A handle that was given back is nobody's.
            if (kOperations[first].what == Do::release && kOperations[second].what == Do::release)
                continue;
            if (kOperations[first].what == Do::release && kOperations[second].path == "#1")
                continue;
            pairs.emplace_back(first, second);
        }
    std::mt19937_64 random{seed};
    std::ranges::shuffle(pairs, random);
    const auto wanted = static_cast<std::size_t>(800 * much.scale);
    if (pairs.size() > wanted) pairs.resize(wanted);

    std::vector<Workload> workloads;
    for (const auto& [first, second] : pairs) {
        const Operation& one = kOperations[first];
        const Operation& two = kOperations[second];
        workloads.push_back({.name = one.text() + ", " + two.text(),
                             .before = kTree,
                             .recorded = {one, two, finish_pending()}});
    }
    std::printf("pairs: %zu\n", workloads.size());
    const std::vector<std::string> failures = judge_workloads(workloads, much, seed);
    for (std::size_t i = 0; i < failures.size() && i < 10; ++i) UNSCOPED_INFO(failures[i]);
    CHECK(failures.empty());
}

}  // namespace

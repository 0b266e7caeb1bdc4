// SPDX-License-Identifier: Apache-2.0
//
// Sequences of operations over a small tree, as ACE makes them: all of one operation, all of two,
// and of three as many as there is time for. Most known crash bugs of file systems need no more
// than two. The power goes in the last operation, or in what is done in the background after it:
// a crash before is a shorter sequence's.
//
// The operations are over two trees: one that nobody reaches but through the kernel, and one with
// a map, a pin, a hold and a lease.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdio>
#include <random>

#include "tests/support/operations.h"
#include "tests/support/recording.h"
#include "tests/support/seed.h"

namespace pinfs::test {

using namespace operations;

namespace {

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
                       open("/b", 1),
                       make_unnamed("/d", 2),
                       write("#2", 0, 6000, 4),
                       create("/o"),
                       write("/o", 0, 9000, 4),
                       open("/o", 3),
                       unlink("/o")};

const Operations kReachedTree =
    kTree + Operations{write("/a", 10000, 30000, 5), open("/a", 4),
                       map("#4", 0, 16384, 11),      punch_hole("/a", 4096, 8192),
                       map("#1", 40960, 4096, 12),   write("/d/l", 12288, 100, 6),
                       pin("#4", 24576, 8000, 13),   open("/d/c", 5),
                       lease("#5", 31, true)};

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
    rename("/a", "/n", kRenameNoReplace),
    rename("/d/c", "/b", kRenameNoReplace),
    rename("/a", "/e/w", kRenameWhiteout),
    rename("/d/c", "/b", kRenameWhiteout),
    make_unnamed("/e", 6),
    link("#2", "/e/u"),
    link("#3", "/e/o"),
    release(2),
    release(3),
    write("#2", 5000, 9000, 14),
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
    lease("#1", 32, true),
    lease("#1", 33, false),
    drop_lease("#5", 31),
    map("#1", 0, 45056, 14),
    pin("#1", 0, 9000, 15),
    pin("#2", 0, 6000, 16),
    map("#3", 0, 8192, 17),
    drop(11),
    drop(13),
    drop(14),
    drop(15),
    lose_owner(),
    finish_pending(),
};

struct Tree {
    const char* name;
    const Operations& operations;
};
const std::array kTrees{Tree{"", kTree}, Tree{"reached: ", kReachedTree}};

Workload workload_of(const Tree& tree, Operations sequence) {
    Workload workload{.name = tree.name, .before = tree.operations};
    for (const Operation& operation : sequence) workload.name += operation.text() + ", ";
    workload.judged_from = sequence.size() - 1;
    workload.recorded = std::move(sequence);
    workload.recorded.push_back(finish_pending());
    return workload;
}

/// Of a list, or so many of it as `wanted`, by chance.
template <class Item>
void sample(std::vector<Item>& list, std::size_t wanted, std::uint64_t seed) {
    std::mt19937_64 random{seed};
    std::ranges::shuffle(list, random);
    if (wanted < list.size()) list.resize(wanted);
}

void check_all(const char* what, const std::vector<Workload>& workloads, const Effort& effort,
               std::uint64_t seed) {
    std::printf("%s: %zu\n", what, workloads.size());
    const std::vector<std::string> failures = judge_workloads(workloads, effort, seed);
    for (std::size_t i = 0; i < failures.size() && i < 10; ++i) UNSCOPED_INFO(failures[i]);
    CHECK(failures.empty());
}

/// Of what there is so much of, a third of the images.
Effort less_each(Effort effort) {
    effort.per_fence_max = effort.per_fence_max / 3;
    return effort;
}

TEST_CASE("crash: any operation", "[volume][crash]") {
    const std::uint64_t seed = seed_of_test("single operations", 19);
    std::vector<Workload> workloads;
    for (const Tree& tree : kTrees)
        for (const Operation& operation : kOperations)
            workloads.push_back(workload_of(tree, {operation}));
    check_all("single operations", workloads, effort(), seed);
}

TEST_CASE("crash: any two operations after each other", "[volume][crash]") {
    const std::uint64_t seed = seed_of_test("pairs", 20);
    const Effort much = less_each(effort());
    std::vector<Workload> workloads;
    for (const Tree& tree : kTrees)
        for (const Operation& first : kOperations)
            for (const Operation& second : kOperations)
                workloads.push_back(workload_of(tree, {first, second}));
    sample(workloads, much.pairs, seed);
    check_all("pairs", workloads, much, seed);
}

TEST_CASE("crash: three operations after each other", "[volume][crash]") {
    const std::uint64_t seed = seed_of_test("triples", 21);
    const Effort much = less_each(effort());
    std::mt19937_64 random{seed};
    const auto any = [&]() -> const Operation& {
        return kOperations[random() % kOperations.size()];
    };
    std::vector<Workload> workloads;
    while (workloads.size() < much.triples)
        workloads.push_back(workload_of(kTrees[random() % kTrees.size()], {any(), any(), any()}));
    check_all("triples", workloads, much, seed);
}

}  // namespace

}  // namespace pinfs::test

// SPDX-License-Identifier: Apache-2.0
//
// What each operation costs on persistent memory: flushes, the 64-byte lines in them, and fences.
// The counts are exact, so that a flush or fence that comes or goes shows here first. Which of them
// are needed the mutation run says (tests/crash/mutations.cc).
//
// A commit costs four fences, one behind each of its steps; data is fenced before the change that
// names it.
#include <catch2/catch.hpp>
#include <ostream>
#include <utility>
#include <vector>

#include "tests/support/operations.h"

namespace pinfs::test {

using namespace operations;
using namespace unit_literals;

namespace {

struct Cost {
    std::uint64_t flushes = 0;  ///< calls of the region that flush
    std::uint64_t lines = 0;
    std::uint64_t fences = 0;
    bool operator==(const Cost&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Cost& cost) {
    return out << "{" << cost.flushes << ", " << cost.lines << ", " << cost.fences << "}";
}

class Counting final : public pmem::Observer {
public:
    bool before_load(std::uint64_t, std::uint64_t) override { return true; }
    bool before_store(std::uint64_t, std::uint64_t) override { return true; }
    void stored(std::uint64_t, std::uint64_t) override {}
    void flushed(std::uint64_t offset, std::uint64_t bytes, const std::source_location&) override {
        constexpr std::uint64_t kLineBytes = 64;
        ++cost_.flushes;
        cost_.lines += (offset + bytes - 1) / kLineBytes - offset / kLineBytes + 1;
    }
    void fenced(const std::source_location&) override { ++cost_.fences; }

    /// Since the last call.
    Cost take() { return std::exchange(cost_, {}); }

private:
    Cost cost_;
};

pmem::Capabilities flushed_by_line() {
    pmem::Capabilities capabilities;
    capabilities.kind = pmem::Kind::tmpfs;
    capabilities.flush = pmem::Flush::line;
    capabilities.persistent = true;
    capabilities.pinnable = true;
    return capabilities;
}

struct Row {
    Operations before;
    Operation measured;
    Cost cost;
};

/// What `row` costs on a file system of its own.
Cost cost_of(const Row& row) {
    Counting counting;
    const Memory memory{1_MiB};
    pmem::Region region{memory.bytes(), flushed_by_line(), &counting};
    Mounted fs{region, memory.bytes(), {}};
    Runner runner{fs};
    for (const Operation& operation : row.before) must(runner.run(operation));
    (void)counting.take();
    must(runner.run(row.measured));
    return counting.take();
}

const Operations kFile{create("/a"), write("/a", 0, 20480), open("/a", 1)};
const Operations kDirectory{create("/a"), make_directory("/d"), create("/d/b")};

const std::vector<Row> kTable{
    // Names
    {kDirectory, create("/c"), {11, 22, 4}},
    {kDirectory, create("/d/c"), {10, 22, 4}},
    {kDirectory, make_directory("/e"), {11, 22, 4}},
    {kDirectory, make_node("/p", S_IFIFO | 0600), {11, 22, 4}},
    {kDirectory, make_unnamed("/d", 1), {9, 18, 4}},
    {kDirectory + Operations{make_unnamed("/d", 1)}, link("#1", "/d/l"), {11, 16, 4}},
    {kDirectory, symbolic_link("/s", "short"), {11, 22, 4}},
    {kDirectory, symbolic_link("/s", std::string(200, 'l')), {16, 32, 4}},
    {kDirectory, link("/a", "/d/l"), {9, 13, 4}},
    {kDirectory, unlink("/d/b"), {13, 18, 4}},
    {kDirectory + Operations{unlink("/d/b")}, finish_pending(), {6, 7, 4}},
    {kDirectory + Operations{make_directory("/e")}, remove_directory("/e"), {14, 19, 4}},
    {kDirectory, rename("/a", "/c"), {8, 11, 4}},
    {kDirectory, rename("/a", "/d/c"), {11, 18, 4}},
    {kDirectory, rename("/a", "/d/b"), {18, 26, 4}},
    {kDirectory, rename("/a", "/d/c", kRenameNoReplace), {11, 18, 4}},
    {kDirectory, rename("/a", "/d/b", kRenameExchange), {13, 17, 4}},
    {kDirectory, rename("/a", "/c", kRenameWhiteout), {13, 26, 4}},
    // Content
    {kFile, write("/a", 0, 4096, 2), {1, 64, 1}},
    {kFile, write("/a", 100, 8, 2), {1, 1, 1}},
    {kFile, write("/a", 1000, 8192, 2), {1, 129, 1}},
    {{create("/a")}, write("/a", 0, 4096, 2), {12, 79, 5}},
    {{create("/a")}, write("/a", 100, 200, 2), {14, 81, 5}},
    {{create("/a"), write("/a", 0, 100)}, append("/a", 100, 2), {6, 9, 5}},
    {kFile, append("/a", 4096, 2), {12, 81, 5}},
    {kFile + Operations{append("/a", 4096, 2)}, append("/a", 4096, 3), {7, 73, 5}},
    {kFile, truncate("/a", 0), {11, 15, 4}},
    {kFile, truncate("/a", 5000), {11, 15, 4}},
    {kFile, truncate("/a", 20480), {5, 6, 4}},
    {kFile, truncate("/a", 50000), {5, 6, 4}},
    {kFile + Operations{truncate("/a", 5000)}, truncate("/a", 6000), {6, 22, 4}},
    {kFile, allocate("/a", 20480, 8192), {12, 17, 4}},
    {kFile, allocate("/a", 20480, 8192, true), {13, 19, 4}},
    {kFile, allocate("/a", 0, 8192), {5, 6, 4}},
    {kFile, punch_hole("/a", 4096, 8192), {12, 17, 4}},
    {kFile, punch_hole("/a", 100, 200), {6, 10, 4}},
    {kFile, zero_range("/a", 4096, 8192), {6, 9, 4}},
    {kFile, zero_range("/a", 100, 200), {6, 10, 4}},
    {kFile + Operations{create("/c")}, copy("/a", 0, "/c", 0, 8192), {12, 143, 5}},
    // Attributes
    {kFile, set_attribute("/a", "user.x", 10), {13, 80, 4}},
    {kFile, set_attribute("/a", "user.x", 9000), {15, 208, 4}},
    {kFile + Operations{set_attribute("/a", "user.x", 10)},
     remove_attribute("/a", "user.x"),
     {12, 16, 4}},
    {kFile, set_list("/a", false, 012345), {13, 80, 4}},
    {kFile, change_mode("/a", 0600), {6, 7, 4}},
    {kFile, change_owner("/a", 1, 2), {6, 7, 4}},
    {kFile, set_times("/a", 100, 200), {5, 6, 4}},
    // Durability
    {kFile, sync("/a"), {0, 0, 0}},
    {kFile + Operations{sync("/a")}, sync("/a"), {0, 0, 0}},
    {kFile + Operations{write("/a", 0, 10, 2)}, sync("/a"), {5, 6, 4}},
    {kFile + Operations{write("/a", 0, 10, 2)}, release(1), {5, 6, 4}},
    {kFile, release(1), {0, 0, 0}},
    {kFile, unmount(), {5, 6, 4}},
    {kFile + Operations{unmount()}, mount(), {5, 6, 4}},
    {kFile + Operations{abandon()}, mount(), {5, 6, 4}},
    // Maps and pins
    {kFile, map("#1", 0, 8192, 1), {17, 37, 8}},
    {kFile, pin("#1", 0, 8192, 1), {17, 37, 8}},
    {kFile + Operations{truncate("/a", 40960)}, pin("#1", 20480, 8192, 1), {29, 179, 12}},
    {kFile + Operations{map("#1", 0, 8192, 1)}, sync("/a"), {6, 134, 5}},
    {kFile + Operations{map("#1", 0, 8192, 1)}, drop(1), {11, 141, 5}},
    {kFile + Operations{pin("#1", 0, 8192, 1)}, drop(1), {11, 141, 5}},
    {kFile + Operations{map("#1", 0, 20480, 1)}, truncate("/a", 0), {9, 19, 4}},
    {kFile + Operations{map("#1", 0, 20480, 1), truncate("/a", 0)}, drop(1), {15, 19, 9}},
    {kFile + Operations{pin("#1", 0, 8192, 1)}, lose_owner(), {0, 0, 0}},
};

}  // namespace

TEST_CASE("each operation flushes and fences as often as it is known to", "[volume][journal]") {
    for (const Row& row : kTable) {
        const Cost cost = cost_of(row);
        INFO("after " << row.before.back().text() << ": " << row.measured.text()
                      << ": flushes, lines and fences are " << cost);
        CHECK(cost == row.cost);
    }
}

}  // namespace pinfs::test

// SPDX-License-Identifier: Apache-2.0
//
// Every operation of a volume, cut at every fence: see support/recording.h for what an image must
// be.
#include <catch2/catch.hpp>

#include "tests/support/crash_workloads.h"
#include "tests/support/recording_clients.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs::test;

void check_all(const std::vector<Workload>& workloads) {
    const std::uint64_t seed = seed_of_test("crash images", 1);
    const std::vector<std::string> failures = judge_workloads(workloads, effort(), seed);
    for (const std::string& failure : failures) UNSCOPED_INFO(failure);
    CHECK(failures.empty());
}

TEST_CASE("crash: names come and go whole", "[volume][crash]") { check_all(name_workloads()); }

TEST_CASE("crash: a rename happened or did not", "[volume][crash]") {
    check_all(rename_workloads());
}

TEST_CASE("crash: a write that returned is there, and shows nobody else's bytes",
          "[volume][crash]") {
    check_all(content_workloads());
}

TEST_CASE("crash: a truncate has the old size or the new one, whatever its steps",
          "[volume][crash]") {
    check_all(truncate_workloads());
}

TEST_CASE("crash: an allocation, a punch, a zeroing or a copy is done up to some block",
          "[volume][crash]") {
    check_all(allocate_workloads());
}

TEST_CASE("crash: maps, pins and holds are on record, and nothing that they reach is another's",
          "[volume][pin][crash]") {
    check_all(pin_workloads());
}

TEST_CASE("crash: what a client stored is there once it was flushed", "[volume][pin][crash]") {
    const auto flusher =
        GENERATE(Flusher::sync, Flusher::sync_by_threads, Flusher::unmap, Flusher::unpin);
    RecordedClient client{flusher};
    judge_images(client, effort(), seed_of_test("clients", 1));
}

TEST_CASE("crash: attributes are the old or the new ones", "[volume][crash]") {
    check_all(attribute_workloads());
}

TEST_CASE("crash: mount and unmount lose nothing", "[volume][crash]") {
    check_all(mount_workloads());
}

TEST_CASE("crash: tables and bitmaps stay right while they grow and shrink", "[inode][crash]") {
    check_all(growth_workloads());
}

}  // namespace

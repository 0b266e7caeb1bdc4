// SPDX-License-Identifier: Apache-2.0
//
// The mutation run: every place that flushes or fences is removed in turn, and some image of some
// workload must then be bad. What survives is a missing test, or a flush or fence that nobody
// needs.
#include <catch2/catch.hpp>
#include <cstdio>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/crash_workloads.h"
#include "tests/support/flush_places.h"
#include "tests/support/recording_clients.h"
#include "tests/support/recording_mounts.h"
#include "tests/support/seed.h"
#include "tests/support/thread_workloads.h"

namespace {

using namespace pinfs::test;

/// Thrown by the visitor to leave at the first bad image.
struct Caught {};

class MutationRun {
public:
    explicit MutationRun(std::uint64_t seed) : seed_{seed} {}

    /// Tries what this recording reaches and nobody caught yet.
    void add(Recording& recording) {
        for (const auto& [site, count] : recording.crash().sites()) {
            if (!site.file.starts_with("fs/")) continue;
            sites_.insert(site);
            if (!caught_.contains(site) && fails_without(recording, site)) caught_.insert(site);
        }
    }

    [[nodiscard]] std::set<Site> survivors() const {
        std::set<Site> left;
        for (const Site& site : sites_)
            if (!caught_.contains(site)) left.insert(site);
        return left;
    }
    [[nodiscard]] const std::set<Site>& sites() const { return sites_; }
    [[nodiscard]] std::size_t images() const { return images_; }

private:
    bool fails_without(Recording& recording, const Site& site) {
        try {
            recording.crash().for_each_image(
                {.per_fence_max = std::min<std::size_t>(32, recording.per_fence_max()),
                 .seed = seed_,
                 .without = site},
                [&](CrashImage& image) {
                    ++images_;
                    const Depth depth = image.index % 8 == 0 ? Depth::use : Depth::state;
                    if (!recording.judge(image, depth).empty()) throw Caught{};
                });
        } catch (const Caught&) {
            return true;
        }
        return false;
    }

    std::uint64_t seed_;
    std::set<Site> sites_;
    std::set<Site> caught_;
    std::size_t images_ = 0;
};

TEST_CASE("mutations: no flush and no fence can be left out", "[journal][volume][crash]") {
    MutationRun run{seed_of_test("mutations", 1)};
    const auto add_with_recoveries = [&](Recording& recording, std::uint64_t lanes) {
        run.add(recording);
        for (const auto& recovery : recoveries_of(recording, 2, lanes)) run.add(*recovery);
    };
    for (const Workload& workload : all_workloads()) {
        RecordedWorkload recording{workload};
        add_with_recoveries(recording, 1);
    }
    for (const auto& make : thread_workloads()) add_with_recoveries(*make(), 2);
    for (const bool first : {true, false}) {
        RecordedMake make{first};
        run.add(make);
        RecordedRepair repair{first};
        run.add(repair);
    }
    using Damaged = RecordedIdentity::Damaged;
    for (const Damaged damaged : {Damaged::none, Damaged::first, Damaged::second}) {
        RecordedIdentity identity{damaged};
        run.add(identity);
    }
    for (const Flusher flusher : {Flusher::sync, Flusher::unmap, Flusher::unpin}) {
        RecordedClient client{flusher};
        run.add(client);
    }
    // Whether a second thread gets a share of the flushing is chance; on one core there is none.
    constexpr int kRoundsMax = 5;
    const auto is_caught = [&] {
        return run.survivors().empty();
    };
    for (int round = 0; round < kRoundsMax && !is_caught(); ++round) {
        RecordedClient client{Flusher::sync_by_threads};
        run.add(client);
    }

    const std::set<Site> survivors = run.survivors();
    std::printf("mutations: %zu sites, %zu caught, %zu images\n", run.sites().size(),
                run.sites().size() - survivors.size(), run.images());
    for (const Site& site : survivors) {
        std::printf("survivor: %s\n", site.text().c_str());
        FAIL_CHECK("nothing fails without " + site.text());
    }

    // What the sources have, reached or not: none is left out because no workload comes there.
    std::set<Place> reached;
    for (const Site& site : run.sites()) reached.emplace(site.file, site.line);
    // Repairs have workloads and a mutation run of their own, in repair.cc.
    std::set<Place> written = places_that_flush("fs");
    std::erase_if(written, [](const Place& place) {
        // What mends a free block writes bytes that are nobody's: no image shows them.
        return place.first.starts_with("fs/repair/") || place.first == "fs/volume/bad_blocks.cc";
    });
    std::printf("places in fs/ that flush or fence: %zu\n", written.size());
    for (const Place& place : written) {
        if (reached.contains(place)) continue;
        std::printf("not reached: %s:%u\n", place.first.c_str(), place.second);
        FAIL_CHECK("no workload reaches " + place.first + ":" + std::to_string(place.second));
    }
    for (const Place& place : reached) {
        INFO(place.first << ":" << place.second << " is not found in the sources");
        CHECK(written.contains(place));
    }
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
//
// The mutation run: every place that flushes or fences is removed in turn, and some image of some
// workload must then be bad. What survives is a missing test, or a flush or fence that nobody
// needs.
#include <catch2/catch.hpp>
#include <cstdio>
#include <set>
#include <string_view>
#include <vector>

#include "tests/support/crash_workloads.h"
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
            // What others stored past us no recording has: tests/unit/pin_flush.cc counts it.
            if (site.file == "fs/volume/flushing.cc") continue;
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
    [[nodiscard]] std::size_t sites() const { return sites_.size(); }
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

    const std::set<Site> survivors = run.survivors();
    std::printf("mutations: %zu sites, %zu caught, %zu images\n", run.sites(),
                run.sites() - survivors.size(), run.images());
    for (const Site& site : survivors) {
        std::printf("survivor: %s\n", site.text().c_str());
        FAIL_CHECK("nothing fails without " + site.text());
    }
    CHECK(run.sites() > 20);
}

}  // namespace

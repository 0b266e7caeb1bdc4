// SPDX-License-Identifier: Apache-2.0
//
// The judge on anything at all: it ends, within the region's memory, with findings or an error.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <vector>

#include "fs/check/check.h"
#include "tests/support/random_damage.h"
#include "tests/support/sample_image.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using media::kBlockBytes;

TEST_CASE("check: random bytes are no file system", "[check][corruption]") {
    Random random(seed_of_test("check garbage", 1));
    HandImage image({.bytes = std::uint64_t{1} << 20});
    for (int i = 0; i < 50; ++i) {
        for (std::uint64_t at = 0; at < image.memory().size(); at += 8)
            image.at<std::uint64_t>(at) = random();
        const auto report = check(image.region());
        CHECK((!report || !report->clean()));
    }
}

TEST_CASE("check: random bytes behind a good superblock, and seals, are survived",
          "[check][corruption]") {
    Random random(seed_of_test("check garbage behind the superblock", 2));
    HandImage image({.bytes = std::uint64_t{1} << 20});
    image.write();
    const std::vector<std::byte> pristine(image.memory().begin(), image.memory().end());
    for (int i = 0; i < 100; ++i) {
        std::ranges::copy(pristine, image.memory().begin());
        for (std::uint64_t at = kBlockBytes; at < image.memory().size(); at += 8)
            if (at / kBlockBytes != media::kSuperCopyOffset / kBlockBytes)
                image.at<std::uint64_t>(at) = random();
        const auto report = check(image.region());
        REQUIRE(report);
        CHECK_FALSE(report->clean());
    }
}

// Each round damages a few places of one of everything. Half of the rounds seal what they damaged,
// so that the judge goes on to what is inside. A change may hit what means nothing: so no finding
// is asked for, only an end.
TEST_CASE("check: random changes to one of everything are survived", "[check][corruption]") {
    Random random(seed_of_test("check random changes", 3));
    Sample sample;
    HandImage& image = sample.image;
    const std::vector<std::byte> pristine(image.memory().begin(), image.memory().end());
    const RandomDamage damage(pristine);

    constexpr int kRounds = 4000;
    int unclean = 0;
    for (int round = 0; round < kRounds; ++round) {
        CAPTURE(round);
        const auto changed = damage.apply(image, random, 5, round % 2 == 0);
        const auto report = check(image.region(), {.findings_max = 20});
        if (!report || !report->clean()) ++unclean;
        for (const std::uint64_t block : changed)
            std::memcpy(image.memory().data() + block, pristine.data() + block, kBlockBytes);
    }
    // Not sealed, most changes break a checksum.
    CHECK(unclean > kRounds / 2);
}

// A hundred files of the whole region each: what they claim is refused where it comes to too much.
TEST_CASE("check: files that claim far more than the region has are survived",
          "[check][corruption]") {
    HandImage image({});
    std::vector<std::uint64_t> files;
    for (int i = 0; i < 100; ++i) {
        files.push_back(image.add(1, std::to_string(i), media::le32{0100644}));
        image.extend(files.back(), 0, 1);
    }
    image.write();
    for (const std::uint64_t file : files)
        image.change<media::Inode>(image.inode_at(file), [](media::Inode& inode) {
            const media::Extent all{0, 1, 1023, media::kSegmentRegion, 0};
            std::memcpy(inode.inline_map, &all, sizeof all);
            inode.blocks = 1023;
        });
    const auto report = check(image.region());
    REQUIRE(report);
    CHECK(report->has(FindingKind::block_shared));
}

TEST_CASE("check: any single byte of a metadata block that changes is found",
          "[check][corruption]") {
    Random random(seed_of_test("check byte flips", 4));
    Sample sample;
    HandImage& image = sample.image;
    const std::vector<std::uint64_t> units{image.state_at(),
                                           image.group_at(0),
                                           image.chunk_at(0),
                                           image.inode_index_at(1),
                                           image.node_at(sample.directory, 1),
                                           image.node_at(sample.directory, 2),
                                           image.node_at(sample.tree_file, 1),
                                           image.attributes_at(sample.attributed, 0)};
    for (const std::uint64_t unit : units) {
        for (int i = 0; i < 100; ++i) {
            const std::uint64_t at = unit + below(random, kBlockBytes);
            const auto flip = static_cast<std::uint8_t>(1 + below(random, 255));
            CAPTURE(unit, at, flip);
            image.at<std::uint8_t>(at) ^= flip;
            const auto report = check(image.region());
            REQUIRE(report);
            CHECK_FALSE(report->clean());
            image.at<std::uint8_t>(at) ^= flip;
        }
    }
    CHECK(check(image.region())->clean());
}

// Fails one load.
class OneBadLoad final : public pmem::Observer {
public:
    explicit OneBadLoad(std::uint64_t bad) : bad_(bad) {}
    bool before_load(std::uint64_t, std::uint64_t) override { return loads_++ != bad_; }
    bool before_store(std::uint64_t, std::uint64_t) override { return false; }
    void stored(std::uint64_t, std::uint64_t) override {}
    void flushed(std::uint64_t, std::uint64_t, const std::source_location&) override {}
    void fenced(const std::source_location&) override {}
    [[nodiscard]] bool met() const { return loads_ > bad_; }

private:
    std::uint64_t bad_;
    std::uint64_t loads_ = 0;
};

TEST_CASE("check: a media error at any load is a finding, and the rest is judged",
          "[check][corruption]") {
    Sample sample;
    const auto slot = sample.image.memory().subspan(sample.image.inode_at(1), media::kSlotBytes);
    sample.image.seal_log(1, 7, {{sample.image.inode_at(1), {slot.begin(), slot.end()}}});
    for (std::uint64_t bad = 0;; ++bad) {
        CAPTURE(bad);
        OneBadLoad observer(bad);
        pmem::Region region(sample.image.memory(), pmem::Capabilities{}, &observer);
        const auto report = check(region);
        REQUIRE(report);
        if (!observer.met()) {
            CHECK(report->clean());
            CHECK(bad > 50);
            break;
        }
        CHECK(report->has(FindingKind::unreadable));
    }
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
//
// The judge on regions that are right: nothing is found, and what is there is counted.
#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "fs/check/check.h"
#include "fs/volume/volume.h"
#include "tests/support/sample_image.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

CheckReport judge(HandImage& image) {
    auto report = check(image.region());
    REQUIRE(report);
    return *std::move(report);
}

TEST_CASE("check: an empty file system of any size is clean", "[check][unit]") {
    const auto mib = GENERATE(1, 15, 16, 63, 64, 65, 256, 1024, 1025);
    const std::uint64_t bytes = static_cast<std::uint64_t>(mib) * 1_MiB;
    CAPTURE(bytes);
    HandImage image({.bytes = bytes});
    image.write();
    const CheckReport report = judge(image);
    INFO(report.text());
    CHECK(report.clean());
    CHECK(report.totals.files == 0);
    CHECK(report.totals.directories == 1);
    CHECK(report.totals.blocks == bytes / 4_KiB);
    CHECK_FALSE(report.totals.mounted);
}

TEST_CASE("check: what mkfs makes is clean, also where the last group and zone are short",
          "[check][unit]") {
    const std::uint64_t bytes =
        GENERATE(1_MiB, 1_MiB + 4_KiB, 16_MiB, 64_MiB - 4_KiB, 64_MiB, 64_MiB + 4_KiB, 256_MiB,
                 1_GiB + 4_KiB, 1_GiB + 68_KiB, 3_GiB);
    CAPTURE(bytes);
    HandImage memory({.bytes = bytes});  // nothing is written into it by hand
    MakeOptions options;
    options.uuid = {1, 2, 3};
    options.label = "new";
    REQUIRE(make_file_system(memory.region(), options));
    const CheckReport report = judge(memory);
    INFO(report.text());
    CHECK(report.clean());
    CHECK(report.totals.directories == 1);
}

TEST_CASE("check: one of everything is clean and counted", "[check][unit]") {
    Sample sample;
    const CheckReport report = judge(sample.image);
    INFO(report.text());
    CHECK(report.clean());
    CHECK(report.totals.directories == 5);
    CHECK(report.totals.files == 12 + 150);
    CHECK(report.totals.orphans == 2);
    CHECK(report.totals.records == 3);
    // The shape was meant to make deep trees.
    CHECK(sample.image.inode(sample.directory).map_level >= 3);
    CHECK(sample.image.inode(sample.tree_file).map_level >= 3);
}

TEST_CASE("check: full nodes, one level, and a high index over the inode table are clean",
          "[check][unit]") {
    SECTION("full nodes") {
        Sample sample(HandShape{});
        const CheckReport report = judge(sample.image);
        INFO(report.text());
        CHECK(report.clean());
    }
    SECTION("four levels over the inode table") {
        Sample sample({.table_levels_min = 4});
        const CheckReport report = judge(sample.image);
        INFO(report.text());
        CHECK(report.clean());
    }
    SECTION("inode numbers far apart") {
        HandImage image({});
        image.set_next_ino(16 * 504 * 504 - 3);
        for (int i = 0; i < 8; ++i) image.add(1, "file " + std::to_string(i), S_IFREG);
        image.write();
        const CheckReport report = judge(image);
        INFO(report.text());
        CHECK(report.clean());
        CHECK(report.totals.files == 8);
    }
    SECTION("mounted, or left by a crash") {
        Sample sample({.mounted = true});
        const CheckReport report = judge(sample.image);
        CHECK(report.clean());
        CHECK(report.totals.mounted);
    }
}

TEST_CASE("check: an unlinked long link may have lost its target already", "[check][unit]") {
    HandImage image({});
    image.inode(image.add_unnamed(S_IFLNK | 0777)).size = 200;
    image.write();
    const CheckReport report = judge(image);
    INFO(report.text());
    CHECK(report.clean());
}

TEST_CASE("check: names that share a hash are clean as long as they differ", "[check][unit]") {
    HandImage image({.bytes = 8_MiB, .name_hash_bits = 3, .leaf_bytes_max = 300});
    const std::uint64_t directory = image.add(1, "directory", S_IFDIR | 0755);
    for (int i = 0; i < 700; ++i) image.add(directory, std::to_string(i), S_IFREG);
    image.write();
    const CheckReport report = judge(image);
    INFO(report.text());
    CHECK(report.clean());
}

TEST_CASE("check: ten thousand entries and a deep tree of directories are clean", "[check][unit]") {
    HandImage image({.bytes = 32_MiB});
    std::uint64_t parent = image.add(1, "many", S_IFDIR | 0755);
    for (int i = 0; i < 10000; ++i) image.add(parent, "name " + std::to_string(i), S_IFREG);
    for (int i = 0; i < 3000; ++i) parent = image.add(parent, "down", S_IFDIR | 0755);
    image.write();
    const CheckReport report = judge(image);
    INFO(report.text());
    CHECK(report.clean());
    CHECK(report.totals.directories == 3002);
}

TEST_CASE("check: either superblock alone is enough to judge the rest", "[check][unit]") {
    Sample sample;
    const std::uint64_t damaged = GENERATE(std::uint64_t{0}, media::kSuperCopyOffset);
    sample.image.at<media::Superblock>(damaged) = {};
    const CheckReport report = judge(sample.image);
    INFO(report.text());
    CHECK(report.findings.size() == 1);
    CHECK(report.has(damaged == 0 ? FindingKind::superblock_damaged
                                  : FindingKind::superblock_copy_damaged));
    CHECK(report.totals.files == 12 + 150);
}

TEST_CASE("check: what keeps a judgement from being made is an error", "[check][unit]") {
    Sample sample;
    HandImage& image = sample.image;
    const auto cause_of = [&] {
        const auto report = check(image.region());
        REQUIRE_FALSE(report);
        return report.error().cause;
    };
    SECTION("no superblock") {
        image.at<media::Superblock>(0) = {};
        image.at<media::Superblock>(media::kSuperCopyOffset) = {};
        CHECK(cause_of() == Cause::no_superblock);
    }
    SECTION("an incompatible feature") {
        image.at<media::Superblock>(0).incompatible = 2;
        image.seal_superblock(0);
        CHECK(cause_of() == Cause::feature_unknown);
    }
    SECTION("a feature that allows reading alone") {
        image.at<media::Superblock>(0).read_only = std::uint64_t{1} << 63;
        image.seal_superblock(0);
        CHECK(cause_of() == Cause::feature_unknown);
    }
    SECTION("a region that was cut short") {
        pmem::Region cut(image.memory().first(2_MiB), pmem::Capabilities{}, nullptr);
        const auto report = check(cut);
        REQUIRE_FALSE(report);
        CHECK(report.error().cause == Cause::region_truncated);
    }
    SECTION("a region of less than 1 MiB") {
        pmem::Region small(image.memory().first(1_MiB - 4_KiB), pmem::Capabilities{}, nullptr);
        const auto report = check(small);
        REQUIRE_FALSE(report);
        CHECK(report.error().cause == Cause::region_too_small);
    }
}

TEST_CASE("check: a region may be longer than its file system", "[check][unit]") {
    HandImage image({.bytes = 2_MiB});
    image.write();
    HandImage longer({.bytes = 4_MiB});
    std::ranges::copy(image.memory(), longer.memory().begin());
    CHECK(judge(longer).clean());
}

TEST_CASE("check: a compatible feature is ignored", "[check][unit]") {
    Sample sample;
    for (const std::uint64_t offset : {std::uint64_t{0}, media::kSuperCopyOffset}) {
        sample.image.at<media::Superblock>(offset).compatible = 0x80;
        sample.image.seal_superblock(offset);
    }
    CHECK(judge(sample.image).clean());
}

TEST_CASE("check: sealed logs are applied in memory, in their order, and nothing is written",
          "[check][unit]") {
    Sample sample;
    HandImage& image = sample.image;
    const std::uint64_t at = image.inode_at(sample.file);
    const auto right = image.at<media::Inode>(at);
    auto wrong = right;
    wrong.nlink = 77;
    // Home is torn; the log that came last has it right.
    image.at<media::Inode>(at).size = 1;
    const auto bytes_of = [&](const media::Inode& inode) {
        const auto bytes = std::as_bytes(std::span(&inode, 1));
        return std::vector(bytes.begin(), bytes.end());
    };
    SECTION("one log") { image.seal_log(1, 9, {{at, bytes_of(right)}}); }
    SECTION("records of one log, in their order") {
        image.at<media::Inode>(at) = right;
        image.seal<media::Inode>(at);
        const auto sealed = image.at<media::Inode>(at);
        image.at<media::Inode>(at).size = 1;
        image.seal_log(0, 9, {{at, bytes_of(wrong)}, {at, bytes_of(sealed)}});
    }
    SECTION("a record over a block's edge") {
        const std::uint64_t block = image.chunk_at(1);
        std::vector<std::byte> both(8_KiB);
        std::ranges::copy(image.memory().subspan(block, 8_KiB), both.begin());
        image.at<media::Inode>(at) = right;
        std::ranges::fill(image.memory().subspan(block, 8_KiB), std::byte{0xee});
        image.seal_log(0, 9, {{block, both}});
    }
    const std::vector<std::byte> before(image.memory().begin(), image.memory().end());
    const CheckReport report = judge(image);
    INFO(report.text());
    CHECK(report.clean());
    CHECK(report.totals.lanes_sealed == 1);
    CHECK(std::ranges::equal(before, image.memory()));
}

TEST_CASE("check: logs of one chunk's different slots do not overlap", "[check][unit]") {
    Sample sample;
    HandImage& image = sample.image;
    for (std::uint64_t lane = 0; lane < 2; ++lane) {
        const auto slot = image.memory().subspan(image.inode_at(1 + lane), media::kSlotBytes);
        image.seal_log(lane, 5 - lane, {{image.inode_at(1 + lane), {slot.begin(), slot.end()}}});
    }
    const CheckReport report = judge(image);
    INFO(report.text());
    CHECK(report.clean());
    CHECK(report.totals.lanes_sealed == 2);
}

TEST_CASE("check: findings beyond the limit are counted, not kept", "[check][unit]") {
    Sample sample;
    sample.image.change<media::State>(sample.image.state_at(),
                                      [](media::State& state) { state.generation_limit = 1; });
    const auto all = check(sample.image.region());
    const auto few = check(sample.image.region(), {.findings_max = 3});
    REQUIRE(all);
    REQUIRE(few);
    CHECK(all->findings.size() > 100);
    CHECK(few->findings.size() == 3);
    CHECK(few->findings_dropped == all->findings.size() - 3);
    CHECK_FALSE(few->clean());
    const auto none = check(sample.image.region(), {.findings_max = 0});
    REQUIRE(none);
    CHECK_FALSE(none->clean());
}

}  // namespace

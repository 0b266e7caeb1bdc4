// SPDX-License-Identifier: Apache-2.0
//
// Repairs of more than one fault at a time. The faults one by one stand in check_*.cc, beside what
// the judge says of them.
#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "fs/repair/repair.h"
#include "tests/support/damage.h"
#include "tests/support/failing_blocks.h"
#include "tests/support/random_damage.h"
#include "tests/support/repaired.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

TEST_CASE("repair: random damage in several places at once", "[repair][corruption]") {
    Random random(seed_of_test("repair random damage", 31));
    Sample sample;
    HandImage& image = sample.image;
    const std::vector<std::byte> pristine(image.memory().begin(), image.memory().end());
    const auto files = readable(pristine);
    const RandomDamage damage(pristine);
#ifdef __SANITIZE_ADDRESS__
    constexpr int kRounds = 60;
#else
    constexpr int kRounds = 500;
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

TEST_CASE("repair: a wrong bit, or byte of what is small, is set right", "[repair][corruption]") {
    Random random(seed_of_test("repair of bits", 32));
    Sample sample;
    HandImage& image = sample.image;
    const std::vector<std::byte> pristine(image.memory().begin(), image.memory().end());
    media::Superblock super;
    must(image.region().read(0, std::as_writable_bytes(std::span(&super, 1))));
    const std::uint64_t lanes_end =
        super.lanes_offset + std::uint64_t{super.lane_count} * super.lane_bytes;
    RepairOptions options;
    options.allow = [](const RepairQuestion& question) {
        return question.is_safe;
    };
    int judged = 0;
    for (const Unit& unit : units_of(pristine))
        for (int i = 0; i < 3; ++i) {
            const std::uint64_t at = unit.offset + below(random, unit.bytes);
            const auto bits = static_cast<std::byte>(
                unit.bytes < media::kBlockBytes ? 1 + below(random, 255) : 1 << below(random, 8));
            CAPTURE(unit.offset, at);
            std::ranges::copy(pristine, image.memory().begin());
            image.memory()[at] ^= bits;
            if (must(check(image.region())).clean()) continue;
            ++judged;
            const auto done = must(repair(image.region(), options));
            INFO(done.left.text());
            CHECK(done.left.clean());
            CHECK(done.repairs == 1);
            CHECK(done.doubted.empty());
            // A repair leaves its log in a lane.
            const auto is_same = [&](std::uint64_t begin, std::uint64_t end) {
                return std::ranges::equal(image.memory().subspan(begin, end - begin),
                                          std::span(pristine).subspan(begin, end - begin));
            };
            CHECK(is_same(0, super.lanes_offset));
            CHECK(is_same(lanes_end, pristine.size()));
        }
    CHECK(judged > 200);
}

TEST_CASE("repair: a lane of the journal that cannot be read is written anew", "[repair][fault]") {
    constexpr std::uint64_t kBytes = 16_MiB;
    pmem::Capabilities flushed_by_line;
    flushed_by_line.flush = pmem::Flush::line;
    for (std::uint64_t lane = 0; lane < 4; ++lane) {
        CAPTURE(lane);
        FailingBlocks failing;
        const Memory memory{kBytes};
        pmem::Region region{memory.bytes(), flushed_by_line, &failing};
        Mounted fs{region, memory.bytes(), {.bytes = kBytes}};
        const Ino file = fs.make_file("/file", 30'000, 1);
        fs.unmount();
        media::Superblock super;
        must(region.read(0, std::as_writable_bytes(std::span(&super, 1))));
        REQUIRE(super.lane_count == 4);
        const std::uint64_t place = super.lanes_offset + lane * super.lane_bytes;
        failing.fail(place / kBlockBytes);
        const auto refused = Volume::mount(region, mount_options());
        REQUIRE_FALSE(refused);
        CHECK(refused.error().cause == Cause::media_error);
        CHECK(refused.error().offset == place);
        const auto report = must(check(region));
        CHECK(std::ranges::any_of(report.findings, [&](const Finding& finding) {
            return finding.kind == FindingKind::unreadable && finding.offset == place;
        }));

        // Where nothing works in its place, the repair says so; else another lane does it.
        failing.kill();
        RepairOptions options;
        options.allow = [](const RepairQuestion&) {
            return true;
        };
        const auto failed = repair(region, options);
        REQUIRE_FALSE(failed);
        CHECK(failed.error().cause == Cause::media_error);
        failing.revive();
        const Repaired done = repair_all(region);
        INFO(done.text());
        CHECK(done.report.left.clean());
        fs.mount();
        CHECK(fs.read(file, 0, 30'000) == pattern(0, 30'000, 1));
        fs.make_file("/after", 30'000, 2);
        fs.check_clean();
        fs.unmount();
    }
}

TEST_CASE("repair: damaged records that may be of this boot are left, and no block is freed",
          "[repair][corruption]") {
    Sample sample;
    HandImage& image = sample.image;
    const BootId boot{1, 2, 3};
    const std::uint64_t lost = image.free_block();
    set_bit(image, lost, true);
    SECTION("a record") {
        image.at<media::le16>(image.record_at(sample.hold_record) + 90) ^= 0x1515;
    }
    SECTION("a chunk of records") {
        image.at<media::le16>(image.record_chunk_at(0) + 40) ^= 0x1515;
    }
    const auto is_used = [&](std::uint64_t block) {
        const auto& group = image.at<media::Group>(image.group_at(0));
        return (group.bitmap[block / 8] >> block % 8 & 1) != 0;
    };
    const auto hold = image.copy_at<media::Record>(image.record_at(sample.hold_record));
    RepairOptions options;
    options.allow = [](const RepairQuestion&) {
        return true;
    };
    options.boot_id = boot;
    const auto left = must(repair(image.region(), options));
    CHECK_FALSE(left.left.clean());
    CHECK(is_used(lost));
    CHECK(is_used(hold.start_block));

    // Last mounted in another one: what is on record means nothing.
    image.change<media::State>(image.state_at(), [](media::State& state) { state.boot_id[0] = 9; });
    const auto done = must(repair(image.region(), options));
    INFO(done.left.text());
    CHECK(done.left.clean());
    CHECK_FALSE(is_used(lost));
    CHECK_FALSE(is_used(hold.start_block));
}

TEST_CASE("repair: what is declined is left, with all that follows from it", "[repair][unit]") {
    Sample sample;
    HandImage& image = sample.image;
    image.at<media::u8>(image.node_at(sample.directory, 1) + 100) ^= 0x15;
    set_bit(image, image.free_block(), true);
    const std::vector<std::byte> before(image.memory().begin(), image.memory().end());
    RepairOptions options;
    options.allow = [](const RepairQuestion& question) {
        return question.is_safe;
    };
    const auto left = must(repair(image.region(), options));
    CHECK(left.repairs == 0);
    CHECK(left.left.has(FindingKind::tree_node_damaged));
    CHECK(std::ranges::equal(before, image.memory()));
}

TEST_CASE("repair: two files that have one block each keep its content", "[repair][corruption]") {
    Mounted fs{{.bytes = 2_MiB}};
    const Ino one = fs.make_file("/one", 40'000, 1);
    const Ino two = fs.make_file("/two", 40'000, 2);
    const Bytes content = fs.read(one, 0, 40'000);
    (void)two;
    fs.unmount();
    media::Superblock super;
    must(fs.region().read(0, std::as_writable_bytes(std::span(&super, 1))));
    // The second file's inode gets the first one's map.
    std::vector<std::byte> memory(fs.region().bytes());
    must(fs.region().read(0, memory));
    const auto slot_of = [&](Ino ino) {
        for (std::uint64_t at = 0;; at += media::kSlotBytes) {
            media::Inode inode;
            std::memcpy(&inode, memory.data() + at, sizeof inode);
            if (inode.magic == media::kInodeMagic && inode.ino == ino.value) return at;
        }
    };
    media::Inode from;
    media::Inode to;
    std::memcpy(&from, memory.data() + slot_of(one), sizeof from);
    std::memcpy(&to, memory.data() + slot_of(two), sizeof to);
    std::memcpy(to.inline_map, from.inline_map, sizeof to.inline_map);
    to.crc32c = unit_checksum(super.checksum_seed, std::as_bytes(std::span(&to, 1)));
    must(fs.region().store_flush(slot_of(two), std::as_bytes(std::span(&to, 1))));

    const Repaired done = repair_all(fs.region());
    INFO(done.text());
    CHECK(done.report.left.clean());
    CHECK(done.text().find("10 blocks that another file has were copied") != std::string::npos);
    fs.mount();
    CHECK(fs.read(fs.ino("/one"), 0, 40'000) == content);
    CHECK(fs.read(fs.ino("/two"), 0, 40'000) == content);
    fs.write(fs.ino("/two"), 0, pattern(0, 40'000, 9));
    CHECK(fs.read(fs.ino("/one"), 0, 40'000) == content);
    fs.unmount();
}

TEST_CASE("repair: children of a lost directory are in lost+found, with all below them",
          "[repair][corruption]") {
    Sample sample;
    HandImage& image = sample.image;
    image.at<media::Inode>(image.inode_at(sample.small_directory)) = {};
    const Repaired done = repair_all(image.region());
    INFO(done.text());
    CHECK(done.report.left.clean());
    Mounted fs{image.region()};
    const auto home = must(fs->attributes(fs.ino("/lost+found")));
    CHECK(home.mode == (S_IFDIR | 0700));
    for (const std::uint64_t ino : {sample.subdirectory, sample.device, sample.pipe})
        CHECK(fs.ino("/lost+found/#" + std::to_string(ino)) == Ino{ino});
    CHECK_FALSE(fs.find("/small"));
    fs.unmount();
    CHECK(must(check(image.region())).clean());
}

}  // namespace

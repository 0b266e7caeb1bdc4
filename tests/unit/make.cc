// SPDX-License-Identifier: Apache-2.0
//
// New file systems, judged by fs/check and by what FORMAT.md says of each place.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "fs/check/check.h"
#include "fs/checksum.h"
#include "fs/format/group.h"
#include "fs/format/inode.h"
#include "fs/format/lane.h"
#include "fs/format/state.h"
#include "fs/format/superblock.h"
#include "fs/format/table.h"
#include "fs/volume/volume.h"
#include "tests/support/crash_region.h"
#include "tests/support/seed.h"
#include "tests/support/temporary.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

/// A sparse file of `bytes`, opened.
std::unique_ptr<pmem::Region> sparse_region(const TemporaryDirectory& directory,
                                            std::uint64_t bytes) {
    const std::string path = directory.file("region");
    unlink(path.c_str());
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    REQUIRE(ftruncate(fd, static_cast<off_t>(bytes)) == 0);
    close(fd);
    auto region = pmem::Region::open(path, {});
    REQUIRE(region);
    return std::move(*region);
}

MakeOptions options_for(std::uint8_t uuid) {
    MakeOptions options;
    options.uuid.fill(uuid);
    options.label = "a label";
    options.root_uid = 1000;
    options.root_gid = 1001;
    options.name_hash_seed = 0x1234567890abcdef;
    options.now = {1'700'000'000, 999'999'999};
    return options;
}

template <class Unit>
Unit load(const pmem::Region& region, std::uint64_t offset) {
    Unit unit;
    REQUIRE(region.read(offset, std::as_writable_bytes(std::span(&unit, 1))));
    return unit;
}

template <class Unit>
bool is_whole(std::uint32_t seed, const Unit& unit) {
    std::uint32_t stored;
    std::memcpy(&stored, reinterpret_cast<const std::byte*>(&unit) + 4, sizeof(stored));
    return stored == unit_checksum(seed, std::as_bytes(std::span(&unit, 1)));
}

void require_clean(pmem::Region& region) {
    const auto report = check(region);
    REQUIRE(report);
    INFO(report->text());
    REQUIRE(report->clean());
    CHECK(report->totals.directories == 1);
    CHECK(report->totals.files == 0);
    CHECK_FALSE(report->totals.mounted);
}

TEST_CASE("make: a new file system of any size is clean, and its totals add up", "[volume][unit]") {
    const TemporaryDirectory directory;
    for (const std::uint64_t bytes :
         {1_MiB,         1_MiB + 4_KiB,  15_MiB,         16_MiB - 4_KiB,  16_MiB,
          63_MiB,        64_MiB - 4_KiB, 64_MiB,         64_MiB + 4_KiB,  65_MiB,
          128_MiB,       255_MiB,        256_MiB,        256_MiB + 4_KiB, 1_GiB,
          1_GiB + 4_KiB, 1_GiB + 64_KiB, 1_GiB + 68_KiB, 2_GiB - 4_KiB,   3_GiB + 12_KiB + 1,
          100_GiB,       1_TiB}) {
        CAPTURE(bytes);
        const auto region = sparse_region(directory, bytes);
        REQUIRE(make_file_system(*region, options_for(7)));
        require_clean(*region);

        const auto super = load<media::Superblock>(*region, 0);
        CHECK(super.region_bytes == round_down(bytes, 4_KiB));
        CHECK(super.zone_groups == (bytes < 64_MiB ? 1 : 16));
        const std::uint64_t blocks = super.region_bytes / 4_KiB;
        std::uint64_t free_blocks = 0;
        for (std::uint64_t g = 0; g * media::kGroupBlocks < blocks; ++g)
            free_blocks +=
                load<media::Group>(*region, media::group_block_of(g, super.zone_groups) * 4_KiB)
                    .free_blocks;
        const auto lane =
            load<media::LaneState>(*region, super.lanes_offset + media::kLaneStateOffset);
        CHECK(lane.free_blocks == free_blocks);
        CHECK(lane.inodes == 1);
        // Little is taken: 1 % at most from 256 MiB on.
        if (bytes >= 256_MiB) CHECK((blocks - free_blocks) * 100 <= blocks);
    }
}

TEST_CASE("make: each structure is what the format says", "[volume][unit]") {
    const TemporaryDirectory directory;
    const auto region = sparse_region(directory, 1_GiB);
    REQUIRE(make_file_system(*region, options_for(7)));

    const auto super = load<media::Superblock>(*region, 0);
    CHECK(super.magic == media::kSuperMagic);
    CHECK(is_whole(0xffffffff, super));
    CHECK(super.own_offset == 0);
    CHECK(std::memcmp(super.uuid, options_for(7).uuid.data(), 16) == 0);
    CHECK(std::string(reinterpret_cast<const char*>(super.label)) == "a label");
    CHECK(super.map_unit_bytes == 4_KiB);
    CHECK(super.name_hash_seed == 0x1234567890abcdef);
    CHECK(super.name_hash_bits == 54);
    CHECK(super.checksum_seed == crc32c(0xffffffff, std::as_bytes(std::span(super.uuid))));
    CHECK(super.made_seconds == 1'700'000'000);
    CHECK(super.finished_offset == 18 * 4_KiB);
    CHECK(super.lanes_offset == 129 * 4_KiB);
    CHECK(super.lane_count == 32);
    CHECK(super.lane_bytes == 64_KiB);
    auto copy = load<media::Superblock>(*region, media::kSuperCopyOffset);
    CHECK(is_whole(0xffffffff, copy));
    CHECK(copy.own_offset == media::kSuperCopyOffset);
    copy.own_offset = super.own_offset;
    copy.crc32c = super.crc32c;
    CHECK(std::memcmp(&copy, &super, sizeof(super)) == 0);

    const auto state = load<media::State>(*region, super.state_offset);
    CHECK(is_whole(super.checksum_seed, state));
    CHECK(state.mounted == 0);
    CHECK(state.mount_count == 0);
    CHECK(state.inodes.levels == 0);
    CHECK(state.inodes.window_chunks == 1);
    CHECK(state.records.root == 0);
    REQUIRE((state.inodes.root & media::kTableFlags) == media::kTableHasFree);

    const std::uint64_t chunk_offset = state.inodes.root & ~media::kTableFlags;
    const auto chunk = load<media::ChunkHeader>(*region, chunk_offset);
    CHECK(is_whole(super.checksum_seed, chunk));
    CHECK(chunk.used == 3);
    CHECK(chunk.pending == 0);
    const auto root = load<media::Inode>(*region, chunk_offset + media::kSlotBytes);
    CHECK(is_whole(super.checksum_seed, root));
    CHECK(root.ino == 1);
    CHECK(root.generation < state.generation_limit);
    CHECK(root.mode == (S_IFDIR | 0755));
    CHECK(root.nlink == 2);
    CHECK(root.uid == 1000);
    CHECK(root.gid == 1001);
    CHECK(root.flags == media::kInodeDax);
    CHECK(root.parent == 1);
    CHECK(root.size == 0);
    CHECK(root.blocks == 0);
    CHECK(root.btime == 1'700'000'000);
    CHECK(root.mtime_ns == 999'999'999);
}

TEST_CASE("make: options reach the media, and impossible ones are refused before any store",
          "[volume][unit]") {
    CrashRegion crash{1_MiB};
    MakeOptions options = options_for(7);
    options.dax = false;
    options.label = std::string(64, 'x');
    options.map_unit_bytes = 2_MiB;
    options.name_hash_bits = 4;
    REQUIRE(make_file_system(crash.region(), options));
    require_clean(crash.region());
    const auto super = load<media::Superblock>(crash.region(), 0);
    CHECK(super.map_unit_bytes == 2_MiB);
    CHECK(super.name_hash_bits == 4);
    CHECK(super.label[63] == 'x');
    const auto state = load<media::State>(crash.region(), super.state_offset);
    const auto root = load<media::Inode>(
        crash.region(), (state.inodes.root & ~media::kTableFlags) + media::kSlotBytes);
    CHECK(root.flags == 0);

    const std::uint64_t stores = crash.stores();
    const auto refused = [&](auto change) {
        MakeOptions wrong = options_for(8);
        change(wrong);
        const auto result = make_file_system(crash.region(), wrong);
        REQUIRE_FALSE(result);
        CHECK(result.error().cause == Cause::invalid_argument);
    };
    refused([](MakeOptions& wrong) { wrong.label = std::string(65, 'x'); });
    refused([](MakeOptions& wrong) { wrong.map_unit_bytes = 8_KiB; });
    refused([](MakeOptions& wrong) { wrong.name_hash_bits = 0; });
    refused([](MakeOptions& wrong) { wrong.name_hash_bits = 55; });
    refused([](MakeOptions& wrong) { wrong.now.nanoseconds = 1'000'000'000; });
    CHECK(crash.stores() == stores);

    CrashRegion small{1_MiB - 4_KiB};
    const auto result = make_file_system(small.region(), options_for(7));
    REQUIRE_FALSE(result);
    CHECK(result.error().cause == Cause::region_too_small);
    CHECK(small.stores() == 0);
}

TEST_CASE("make: a region above 64 TiB is refused", "[volume][unit]") {
    const TemporaryDirectory directory;
    const auto region = sparse_region(directory, 64_TiB + 4_KiB);
    const auto result = make_file_system(*region, options_for(7));
    REQUIRE_FALSE(result);
    CHECK(result.error().cause == Cause::invalid_argument);
}

TEST_CASE("make: 64 TiB, of which 4 GiB are group blocks", "[volume][.large]") {
    const TemporaryDirectory directory;
    const auto region = sparse_region(directory, 64_TiB);
    REQUIRE(make_file_system(*region, options_for(7)));
    require_clean(*region);
}

TEST_CASE("make: 64 GiB take well under a second", "[volume][unit]") {
    const TemporaryDirectory directory;
    const auto region = sparse_region(directory, 64_GiB);
    const auto start = std::chrono::steady_clock::now();
    REQUIRE(make_file_system(*region, options_for(7)));
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    std::printf("64 GiB made in %.1f ms\n", elapsed.count() * 1000);
}

TEST_CASE("make: whatever the region held before, the result is the same", "[volume][unit]") {
    CrashRegion blank{2_MiB};
    CrashRegion junk{2_MiB};
    std::ranges::fill(junk.memory(), std::byte{0xa5});
    REQUIRE(make_file_system(blank.region(), options_for(7)));
    REQUIRE(make_file_system(junk.region(), options_for(7)));
    require_clean(junk.region());
    // All metadata: a reader of the one finds it in the other.
    CHECK(std::memcmp(blank.memory().data(), junk.memory().data(), 4 * 4_KiB) == 0);
    CHECK(std::memcmp(blank.memory().data() + 512_KiB, junk.memory().data() + 512_KiB, 4_KiB) == 0);
}

/// The last block of all that an interrupted run may leave: nothing to mount, or a whole file
/// system.
bool image_holds(CrashImage& image) {
    const auto report = check(image.region);
    if (!report) return report.error().cause == Cause::no_superblock && image.completed == 0;
    for (const Finding& finding : report->findings)
        if (finding.kind != FindingKind::superblock_damaged &&
            finding.kind != FindingKind::superblock_copy_damaged)
            return false;
    return image.completed == 0 || report->clean();
}

/// Makes a file system over `before` and looks at every crash; as if `without` were not there.
bool interrupted_make_holds(CrashRegion& crash, const std::optional<Site>& without) {
    bool holds = true;
    crash.for_each_image({.per_fence_max = 128, .seed = 7, .without = without},
                         [&](CrashImage& image) { holds = holds && image_holds(image); });
    return holds;
}

TEST_CASE(
    "make: interrupted anywhere it leaves nothing mountable, or all; and each flush and fence "
    "is needed",
    "[volume][crash]") {
    CrashRegion over_old{1_MiB};
    REQUIRE(make_file_system(over_old.region(), options_for(1)));
    CrashRegion over_junk{1_MiB};
    std::ranges::fill(over_junk.memory(), std::byte{0xa5});
    for (CrashRegion* const crash : {&over_old, &over_junk}) {
        crash->record([&] {
            REQUIRE(make_file_system(crash->region(), options_for(2)));
            crash->mark(1);
        });
        const std::uint64_t seed = seed_of_test("interrupted make", 7);
        crash->for_each_image({.per_fence_max = 256, .seed = seed}, [&](CrashImage& image) {
            CAPTURE(image.label);
            REQUIRE(image_holds(image));
        });
    }
    for (const auto& [site, count] : over_old.sites()) {
        CAPTURE(site.text());
        const bool noticed =
            !interrupted_make_holds(over_old, site) || !interrupted_make_holds(over_junk, site);
        CHECK(noticed);
    }
}

TEST_CASE("make: a store that fails is reported, and nothing is mountable", "[volume][fault]") {
    CrashRegion counting{1_MiB};
    REQUIRE(make_file_system(counting.region(), options_for(2)));
    for (std::uint64_t n = 1; n <= counting.stores(); ++n) {
        CAPTURE(n);
        CrashRegion crash{1_MiB};
        crash.fail_store(n);
        const auto result = make_file_system(crash.region(), options_for(2));
        REQUIRE_FALSE(result);
        CHECK(result.error().cause == Cause::media_error);
        const auto report = check(crash.region());
        // The copy is written before the superblock: then the file system is whole.
        if (n < counting.stores())
            CHECK((!report && report.error().cause == Cause::no_superblock));
        else
            CHECK((report && report->has(FindingKind::superblock_damaged)));
    }
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
//
// fallocate, SEEK_DATA and SEEK_HOLE: what the model, which knows no blocks, cannot see.
#include <catch2/catch.hpp>

#include "tests/support/mounted.h"

using namespace pinfs;
using namespace pinfs::unit_literals;
using test::Bytes;
using test::Mounted;
using test::must;
using test::pattern;

namespace {

std::uint64_t blocks(Mounted& fs, Ino ino) { return must(fs->attributes(ino)).blocks; }
std::uint64_t size(Mounted& fs, Ino ino) { return must(fs->attributes(ino)).size_bytes; }

}  // namespace

TEST_CASE("what is allocated beyond the end stays over release and remount, until a truncation",
          "[volume][unit]") {
    Mounted fs{{.bytes = 16_MiB}};
    const Ino ino = fs.make_file("/f", 5000, 1);
    must(fs->open(ino));
    must(fs->allocate(ino, 0, 1_MiB, true));
    CHECK(size(fs, ino) == 5000);
    CHECK(blocks(fs, ino) == 256);
    fs.write(ino, 5000, pattern(0, 3000, 2));
    fs->release(ino);
    CHECK(blocks(fs, ino) == 256);
    fs.remount();
    const Ino again = fs.ino("/f");
    must(fs->open(again));
    fs->release(again);
    CHECK(blocks(fs, again) == 256);
    fs.truncate(again, 8000);
    CHECK(blocks(fs, again) == 2);
    fs.check_clean();
}

TEST_CASE("allocating lays a large range in few aligned extents", "[volume][unit]") {
    Mounted fs{{.bytes = 512_MiB, .poison = false}};
    const Ino ino = fs.make_file("/f");
    must(fs->allocate(ino, 0, 300_MiB, false));
    CHECK(size(fs, ino) == 300_MiB);
    const auto extents = must(fs->extents(ino, 0, kFileBytesMax));
    CHECK(extents.size() <= 6);  // group bitmaps stand between
    std::uint64_t covered = 0;
    for (const ExtentInfo& extent : extents) {
        CHECK(extent.unwritten);
        covered += extent.blocks;
    }
    CHECK(covered == 300_MiB / kBlockBytes);
    const auto part = must(fs->extents(ino, 4096, kFileBytesMax, 1));
    REQUIRE(part.size() == 1);
    CHECK(part[0].file_block == 1);
    CHECK(part[0].start_block == extents[0].start_block + 1);
    CHECK(part[0].blocks == extents[0].blocks - 1);
    CHECK(fs.read(ino, 200_MiB, 10'000) == Bytes(10'000));
}

TEST_CASE("an allocation that does not fit is refused before anything changed", "[volume][unit]") {
    Mounted fs{{.bytes = 4_MiB}};
    const Ino ino = fs.make_file("/f", 5000, 1);
    const auto before = fs.snapshot();
    const std::uint64_t free = fs->statistics().blocks_free;
    for (const bool keep_size : {false, true}) {
        CHECK(fs->allocate(ino, 100, 64_MiB, keep_size).error().cause == Cause::no_space);
        CHECK(fs->zero_range(ino, 100, 64_MiB, keep_size).error().cause == Cause::no_space);
    }
    CHECK(fs->statistics().blocks_free == free);
    CHECK(test::difference(fs.snapshot(), before).empty());
}

TEST_CASE("a full region can still be punched, and the space is there again", "[volume][unit]") {
    Mounted fs{{.bytes = 1_MiB}};
    const Ino ino = fs.make_file("/f");
    std::uint64_t end = 0;
    while (const auto done = fs->write(ino, end, pattern(end, 4096, 1))) end += *done;
    REQUIRE(end > 100 * kBlockBytes);
    CHECK(fs->allocate(ino, end, kBlockBytes, false).error().cause == Cause::no_space);
    const std::uint64_t free = fs->statistics().blocks_free;
    for (std::uint64_t at = kBlockBytes; at < end; at += 2 * kBlockBytes)
        must(fs->punch_hole(ino, at, kBlockBytes));
    // A scattered map needs some nodes.
    CHECK(fs->statistics().blocks_free + 3 >= free + end / kBlockBytes / 2);
    CHECK(fs.read(ino, 0, 4096) == pattern(0, 4096, 1));
    fs.check_clean();
}

TEST_CASE("zeroing keeps the blocks where they are", "[volume][unit]") {
    Mounted fs{{.bytes = 16_MiB}};
    const Ino ino = fs.make_file("/f", 100'000, 1);
    const auto before = must(fs->extents(ino, 0, kFileBytesMax));
    must(fs->zero_range(ino, 5000, 50'000, false));
    std::uint64_t file_block = 0;
    for (const ExtentInfo& extent : must(fs->extents(ino, 0, kFileBytesMax))) {
        CHECK(extent.file_block == file_block);
        CHECK(extent.start_block == before[0].start_block + file_block);
        file_block += extent.blocks;
    }
    CHECK(before.size() == 1);
    CHECK(fs.read(ino, 5000, 50'000) == Bytes(50'000));
}

TEST_CASE("seek finds data and holes; unwritten blocks are holes", "[volume][unit]") {
    Mounted fs{{.bytes = 16_MiB}};
    const Ino ino = fs.make_file("/f");
    fs.write(ino, 8192, pattern(0, 5000, 1));            // blocks 2, 3
    must(fs->allocate(ino, 5 * 4096, 3 * 4096, false));  // 5, 6, 7 unwritten
    fs.write(ino, 9 * 4096, pattern(0, 100, 1));         // 9, up to its byte 100
    const auto data = [&](std::uint64_t at) {
        return must(fs->seek(ino, at, SeekTo::data));
    };
    const auto hole = [&](std::uint64_t at) {
        return must(fs->seek(ino, at, SeekTo::hole));
    };
    CHECK(data(0) == 8192);
    CHECK(data(8200) == 8200);
    CHECK(data(16384) == 9 * 4096);
    CHECK(data(6 * 4096) == 9 * 4096);
    CHECK(hole(0) == 0);
    CHECK(hole(8200) == 16384);
    CHECK(hole(5 * 4096 + 7) == 5 * 4096 + 7);
    CHECK(hole(9 * 4096) == 9 * 4096 + 100);
    for (const SeekTo to : {SeekTo::data, SeekTo::hole})
        CHECK(fs->seek(ino, 9 * 4096 + 100, to).error().cause == Cause::no_data);
    fs.truncate(ino, 1_GiB);
    CHECK(fs->seek(ino, 10 * 4096, SeekTo::data).error().cause == Cause::no_data);
    CHECK(hole(9 * 4096) == 10 * 4096);
}

TEST_CASE("a copy ends at the end of its source and after 16 MiB", "[volume][unit]") {
    Mounted fs{{.bytes = 64_MiB, .poison = false}};
    const Ino from = fs.make_file("/from", 1'000'000, 1);
    const Ino to = fs.make_file("/to");
    CHECK(must(fs->copy(from, 900'000, to, 10, 500'000)) == 100'000);
    CHECK(fs.read(to, 10, 100'000) == pattern(900'000, 100'000, 1));
    CHECK(must(fs->copy(from, 1'000'000, to, 10, 500'000)) == 0);
    fs.truncate(from, 40_MiB);
    CHECK(must(fs->copy(from, 0, to, 0, 40_MiB)) == 16_MiB);
    CHECK(size(fs, to) == 16_MiB);
    fs.check_clean();
}

TEST_CASE("bad ranges are refused", "[volume][unit]") {
    Mounted fs{{.bytes = 4_MiB}};
    const Ino ino = fs.make_file("/f", 100, 1);
    CHECK(fs->allocate(ino, 10, 0, false).error().cause == Cause::invalid_argument);
    CHECK(fs->punch_hole(ino, UINT64_MAX - 5, 100).error().cause == Cause::invalid_argument);
    CHECK(fs->zero_range(ino, kFileBytesMax, 1, true).error().cause == Cause::file_too_large);
    CHECK(fs->punch_hole(kRootIno, 0, 10).error().cause == Cause::is_a_directory);
    CHECK(fs->seek(kRootIno, 0, SeekTo::data).error().cause == Cause::invalid_argument);
}

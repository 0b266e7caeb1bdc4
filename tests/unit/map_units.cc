// SPDX-License-Identifier: Apache-2.0
//
// Maps in units of 2 MiB, without the kernel: SPEC 1.5 and 2.5.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "tests/support/pinning.h"

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

using Kind = PinnedItem::Kind;

namespace {

/// A region with units of 2 MiB, whose file has two, and a layout lease.
struct Units : Pinning {
    Units() : Pinning{{.bytes = 64_MiB, .map_unit_bytes = 2_MiB}} {
        must(truncate(4_MiB));
        for (std::uint64_t at = 0; at < 4_MiB; at += 64 * 4096)
            write(at, pattern(at, 64 * 4096, 1));
        must(lease(pin::LeaseKind::layout, 0, 0));
    }
    void write(std::uint64_t at, const Bytes& bytes) {
        REQUIRE(must(volume().write(file.ino, at, bytes)) == bytes.size());
    }
    Bytes read(std::uint64_t at, std::uint64_t bytes) {
        Bytes found(bytes);
        REQUIRE(must(volume().read(file.ino, at, found)) == bytes);
        return found;
    }
    /// What the memory of a map shows, and what is stored there: where the region has it.
    Bytes load(std::uint64_t at, std::uint64_t bytes) {
        Bytes found(bytes);
        must(fs.region().copy_out(at, found));
        return found;
    }
    void store(std::uint64_t at, const Bytes& bytes) { must(fs.region().copy_in(at, bytes)); }
    /// Ids of maps that are told of something.
    std::vector<std::uint64_t> told() {
        std::vector<std::uint64_t> ids;
        while (const auto event = must(volume().next_event(context)))
            if (event->ino == 0) ids.push_back(event->id);
        return ids;
    }
    auto reload(const MapAnswer& map, std::uint64_t bytes = 4_MiB) {
        return must(volume().reload_map(context, map.id, 0, bytes)).extents;
    }
    void end(std::initializer_list<MapAnswer> maps) {
        for (const MapAnswer& map : maps) must(volume().unmap(context, map.id));
        must(volume().finish_pending());
        CHECK(count(Kind::hold) == 0);
        fs.check_clean();
    }
};

Bytes part(const Bytes& of, std::uint64_t begin, std::uint64_t end) {
    return {of.begin() + static_cast<std::ptrdiff_t>(begin),
            of.begin() + static_cast<std::ptrdiff_t>(end)};
}

/// Where they differ is said, not all of both.
bool same(const Bytes& found, const Bytes& expected) {
    const auto [at, other] = std::ranges::mismatch(found, expected);
    if (at == found.end() && other == expected.end()) return true;
    UNSCOPED_INFO("they differ at byte " << (at - found.begin()));
    return false;
}

}  // namespace

TEST_CASE("1.5: where maps have units of 2 MiB, a mapped file lies in whole runs",
          "[pin][volume]") {
    Pinning p{{.bytes = 64_MiB, .map_unit_bytes = 2_MiB}};
    must(p.lease(pin::LeaseKind::exclusive, 0, 0));
    must(p.truncate(5_MiB));  // a hole behind the first blocks, and half a unit at the end
    CHECK(cause_of(p.map(4096, 4096)) == Cause::unaligned);
    const auto is_whole = [&](std::uint64_t bytes) {
        for (const ExtentInfo& extent : must(p.volume().extents(p.file.ino, 0, 8_MiB))) {
            if (extent.file_block * 4096 >= bytes) continue;
            if (extent.unwritten || extent.file_block % 512 != extent.start_block % 512)
                return false;
        }
        return true;
    };
    SECTION("a map moves it") {
        const auto map = must(p.map(0, 4_MiB));
        std::uint64_t bytes = 0;
        for (const Extent& extent : map.extents) bytes += extent.bytes;
        CHECK(bytes == 4_MiB);
        CHECK(is_whole(4_MiB));
        must(p.volume().unmap(p.context, map.id));
    }
    SECTION("so does a pin, with all of the last unit") {
        const auto pinned = must(p.pin(4_MiB + 100, 1000));
        const auto infos = must(p.volume().extents(p.file.ino, 4_MiB, 4_MiB));
        REQUIRE(infos.size() == 1);
        CHECK(infos[0].blocks == 512);
        CHECK(infos[0].start_block % 512 == 0);
        must(p.volume().unpin(p.owner, pinned.id, pinned.generation));
    }
    Bytes found(64 * 4096);
    must(p.volume().read(p.file.ino, 0, found));
    CHECK(found == pattern(0, found.size(), 1));
    must(p.volume().drop_lease(p.file, 0, 0));
    must(p.truncate(0));
    CHECK(must(p.volume().extents(p.file.ino, 0, 8_MiB)).empty());
    p.fs.check_clean();
}

TEST_CASE("5.1: a unit that has no whole run, and gets none, is not shown", "[pin][volume]") {
    Pinning p{{.bytes = 64_MiB, .map_unit_bytes = 2_MiB}};
    must(p.lease(pin::LeaseKind::layout, 0, 0));
    must(p.truncate(4_MiB));
    const auto map = must(p.map(0, 4_MiB));
    const auto bytes_shown = [&] {
        std::uint64_t bytes = 0;
        for (const Extent& extent :
             must(p.volume().reload_map(p.context, map.id, 0, 4_MiB)).extents) {
            CHECK(extent.file_offset % 2_MiB == 0);
            CHECK(extent.region_offset % 2_MiB == 0);
            bytes += extent.bytes;
        }
        return bytes;
    };
    CHECK(bytes_shown() == 4_MiB);
    const Ino filler = p.fs.make_file("/filler");
    const Bytes piece = pattern(0, 4096, 3);
    for (std::uint64_t at = 0; p.volume().write(filler, at, piece); at += piece.size()) {
    }
    // All of a unit went: there is nothing to get back.
    must(p.volume().punch_hole(p.file.ino, 0, 2_MiB));
    CHECK(bytes_shown() == 2_MiB);
    must(p.volume().unlink(kRootIno, "filler"));
    must(p.volume().finish_pending());
    CHECK(bytes_shown() == 4_MiB);
    must(p.volume().unmap(p.context, map.id));
}

TEST_CASE("2.5: a unit that was cut inside is whole in its place when its owner takes note",
          "[pin][volume]") {
    Units u;
    const auto map = must(u.map(0, 4_MiB));
    REQUIRE(map.extents.size() == 1);
    const std::uint64_t place = map.extents[0].region_offset;
    Bytes expected = u.read(0, 4_MiB);
    const auto cut = [&](std::uint64_t from, std::uint64_t bytes) {
        std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(from), bytes, std::byte{0});
    };
    SECTION("by a hole") {
        must(u.volume().punch_hole(u.file.ino, 1_MiB + 100, 64 * 1024));
        cut(1_MiB + 100, 64 * 1024);
    }
    SECTION("by a hole that got other bytes") {
        must(u.volume().punch_hole(u.file.ino, 1_MiB, 64 * 1024));
        cut(1_MiB, 64 * 1024);
        const Bytes other = pattern(0, 5000, 4);
        u.write(1_MiB + 4000, other);
        std::ranges::copy(other, expected.begin() + 1_MiB + 4000);
    }
    SECTION("by many holes") {
        for (std::uint64_t at = 0; at < 4_MiB; at += 16 * 4096) {
            must(u.volume().punch_hole(u.file.ino, at, 4096));
            cut(at, 4096);
        }
    }
    SECTION("by many, all of which got other blocks, one by one") {
        const Ino other = u.fs.make_file("/other");
        for (std::uint64_t at = 0; at < 2_MiB; at += 8192) {
            must(u.volume().punch_hole(u.file.ino, at + 4096, 4096));
            const Bytes bytes = pattern(at, 4096, 5);
            u.write(at + 4096, bytes);
            must(u.volume().write(other, at, bytes));
            std::ranges::copy(bytes, expected.begin() + static_cast<std::ptrdiff_t>(at + 4096));
        }
    }
    SECTION("by one over the end of a unit") {
        must(u.volume().punch_hole(u.file.ino, 2_MiB - 8192, 3 * 8192));
        cut(2_MiB - 8192, 3 * 8192);
    }
    SECTION("by zeros") {
        must(u.volume().zero_range(u.file.ino, 3 * 4096, 1_MiB, false));
        cut(3 * 4096, 1_MiB);
    }
    SECTION("by a truncation") {
        must(u.truncate(3_MiB + 5000));
        expected.resize(3_MiB + 5000);
    }
    SECTION("by a truncation, and longer again") {
        must(u.truncate(1_MiB + 5000));
        must(u.truncate(4_MiB));
        cut(1_MiB + 5000, 3_MiB - 5000);
    }
    const std::uint64_t holds = u.count(Kind::hold);
    CHECK(holds > 0);
    CHECK(same(u.read(0, expected.size()), expected));
    // Until then what was not cut stays the file's.
    const Bytes stored = pattern(0, 100, 6);
    u.store(place + 8192 + 50, stored);
    std::ranges::copy(stored, expected.begin() + 8192 + 50);
    CHECK_FALSE(u.told().empty());
    const auto shown = u.reload(map);
    std::uint64_t bytes = 0;
    for (const Extent& extent : shown) {
        CHECK(extent.file_offset == bytes);
        const std::uint64_t end = std::min(bytes + extent.bytes, expected.size());
        CHECK(same(u.load(extent.region_offset, end - bytes), part(expected, bytes, end)));
        bytes += extent.bytes;
    }
    CHECK(bytes == 4_MiB);
    CHECK(shown[0].region_offset == place);
    CHECK(same(u.read(0, expected.size()), expected));
    CHECK(u.told().empty());
    u.end({map});
}

TEST_CASE("2.5: a unit gets nothing back as long as one who has it mapped did not take note",
          "[pin][volume]") {
    Units u;
    const auto first = must(u.map(0, 4_MiB));
    const auto second = must(u.map(0, 2_MiB));
    const std::uint64_t place = first.extents[0].region_offset;
    must(u.volume().punch_hole(u.file.ino, 1_MiB, 8192));
    const Bytes other = pattern(0, 8192, 4);
    u.write(1_MiB, other);
    const Bytes old = u.load(place + 1_MiB, 8192);
    u.told();
    // The first knows: its second unit stays, of the first it shows nothing.
    const auto partly = u.reload(first);
    REQUIRE(partly.size() == 1);
    CHECK(partly[0].file_offset == 2_MiB);
    CHECK(cause_of(u.map(0, 4_MiB)) == Cause::unit_in_use);
    CHECK(same(u.load(place + 1_MiB, 8192), old));
    SECTION("then it does") {
        const auto whole = u.reload(second, 2_MiB);
        REQUIRE(whole.size() == 1);
        CHECK(whole[0].region_offset == place);
        CHECK(u.told() == std::vector{first.id});
        const auto again = u.reload(first);
        CHECK(again.size() == 2);
        CHECK(same(u.load(place + 1_MiB, 8192), other));
        CHECK(u.told().empty());
        u.end({first, second});
    }
    SECTION("then it ends") {
        must(u.volume().unmap(u.context, second.id));
        const auto again = u.reload(first);
        REQUIRE(again.size() == 2);
        CHECK(again[0] == Extent{0, place, 2_MiB});
        u.end({first});
    }
    SECTION("then another map is made") {
        u.reload(second, 1_MiB);
        const auto third = must(u.map(0, 4_MiB));
        CHECK(third.extents[0].region_offset == place);
        u.end({first, second, third});
    }
    CHECK(same(u.read(1_MiB, 8192), other));
}

TEST_CASE("1.5: a map reaches all of its last unit: what is cut there is held", "[pin][volume]") {
    Units u;
    const auto map = must(u.map(0, 4096));
    REQUIRE(map.extents.size() == 1);
    CHECK(map.extents[0].bytes == 4096);
    const std::uint64_t place = map.extents[0].region_offset;
    must(u.truncate(1_MiB));
    CHECK(u.count(Kind::hold) == 1);
    const Bytes old = u.load(place + 1_MiB, 1_MiB);
    const Ino filler = u.fs.make_file("/filler");
    const Bytes piece = pattern(0, 4096, 3);
    for (std::uint64_t at = 0; u.volume().write(filler, at, piece); at += piece.size()) {
    }
    CHECK(same(u.load(place + 1_MiB, 1_MiB), old));
    u.end({map});
}

TEST_CASE("1.5: what a map stores behind the end is never read", "[pin][volume]") {
    Units u;
    must(u.truncate(100));
    const auto map = must(u.map(0, 100));
    const std::uint64_t place = map.extents[0].region_offset;
    u.store(place + 100, pattern(0, 2_MiB - 100, 7));
    std::uint64_t from = 100;
    SECTION("the file is truncated to more") { must(u.truncate(3_MiB)); }
    SECTION("written behind its end") {
        u.write(3_MiB - 10, pattern(0, 10, 0));
        u.write(3_MiB - 10, Bytes(10));
    }
    SECTION("allocated behind its end") {
        must(u.volume().allocate(u.file.ino, 1_MiB, 2_MiB, false));
    }
    SECTION("appended to, and then truncated to more") {
        u.write(100, pattern(0, 10000, 2));
        from += 10000;
        CHECK(same(u.read(100, 10000), pattern(0, 10000, 2)));
        must(u.truncate(3_MiB));
    }
    CHECK(same(u.read(from, 3_MiB - from), Bytes(3_MiB - from)));
    must(u.volume().unmap(u.context, map.id));
    u.fs.check_clean();
}

TEST_CASE("1.5: a unit of hundreds of pieces becomes whole", "[pin][volume]") {
    Units u;
    must(u.truncate(0));
    const Ino other = u.fs.make_file("/other");
    const Bytes expected = pattern(0, 4_MiB, 8);
    for (std::uint64_t at = 4_MiB; at > 0; at -= 4096) {
        u.write(at - 4096, part(expected, at - 4096, at));
        must(u.volume().write(other, at - 4096, part(expected, at - 4096, at)));
    }
    must(u.lease(pin::LeaseKind::layout, 0, 0));
    CHECK(must(u.volume().extents(u.file.ino, 0, 2_MiB)).size() > 200);
    const auto map = must(u.map(0, 4_MiB));
    for (const Extent& extent : map.extents)
        CHECK(extent.region_offset % 2_MiB == extent.file_offset % 2_MiB);
    CHECK(same(u.read(0, 4_MiB), expected));
    u.end({map});
}

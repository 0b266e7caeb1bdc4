// SPDX-License-Identifier: Apache-2.0
//
// Layouts under leases and maps of a mounted volume, without the kernel: SPEC 2.5.
#include <catch2/catch.hpp>
#include <cstdint>
#include <set>

#include "tests/support/pinning.h"

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

using Kind = PinnedItem::Kind;

TEST_CASE("2.5: an exclusive lease forbids, a layout lease is told", "[pin][volume]") {
    Pinning p;
    must(p.lease(pin::LeaseKind::layout, 0, 0, 8));
    must(p.lease(pin::LeaseKind::exclusive, 0, 4096));
    CHECK(cause_of(p.truncate(0)) == Cause::range_leased);
    must(p.truncate(8192));
    const auto event = must(p.volume().next_event(p.context));
    REQUIRE(event);
    CHECK(event->type == pin::EventType::gone);
    CHECK(event->begin == 8192);
    CHECK(event->user_data == 11);
    CHECK_FALSE(must(p.volume().next_event(p.context)));
    p.volume().drop_leases({p.file.ino, 7});
    must(p.truncate(0));
}

TEST_CASE("2.5: blocks cut from under a map are held until the map is gone", "[pin][volume]") {
    Pinning p;
    must(p.lease(pin::LeaseKind::layout, 0, 0));
    const auto map = must(p.map(0, 64 * 4096));
    REQUIRE(map.extents.size() == 1);
    const std::uint64_t free_before = p.free_blocks();
    must(p.truncate(0));
    CHECK(p.count(Kind::hold) == 1);
    CHECK(p.free_blocks() <= free_before);
    std::set<pin::EventType> types;
    std::uint64_t events = 0;
    while (const auto event = must(p.volume().next_event(p.context))) {
        types.insert(event->type);
        ++events;
    }
    CHECK(types == std::set{pin::EventType::gone});
    CHECK(events == 2);  // of the lease and of the map
    must(p.volume().finish_pending());
    CHECK(p.count(Kind::hold) == 1);

    // What the file has now the map does not reach until it is loaded anew.
    must(p.volume().write(p.file.ino, 0, pattern(0, 4096, 3)));
    must(p.truncate(0));
    CHECK(p.count(Kind::hold) == 1);
    must(p.volume().write(p.file.ino, 0, pattern(0, 4096, 3)));
    const auto layout = must(p.volume().reload_map(p.context, map.id, 0, 64 * 4096));
    CHECK(layout.size_bytes == 4096);
    REQUIRE(layout.extents.size() == 1);
    CHECK(layout.extents[0].bytes == 4096);
    must(p.truncate(0));
    CHECK(p.count(Kind::hold) == 2);

    must(p.volume().unmap(p.context, map.id));
    CHECK(p.count(Kind::hold) == 0);
    CHECK(p.count(Kind::map) == 0);
    CHECK(p.free_blocks() > free_before);
    p.fs.check_clean();
}

TEST_CASE("2.5: a block of which a part is cut is replaced under a map", "[pin][volume]") {
    Pinning p;
    must(p.lease(pin::LeaseKind::layout, 0, 0));
    const auto map = must(p.map(0, 64 * 4096));
    const std::uint64_t was = map.extents[0].region_offset;
    SECTION("by a truncation") {
        must(p.truncate(10 * 4096 + 100));
        const auto now = must(p.volume().layout(p.file.ino, 0, UINT64_MAX / 2));
        REQUIRE(now.extents.size() == 2);
        CHECK(now.extents[0] == Extent{0, was, 10 * 4096});
        CHECK(now.extents[1].region_offset != was + 10 * 4096);
        CHECK(now.extents[1].bytes == 4096);
    }
    SECTION("by a punched hole") {
        must(p.volume().punch_hole(p.file.ino, 4096 + 100, 4096));
        const auto now = must(p.volume().layout(p.file.ino, 0, UINT64_MAX / 2));
        REQUIRE(now.extents.size() >= 3);
        CHECK(now.extents[0] == Extent{0, was, 4096});
        CHECK(now.extents[1].region_offset != was + 4096);
    }
    SECTION("and whole ones, by zeros") {
        must(p.volume().zero_range(p.file.ino, 0, 64 * 4096, false));
        const auto infos = must(p.volume().extents(p.file.ino, 0, 64 * 4096));
        for (const auto& info : infos) CHECK(info.start_block * 4096 != was);
    }
    Bytes expected = pattern(0, 64 * 4096, 1);
    const auto state = state_of(p.volume(), p.file.ino);
    if (state.size == 10 * 4096 + 100) {
        Bytes found(10 * 4096 + 100);
        must(p.volume().read(p.file.ino, 0, found));
        expected.resize(found.size());
        CHECK(found == expected);
    }
    CHECK(p.count(Kind::hold) > 0);
    must(p.volume().unmap(p.context, map.id));
    must(p.volume().finish_pending());
    CHECK(p.count(Kind::hold) == 0);
    p.fs.check_clean();
}

TEST_CASE("2.5: blocks under two maps are held until both are gone", "[pin][volume]") {
    Pinning p;
    must(p.lease(pin::LeaseKind::layout, 0, 0));
    const auto first = must(p.map(0, 8192));
    const auto second = must(p.map(4096, 8192));
    must(p.truncate(0));
    must(p.volume().unmap(p.context, first.id));
    must(p.volume().finish_pending());
    CHECK(p.count(Kind::hold) == 1);
    must(p.volume().unmap(p.context, second.id));
    must(p.volume().finish_pending());
    CHECK(p.count(Kind::hold) == 0);
    p.fs.check_clean();
}

TEST_CASE("a layout has every block that the range meets", "[pin][volume]") {
    Pinning p;
    const auto bytes_in = [&](std::uint64_t offset, std::uint64_t length) {
        std::uint64_t bytes = 0;
        for (const Extent& extent : must(p.volume().layout(p.file.ino, offset, length)).extents)
            bytes += extent.bytes;
        return bytes;
    };
    CHECK(bytes_in(4095, 2) == 8192);
    CHECK(bytes_in(4095, 1) == 4096);
    CHECK(bytes_in(4096, 4096) == 4096);
    CHECK(bytes_in(1, 4096) == 8192);
    CHECK(bytes_in(UINT64_MAX - 1, 1) == 0);
}

TEST_CASE("2.5: who does not listen is told of everything once, and costs nothing more",
          "[pin][volume]") {
    Pinning p;
    constexpr std::uint64_t kLeases = 1000;
    for (std::uint64_t i = 0; i < kLeases; ++i)
        must(p.lease(pin::LeaseKind::layout, 0, 64 * 4096, 100 + i));
    must(p.volume().punch_hole(p.file.ino, 4096, 4096));
    must(p.volume().punch_hole(p.file.ino, 3 * 4096, 4096));
    must(p.volume().punch_hole(p.file.ino, 9 * 4096, 4096));
    CHECK(must(p.volume().lease({p.file.ino, 100}, 0, 0)).holders == kLeases);
    std::set<std::uint64_t> told;
    while (const auto event = must(p.volume().next_event(p.context))) {
        told.insert(event->id);
        CHECK(event->begin == 0);  // more than one change: all of the lease
        CHECK(event->end == 64 * 4096);
    }
    CHECK(told.size() == kLeases);
    must(p.volume().punch_hole(p.file.ino, 4096, 4096));
    const auto event = must(p.volume().next_event(p.context));
    REQUIRE(event);
    CHECK(event->begin == 4096);
    CHECK(event->end == 8192);
}

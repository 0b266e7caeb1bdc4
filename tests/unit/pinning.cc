// SPDX-License-Identifier: Apache-2.0
//
// Leases, maps, pins and holds of a mounted volume, without the kernel: SPEC 2, 3 and 5.1, rule by
// rule.
#include <catch2/catch.hpp>

#include <unistd.h>

#include <atomic>
#include <set>
#include <thread>

#include "fs/format/inode.h"
#include "fs/pin/process.h"
#include "tests/support/mounted.h"

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

namespace {

pin::Owner this_process() {
    const auto pid = static_cast<std::uint32_t>(::getpid());
    return {.context = 0,
            .process = {.pid = pid,
                        .start_ticks = pin::start_ticks_of(pid).value(),
                        .pid_namespace = 1},
            .uid = 0,
            .command = "test"};
}

template <class T>
Cause cause_of(const Expected<T>& result) {
    REQUIRE_FALSE(result.has_value());
    return result.error().cause;
}

/// A file in DAX mode, open, with a context and a guard.
struct Pinning {
    explicit Pinning(MountedOptions options = {.bytes = 64_MiB}) : fs(std::move(options)) {
        file = {fs.make_file("/f", 64 * 4096, 1), 7};
        open();
    }
    void open() {
        AttributeChange dax;
        dax.flags = media::kInodeDax;
        must(volume().change_attributes(file.ino, dax));
        must(volume().lookup(kRootIno, "f"));  // reports say the last name that was asked for
        REQUIRE(must(volume().open(file.ino, OpenFor::writing)));
        begin_context();
    }
    void begin_context() {
        context = must(volume().open_context(this_process()));
        guard = must(volume().open_guard(context));
        owner = this_process();
        owner.context = context;
    }
    Volume& volume() { return fs.volume(); }
    auto lease(pin::LeaseKind kind, std::uint64_t offset, std::uint64_t length,
               std::uint64_t handle = 7) {
        return volume().set_lease({file.ino, handle}, {.kind = kind,
                                                       .offset_bytes = offset,
                                                       .length_bytes = length,
                                                       .owner = owner,
                                                       .user_data = 11,
                                                       .may_exclude = true});
    }
    auto pin(std::uint64_t offset, std::uint64_t length, std::uint64_t handle = 7) {
        return volume().pin({file.ino, handle}, {.offset_bytes = offset,
                                                 .length_bytes = length,
                                                 .owner = owner,
                                                 .label = {},
                                                 .user_data = 12});
    }
    auto map(std::uint64_t offset, std::uint64_t length, std::uint64_t handle = 7) {
        return volume().map({file.ino, handle}, {.offset_bytes = offset,
                                                 .length_bytes = length,
                                                 .writable = true,
                                                 .owner = owner,
                                                 .guard = guard,
                                                 .user_data = 13});
    }
    Expected<void> truncate(std::uint64_t size) {
        AttributeChange change;
        change.size_bytes = size;
        const auto changed = volume().change_attributes(file.ino, change);
        return changed ? Expected<void>{} : std::unexpected(changed.error());
    }
    std::uint64_t free_blocks() { return volume().statistics().blocks_free; }
    std::uint64_t count(PinnedItem::Kind kind) {
        std::uint64_t found = 0;
        for (const PinnedItem& item : must(volume().pinned())) found += item.kind == kind ? 1 : 0;
        return found;
    }

    Mounted fs;
    OpenFile file;
    std::uint64_t context = 0;
    std::uint64_t guard = 0;
    pin::Owner owner;
};

using Kind = PinnedItem::Kind;

}  // namespace

TEST_CASE("3.1: a pin needs an exclusive lease, held through the same open file", "[pin][volume]") {
    Pinning p;
    CHECK(cause_of(p.pin(0, 4096)) == Cause::no_exclusive_lease);
    must(p.lease(pin::LeaseKind::layout, 0, 8192));
    CHECK(cause_of(p.pin(0, 4096)) == Cause::no_exclusive_lease);
    must(p.lease(pin::LeaseKind::exclusive, 0, 8192));
    CHECK(cause_of(p.pin(0, 4096, 8)) == Cause::no_exclusive_lease);
    CHECK(cause_of(p.pin(4096, 8192)) == Cause::no_exclusive_lease);
    CHECK(cause_of(p.pin(0, 0)) == Cause::invalid_argument);
    CHECK(cause_of(p.pin(0, UINT64_MAX)) == Cause::invalid_argument);
    const auto pinned = must(p.pin(100, 5000));
    CHECK(pinned.begin == 0);
    CHECK(pinned.end == 8192);
    must(p.lease(pin::LeaseKind::exclusive, 0, 0));
    CHECK(cause_of(p.pin(63 * 4096, 8192)) == Cause::beyond_end);
    must(p.volume().unpin(p.owner, pinned.id, pinned.generation));
    CHECK(cause_of(p.volume().unpin(p.owner, pinned.id, pinned.generation)) ==
          Cause::no_such_record);
}

TEST_CASE("3.6: what is pinned cannot be cut, what is beside it can", "[pin][volume]") {
    Pinning p;
    must(p.lease(pin::LeaseKind::exclusive, 16 * 4096, 16 * 4096));
    const auto pinned = must(p.pin(16 * 4096, 16 * 4096));
    must(p.volume().drop_lease(p.file, 0, 0));
    const auto before = state_of(p.volume(), p.file.ino);

    CHECK(cause_of(p.truncate(0)) == Cause::range_pinned);
    CHECK(cause_of(p.truncate(32 * 4096 - 1)) == Cause::range_pinned);
    CHECK(cause_of(p.volume().punch_hole(p.file.ino, 31 * 4096 + 4095, 10)) == Cause::range_pinned);
    CHECK(cause_of(p.volume().punch_hole(p.file.ino, 0, 16 * 4096 + 1)) == Cause::range_pinned);
    CHECK(cause_of(p.volume().zero_range(p.file.ino, 16 * 4096, 1, true)) == Cause::range_pinned);
    CHECK(difference(state_of(p.volume(), p.file.ino), before) == "");

    must(p.truncate(32 * 4096));
    must(p.volume().punch_hole(p.file.ino, 0, 16 * 4096));
    must(p.truncate(100 * 4096));
    must(p.volume().unpin(p.owner, pinned.id, pinned.generation));
    must(p.truncate(0));
    p.fs.check_clean();
}

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

TEST_CASE("3.6: an unlinked file lives while it is pinned", "[pin][volume]") {
    Pinning p;
    must(p.lease(pin::LeaseKind::exclusive, 0, 0));
    const auto pinned = must(p.pin(0, 64 * 4096));
    const std::uint64_t free_before = p.free_blocks();
    must(p.volume().unlink(kRootIno, "f"));
    p.volume().drop_leases(p.file);
    p.volume().release(p.file.ino);
    p.volume().forget(p.file.ino, 1000);
    must(p.volume().finish_pending());
    CHECK(p.free_blocks() == free_before);
    const auto items = must(p.volume().pinned());
    REQUIRE(items.size() == 2);
    CHECK(items[0].path == "/f");
    CHECK(items[0].deleted);
    CHECK(items[1].kind == Kind::orphan);
    must(p.volume().unpin(p.owner, pinned.id, pinned.generation));
    must(p.volume().finish_pending());
    CHECK(p.free_blocks() == free_before + 64 + 1);  // and the chunk of its record
    CHECK(must(p.volume().pinned()).empty());
    p.fs.check_clean();
}

TEST_CASE("3.9: what nobody owns any more ends by proof, the file keeps its blocks",
          "[pin][volume]") {
    Pinning p;
    must(p.lease(pin::LeaseKind::exclusive, 0, 0));
    must(p.pin(0, 64 * 4096));
    must(p.map(0, 64 * 4096));
    const auto content = state_of(p.volume(), p.file.ino);
    p.volume().close_context(p.context);
    CHECK(p.count(Kind::pin) == 1);
    CHECK(p.count(Kind::map) == 1);
    p.volume().close_guard(p.guard);
    p.volume().drop_leases(p.file);
    SECTION("while they are held a truncation succeeds, and keeps the blocks from others") {
        const std::uint64_t free_before = p.free_blocks();
        must(p.truncate(0));
        CHECK(p.free_blocks() <= free_before);
        CHECK(p.count(Kind::hold) == 1);
    }
    SECTION("nothing is cut") {
        CHECK(difference(state_of(p.volume(), p.file.ino), content) == "");
    }
    for (int i = 0; i < 100 && !must(p.volume().pinned()).empty(); ++i) {
        ::usleep(10'000);
        must(p.volume().finish_pending());
    }
    CHECK(must(p.volume().pinned()).empty());
    if (state_of(p.volume(), p.file.ino).size != 0) {
        auto after = state_of(p.volume(), p.file.ino);
        CHECK(after.blocks == content.blocks);
    }
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

namespace {

/// The records of a daemon that was killed, in the same boot.
void crash_and_mount(Pinning& p) {
    p.fs.abandon();
    p.fs.mount();
    must(p.volume().open(p.file.ino, OpenFor::writing));
    p.begin_context();
}

PinnedItem only(Pinning& p, Kind kind) {
    std::vector<PinnedItem> found;
    for (const PinnedItem& item : must(p.volume().pinned()))
        if (item.kind == kind) found.push_back(item);
    REQUIRE(found.size() == 1);
    return found[0];
}

}  // namespace

TEST_CASE("3.10: a living owner keeps its pins over a crash of the daemon", "[pin][volume]") {
    Pinning p;
    must(p.lease(pin::LeaseKind::exclusive, 0, 0));
    const auto pinned = must(p.pin(0, 8192));
    crash_and_mount(p);
    p.fs.check_clean();
    const PinnedItem item = only(p, Kind::pin);
    CHECK(item.state == PinnedItem::State::recovered);
    CHECK(item.path == "/f");
    CHECK(item.id == pinned.id);
    CHECK(cause_of(p.truncate(0)) == Cause::range_pinned);
    must(p.truncate(8192));
    must(p.volume().finish_pending());
    CHECK(cause_of(p.truncate(0)) == Cause::range_pinned);

    // The new context has the number of the old one, and is another.
    CHECK(cause_of(p.volume().unpin(p.owner, pinned.id, pinned.generation)) ==
          Cause::no_such_record);
    pin::Owner stranger = p.owner;
    stranger.process.start_ticks += 1;
    CHECK(cause_of(p.volume().adopt_pin(stranger, pinned.id, pinned.generation, {})) ==
          Cause::not_adoptable);
    CHECK(cause_of(p.volume().adopt_pin(p.owner, pinned.id, pinned.generation + 1, {})) ==
          Cause::no_such_record);
    SECTION("and adopts them as their owner") {
        CHECK(must(p.volume().adopt_pin(p.owner, pinned.id, pinned.generation, {})).end == 8192);
    }
    SECTION("or whoever has the secret does") {
        CHECK(must(p.volume().adopt_pin(stranger, pinned.id, pinned.generation, pinned.secret))
                  .user_data == 12);
    }
    CHECK(only(p, Kind::pin).state == PinnedItem::State::live);
    must(p.volume().unpin(p.owner, pinned.id, pinned.generation));
    must(p.truncate(0));
    p.fs.check_clean();
}

TEST_CASE("3.10: blocks cut from under a living map stay held over a crash of the daemon",
          "[pin][volume]") {
    Pinning p;
    must(p.lease(pin::LeaseKind::layout, 0, 0));
    must(p.map(0, 64 * 4096));
    must(p.truncate(4096));
    crash_and_mount(p);
    p.fs.check_clean();
    CHECK(only(p, Kind::map).state == PinnedItem::State::recovered);
    CHECK(only(p, Kind::hold).state == PinnedItem::State::cut);
    must(p.volume().finish_pending());
    must(p.volume().finish_pending());
    CHECK(only(p, Kind::hold).region_offset != 0);
}

TEST_CASE("3.10: what a dead process had is held, and ends by proof", "[pin][volume]") {
    Pinning p;
    p.owner.process = {.pid = (1u << 22) + 1, .start_ticks = 1, .pid_namespace = 1};
    must(p.lease(pin::LeaseKind::exclusive, 0, 0));
    must(p.pin(0, 8192));
    crash_and_mount(p);
    CHECK(only(p, Kind::pin).state == PinnedItem::State::held);
    must(p.truncate(0));
    CHECK(p.count(Kind::hold) == 1);
    p.fs.check_clean();
    for (int i = 0; i < 1000 && !must(p.volume().pinned()).empty(); ++i) {
        ::usleep(1000);
        must(p.volume().finish_pending());
    }
    CHECK(must(p.volume().pinned()).empty());
    p.fs.check_clean();
}

TEST_CASE("3.10: a new boot ends all records", "[pin][volume]") {
    Pinning p;
    must(p.lease(pin::LeaseKind::exclusive, 0, 0));
    must(p.pin(0, 8192));
    must(p.map(0, 8192));
    p.fs.abandon();
    Mounted next{p.fs.region()};
    CHECK(must(next->pinned()).empty());
    next.check_clean();
}

TEST_CASE("3.11: an administrator ends a pin and a lease after a grace time", "[pin][volume]") {
    Pinning p;
    const auto lease = must(p.lease(pin::LeaseKind::exclusive, 0, 8192));
    const auto pinned = must(p.pin(0, 8192));
    CHECK(cause_of(p.volume().revoke(999'998, 0)) == Cause::no_such_record);
    must(p.volume().revoke(lease.id, 0));
    must(p.volume().revoke(pinned.id, 0));
    const auto event = must(p.volume().next_event(p.context));
    REQUIRE(event);
    CHECK(event->type == pin::EventType::revoking);
    CHECK(event->id == lease.id);
    CHECK(event->deadline_ns != 0);
    must(p.volume().finish_pending());
    must(p.truncate(0));
    CHECK(cause_of(p.volume().unpin(p.owner, pinned.id, pinned.generation)) ==
          Cause::no_such_record);
    CHECK(cause_of(p.pin(0, 8192)) == Cause::no_exclusive_lease);
}

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
    auto map = must(p.map(0, 4_MiB));
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
    must(p.volume().punch_hole(p.file.ino, 4096, 4096));
    CHECK(bytes_shown() == 2_MiB);
    // Nor does it move while it is mapped; the next map has all of it.
    must(p.volume().unlink(kRootIno, "filler"));
    must(p.volume().finish_pending());
    CHECK(bytes_shown() == 2_MiB);
    must(p.volume().unmap(p.context, map.id));
    map = must(p.map(0, 4_MiB));
    CHECK(bytes_shown() == 4_MiB);
    must(p.volume().unmap(p.context, map.id));
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

TEST_CASE("3.10: a volume that is writable only later knows its records then", "[pin][volume]") {
    Pinning p;
    must(p.lease(pin::LeaseKind::exclusive, 0, 0));
    must(p.pin(0, 8192));
    p.fs.abandon();
    {
        Mounted fs{p.fs.region(), /*same_boot=*/true};  // replays
    }
    MountOptions options = mount_options();
    options.boot_id = "fedcba9876543210fedcba9876543210";
    options.read_only = true;
    const auto volume = must(Volume::mount(p.fs.region(), options));
    must(volume->set_read_only(false));
    AttributeChange change;
    change.size_bytes = 0;
    CHECK(cause_of(volume->change_attributes(p.file.ino, change)) == Cause::range_pinned);
}

TEST_CASE("3.9: what an administrator releases before anybody noticed that it is gone",
          "[pin][volume]") {
    Pinning p;
    must(p.lease(pin::LeaseKind::exclusive, 0, 0));
    const auto pinned = must(p.pin(0, 8192));
    p.volume().drop_leases(p.file);
    p.volume().close_context(p.context);
    must(p.volume().release_hold(pinned.id));
    CHECK(must(p.volume().pinned()).empty());
    must(p.volume().finish_pending());
    must(p.volume().unlink(kRootIno, "f"));
    p.volume().release(p.file.ino);
    p.volume().forget(p.file.ino, 1000);
    must(p.volume().finish_pending());
    CHECK(p.volume().statistics().inodes == 1);
    p.fs.check_clean();
}

TEST_CASE("3.4: a pin and the end of its lease at once: it is there, or was refused",
          "[pin][volume][concurrency]") {
    Pinning p;
    int pinned = 0;
    for (int round = 0; round < 2000; ++round) {
        must(p.lease(pin::LeaseKind::exclusive, 0, 0));
        std::atomic<bool> begin{false};
        std::thread dropper{[&] {
            while (!begin.load()) continue;
            p.volume().drop_leases(p.file);
        }};
        begin.store(true);
        const auto answer = p.pin(0, 8192);
        dropper.join();
        CHECK(cause_of(p.pin(8192, 4096)) == Cause::no_exclusive_lease);
        if (answer) {
            ++pinned;
            CHECK(cause_of(p.truncate(0)) == Cause::range_pinned);
            must(p.volume().unpin(p.owner, answer->id, answer->generation));
        } else {
            CHECK(answer.error().cause == Cause::no_exclusive_lease);
        }
    }
    CHECK(p.count(Kind::pin) == 0);
    INFO(pinned << " of 2000 were first");
    must(p.truncate(0));
    p.fs.check_clean();
}

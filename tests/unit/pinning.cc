// SPDX-License-Identifier: Apache-2.0
//
// Leases, pins and holds of a mounted volume, without the kernel: SPEC 3, rule by rule; maps where
// they matter to those (layout_changes.cc has the rest).
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "tests/support/pinning.h"

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

namespace {

using Kind = PinnedItem::Kind;

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

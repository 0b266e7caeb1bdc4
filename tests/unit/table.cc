// SPDX-License-Identifier: Apache-2.0
#include "fs/inode/table.h"

#include <catch2/catch.hpp>
#include <set>

#include "tests/support/layers.h"

using namespace pinfs;
using namespace pinfs::unit_literals;
using inode::Table;
using test::Layers;
using test::must;

namespace {

Table::Slot allocate(Layers& layers) {
    const std::unique_lock lock{layers.table().mutex()};
    auto change = layers.change();
    const auto slot = must(layers.table().allocate(change));
    change.transaction().create(slot.offset, media::kSlotBytes);
    change.add_inodes(1);
    must(change.commit());
    return slot;
}

void release(Layers& layers, std::uint64_t number) {
    const std::unique_lock lock{layers.table().mutex()};
    auto change = layers.change(space::Reserve::use);
    must(layers.table().release(change, number));
    change.add_inodes(-1);
    must(change.commit());
}

}  // namespace

TEST_CASE("slots are numbered apart from chunk headers, and found again", "[inode][unit]") {
    Layers layers{16_MiB};
    std::set<std::uint64_t> numbers{1};  // the root directory
    for (int i = 0; i < 2000; ++i) {
        const auto slot = allocate(layers);
        CHECK(slot.number % media::kChunkSlots != 0);
        REQUIRE(numbers.insert(slot.number).second);
        const std::unique_lock lock{layers.table().mutex()};
        REQUIRE(must(layers.table().locate(slot.number)) == slot.offset);
    }
    layers.open();
    for (const std::uint64_t number : numbers) {
        const std::unique_lock lock{layers.table().mutex()};
        REQUIRE(layers.table().locate(number));
    }
    const std::unique_lock lock{layers.table().mutex()};
    CHECK(layers.table().locate(0).error().cause == Cause::stale_inode);
    CHECK(layers.table().locate(16).error().cause == Cause::stale_inode);
    CHECK(layers.table().locate(1u << 20).error().cause == Cause::stale_inode);
    CHECK(layers.table().locate(UINT64_MAX).error().cause == Cause::stale_inode);
}

TEST_CASE("a table of more chunks than one index block holds gives all of them back",
          "[inode][unit]") {
    Layers layers{64_MiB};
    const std::uint64_t free = layers.allocator().free_blocks();
    std::vector<std::uint64_t> numbers;
    for (int i = 0; i < 15 * 505; ++i) numbers.push_back(allocate(layers).number);
    for (std::size_t i = 0; i < numbers.size(); ++i)
        release(layers, numbers[i * 7919 % numbers.size()]);
    CHECK(layers.allocator().free_blocks() == free);
    const auto found = must(check(layers.region()));
    INFO(found.text());
    CHECK(found.clean());
}

TEST_CASE("a number comes back late, and a fragmented table is filled before it grows much",
          "[inode][unit]") {
    Layers layers{64_MiB};
    const auto first = allocate(layers);
    release(layers, first.number);
    std::set<std::uint64_t> next;
    for (int i = 0; i < 13; ++i) next.insert(allocate(layers).number);
    CHECK(!next.contains(first.number));

    std::vector<std::uint64_t> numbers;
    for (int i = 0; i < 6000; ++i) numbers.push_back(allocate(layers).number);
    for (std::size_t i = 0; i < numbers.size(); ++i)
        if (i % 10 != 0) release(layers, numbers[i]);
    const std::uint64_t free = layers.allocator().free_blocks();
    for (int i = 0; i < 3000; ++i) allocate(layers);
    CHECK(free - layers.allocator().free_blocks() < 100);
}

namespace {

void set_pending(Layers& layers, std::uint64_t number, bool pending) {
    const std::unique_lock lock{layers.table().mutex()};
    auto change = layers.change();
    must(layers.table().set_pending(change, number, pending));
    must(change.commit());
}

struct Pending {
    std::set<std::uint64_t> numbers;
    std::vector<std::uint64_t> damaged;  // region offsets
};

Pending pending_of(Layers& layers) {
    Pending found;
    const std::unique_lock lock{layers.table().mutex()};
    layers.table().for_each_pending(
        [&](std::uint64_t number) { found.numbers.insert(number); },
        [&](const Error& error) { found.damaged.push_back(error.offset); });
    return found;
}

/// How many changes it took.
int drop_idle_hints(Layers& layers) {
    int changes = 0;
    for (std::optional<std::uint64_t> chunk = 0; chunk; ++changes) {
        const std::unique_lock lock{layers.table().mutex()};
        auto change = layers.change();
        chunk = must(layers.table().drop_idle_hints(change, *chunk));
        must(change.commit());
    }
    return changes;
}

}  // namespace

TEST_CASE("pending slots are found again through the hints, and only they", "[inode][unit]") {
    Layers layers{64_MiB};
    std::set<std::uint64_t> pending;
    for (int i = 0; i < 9000; ++i) {
        const auto slot = allocate(layers);
        if (i % 1000 != 7) continue;
        set_pending(layers, slot.number, true);
        pending.insert(slot.number);
    }
    CHECK(pending_of(layers).numbers == pending);
    layers.open();
    CHECK(pending_of(layers).numbers == pending);
    set_pending(layers, *pending.begin(), false);
    pending.erase(pending.begin());
    CHECK(pending_of(layers).numbers == pending);
}

TEST_CASE("hints that lead to nothing go, in as many changes as they need, and the others stay",
          "[inode][unit]") {
    Layers layers{256_MiB};
    std::vector<std::uint64_t> numbers;
    for (int i = 0; i < 15 * 1100; ++i) numbers.push_back(allocate(layers).number);
    std::set<std::uint64_t> pending;
    for (std::size_t i = 0; i < numbers.size(); i += 15) {
        set_pending(layers, numbers[i], true);
        if (i % 4000 == 0)
            pending.insert(numbers[i]);
        else
            set_pending(layers, numbers[i], false);
    }
    REQUIRE(pending.size() > 1);
    CHECK(pending_of(layers).numbers == pending);
    CHECK(layers.table().hints() > 1000);
    CHECK(drop_idle_hints(layers) < 20);
    CHECK(layers.table().hints() == pending.size());
    layers.open();
    CHECK(pending_of(layers).numbers == pending);
    CHECK(layers.table().hints() == pending.size());
    for (const std::uint64_t number : pending) set_pending(layers, number, false);
    drop_idle_hints(layers);
    layers.open();
    const std::uint64_t read_before = layers.units().bytes_read();
    CHECK(pending_of(layers).numbers.empty());
    CHECK(layers.units().bytes_read() == read_before);

    for (const std::uint64_t number : numbers) release(layers, number);
    CHECK(layers.table().hints() == 0);
    const auto found = must(check(layers.region()));
    INFO(found.text());
    CHECK(found.clean());
}

TEST_CASE("a damaged chunk hides no pending slot of another one", "[inode][unit]") {
    Layers layers{64_MiB};
    std::vector<Table::Slot> slots;
    for (int i = 0; i < 200; ++i) slots.push_back(allocate(layers));
    set_pending(layers, slots[50].number, true);
    set_pending(layers, slots[150].number, true);
    const std::uint64_t chunk =
        slots[50].offset - slots[50].number % media::kChunkSlots * media::kSlotBytes;
    layers.memory()[chunk + 16] ^= std::byte{0x5a};
    const Pending found = pending_of(layers);
    CHECK(found.numbers == std::set{slots[150].number});
    CHECK(found.damaged == std::vector{chunk});
    drop_idle_hints(layers);
    CHECK(pending_of(layers).damaged == std::vector{chunk});
}

TEST_CASE("a full region refuses a slot and stays as it was", "[inode][unit]") {
    Layers layers{1_MiB};
    std::vector<BlockRun> rest;
    must(layers.allocator().reserve(
        {.blocks = layers.allocator().free_blocks() - layers.allocator().reserve_blocks()}, rest));
    for (int i = 0; i < 14; ++i) allocate(layers);  // the root's chunk has room
    const std::unique_lock lock{layers.table().mutex()};
    auto change = layers.change();
    CHECK(layers.table().allocate(change).error().cause == Cause::no_space);
}

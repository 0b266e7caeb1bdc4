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

TEST_CASE("pending slots are found again through the hints, and only they", "[inode][unit]") {
    Layers layers{64_MiB};
    std::set<std::uint64_t> pending;
    for (int i = 0; i < 9000; ++i) {
        const auto slot = allocate(layers);
        if (i % 1000 != 7) continue;
        const std::unique_lock lock{layers.table().mutex()};
        auto change = layers.change();
        must(layers.table().set_pending(change, slot.number, true));
        must(change.commit());
        pending.insert(slot.number);
    }
    const auto found = [&] {
        std::set<std::uint64_t> numbers;
        const std::unique_lock lock{layers.table().mutex()};
        must(layers.table().for_each_pending([&](std::uint64_t n) { numbers.insert(n); }));
        return numbers;
    };
    CHECK(found() == pending);
    layers.open();
    CHECK(found() == pending);
    {
        const std::unique_lock lock{layers.table().mutex()};
        auto change = layers.change();
        must(layers.table().set_pending(change, *pending.begin(), false));
        must(change.commit());
    }
    pending.erase(pending.begin());
    CHECK(found() == pending);
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

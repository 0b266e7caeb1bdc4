// SPDX-License-Identifier: Apache-2.0
#include "fs/journal/journal.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <thread>

#include "fs/checksum.h"
#include "tests/support/layers.h"

using namespace pinfs;
using namespace pinfs::unit_literals;
using journal::Transaction;
using test::Layers;
using test::must;

namespace {

constexpr std::uint32_t kTestMagic = media::magic_of('T', 'E', 'S', 'T');

/// A free place for units of a test: the last blocks of the region.
std::uint64_t place(Layers& layers, std::uint64_t index) {
    return layers.region().bytes() - (index + 1) * kBlockBytes;
}

void commit_fill(Layers& layers, std::uint64_t offset, std::size_t bytes, std::byte fill) {
    Transaction transaction{layers.units()};
    const auto unit = transaction.create(offset, bytes);
    std::ranges::fill(unit, fill);
    std::memcpy(unit.data(), &kTestMagic, sizeof kTestMagic);
    must(layers.journal().commit(transaction, {}));
}

/// A sealed log as a crash between P2 and P4 leaves it: `records` of (offset, byte).
void seal_log(Layers& layers, std::uint32_t lane, std::uint64_t sequence,
              const std::vector<std::pair<std::uint64_t, std::byte>>& records) {
    std::vector<std::byte> log(sizeof(media::LogHeader));
    for (const auto& [offset, byte] : records) {
        const media::LogRecord record{.offset = offset, .bytes = 8, .reserved = 0};
        const auto head = std::as_bytes(std::span{&record, 1});
        log.insert(log.end(), head.begin(), head.end());
        log.insert(log.end(), 8, byte);
    }
    const media::LogHeader header{.magic = media::kLogMagic,
                                  .lane = lane,
                                  .sequence = sequence,
                                  .log_bytes = static_cast<std::uint32_t>(log.size()),
                                  .record_count = static_cast<std::uint32_t>(records.size()),
                                  .reserved = 0};
    std::memcpy(log.data(), &header, sizeof header);
    const media::Seal seal{.crc32c = crc32c(layers.super().checksum_seed, log),
                           .log_bytes = static_cast<std::uint32_t>(log.size())};
    std::byte* const at =
        layers.memory().data() + layers.super().lanes_offset + lane * layers.super().lane_bytes;
    std::memcpy(at + media::kLogOffset, log.data(), log.size());
    std::memcpy(at + media::kSealOffset, &seal, sizeof seal);
}

}  // namespace

TEST_CASE("a committed unit is home, sealed by its checksum, and its lane is clear",
          "[journal][unit]") {
    Layers layers{1_MiB};
    commit_fill(layers, place(layers, 0), 256, std::byte{7});
    std::array<std::byte, 256> unit{};
    REQUIRE(layers.units().read(place(layers, 0), kTestMagic, unit));
    CHECK(unit[100] == std::byte{7});
    CHECK(must(layers.journal().replay(true)).lanes == 0);
}

TEST_CASE("a unit that ends as it began is not written", "[journal][unit]") {
    Layers layers{1_MiB};
    commit_fill(layers, place(layers, 0), 256, std::byte{7});
    const auto before = must(layers.journal().replay(true)).last_sequence;
    Transaction transaction{layers.units()};
    must(transaction.edit(place(layers, 0), kTestMagic, 256));
    REQUIRE(layers.journal().commit(transaction, {}));
    CHECK(must(layers.journal().replay(true)).last_sequence == before);
}

TEST_CASE("a block that is only looked into is summed once, one that is to change each time",
          "[journal][unit]") {
    Layers layers{1_MiB};
    journal::Units& units = layers.units();
    constexpr journal::BlockIdentity kIdentity{
        .kind = media::BlockKind::table_index, .owner = 7, .generation = 0};
    const std::uint64_t offset = place(layers, 0);
    {
        Transaction transaction{units};
        transaction.create_block(offset, kIdentity, 1);
        transaction.create(place(layers, 1), 256);  // what leads to it
        must(layers.journal().commit(transaction, {}));
    }
    std::array<std::byte, kBlockBytes> block{};
    must(units.look_into_block(offset, kIdentity, block));
    layers.memory()[offset + 1000] ^= std::byte{1};
    CHECK(units.look_into_block(offset, kIdentity, block));

    const auto refused = [&](const Expected<void>& read) {
        return !read && read.error().cause == Cause::bad_checksum && read.error().offset == offset;
    };
    CHECK(refused(units.read_block(offset, kIdentity, block)));
    CHECK(!Transaction{units}.edit_block(offset, kIdentity));
    SECTION("a block that was freed is summed again") {
        units.forget({offset / kBlockBytes, 1});
        CHECK(refused(units.look_into_block(offset, kIdentity, block)));
    }
    SECTION("so is each one for a scrub") {
        units.forget_all();
        CHECK(refused(units.look_into_block(offset, kIdentity, block)));
    }
    SECTION("and all of them when very much is freed") {
        units.forget({0, std::uint64_t{1} << 40});
        CHECK(refused(units.look_into_block(offset, kIdentity, block)));
    }
    SECTION("whose it is, is seen each time") {
        constexpr journal::BlockIdentity kOther{
            .kind = media::BlockKind::table_index, .owner = 8, .generation = 0};
        CHECK(units.look_into_block(offset, kOther, block).error().cause == Cause::bad_magic);
    }
}

TEST_CASE("a dropped transaction leaves media as it was", "[journal][unit]") {
    Layers layers{1_MiB};
    const std::vector<std::byte> before{layers.memory().begin(), layers.memory().end()};
    {
        Transaction transaction{layers.units()};
        transaction.create(place(layers, 0), 256)[9] = std::byte{1};
    }
    CHECK(std::ranges::equal(before, layers.memory()));
}

TEST_CASE("replay applies sealed logs in the order of their sequence, and clears them",
          "[journal][unit]") {
    Layers layers{1_MiB};
    const std::uint64_t home = place(layers, 0);
    seal_log(layers, 1, 50, {{home, std::byte{1}}, {home + 64, std::byte{2}}});
    seal_log(layers, 0, 51, {{home + 128, std::byte{3}}});
    CHECK(layers.open().lanes == 2);
    CHECK(layers.memory()[home] == std::byte{1});
    CHECK(layers.memory()[home + 64] == std::byte{2});
    CHECK(layers.memory()[home + 135] == std::byte{3});
    CHECK(layers.open().lanes == 0);
    // Later transactions count on from there.
    commit_fill(layers, home, 256, std::byte{9});
    CHECK(must(layers.journal().replay(true)).last_sequence == 52);
}

TEST_CASE("looking at a journal writes nothing", "[journal][unit]") {
    Layers layers{1_MiB};
    seal_log(layers, 0, 50, {{place(layers, 0), std::byte{1}}});
    const std::vector<std::byte> before{layers.memory().begin(), layers.memory().end()};
    CHECK(must(layers.journal().replay(true)).lanes == 1);
    CHECK(std::ranges::equal(before, layers.memory()));
}

TEST_CASE("replay refuses a seal that does not match, logs that overlap, and wild records",
          "[journal][fault]") {
    Layers layers{1_MiB};
    const std::uint64_t home = place(layers, 0);
    std::byte* const lane = layers.memory().data() + layers.super().lanes_offset;
    seal_log(layers, 0, 50, {{home, std::byte{1}}});
    SECTION("one byte of the log is wrong") {
        lane[media::kLogOffset + 50] ^= std::byte{1};
        CHECK(layers.journal().replay(false).error().cause == Cause::bad_checksum);
    }
    SECTION("the sealed length is not that of a log") {
        lane[4] = std::byte{3};
        CHECK(layers.journal().replay(false).error().cause == Cause::media_corrupt);
    }
    SECTION("two lanes write the same bytes") {
        seal_log(layers, 1, 51, {{home + 4, std::byte{2}}});
        CHECK(layers.journal().replay(false).error().cause == Cause::media_corrupt);
    }
    SECTION("a record lies outside of the region") {
        seal_log(layers, 0, 50, {{layers.region().bytes() - 4, std::byte{2}}});
        CHECK(layers.journal().replay(false).error().cause == Cause::media_corrupt);
    }
    CHECK(layers.memory()[home] != std::byte{1});
}

TEST_CASE("a change that does not fit a lane is refused whole", "[journal][unit]") {
    Layers layers{1_MiB};
    Transaction transaction{layers.units()};
    for (std::uint64_t i = 0; i < 8; ++i)
        std::ranges::fill(transaction.create(place(layers, i), kBlockBytes), std::byte{5});
    const auto done = layers.journal().commit(transaction, {});
    REQUIRE(!done);
    CHECK(done.error().cause == Cause::change_too_large);
    CHECK(layers.memory()[place(layers, 0) + 100] != std::byte{5});
}

TEST_CASE("totals are the sum of what commits added through any lane", "[journal][unit]") {
    Layers layers{1_MiB};
    const auto before = must(layers.journal().load_totals());
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            for (int i = 0; i < 50; ++i) {
                Transaction transaction{layers.units()};
                transaction.create(place(layers, t), 256)[9] = static_cast<std::byte>(i);
                must(layers.journal().commit(transaction,
                                             {.free_blocks = std::uint64_t{0} - 2, .inodes = 1}));
            }
        });
    for (auto& thread : threads) thread.join();
    layers.open();
    const auto after = must(layers.journal().load_totals());
    CHECK(after.free_blocks == before.free_blocks - 400);
    CHECK(after.inodes == before.inodes + 200);
}

TEST_CASE("after a shutdown no commit writes anything", "[journal][unit]") {
    Layers layers{1_MiB};
    layers.journal().fail_all();
    Transaction transaction{layers.units()};
    transaction.create(place(layers, 0), 256)[9] = std::byte{1};
    CHECK(layers.journal().commit(transaction, {}).error().cause == Cause::shut_down);
}

// SPDX-License-Identifier: Apache-2.0
//
// What libpinfs does with extents that no daemon should answer: each field is a case, and the pages
// of an answer. -EPROTO, a sentence that says where, nothing left behind, and the library works.
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "tests/support/answering_client.h"

namespace {

using namespace pinfs::test;

constexpr std::uint64_t kBlock = AnsweringDaemon::kBlock;
constexpr std::uint64_t kRegionBytes = AnsweringDaemon::kRegionBlocks * kBlock;
constexpr std::uint64_t kNever = std::uint64_t{1} << 62;

// Fields of answers with extents; `Head` has total and count.
template <class Head>
std::vector<Case<Head>> cases_of_extents() {
    return {
        {"extents where", WITH(head.count = 1000)},
        {"4611686018427387904 extents in all", WITH(head.total = kNever)},
        {"more extents than", WITH(head.total = 2)},
        {"none of the 3 extents", WITH(head.count = 0)},
        {"extent 1 is empty", WITH(extents[1].length_bytes = 0)},
        {"extent 1 is not whole blocks", WITH(extents[1].length_bytes = 1)},
        {"extent 2 lies outside of the range", WITH(extents[2].length_bytes = kNever)},
        {"extent 2 lies outside of the range", WITH(extents[2].length_bytes = 0 - 4 * kBlock)},
        {"extent 1 does not begin where a unit of the file",
         WITH(extents[1].file_offset_bytes += 512)},
        {"extent 2 lies outside of the range", WITH(extents[2].file_offset_bytes = 0 - kBlock)},
        {"extent 1 begins before the last one ends", WITH(extents[1] = answer.extents[0])},
        {"extent 1 does not begin where a unit of the region",
         WITH(extents[1].region_offset_bytes += 1)},
        {"extent 1 lies outside of the region",
         WITH(extents[1].region_offset_bytes = kRegionBytes)},
        {"extent 1 lies outside of the region", WITH(extents[1].region_offset_bytes = 0 - kBlock)},
        {"extent 1 has the region's superblock", WITH(extents[1].region_offset_bytes = 0)},
    };
}

TEST_CASE("no field of MAP is believed unseen", "[library][fault]") {
    Client client;
    auto cases = cases_of_extents<pinfs_ioc_map>();
    const std::vector<Case<pinfs_ioc_map>> more{
        {"the map has no id", WITH(head.id = 0)},
        {"generation 0", WITH(head.generation = 0)},
        {"it has no extents", WITH(head.count = answer.head.total = 0)},
        {"not all of the map", WITH(head.count = answer.head.total = 2)},
        {"not all of the map",
         [](auto& answer) {
             answer.head.count = answer.head.total = 2;
             answer.extents[0] = answer.extents[1];
             answer.extents[1] = answer.extents[2];
         }},
        {"extent 1 follows a hole",
         [](auto& answer) {
             answer.head.count = answer.head.total = 2;
             answer.extents[1] = answer.extents[2];
         }},
    };
    cases.insert(cases.end(), more.begin(), more.end());
    for (const auto& [what, change] : cases) {
        CAPTURE(what);
        client.daemon.change = changed<pinfs_ioc_map>(PINFS_IOC_MAP, change);
        void* address = nullptr;
        check_refused(client.map(4, 3, &address), what);
        CHECK(address == nullptr);
        if (std::string{what} == "the map has no id") client.check_guard_is_left();
        client.check_map_works();
    }
}

TEST_CASE("no field of RELOAD is believed unseen, and the event comes again", "[library][fault]") {
    Client client;
    void* address = nullptr;
    REQUIRE(client.map(4, 3, &address) == 0);
    auto cases = cases_of_extents<pinfs_ioc_layout>();
    cases.push_back({"generation 0", WITH(head.generation = 0)});
    cases.push_back(
        {"the file has 18446744073709551615 bytes", WITH(head.size_bytes = UINT64_MAX)});
    for (const auto& [what, change] : cases) {
        CAPTURE(what);
        client.daemon.events.push_back({.type = PINFS_EVENT_GONE,
                                        .reserved = 0,
                                        .id = 2,
                                        .user_data = 0,
                                        .offset_bytes = 0,
                                        .length_bytes = 0,
                                        .deadline_ns = 0});
        client.daemon.change = changed<pinfs_ioc_layout>(PINFS_IOC_RELOAD, change);
        struct pinfs_event event = PINFS_INIT(struct pinfs_event);
        check_refused(pinfs_context_next_event(client.context, &event, 0), what);
        CHECK(Client::block_at(address, 2) == 6);
        client.daemon.change = {};
        CHECK(pinfs_context_next_event(client.context, &event, 0) == 1);
        CHECK(event.type == PINFS_EVENT_GONE);
        CHECK(event.user_data == reinterpret_cast<std::uintptr_t>(address));
        CHECK(pinfs_context_next_event(client.context, &event, 0) == 0);
        CHECK(Client::block_at(address, 2) == 6);
    }
    CHECK(pinfs_unmap(client.context, address, 3 * kBlock) == 0);
}

TEST_CASE("no field of LAYOUT is believed unseen", "[library][fault]") {
    Client client;
    auto cases = cases_of_extents<pinfs_ioc_layout>();
    cases.push_back({"generation 0", WITH(head.generation = 0)});
    cases.push_back({"the file has", WITH(head.size_bytes = kNever * 2)});
    std::array<pinfs_extent, 8> extents{};
    for (const auto& [what, change] : cases) {
        CAPTURE(what);
        client.daemon.change = changed<pinfs_ioc_layout>(PINFS_IOC_LAYOUT, change);
        check_refused(pinfs_layout(client.context, client.daemon.file(), 4 * kBlock, 3 * kBlock,
                                   extents.data(), extents.size(), nullptr),
                      what);
        check_refused(pinfs_layout(client.context, client.daemon.file(), 4 * kBlock, 3 * kBlock,
                                   nullptr, 0, nullptr),
                      what);
    }
    client.daemon.change = {};
    // Up to the end of what a file may have, and past it.
    CHECK(pinfs_layout(client.context, client.daemon.file(), kBlock * 998, INT64_MAX - kBlock * 999,
                       extents.data(), extents.size(), nullptr) == 2);
    CHECK(extents[1].region_offset_bytes == AnsweringDaemon::place_of(999));
    CHECK(pinfs_layout(client.context, client.daemon.file(), UINT64_MAX - kBlock, 1, nullptr, 0,
                       nullptr) == 0);
}

TEST_CASE("no field of PIN_EXTENTS is believed unseen", "[library][fault]") {
    Client client;
    struct pinfs_pin pin = PINFS_PIN_INIT;
    pin.offset_bytes = 4 * kBlock;
    pin.length_bytes = 3 * kBlock;
    REQUIRE(pinfs_pin(client.context, client.daemon.file(), &pin) == 0);
    void* address = nullptr;
    REQUIRE(client.map(4, 3, &address) == 0);
    auto cases = cases_of_extents<pinfs_ioc_layout>();
    cases.push_back({"generation 6", WITH(head.generation = 6)});
    cases.push_back({"extent 1 follows a hole", WITH(extents[1].file_offset_bytes += kBlock)});
    std::array<pinfs_extent, 8> extents{};
    std::array<iovec, 8> pieces{};
    for (const auto& [what, change] : cases) {
        CAPTURE(what);
        client.daemon.change = changed<pinfs_ioc_layout>(PINFS_IOC_PIN_EXTENTS, change);
        // Where the range is not known, only the address space ends.
        if (std::string{what}.find("outside of the range") != std::string::npos) continue;
        check_refused(pinfs_pin_extents(client.context, pin.id, pin.generation, 0, extents.data(),
                                        extents.size()),
                      what);
        check_refused(pinfs_pin_iovec(client.context, pin.id, pin.generation, 0, pieces.data(),
                                      pieces.size()),
                      what);
    }
    client.daemon.change = {};
    CHECK(pinfs_pin_iovec(client.context, pin.id, pin.generation, kBlock, pieces.data(),
                          pieces.size()) == 3);
    CHECK(pieces[1].iov_base == static_cast<std::byte*>(address) + kBlock);
    CHECK(pinfs_pin_extents(client.context, pin.id, pin.generation, 3, extents.data(), 8) == 0);
    CHECK(pinfs_unmap(client.context, address, 3 * kBlock) == 0);
    CHECK(pinfs_unpin(client.context, pin.id, pin.generation) == 0);
}

TEST_CASE("extents as long as the address space make no pieces", "[library][fault]") {
    Client client;
    struct pinfs_pin pin = PINFS_PIN_INIT;
    pin.length_bytes = kBlock;
    REQUIRE(pinfs_pin(client.context, client.daemon.file(), &pin) == 0);
    const auto lengthen = [](auto& answer) {
        answer.extents[0].length_bytes = kNever;
    };
    void* address = nullptr;
    client.daemon.change = changed<pinfs_ioc_map>(PINFS_IOC_MAP, lengthen);
    check_refused(client.map(0, 1, &address), "extent 0 lies outside of the range");
    client.daemon.change = {};
    REQUIRE(client.map(0, 1, &address) == 0);
    client.daemon.change = changed<pinfs_ioc_layout>(PINFS_IOC_PIN_EXTENTS, lengthen);
    iovec piece{};
    check_refused(pinfs_pin_iovec(client.context, pin.id, pin.generation, kBlock, &piece, 1),
                  "extent 0 lies outside of the region");
    CHECK(pinfs_unmap(client.context, address, kBlock) == 0);
}

TEST_CASE("an answer in pages is put together, and anew where the layout moves between them",
          "[library]") {
    Client client;
    std::array<pinfs_extent, 10> extents{};
    const auto ask = [&] {
        return pinfs_layout(client.context, client.daemon.file(), 0, 10 * kBlock, extents.data(),
                            extents.size(), nullptr);
    };
    client.daemon.extents_per_page = 3;
    REQUIRE(ask() == 10);
    CHECK(client.daemon.requests(PINFS_IOC_LAYOUT) == 4);
    for (std::uint64_t i = 0; i < 10; ++i)
        CHECK(extents[i].region_offset_bytes == AnsweringDaemon::place_of(i));
    int pages = 0;
    const auto move_at = [&pages](auto is_moved) {
        return [&pages, is_moved](unsigned request, std::span<std::byte>,
                                  AnsweringDaemon::Outcome& outcome) {
            if (request == PINFS_IOC_LAYOUT && is_moved(++pages)) outcome = {-1, ESTALE};
        };
    };

    SECTION("it moved once") {
        client.daemon.change = move_at([](int page) { return page == 2; });
        CHECK(ask() == 10);
        CHECK(extents[9].region_offset_bytes == AnsweringDaemon::place_of(9));
        CHECK(pages == 6);
    }
    SECTION("it moves all the time") {
        client.daemon.change = move_at([](int page) { return page % 2 == 0; });
        CHECK(ask() == -EAGAIN);
        CHECK(pages == 200);
    }
    SECTION("a hole was filled between two pages, ahead of them") {
        client.daemon.change = changed<pinfs_ioc_layout>(
            PINFS_IOC_LAYOUT, [&pages](auto& answer) { answer.head.total -= ++pages == 1; });
        CHECK(ask() == 10);
        CHECK(extents[9].region_offset_bytes == AnsweringDaemon::place_of(9));
        CHECK(pages == 4);
    }
    SECTION("it never ends") {
        client.daemon.change = changed<pinfs_ioc_layout>(PINFS_IOC_LAYOUT, [&pages](auto& answer) {
            answer.head.size_bytes = INT64_MAX;
            if (++pages == 1) return;
            answer.head.count = 1;
            answer.head.total = 2;
            answer.extents[0] = {(static_cast<std::uint64_t>(pages) + 1) * kBlock,
                                 AnsweringDaemon::place_of(0), kBlock};
        });
        std::vector<pinfs_extent> many(2 * AnsweringDaemon::kRegionBlocks);
        check_refused(pinfs_layout(client.context, client.daemon.file(), 0, INT64_MAX, many.data(),
                                   many.size(), nullptr),
                      "more extents than the region has blocks");
    }
    SECTION("a page goes back") {
        client.daemon.change = changed<pinfs_ioc_layout>(PINFS_IOC_LAYOUT, [&pages](auto& answer) {
            if (++pages == 2) answer.extents[0].file_offset_bytes = 0;
        });
        check_refused(ask(), "extent 0 lies outside of the range");
    }
    SECTION("another generation") {
        client.daemon.change = changed<pinfs_ioc_layout>(
            PINFS_IOC_LAYOUT, [&pages](auto& answer) { answer.head.generation += ++pages == 2; });
        check_refused(ask(), "generation 2");
    }
    SECTION("a pin's pages") {
        struct pinfs_pin pin = PINFS_PIN_INIT;
        pin.length_bytes = 10 * kBlock;
        REQUIRE(pinfs_pin(client.context, client.daemon.file(), &pin) == 0);
        CHECK(pinfs_pin_extents(client.context, pin.id, pin.generation, 0, extents.data(), 10) ==
              10);
        CHECK(pinfs_pin_extents(client.context, pin.id, pin.generation, 8, extents.data(), 10) ==
              2);
        const auto refuse = [&](const char* what, auto change) {
            client.daemon.change = changed<pinfs_ioc_layout>(PINFS_IOC_PIN_EXTENTS, change);
            pages = 0;
            check_refused(
                pinfs_pin_extents(client.context, pin.id, pin.generation, 0, extents.data(), 10),
                what);
        };
        refuse("10 extents of a pin that has 11",
               [&pages](auto& answer) { answer.head.total += ++pages == 1; });
        refuse("a pin has a hole", [&pages](auto& answer) {
            if (++pages == 2) {
                answer.head.count = answer.head.total = 1;
                answer.extents[0] = answer.extents[1];
            }
        });
    }
    SECTION("of a file that was cut between two") {
        client.daemon.change =
            changed<pinfs_ioc_layout>(PINFS_IOC_RELOAD, WITH(head.size_bytes = 0));
        void* address = nullptr;
        REQUIRE(client.map(0, 10, &address) == 0);
        CHECK(pinfs_unmap(client.context, address, 10 * kBlock) == 0);
    }
    SECTION("a map's pages") {
        void* address = nullptr;
        REQUIRE(client.map(0, 10, &address) == 0);
        for (std::uint64_t i = 0; i < 10; ++i) CHECK(Client::block_at(address, i) == i);
        CHECK(pinfs_unmap(client.context, address, 10 * kBlock) == 0);
    }
}

TEST_CASE("many extents cost the daemon a few looks at each", "[library]") {
    Client client;
    constexpr std::uint64_t kBlocks = AnsweringDaemon::kFileBlocks;
    constexpr std::uint64_t kPiece = AnsweringDaemon::kPieceBegin;  // its number as well
    constexpr std::uint64_t kPieceBlocks = AnsweringDaemon::kPieceEnd - kPiece;
    constexpr std::uint64_t kExtents = kBlocks - kPieceBlocks + 1;
    client.daemon.extents_per_page = 3;
    std::vector<pinfs_extent> extents(kBlocks);
    // Those from number `first` on, `count` of them, and nothing behind.
    const auto check = [&extents](std::uint64_t first, std::uint64_t count) {
        std::uint64_t wrong = 0;
        for (std::uint64_t i = 0; i < count; ++i) {
            const std::uint64_t number = first + i;
            const std::uint64_t block = number <= kPiece ? number : number + kPieceBlocks - 1;
            const bool right =
                extents[i].file_offset_bytes == block * kBlock &&
                extents[i].region_offset_bytes == AnsweringDaemon::place_of(block) &&
                extents[i].length_bytes == (number == kPiece ? kPieceBlocks : 1) * kBlock;
            wrong += right ? 0 : 1;
        }
        CHECK(wrong == 0);
        CHECK(extents[count].length_bytes == 0);
    };

    SECTION("of a file, however many are wanted") {
        const std::uint64_t capacity =
            GENERATE(as<std::uint64_t>{}, 0, 1, 3, 399, 400, 401, 402, 403, 600, 601, 602);
        CAPTURE(capacity);
        REQUIRE(pinfs_layout(client.context, client.daemon.file(), 0, kBlocks * kBlock,
                             extents.data(), capacity, nullptr) == kExtents);
        check(0, std::min(capacity, kExtents));
        CHECK(client.daemon.looked_at() < 4 * kExtents);
    }
    SECTION("of a map") {
        void* address = nullptr;
        REQUIRE(client.map(0, kBlocks, &address) == 0);
        std::uint64_t wrong = 0;
        for (std::uint64_t i = 0; i < kBlocks; ++i)
            wrong += Client::block_at(address, i) == i ? 0 : 1;
        CHECK(wrong == 0);
        CHECK(client.daemon.looked_at() < 4 * kExtents);
        CHECK(pinfs_unmap(client.context, address, kBlocks * kBlock) == 0);
    }
    SECTION("of a pin") {
        struct pinfs_pin pin = PINFS_PIN_INIT;
        pin.length_bytes = kBlocks * kBlock;
        REQUIRE(pinfs_pin(client.context, client.daemon.file(), &pin) == 0);
        const std::uint64_t first = GENERATE(as<std::uint64_t>{}, 0, 1, 399, 400, 401, 600);
        const std::uint64_t capacity = GENERATE(as<std::uint64_t>{}, 1, 2, 4, 500, 1000);
        CAPTURE(first, capacity);
        const std::uint64_t count = std::min(capacity, kExtents - first);
        REQUIRE(pinfs_pin_extents(client.context, pin.id, pin.generation, first, extents.data(),
                                  capacity) == static_cast<ssize_t>(count));
        check(first, count);
        CHECK(client.daemon.looked_at() < 4 * kExtents);
        CHECK(pinfs_unpin(client.context, pin.id, pin.generation) == 0);
    }
}

}  // namespace

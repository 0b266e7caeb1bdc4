// SPDX-License-Identifier: Apache-2.0
//
// What libpinfs does with answers that no daemon should give: each field of each answer that is
// used is a case. -EPROTO, a sentence that says where, nothing left behind, and the library works.
// Extents have a file of their own (library_extents.cc).
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <climits>
#include <cstring>
#include <string>
#include <vector>

#include "tests/support/answering_client.h"

namespace {

using namespace pinfs::test;
using Outcome = AnsweringDaemon::Outcome;

constexpr std::uint64_t kBlock = AnsweringDaemon::kBlock;
constexpr std::uint64_t kNever = std::uint64_t{1} << 62;

TEST_CASE("no field of HELLO is believed unseen", "[library][fault]") {
    AnsweringDaemon daemon;
    const std::vector<Case<pinfs_ioc_hello>> cases{
        {"speaks version 2 of the protocol", WITH(head.major = 2)},
        {"speaks version 0 of the protocol", WITH(head.major = 0)},
        {"features 0x8", WITH(head.features = 8)},
    };
    for (const auto& [what, change] : cases) {
        CAPTURE(what);
        daemon.change = changed<pinfs_ioc_hello>(PINFS_IOC_HELLO, change);
        pinfs_context* context = nullptr;
        check_refused(daemon.open_context(&context), what);
        CHECK(context == nullptr);
    }
}

TEST_CASE("no field of REGION is believed unseen", "[library][fault]") {
    Client client;
    const std::vector<Case<pinfs_ioc_region>> cases{
        {"make stores durable is 0", WITH(head.flush = 0)},
        {"make stores durable is 4", WITH(head.flush = 4)},
        {"can be pinned is 2", WITH(head.pinnable = 2)},
        {"MAP_SYNC is 2", WITH(head.map_sync = 2)},
        {"is persistent is 2", WITH(head.persistent = 2)},
        {"its length is", WITH(head.length_bytes = UINT64_MAX)},
        {"the unit of maps is", WITH(head.length_bytes = 0)},
        {"a block is 0", WITH(head.block_bytes = 0)},
        {"a block is 4095", WITH(head.block_bytes = 4095)},
        {"maps is 0", WITH(head.map_align_bytes = 0)},
        {"maps is 512", WITH(head.map_align_bytes = 512)},
        {"maps is 12288", WITH(head.map_align_bytes = 3 * kBlock)},
        {"maps is 4611", WITH(head.map_align_bytes = kNever)},
        {"huge page is 0", WITH(head.huge_bytes = 0)},
        {"huge page is 9223", WITH(head.huge_bytes = 2 * kNever)},
        {"does not begin with /", WITH(head.path[0] = '.')},
        {"path has no end",
         [](auto& answer) {
             std::memset(answer.head.path, '/', sizeof answer.head.path);
         }},
    };
    for (const auto& [what, change] : cases) {
        CAPTURE(what);
        client.daemon.change = changed<pinfs_ioc_region>(PINFS_IOC_REGION, change);
        struct pinfs_region_info info = PINFS_INIT(struct pinfs_region_info);
        check_refused(pinfs_region_info(client.context, &info), what);
        pinfs_context* context = nullptr;
        check_refused(client.daemon.open_context(&context), what);
    }
    client.check_map_works();
}

TEST_CASE("the id of another map is refused, and that map lives on", "[library][fault]") {
    Client client;
    void* first = nullptr;
    void* second = nullptr;
    REQUIRE(client.map(0, 2, &first) == 0);
    client.daemon.change = changed<pinfs_ioc_map>(PINFS_IOC_MAP, WITH(head.id = 2));
    check_refused(client.map(4, 2, &second), "its id is another map's");
    client.daemon.change = {};
    CHECK(Client::block_at(first, 1) == 1);
    CHECK(pinfs_unmap(client.context, first, 2 * kBlock) == 0);
    client.check_guard_is_left();
}

TEST_CASE("no field of PIN is believed unseen", "[library][fault]") {
    Client client;
    const std::vector<Case<pinfs_ioc_pin>> cases{
        {"the range pinned is not", WITH(head.offset_bytes -= kBlock)},
        {"the range pinned is not", WITH(head.offset_bytes = 100)},
        {"the range pinned is not", WITH(head.length_bytes = kNever)},
        {"the range pinned is not", WITH(head.length_bytes = 0)},
        {"0 extents of", WITH(head.extent_count = 0)},
        {"4 extents of 12288 bytes", WITH(head.extent_count = 4)},
    };
    struct pinfs_pin pin = PINFS_PIN_INIT;
    pin.offset_bytes = 4 * kBlock + 1;
    pin.length_bytes = 2 * kBlock;
    for (const std::uint32_t owner : {PINFS_OWNER_CONTEXT, PINFS_OWNER_PROCESS})
        for (const auto& [what, change] : cases) {
            CAPTURE(what, owner);
            client.daemon.change = changed<pinfs_ioc_pin>(PINFS_IOC_PIN, change);
            struct pinfs_pin wanted = pin;
            wanted.owner = owner;
            check_refused(pinfs_pin(client.context, client.daemon.file(), &wanted), what);
            CHECK(wanted.id == 0);
            CHECK(client.daemon.pins() == 0);
        }
    client.daemon.change = {};
    REQUIRE(pinfs_pin(client.context, client.daemon.file(), &pin) == 0);
    CHECK(pin.offset_bytes == 4 * kBlock);
    CHECK(pin.length_bytes == 3 * kBlock);
    // The name of another pin: that one is not ended.
    client.daemon.change = changed<pinfs_ioc_pin>(PINFS_IOC_PIN, [](auto& answer) {
        answer.head.id = 0;
        answer.head.generation = 5;
    });
    struct pinfs_pin other = PINFS_PIN_INIT;
    other.length_bytes = kBlock;
    check_refused(pinfs_pin(client.context, client.daemon.file(), &other), "the pin has no id");
    const std::uint64_t id = pin.id;
    client.daemon.change = [id](unsigned request, std::span<std::byte> buffer, Outcome&) {
        if (request != PINFS_IOC_PIN) return;
        std::memcpy(buffer.data() + offsetof(pinfs_ioc_pin, id), &id, sizeof id);
    };
    check_refused(pinfs_pin(client.context, client.daemon.file(), &other),
                  "its name is another pin's");
    client.daemon.change = {};
    std::array<pinfs_extent, 8> extents{};
    CHECK(pinfs_pin_extents(client.context, pin.id, pin.generation, 0, extents.data(), 8) == 3);
    CHECK(pinfs_unpin(client.context, pin.id, pin.generation) == 0);
    // The two that the daemon believes in, and of which it told no name.
    CHECK(pinfs_unpin(client.context, id + 2, 5) == 0);
    CHECK(pinfs_unpin(client.context, id + 4, 5) == 0);
}

TEST_CASE("no field of a lease is believed unseen", "[library][fault]") {
    Client client;
    struct LeaseCase {
        bool set, get;  // whether they refuse it
        const char* what;
        void (*change)(Answer<pinfs_ioc_lease>&);
    };
    const std::vector<LeaseCase> cases{
        {true, true, "flags 0x0", WITH(head.flags = 0)},
        {true, true, "flags 0x9", WITH(head.flags = 9)},
        {true, true, "flags 0x5", WITH(head.flags = 5)},
        {true, false, "flags 0x7", WITH(head.flags = 7)},
        {true, true, "not whole blocks", WITH(head.offset_bytes += 1)},
        {true, true, "not whole blocks", WITH(head.length_bytes += 1)},
        {true, true, "not whole blocks", WITH(head.length_bytes = 0 - kBlock)},
        {true, false, "not the one", WITH(head.offset_bytes += kBlock)},
        {true, false, "not the one", WITH(head.length_bytes -= kBlock)},
        {true, true, "not the one", WITH(head.offset_bytes += 9 * kBlock)},
        {true, true, "no id", WITH(head.id = 0)},
        {true, true, "nobody", WITH(head.holders = 0)},
    };
    for (const auto& each : cases) {
        CAPTURE(each.what);
        struct pinfs_lease lease = PINFS_INIT(struct pinfs_lease);
        lease.flags = PINFS_LEASE_LAYOUT;
        lease.offset_bytes = 2 * kBlock + 5;
        lease.length_bytes = 2 * kBlock;
        const int file = client.daemon.file();
        client.daemon.change = changed<pinfs_ioc_lease>(PINFS_IOC_LEASE_SET, each.change);
        check_refused(pinfs_lease_set(client.context, file, &lease), each.what);
        CHECK(lease.id == 0);
        client.daemon.change = changed<pinfs_ioc_lease>(PINFS_IOC_LEASE_GET, each.change);
        const int result = pinfs_lease_get(client.context, file, &lease);
        if (each.get)
            check_refused(result, each.what);
        else
            CHECK(result == 0);
        client.daemon.change = {};
        struct pinfs_lease all = PINFS_INIT(struct pinfs_lease);
        all.flags = PINFS_LEASE_LAYOUT;
        CHECK(pinfs_lease_set(client.context, file, &all) == 0);
        CHECK(all.length_bytes == PINFS_TO_END);
    }
}

TEST_CASE("an event that cannot be is refused once, and kinds that are new are passed on",
          "[library][fault]") {
    Client client;
    const auto event_of = [](std::uint32_t type, std::uint64_t offset, std::uint64_t length) {
        pinfs_ioc_event event{};
        event.type = type;
        event.id = 5;
        event.offset_bytes = offset;
        event.length_bytes = length;
        return event;
    };
    client.daemon.events = {event_of(PINFS_EVENT_GONE, kBlock, UINT64_MAX),
                            event_of(1000, 0, kBlock),
                            event_of(PINFS_EVENT_REVOKED, 0, UINT64_MAX)};
    struct pinfs_event event = PINFS_INIT(struct pinfs_event);
    check_refused(pinfs_context_next_event(client.context, &event, 0),
                  "its range ends beyond the address space");
    CHECK(event.type == 0);
    CHECK(pinfs_context_next_event(client.context, &event, 0) == 1);
    CHECK(event.type == 1000);
    CHECK(pinfs_context_next_event(client.context, &event, 0) == 1);
    CHECK(event.type == PINFS_EVENT_REVOKED);
    CHECK(pinfs_context_next_event(client.context, &event, 0) == 0);
}

TEST_CASE("results that ioctl(2) never has are refused", "[library][fault]") {
    Client client;
    for (const Outcome& outcome : {Outcome{1, 0}, Outcome{INT_MAX, 0}, Outcome{-5000, 0}}) {
        client.daemon.change = [&](unsigned, std::span<std::byte>, Outcome& out) {
            out = outcome;
        };
        CAPTURE(outcome.result);
        check_refused(pinfs_dax_get(client.daemon.file()),
                      ("result " + std::to_string(outcome.result)).c_str());
    }
    client.daemon.change = [](unsigned, std::span<std::byte>, Outcome& out) {
        out = {-1, 4000};
    };
    check_refused(pinfs_dax_get(client.daemon.file()), "error 4000");
}

TEST_CASE("a daemon's sentence has an end, and nothing that a terminal obeys", "[library][fault]") {
    Client client;
    client.daemon.change = [](unsigned, std::span<std::byte> buffer, Outcome& outcome) {
        pinfs_ioc_failure failure{};
        failure.error = EBUSY;
        std::memset(failure.message, 'x', sizeof failure.message);
        std::memcpy(failure.message, "\x1b[2J\n\x7f", 6);
        std::memcpy(buffer.data(), &failure, sizeof failure);
        outcome = {-1, EBUSY};
    };
    CHECK(pinfs_lease_drop(client.context, client.daemon.file(), 0, 0) == -EBUSY);
    CHECK(std::string{pinfs_last_error()} == "?[2J??" + std::string(305, 'x'));
}

}  // namespace

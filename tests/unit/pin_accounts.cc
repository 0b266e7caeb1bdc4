// SPDX-License-Identifier: Apache-2.0
//
// Limits, and the events of a context that may or may not listen.
#include <catch2/catch.hpp>

#include "fs/pin/events.h"
#include "fs/pin/limits.h"

using namespace pinfs;
using namespace pinfs::pin;

namespace {

Cause refusal(Charges& charges, std::uint32_t uid, std::uint64_t bytes) {
    const auto done = charges.add(uid, bytes);
    REQUIRE(!done);
    return done.error().cause;
}

}  // namespace

TEST_CASE("each limit refuses by itself, names its option, and changes nothing", "[pin][unit]") {
    Charges charges{
        {.user_records = 3, .user_bytes = 100, .region_records = 5, .region_bytes = 180}};
    REQUIRE(charges.add(1, 60));
    CHECK(refusal(charges, 1, 41) == Cause::limit_user_bytes);
    CHECK(refusal(charges, 1, UINT64_MAX) == Cause::limit_user_bytes);
    REQUIRE(charges.add(1, 40));
    REQUIRE(charges.add(1, 0));
    CHECK(refusal(charges, 1, 0) == Cause::limit_user_records);
    CHECK(charges.bytes_of(1) == 100);
    CHECK(refusal(charges, 2, 81) == Cause::limit_region_bytes);
    REQUIRE(charges.add(2, 80));
    REQUIRE(charges.add(3, 0));
    CHECK(refusal(charges, 4, 0) == Cause::limit_region_records);
    charges.remove(1, 60);
    CHECK(charges.bytes_of(1) == 40);
    CHECK(charges.add(4, 60));
    CHECK(sentence_of(Cause::limit_user_bytes).ends_with("user_bytes="));
}

TEST_CASE("records that a mount finds count, whatever the limits", "[pin][unit]") {
    Charges charges{{.user_records = 1, .user_bytes = 10, .region_records = 1, .region_bytes = 10}};
    charges.add_found(1, 50);
    charges.add_found(1, 50);
    CHECK(charges.bytes_of(1) == 100);
    CHECK(refusal(charges, 1, 0) == Cause::limit_user_records);
    charges.remove(1, 50);
    charges.remove(1, 50);
    CHECK(charges.bytes_of(1) == 0);
    CHECK(charges.add(1, 10));
}

TEST_CASE("events about one thing are one until it is taken, and keep their order", "[pin][unit]") {
    EventQueue queue;
    CHECK_FALSE(queue.take());
    CHECK(queue.post({.type = EventType::gone, .id = 7, .user_data = 70, .begin = 10, .end = 20}));
    CHECK_FALSE(queue.post({.type = EventType::gone, .id = 8, .begin = 0, .end = 5}));
    for (std::uint64_t i = 0; i < 100'000; ++i)
        queue.post({.type = EventType::gone, .id = 7, .user_data = 70, .begin = i, .end = i + 1});
    queue.post({.type = EventType::revoking, .id = 7, .deadline_ns = 500});
    queue.post({.type = EventType::revoking, .id = 7, .deadline_ns = 300});
    CHECK(queue.size() == 3);
    const auto first = queue.take();
    REQUIRE(first);
    CHECK(first->id == 7);
    CHECK(first->user_data == 70);
    CHECK(first->begin == 0);
    CHECK(first->end == 100'000);
    CHECK(queue.take()->id == 8);
    CHECK(queue.take()->deadline_ns == 300);
    CHECK(queue.post({.type = EventType::gone, .id = 7, .begin = 1, .end = 2}));
}

TEST_CASE("what is gone is not spoken of", "[pin][unit]") {
    EventQueue queue;
    for (const std::uint64_t id : {1, 2, 3})
        for (const EventType type : {EventType::gone, EventType::revoked})
            queue.post({.type = type, .id = id});
    queue.forget(2);
    queue.forget(9);
    CHECK(queue.size() == 4);
    while (const auto event = queue.take()) CHECK(event->id != 2);
}

// SPDX-License-Identifier: Apache-2.0
//
// The sizes and offsets that programs built against an older lib/pinfs/protocol.h rely on. They
// only grow, at the end: a number here changes with PINFS_PROTOCOL_MAJOR alone.
#include "lib/pinfs/protocol.h"

#include <catch2/catch.hpp>
#include <cstddef>
#include <set>

TEST_CASE("the structs of the protocol have the sizes they always had", "[lib][golden]") {
    CHECK(sizeof(pinfs_ioc_failure) == 320);
    CHECK(sizeof(pinfs_ioc_hello) == 72);
    CHECK(sizeof(pinfs_ioc_guard) == 56);
    CHECK(sizeof(pinfs_ioc_region) == 4232);
    CHECK(sizeof(pinfs_ioc_event) == 48);
    CHECK(sizeof(pinfs_ioc_map_range) == 56);
    CHECK(sizeof(pinfs_ioc_extent) == 24);
    CHECK(sizeof(pinfs_ioc_layout) == 96);
    CHECK(sizeof(pinfs_ioc_lease) == 96);
    CHECK(sizeof(pinfs_ioc_map) == 120);
    CHECK(sizeof(pinfs_ioc_pin) == 128);
    CHECK(sizeof(pinfs_ioc_pin_name) == 48);
    CHECK(sizeof(pinfs_ioc_adopt) == 88);
    CHECK(sizeof(pinfs_ioc_revoke) == 48);
    CHECK(sizeof(pinfs_ioc_dax) == 64);
}

TEST_CASE("the fields of the protocol stand where they always stood", "[lib][golden]") {
    CHECK(offsetof(pinfs_ioc_failure, message) == 8);
    CHECK(offsetof(pinfs_ioc_hello, context) == 16);
    CHECK(offsetof(pinfs_ioc_hello, token) == 24);
    CHECK(offsetof(pinfs_ioc_guard, guard) == 16);
    CHECK(offsetof(pinfs_ioc_region, length_bytes) == 24);
    CHECK(offsetof(pinfs_ioc_region, pin_limit_bytes) == 56);
    CHECK(offsetof(pinfs_ioc_region, uuid) == 72);
    CHECK(offsetof(pinfs_ioc_region, device) == 88);
    CHECK(offsetof(pinfs_ioc_region, path) == 136);
    CHECK(offsetof(pinfs_ioc_event, id) == 8);
    CHECK(offsetof(pinfs_ioc_event, deadline_ns) == 40);
    CHECK(offsetof(pinfs_ioc_map_range, length_bytes) == 16);
    CHECK(offsetof(pinfs_ioc_layout, first) == 32);
    CHECK(offsetof(pinfs_ioc_layout, size_bytes) == 48);
    CHECK(offsetof(pinfs_ioc_layout, count) == 56);
    CHECK(offsetof(pinfs_ioc_lease, offset_bytes) == 24);
    CHECK(offsetof(pinfs_ioc_lease, user_data) == 40);
    CHECK(offsetof(pinfs_ioc_lease, holders) == 56);
    CHECK(offsetof(pinfs_ioc_map, offset_bytes) == 24);
    CHECK(offsetof(pinfs_ioc_map, flags) == 48);
    CHECK(offsetof(pinfs_ioc_map, id) == 56);
    CHECK(offsetof(pinfs_ioc_map, count) == 80);
    CHECK(offsetof(pinfs_ioc_pin, offset_bytes) == 32);
    CHECK(offsetof(pinfs_ioc_pin, id) == 56);
    CHECK(offsetof(pinfs_ioc_pin, secret) == 80);
    CHECK(offsetof(pinfs_ioc_adopt, secret) == 16);
    CHECK(offsetof(pinfs_ioc_adopt, user_data) == 32);
    CHECK(offsetof(pinfs_ioc_revoke, grace_ms) == 8);
}

TEST_CASE("the numbers of the requests are what they always were, all different", "[lib][golden]") {
    CHECK(PINFS_IOC(PINFS_IOC_HELLO, 320) == 0xC140F501);
    CHECK(PINFS_IOC(PINFS_IOC_DAX_ACTIVE, PINFS_IOC_BYTES_MAX) == 0xFFFFF526);
    const std::set<unsigned> numbers{
        PINFS_IOC_HELLO,        PINFS_IOC_GUARD,     PINFS_IOC_REGION,    PINFS_IOC_EVENT,
        PINFS_IOC_UNMAP,        PINFS_IOC_RELOAD,    PINFS_IOC_CLEAN,     PINFS_IOC_UNPIN,
        PINFS_IOC_PIN_EXTENTS,  PINFS_IOC_ADOPT,     PINFS_IOC_RECEIVE,   PINFS_IOC_REVOKE,
        PINFS_IOC_RELEASE_HOLD, PINFS_IOC_LEASE_SET, PINFS_IOC_LEASE_GET, PINFS_IOC_LEASE_DROP,
        PINFS_IOC_MAP,          PINFS_IOC_LAYOUT,    PINFS_IOC_PIN,       PINFS_IOC_DAX_ACTIVE};
    CHECK(numbers.size() == 20);
    CHECK(PINFS_IOC_RELEASE_HOLD == 13);
    CHECK(PINFS_IOC_PIN == 37);
}

TEST_CASE("every struct fits the largest buffer, and all but the region's the smallest",
          "[lib][golden]") {
    CHECK(sizeof(pinfs_ioc_failure) <= PINFS_IOC_BYTES_MIN);
    CHECK(sizeof(pinfs_ioc_pin) <= PINFS_IOC_BYTES_MIN);
    CHECK(sizeof(pinfs_ioc_map) + sizeof(pinfs_ioc_extent) <= PINFS_IOC_BYTES_MIN);
    CHECK(sizeof(pinfs_ioc_region) <= PINFS_IOC_BYTES_MAX);
}

// SPDX-License-Identifier: Apache-2.0
//
// The sizes and offsets that programs built against an older lib/pinfs/protocol.h rely on. They
// only grow, at the end: a number here changes with PINFS_PROTOCOL_MAJOR alone.
#include "lib/pinfs/protocol.h"

#include <catch2/catch.hpp>
#include <cstddef>
#include <set>

#include "fs/pin/events.h"
#include "fs/pmem/region.h"
#include "lib/pinfs/pinfs.h"

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
    CHECK(sizeof(pinfs_ioc_scrub) == 104);
    CHECK(sizeof(pinfs_ioc_scrub_finding) == 416);
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
    CHECK(offsetof(pinfs_ioc_scrub, number) == 8);
    CHECK(offsetof(pinfs_ioc_scrub, bad) == 56);
    CHECK(offsetof(pinfs_ioc_scrub, count) == 64);
    CHECK(offsetof(pinfs_ioc_scrub_finding, error) == 24);
    CHECK(offsetof(pinfs_ioc_scrub_finding, path) == 160);
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

TEST_CASE("the protocol has the values of the library", "[lib][golden]") {
    CHECK(int{PINFS_IOC_LEASE_LAYOUT} == int{PINFS_LEASE_LAYOUT});
    CHECK(int{PINFS_IOC_LEASE_EXCLUSIVE} == int{PINFS_LEASE_EXCLUSIVE});
    CHECK(int{PINFS_IOC_LEASE_SHARED} == int{PINFS_LEASE_SHARED});
    CHECK(int{PINFS_IOC_MAP_NOALLOC} == int{PINFS_MAP_NOALLOC});
    CHECK(int{PINFS_IOC_MAP_SELF_FLUSH} == int{PINFS_MAP_SELF_FLUSH});
    CHECK(int{PINFS_IOC_PIN_READ} == int{PINFS_PIN_READ});
    CHECK(int{PINFS_IOC_OWNER_CONTEXT} == int{PINFS_OWNER_CONTEXT});
    CHECK(int{PINFS_IOC_OWNER_PROCESS} == int{PINFS_OWNER_PROCESS});
    CHECK(int{PINFS_IOC_DAX_FLAG} == int{PINFS_DAX_FLAG});
    CHECK(int{PINFS_IOC_IN_DAX_MODE} == int{PINFS_DAX_ACTIVE});
    // What the daemon's own kinds become without translation.
    using pinfs::pin::EventType;
    CHECK(static_cast<int>(EventType::gone) == PINFS_EVENT_GONE);
    CHECK(static_cast<int>(EventType::revoking) == PINFS_EVENT_REVOKING);
    CHECK(static_cast<int>(EventType::revoked) == PINFS_EVENT_REVOKED);
    CHECK(static_cast<int>(EventType::media_error) == PINFS_EVENT_MEDIA_ERROR);
    CHECK(static_cast<int>(EventType::shut_down) == PINFS_EVENT_SHUTDOWN);
    using pinfs::pmem::Flush;
    using pinfs::pmem::Kind;
    CHECK(static_cast<int>(Kind::devdax) == PINFS_KIND_DEVDAX);
    CHECK(static_cast<int>(Kind::fsdax) == PINFS_KIND_FSDAX);
    CHECK(static_cast<int>(Kind::tmpfs) == PINFS_KIND_TMPFS);
    CHECK(static_cast<int>(Kind::hugetlb) == PINFS_KIND_HUGETLB);
    CHECK(static_cast<int>(Kind::file) == PINFS_KIND_FILE);
    CHECK(static_cast<int>(Flush::page) == PINFS_FLUSH_PAGE);
    CHECK(static_cast<int>(Flush::line) == PINFS_FLUSH_LINE);
    CHECK(static_cast<int>(Flush::none) == PINFS_FLUSH_NONE);
}

TEST_CASE("every struct fits the largest buffer, and all but the region's the smallest",
          "[lib][golden]") {
    CHECK(sizeof(pinfs_ioc_failure) <= PINFS_IOC_BYTES_MIN);
    CHECK(sizeof(pinfs_ioc_pin) <= PINFS_IOC_BYTES_MIN);
    CHECK(sizeof(pinfs_ioc_map) + sizeof(pinfs_ioc_extent) <= PINFS_IOC_BYTES_MIN);
    CHECK(sizeof(pinfs_ioc_region) <= PINFS_IOC_BYTES_MAX);
}

// SPDX-License-Identifier: Apache-2.0
#include "fs/inode/access_list.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <vector>

using namespace pinfs;
using inode::AccessList;
using media::AccessEntry;

namespace {

using Entries = std::vector<AccessEntry>;

std::vector<std::byte> bytes_of(const Entries& entries, std::uint32_t version = 2) {
    std::vector<std::byte> bytes(4 + 8 * entries.size());
    std::memcpy(bytes.data(), &version, 4);
    if (!entries.empty()) std::memcpy(bytes.data() + 4, entries.data(), 8 * entries.size());
    return bytes;
}

bool is_valid(const Entries& entries) { return AccessList::parse(bytes_of(entries)).has_value(); }

constexpr AccessEntry owner(std::uint16_t rwx) { return {media::kAccessOwner, rwx, ~0u}; }
constexpr AccessEntry user(std::uint32_t id, std::uint16_t rwx) {
    return {media::kAccessUser, rwx, id};
}
constexpr AccessEntry owning(std::uint16_t rwx) { return {media::kAccessOwningGroup, rwx, ~0u}; }
constexpr AccessEntry group(std::uint32_t id, std::uint16_t rwx) {
    return {media::kAccessGroup, rwx, id};
}
constexpr AccessEntry mask(std::uint16_t rwx) { return {media::kAccessMask, rwx, ~0u}; }
constexpr AccessEntry other(std::uint16_t rwx) { return {media::kAccessOther, rwx, ~0u}; }

}  // namespace

TEST_CASE("a list is parsed as the kernel takes it, and nothing else is", "[inode][unit]") {
    CHECK(is_valid({owner(7), owning(5), other(0)}));
    CHECK(is_valid({owner(7), owning(5), mask(4), other(0)}));
    CHECK(is_valid({owner(7), user(9, 7), user(3, 1), owning(5), group(0, 2), mask(4), other(0)}));
    CHECK(!is_valid({}));
    CHECK(!is_valid({owner(7), owning(5)}));
    CHECK(!is_valid({owner(7), other(5)}));
    CHECK(!is_valid({owning(7), other(5)}));
    CHECK(!is_valid({owner(7), user(9, 7), owning(5), other(0)}));
    CHECK(!is_valid({owner(7), owning(5), group(9, 7), other(0)}));
    CHECK(!is_valid({owning(5), owner(7), other(0)}));
    CHECK(!is_valid({owner(7), owner(7), owning(5), other(0)}));
    CHECK(!is_valid({owner(7), owning(5), mask(1), mask(1), other(0)}));
    CHECK(!is_valid({owner(7), owning(8), other(0)}));
    CHECK(!is_valid({owner(7), user(~0u, 7), owning(5), mask(1), other(0)}));
    CHECK(!is_valid({owner(7), owning(5), other(0), {0x40, 0, 0}}));
    CHECK(!is_valid({owner(7), {0x06, 1, 0}, owning(5), mask(7), other(0)}));
    const Entries good{owner(7), owning(5), other(0)};
    CHECK(!AccessList::parse(bytes_of(good, 3)));
    auto bytes = bytes_of(good);
    bytes.pop_back();
    CHECK(!AccessList::parse(bytes));
    CHECK(!AccessList::parse(std::span{bytes}.first(3)));
    CHECK(AccessList::parse(bytes_of(good))->bytes() == bytes_of(good));
}

TEST_CASE("the group's bits of a mode are the mask's, if there is one", "[inode][unit]") {
    auto plain = *AccessList::parse(bytes_of({owner(7), owning(5), other(1)}));
    CHECK(plain.is_mode());
    CHECK(plain.permissions() == 0751);
    plain.follow(0642);
    CHECK(plain.bytes() == bytes_of({owner(6), owning(4), other(2)}));

    auto masked =
        *AccessList::parse(bytes_of({owner(7), user(5, 7), owning(5), mask(3), other(1)}));
    CHECK(!masked.is_mode());
    CHECK(masked.permissions() == 0731);
    masked.limit(0620);
    CHECK(masked.bytes() == bytes_of({owner(6), user(5, 7), owning(5), mask(2), other(0)}));
    masked.follow(0777);
    CHECK(masked.permissions() == 0777);
}

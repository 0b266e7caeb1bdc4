// SPDX-License-Identifier: Apache-2.0
#include "fs/inode/access_list.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace pinfs::inode {

using media::AccessEntry;
using media::AccessListHead;

namespace {

constexpr std::uint32_t kRwx = 7;
constexpr unsigned kShifts[] = {6, 3, 0};  // of the owner's, the group's and the others' bits

bool names_somebody(std::uint16_t tag) {
    return tag == media::kAccessUser || tag == media::kAccessGroup;
}

/// Tags rise, those that name somebody may repeat, the three of a mode are there, and a mask where
/// somebody is named.
bool is_valid(std::span<const AccessEntry> entries) {
    std::uint32_t seen = 0;
    std::uint16_t last = 0;
    for (const AccessEntry& entry : entries) {
        const bool known = std::has_single_bit(entry.tag) && entry.tag <= media::kAccessOther;
        const bool rises = entry.tag > last || (entry.tag == last && names_somebody(entry.tag));
        if (!known || !rises || entry.permissions > kRwx) return false;
        if (names_somebody(entry.tag) && entry.id == media::kAccessNobody) return false;
        last = entry.tag;
        seen |= entry.tag;
    }
    constexpr std::uint32_t kNeeded =
        media::kAccessOwner | media::kAccessOwningGroup | media::kAccessOther;
    const bool needs_mask = (seen & (media::kAccessUser | media::kAccessGroup)) != 0;
    return (seen & kNeeded) == kNeeded && (!needs_mask || (seen & media::kAccessMask) != 0);
}

}  // namespace

Expected<AccessList> AccessList::parse(std::span<const std::byte> bytes) {
    AccessListHead head{};
    if (bytes.size() < sizeof head || (bytes.size() - sizeof head) % sizeof(AccessEntry) != 0)
        return fail(Cause::invalid_argument);
    std::memcpy(&head, bytes.data(), sizeof head);
    if (head.version != media::kAccessListVersion) return fail(Cause::invalid_argument);
    AccessList list;
    list.entries_.resize((bytes.size() - sizeof head) / sizeof(AccessEntry));
    if (!list.entries_.empty())
        std::memcpy(list.entries_.data(), bytes.data() + sizeof head, bytes.size() - sizeof head);
    if (!is_valid(list.entries_)) return fail(Cause::invalid_argument);
    return list;
}

std::vector<std::byte> AccessList::bytes() const {
    const AccessListHead head{.version = media::kAccessListVersion};
    const std::size_t entry_bytes = entries_.size() * sizeof(AccessEntry);
    std::vector<std::byte> bytes(sizeof head + entry_bytes);
    std::memcpy(bytes.data(), &head, sizeof head);
    std::memcpy(bytes.data() + sizeof head, entries_.data(), entry_bytes);
    return bytes;
}

template <class Self>
auto& AccessList::entry_of(Self& list, unsigned shift) {
    const auto find = [&](std::uint16_t tag) {
        return std::ranges::find(list.entries_, tag, &AccessEntry::tag);
    };
    if (shift == 6) return *find(media::kAccessOwner);
    if (shift == 0) return *find(media::kAccessOther);
    const auto mask = find(media::kAccessMask);
    return mask != list.entries_.end() ? *mask : *find(media::kAccessOwningGroup);
}

std::uint32_t AccessList::permissions() const {
    std::uint32_t all = 0;
    for (const unsigned shift : kShifts)
        all |= std::uint32_t{entry_of(*this, shift).permissions} << shift;
    return all;
}

bool AccessList::is_mode() const { return entries_.size() == std::size(kShifts); }

void AccessList::follow(std::uint32_t permissions) {
    for (const unsigned shift : kShifts)
        entry_of(*this, shift).permissions =
            static_cast<std::uint16_t>(permissions >> shift & kRwx);
}

void AccessList::limit(std::uint32_t permissions) { follow(permissions & this->permissions()); }

}  // namespace pinfs::inode

// SPDX-License-Identifier: Apache-2.0
#include "lib/answers.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdarg>
#include <cstdio>

#include "lib/failure.h"
#include "lib/pinfs/pinfs.h"

namespace pinfs::client {

namespace {

using Number = unsigned long long;  // of printf

const char* name_of(unsigned request) {
    switch (request) {
        case PINFS_IOC_HELLO:
            return "HELLO";
        case PINFS_IOC_GUARD:
            return "GUARD";
        case PINFS_IOC_REGION:
            return "REGION";
        case PINFS_IOC_EVENT:
            return "EVENT";
        case PINFS_IOC_UNMAP:
            return "UNMAP";
        case PINFS_IOC_RELOAD:
            return "RELOAD";
        case PINFS_IOC_CLEAN:
            return "CLEAN";
        case PINFS_IOC_UNPIN:
            return "UNPIN";
        case PINFS_IOC_PIN_EXTENTS:
            return "PIN_EXTENTS";
        case PINFS_IOC_ADOPT:
            return "ADOPT";
        case PINFS_IOC_RECEIVE:
            return "RECEIVE";
        case PINFS_IOC_LEASE_SET:
            return "LEASE_SET";
        case PINFS_IOC_LEASE_GET:
            return "LEASE_GET";
        case PINFS_IOC_LEASE_DROP:
            return "LEASE_DROP";
        case PINFS_IOC_MAP:
            return "MAP";
        case PINFS_IOC_LAYOUT:
            return "LAYOUT";
        case PINFS_IOC_PIN:
            return "PIN";
        case PINFS_IOC_DAX_ACTIVE:
            return "DAX_ACTIVE";
        default:
            return "a request";
    }
}

// Ends of ranges are at most kEndMax, so that they can be rounded up to any unit.
constexpr std::uint64_t kEndMax = INT64_MAX;

std::uint64_t end_of(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
    return offset_bytes > kEndMax || length_bytes > kEndMax - offset_bytes
               ? kEndMax
               : offset_bytes + length_bytes;
}

std::uint64_t down(std::uint64_t bytes, std::uint64_t unit) { return bytes / unit * unit; }
std::uint64_t up(std::uint64_t bytes, std::uint64_t unit) { return down(bytes + unit - 1, unit); }

/// What is wrong with an extent as such; nullptr if nothing is.
const char* wrong_with(const pinfs_ioc_extent& extent, const Place& place) {
    if (extent.length_bytes == 0) return "is empty";
    if (extent.length_bytes % place.block_bytes != 0) return "is not whole blocks";
    if (extent.file_offset_bytes % place.unit_bytes != 0)
        return "does not begin where a unit of the file does";
    if (extent.region_offset_bytes % place.unit_bytes != 0)
        return "does not begin where a unit of the region does";
    if (extent.file_offset_bytes < place.begin || extent.file_offset_bytes > place.end ||
        extent.length_bytes > place.end - extent.file_offset_bytes)
        return "lies outside of the range that was asked for";
    // What is left of its last unit is mapped too.
    if (extent.region_offset_bytes > place.region_bytes ||
        up(extent.length_bytes, place.unit_bytes) > place.region_bytes - extent.region_offset_bytes)
        return "lies outside of the region";
    if (extent.region_offset_bytes == 0) return "has the region's superblock";
    return nullptr;
}

}  // namespace

int senseless(unsigned request, const char* format, ...) noexcept {
    std::array<char, 256> why{};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why.data(), why.size(), format, arguments);
    va_end(arguments);
    return fail(EPROTO, "The daemon's answer to %s makes no sense: %s.", name_of(request),
                why.data());
}

int check_hello(const pinfs_ioc_hello& answer) {
    if (answer.major != PINFS_PROTOCOL_MAJOR)
        return fail(EPROTO, "The daemon speaks version %u of the protocol, libpinfs %d.",
                    answer.major, PINFS_PROTOCOL_MAJOR);
    if (answer.features != 0)
        return senseless(PINFS_IOC_HELLO, "features 0x%llx are in force that nobody asked for",
                         static_cast<Number>(answer.features));
    return 0;
}

int check_region(const pinfs_ioc_region& answer) {
    const auto wrong = [](const char* what, std::uint64_t value) {
        return senseless(PINFS_IOC_REGION, "%s is %llu", what, static_cast<Number>(value));
    };
    if (answer.flush < PINFS_FLUSH_PAGE || answer.flush > PINFS_FLUSH_NONE)
        return wrong("the way to make stores durable", answer.flush);
    if (answer.pinnable > 1) return wrong("whether it can be pinned", answer.pinnable);
    if (answer.map_sync > 1) return wrong("whether it is mapped with MAP_SYNC", answer.map_sync);
    if (answer.persistent > 1) return wrong("whether it is persistent", answer.persistent);
    if (!std::has_single_bit(answer.block_bytes) || answer.block_bytes < 512)
        return wrong("the length of a block", answer.block_bytes);
    if (answer.length_bytes > kEndMax) return wrong("its length", answer.length_bytes);
    if (!std::has_single_bit(answer.map_align_bytes) ||
        answer.map_align_bytes < answer.block_bytes || answer.map_align_bytes > answer.length_bytes)
        return wrong("the unit of maps", answer.map_align_bytes);
    if (!std::has_single_bit(answer.huge_bytes) || answer.huge_bytes > kEndMax / 2)
        return wrong("the length of a huge page", answer.huge_bytes);
    if (answer.path[0] != '/' && answer.path[0] != '\0')
        return senseless(PINFS_IOC_REGION, "its path does not begin with /");
    if (std::find(std::begin(answer.path), std::end(answer.path), '\0') == std::end(answer.path))
        return senseless(PINFS_IOC_REGION, "its path has no end");
    return 0;
}

int check_event(const pinfs_ioc_event& answer) {
    if (answer.length_bytes > UINT64_MAX - answer.offset_bytes)
        return senseless(PINFS_IOC_EVENT, "its range ends beyond the address space");
    return 0;
}

int check_lease(unsigned request, const pinfs_ioc_region& region, const pinfs_ioc_lease& asked,
                const pinfs_ioc_lease& answer) {
    constexpr std::uint32_t kExclusive = PINFS_IOC_LEASE_LAYOUT | PINFS_IOC_LEASE_EXCLUSIVE;
    const bool is_set = request == PINFS_IOC_LEASE_SET;
    const bool known = answer.flags == PINFS_IOC_LEASE_LAYOUT || answer.flags == kExclusive ||
                       answer.flags == (kExclusive | PINFS_IOC_LEASE_SHARED);
    if (!known || (is_set && answer.flags != asked.flags))
        return senseless(request, "flags 0x%x", answer.flags);
    const auto last_of = [](std::uint64_t offset_bytes, std::uint64_t length_bytes) {
        return length_bytes == 0 || length_bytes > UINT64_MAX - offset_bytes
                   ? UINT64_MAX
                   : offset_bytes + length_bytes - 1;
    };
    const std::uint64_t begin = answer.offset_bytes;
    const std::uint64_t last = last_of(begin, answer.length_bytes);
    if (begin % region.block_bytes != 0 || answer.length_bytes % region.block_bytes != 0 ||
        answer.length_bytes > UINT64_MAX - begin)
        return senseless(request, "the range held is not whole blocks");
    const std::uint64_t asked_last = last_of(asked.offset_bytes, asked.length_bytes);
    const bool meets = begin <= asked_last && last >= asked.offset_bytes;
    const bool covers = begin <= asked.offset_bytes && last >= asked_last;
    if (is_set ? !covers : !meets)
        return senseless(request, "the range held is not the one that was asked for");
    if (answer.id == 0) return senseless(request, "the lease has no id");
    if (answer.holders == 0) return senseless(request, "nobody holds the lease");
    return 0;
}

int check_pin(const pinfs_ioc_region& region, const pinfs_ioc_pin& asked,
              const pinfs_ioc_pin& answer) {
    const Place place = blocks_of(region, asked.offset_bytes, asked.length_bytes);
    if (answer.offset_bytes != place.begin || answer.length_bytes != place.end - place.begin)
        return senseless(PINFS_IOC_PIN, "the range pinned is not the one that was asked for");
    if (answer.extent_count == 0 || answer.extent_count > answer.length_bytes / region.block_bytes)
        return senseless(PINFS_IOC_PIN, "%llu extents of %llu bytes",
                         static_cast<Number>(answer.extent_count),
                         static_cast<Number>(answer.length_bytes));
    if (answer.id == 0) return senseless(PINFS_IOC_PIN, "the pin has no id");
    return 0;
}

Place blocks_of(const pinfs_ioc_region& region, std::uint64_t offset_bytes,
                std::uint64_t length_bytes) {
    const std::uint64_t block = region.block_bytes;
    return {.region_bytes = region.length_bytes,
            .block_bytes = block,
            .unit_bytes = block,
            .begin = down(std::min(offset_bytes, kEndMax), block),
            .end = up(end_of(offset_bytes, length_bytes), block),
            .without_holes = false};
}

Place units_of(const pinfs_ioc_region& region, std::uint64_t offset_bytes,
               std::uint64_t length_bytes) {
    Place place = blocks_of(region, offset_bytes, length_bytes);
    place.unit_bytes = region.map_align_bytes;
    return place;
}

Place anywhere(const pinfs_ioc_region& region) {
    Place place = blocks_of(region, 0, kEndMax);
    place.without_holes = true;
    return place;
}

Place part_of(const Place& place, std::uint64_t begin, std::uint64_t length_bytes) {
    Place part = place;
    part.begin = begin;
    part.end = std::min(place.end, up(end_of(begin, length_bytes), place.unit_bytes));
    return part;
}

int check_page(unsigned request, const Place& place, const Page& page) {
    if (page.count > page.room.size())
        return senseless(request, "%u extents where %zu fit", page.count, page.room.size());
    if (page.total > std::min(place.end - place.begin, place.region_bytes) / place.block_bytes)
        return senseless(request, "%llu extents in all", static_cast<Number>(page.total));
    if (page.count > page.total - std::min(page.first, page.total))
        return senseless(request, "more extents than the %llu that it says there are",
                         static_cast<Number>(page.total));
    if (page.count == 0 && page.first < page.total)
        return senseless(request, "none of the %llu extents from number %llu on",
                         static_cast<Number>(page.total), static_cast<Number>(page.first));
    std::uint64_t behind = 0;  // where the last one ends
    for (std::size_t i = 0; i < page.count; ++i) {
        const pinfs_ioc_extent& extent = page.room[i];
        const char* wrong = wrong_with(extent, place);
        if (wrong == nullptr && i > 0 && extent.file_offset_bytes < behind)
            wrong = "begins before the last one ends";
        if (wrong == nullptr && i > 0 && place.without_holes && extent.file_offset_bytes != behind)
            wrong = "follows a hole";
        if (wrong != nullptr)
            return senseless(request, "extent %llu %s", Number{page.first + i}, wrong);
        behind = extent.file_offset_bytes + extent.length_bytes;
    }
    return 0;
}

int check_layout(unsigned request, const Place& place, const pinfs_ioc_layout& asked,
                 const pinfs_ioc_layout& answer, std::span<const pinfs_ioc_extent> room) {
    if (asked.generation != 0 ? answer.generation != asked.generation
                              : request != PINFS_IOC_PIN_EXTENTS && answer.generation == 0)
        return senseless(request, "generation %llu", static_cast<Number>(answer.generation));
    if (request != PINFS_IOC_PIN_EXTENTS && answer.size_bytes > kEndMax)
        return senseless(request, "the file has %llu bytes",
                         static_cast<Number>(answer.size_bytes));
    return check_page(
        request, place,
        {.first = asked.first, .total = answer.total, .count = answer.count, .room = room});
}

int check_map(const Place& place, const pinfs_ioc_map& answer,
              std::span<const pinfs_ioc_extent> room) {
    constexpr unsigned kRequest = PINFS_IOC_MAP;
    if (answer.id == 0) return senseless(kRequest, "the map has no id");
    if (answer.generation == 0) return senseless(kRequest, "generation 0");
    Place whole = place;
    whole.without_holes = true;
    if (const int result = check_page(kRequest, whole,
                                      {.total = answer.total, .count = answer.count, .room = room});
        result != 0)
        return result;
    if (answer.total == 0) return senseless(kRequest, "it has no extents");
    const pinfs_ioc_extent& last = room[answer.count - 1];
    const bool has_end =
        answer.count < answer.total || last.file_offset_bytes + last.length_bytes == place.end;
    if (room[0].file_offset_bytes != place.begin || !has_end)
        return senseless(kRequest, "its extents are not all of the map");
    return 0;
}

}  // namespace pinfs::client

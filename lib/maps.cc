// SPDX-License-Identifier: Apache-2.0
//
// Direct maps. The daemon is told of a map before its addresses appear, and that it has ended after
// they have gone; in between its record keeps the blocks.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <string>
#include <utility>

#include "lib/context.h"
#include "lib/durable.h"
#include "lib/failure.h"
#include "lib/pinfs/pinfs.h"
#include "lib/request.h"

namespace pinfs::client {

namespace {

int unmap_record(const pinfs_context& context, std::uint64_t id, std::uint64_t offset_bytes,
                 std::uint64_t length_bytes) {
    Request<pinfs_ioc_map_range> request;
    request.head.map = id;
    request.head.offset_bytes = offset_bytes;
    request.head.length_bytes = length_bytes;
    return request.ask(context.file.get(), PINFS_IOC_UNMAP);
}

/// One page of a context file of its own, which is there until the process or the context ends:
/// whatever descriptors are closed, the daemon knows by it that maps may live. The caller holds the
/// context's mutex.
int ensure_guard(pinfs_context& context) {
    if (context.guard != nullptr) return 0;
    const std::string self = "/proc/self/fd/" + std::to_string(context.file.get());
    // The descriptor is not for a child of fork: it would keep the guard.
    const std::lock_guard hold{address_lock()};
    const OpenFile file{open(self.c_str(), O_RDONLY | O_CLOEXEC)};
    if (file.get() < 0)
        return fail(errno, "The context cannot be opened once more through %s: %s.", self.c_str(),
                    strerrordesc_np(errno));
    Request<pinfs_ioc_guard> request;
    std::copy(std::begin(context.token), std::end(context.token), request.head.token);
    if (const int result = request.ask(file.get(), PINFS_IOC_GUARD); result != 0) return result;
    void* const guard = map_guard(file.get());
    if (guard == nullptr)
        return fail(errno, "The guard of the maps cannot be mapped: %s.", strerrordesc_np(errno));
    context.guard = guard;
    context.guard_id = request.head.guard;
    return 0;
}

/// Nothing is shown beyond the block with the file's end.
std::uint64_t end_of_blocks(const pinfs_context& context, std::uint64_t size_bytes) {
    const std::uint64_t block = context.region.block_bytes;
    return size_bytes > UINT64_MAX - block ? UINT64_MAX : (size_bytes + block - 1) / block * block;
}

/// Asks where [begin, end) of a map lies, and shows it.
int reload(pinfs_context& context, Map& map, std::uint64_t begin, std::uint64_t end) {
    pinfs_ioc_layout wanted{};
    wanted.id = map.id;
    wanted.offset_bytes = begin;
    wanted.length_bytes = end - begin;
    Layout layout;
    const Place place = units_of(context.region, begin, end - begin);
    if (const int result =
            ask_layout(context.file.get(), PINFS_IOC_RELOAD, wanted, place, SIZE_MAX, layout);
        result != 0)
        return result;
    if (const int result = open_region(context, (map.protection & PROT_WRITE) != 0); result != 0)
        return result;
    const std::vector<Extent> found =
        joined(layout.extents, begin, std::min(end, end_of_blocks(context, layout.size_bytes)));
    std::vector<Extent> all = joined(map.extents, 0, begin);
    all.insert(all.end(), found.begin(), found.end());
    const std::vector<Extent> behind = joined(map.extents, end, UINT64_MAX);
    all.insert(all.end(), behind.begin(), behind.end());
    const int result = map.range.show(memory_of(context), map.protection, begin, end, found);
    if (result == 0) map.extents = std::move(all);
    return result;
}

/// All extents of a new map, of which `request` has the first.
int all_extents(const pinfs_context& context, const PagedRequest<pinfs_ioc_map>& request,
                std::vector<Extent>& extents) {
    const pinfs_ioc_map& head = request.head;
    const Place place = units_of(context.region, head.offset_bytes, head.length_bytes);
    if (const int result = check_map(place, head, request.extents); result != 0) return result;
    Layout layout;
    layout.generation = head.generation;
    layout.total = head.total;
    layout.extents.assign(request.extents, request.extents + head.count);
    if (head.count < head.total) {
        pinfs_ioc_layout wanted{};
        wanted.id = head.id;
        wanted.offset_bytes = head.offset_bytes;
        wanted.length_bytes = head.length_bytes;
        if (const int result =
                ask_layout(context.file.get(), PINFS_IOC_RELOAD, wanted, place, SIZE_MAX, layout);
            result != 0)
            return result;
        layout.extents = joined(layout.extents, 0, end_of_blocks(context, layout.size_bytes));
    }
    extents = std::move(layout.extents);
    return 0;
}

int check_arguments(const pinfs_context& context, std::uint64_t offset_bytes,
                    std::uint64_t length_bytes, int protection, std::uint32_t flags) {
    const std::uint64_t unit = context.region.map_align_bytes;
    if (length_bytes == 0) return fail(EINVAL, "A map of no bytes.");
    if (length_bytes > INT64_MAX || offset_bytes > INT64_MAX - length_bytes)
        return fail(EINVAL, "The range ends beyond the largest file.");
    if (unit != 0 && offset_bytes % unit != 0)
        return fail(EINVAL, "Offset %llu is no multiple of %llu, the unit of maps of this region.",
                    static_cast<unsigned long long>(offset_bytes),
                    static_cast<unsigned long long>(unit));
    if (protection != PROT_READ && protection != (PROT_READ | PROT_WRITE))
        return fail(EINVAL, "Maps are PROT_READ or PROT_READ | PROT_WRITE, not 0x%x.",
                    static_cast<unsigned>(protection));
    if ((flags & ~(PINFS_MAP_NOALLOC | PINFS_MAP_SELF_FLUSH)) != 0)
        return fail(EINVAL, "Maps have no flag 0x%x.", flags);
    return 0;
}

/// A map that the daemon is asked for and that is not among the context's yet. If it never gets
/// there, the daemon is told so.
class MapUnderWay {
public:
    explicit MapUnderWay(pinfs_context& context) : context_(context) {
        const std::lock_guard hold{context_.mutex};
        context_.maps_under_way++;
    }
    ~MapUnderWay() {
        {
            const std::lock_guard hold{context_.mutex};
            if (--context_.maps_under_way == 0) context_.early.clear();
        }
        if (record_.id == 0) return;
        const KeptFailure kept;
        unmap_record(context_, record_.id, record_.file_begin, record_.length_bytes);
    }
    MapUnderWay(const MapUnderWay&) = delete;
    MapUnderWay& operator=(const MapUnderWay&) = delete;

    void has_record(const Map& map) { record_ = {map.id, map.file_begin, map.length_bytes}; }
    void keep() { record_.id = 0; }

private:
    pinfs_context& context_;
    struct {
        std::uint64_t id = 0;  ///< 0: none
        std::uint64_t file_begin = 0;
        std::uint64_t length_bytes = 0;
    } record_;
};

/// A map whose addresses go again, unless it is kept: then it is among the context's. The caller
/// holds the context's mutex.
class MapBeingPlaced {
public:
    MapBeingPlaced(pinfs_context& context, Map map) : context_(context), map_(std::move(map)) {}
    ~MapBeingPlaced() {
        std::byte* const address = map_.range.address();
        if (address == nullptr) return;
        context_.map_addresses.erase(map_.id);
        context_.maps.erase(address);
        durable_end(map_.flush, address);
        map_.range.release();
    }
    MapBeingPlaced(const MapBeingPlaced&) = delete;
    MapBeingPlaced& operator=(const MapBeingPlaced&) = delete;

    Map& operator*() { return map_; }
    Map* operator->() { return &map_; }
    void keep() {
        std::byte* const address = map_.range.address();
        Map& kept = context_.maps[address];
        context_.map_addresses[map_.id] = address;
        durable_begin(map_.flush, address, map_.range.bytes());
        kept = std::exchange(map_, {});
    }

private:
    pinfs_context& context_;
    Map map_;
};

/// The addresses, and among the context's maps. The caller holds the context's mutex.
int place(pinfs_context& context, Map wanted, void** addr_out) {
    const Memory memory = memory_of(context);
    MapBeingPlaced map{context, std::move(wanted)};
    // None, where the file was cut meanwhile.
    const Extent* const first = map->extents.empty() ? nullptr : &map->extents.front();
    if (const int result = map->range.reserve(memory, map->file_begin, map->length_bytes, first);
        result != 0)
        return result;
    const std::uint64_t end = map->file_begin + map->range.bytes();
    if (const int result =
            map->range.show(memory, map->protection, map->file_begin, end, map->extents);
        result != 0)
        return result;
    // A change may have been told before anybody here knew the map.
    if (context.early.erase(map->id) > 0) {
        if (const int result =
                reload(context, *map, map->file_begin, map->file_begin + map->length_bytes);
            result != 0)
            return result;
    }
    *addr_out = map->range.address();
    map.keep();
    return 0;
}

int make_map(pinfs_context& context, int fd, std::uint64_t offset_bytes, std::uint64_t length_bytes,
             int protection, std::uint32_t flags, void** addr_out) {
    if (addr_out == nullptr) return fail(EINVAL, "A pointer is null.");
    if (const int result = check_arguments(context, offset_bytes, length_bytes, protection, flags);
        result != 0)
        return result;
    const bool writable = (protection & PROT_WRITE) != 0;
    PagedRequest<pinfs_ioc_map> request;
    {
        const std::lock_guard hold{context.mutex};
        if (const int result = open_region(context, writable); result != 0) return result;
        if (const int result = ensure_guard(context); result != 0) return result;
        request.head.guard = context.guard_id;
    }
    std::copy(std::begin(context.token), std::end(context.token), request.head.token);
    request.head.offset_bytes = offset_bytes;
    request.head.length_bytes = length_bytes;
    request.head.flags = flags | (writable ? PINFS_IOC_MAP_WRITE : 0);
    request.head.fd = fd;
    MapUnderWay under_way{context};
    if (const int result = request.ask(fd, PINFS_IOC_MAP); result != 0) return result;

    Map map;
    map.id = request.head.id;
    map.file_begin = offset_bytes;
    map.length_bytes = length_bytes;
    map.protection = protection;
    map.flush = flush_in_force(context.region.flush);
    {
        const std::lock_guard hold{context.mutex};
        if (context.map_addresses.contains(map.id))
            return senseless(PINFS_IOC_MAP, "its id is another map's");
    }
    under_way.has_record(map);
    request.head.offset_bytes = offset_bytes;
    request.head.length_bytes = length_bytes;
    if (const int result = all_extents(context, request, map.extents); result != 0) return result;
    const std::lock_guard hold{context.mutex};
    const int result = place(context, std::move(map), addr_out);
    if (result == 0) under_way.keep();
    return result;
}

/// The map that an address is in. The caller holds the context's mutex.
Map* map_at(pinfs_context& context, const std::byte* address) {
    const auto after = context.maps.upper_bound(address);
    if (after == context.maps.begin()) return nullptr;
    Map& map = std::prev(after)->second;
    return address < map.range.address() + map.range.bytes() ? &map : nullptr;
}

int end_map(pinfs_context& context, void* addr, std::uint64_t length_bytes) {
    const std::lock_guard hold{context.mutex};
    const auto found = context.maps.find(static_cast<const std::byte*>(addr));
    if (found == context.maps.end() || found->second.length_bytes != length_bytes)
        return fail(EINVAL, "This context has no map of %llu bytes at %p.",
                    static_cast<unsigned long long>(length_bytes), addr);
    Map map = std::move(found->second);
    context.maps.erase(found);
    context.map_addresses.erase(map.id);
    durable_end(map.flush, map.range.address());
    map.range.release();
    return unmap_record(context, map.id, map.file_begin, map.length_bytes);
}

int sync_map(pinfs_context& context, void* addr, std::size_t length_bytes) {
    if (length_bytes == 0) return fail(EINVAL, "No bytes to make durable.");
    Request<pinfs_ioc_map_range> request;
    {
        const std::lock_guard hold{context.mutex};
        const auto* const address = static_cast<const std::byte*>(addr);
        const Map* const map = map_at(context, address);
        const auto begin =
            map == nullptr ? 0 : static_cast<std::uint64_t>(address - map->range.address());
        if (map == nullptr || length_bytes > map->range.bytes() - begin)
            return fail(EINVAL, "This context has no map with %zu bytes at %p.", length_bytes,
                        addr);
        request.head.map = map->id;
        request.head.offset_bytes = map->file_begin + begin;
        request.head.length_bytes = length_bytes;
    }
    if (const int result = pinfs_persist(addr, length_bytes); result != 0) return result;
    return request.ask(context.file.get(), PINFS_IOC_CLEAN);
}

}  // namespace

void end_maps(pinfs_context& context) {
    while (!context.maps.empty()) {
        const auto& [address, map] = *context.maps.begin();
        end_map(context, map.range.address(), map.length_bytes);
    }
}

int follow(pinfs_context& context, pinfs_ioc_event& event) {
    const auto found = context.map_addresses.find(event.id);
    if (found == context.map_addresses.end()) {
        if (event.type == PINFS_EVENT_GONE && context.maps_under_way > 0)
            context.early.insert(event.id);
        return 0;
    }
    Map& map = context.maps.at(found->second);
    event.user_data = reinterpret_cast<std::uintptr_t>(found->second);
    if (event.type != PINFS_EVENT_GONE) return 0;
    const std::uint64_t unit = std::max(context.region.map_align_bytes, std::uint64_t{1});
    const std::uint64_t map_end = map.file_begin + map.length_bytes;
    const bool to_end =
        event.length_bytes == 0 || event.length_bytes > UINT64_MAX - event.offset_bytes;
    // Whole units: what is mapped anew is seen anew.
    const std::uint64_t begin = std::max(event.offset_bytes / unit * unit, map.file_begin);
    const std::uint64_t event_end = event.offset_bytes + event.length_bytes;
    const std::uint64_t end = to_end || event_end > map_end
                                  ? map_end
                                  : std::min((event_end + unit - 1) / unit * unit, map_end);
    if (begin >= end) return 0;
    const int result = reload(context, map, begin, end);
    return result == -ENOENT ? 0 : result;
}

}  // namespace pinfs::client

using namespace pinfs::client;

int pinfs_map(struct pinfs_context* ctx, int fd, uint64_t offset_bytes, uint64_t length_bytes,
              int prot, uint32_t flags, void** addr_out) {
    return entry([&] {
        const int result = check(ctx);
        return result != 0 ? result
                           : make_map(*ctx, fd, offset_bytes, length_bytes, prot, flags, addr_out);
    });
}

int pinfs_unmap(struct pinfs_context* ctx, void* addr, uint64_t length_bytes) {
    return entry([&] {
        const int result = check(ctx);
        return result != 0 ? result : end_map(*ctx, addr, length_bytes);
    });
}

int pinfs_msync(struct pinfs_context* ctx, void* addr, size_t length_bytes) {
    return entry([&] {
        const int result = check(ctx);
        return result != 0 ? result : sync_map(*ctx, addr, length_bytes);
    });
}

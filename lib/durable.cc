// SPDX-License-Identifier: Apache-2.0
#include "lib/durable.h"

#include <libpmem.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string_view>

#include "lib/address_space.h"
#include "lib/failure.h"
#include "lib/pinfs/pinfs.h"

namespace pinfs::client {

namespace {

/// Maps that need msync: their addresses and lengths. Guarded by the address lock.
std::map<const std::byte*, std::uint64_t>& page_maps() {
    static auto& maps = *new std::map<const std::byte*, std::uint64_t>;  // outlives other threads
    return maps;
}
std::atomic<std::size_t> page_map_count{0};
/// Whether there ever was a map that needs its cache lines flushed.
std::atomic<bool> lines{false};

bool needs_msync(const std::byte* address) {
    if (page_map_count.load(std::memory_order_acquire) == 0) return false;
    const std::lock_guard hold{address_lock()};
    const auto after = page_maps().upper_bound(address);
    if (after == page_maps().begin()) return false;
    const auto map = std::prev(after);
    return address < map->first + map->second;
}

int sync_pages(const std::byte* address, std::size_t bytes) {
    static const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const std::uintptr_t before = reinterpret_cast<std::uintptr_t>(address) % page;
    if (msync(const_cast<std::byte*>(address) - before, bytes + before, MS_SYNC) == 0) return 0;
    if (errno == ENOMEM) return fail(EINVAL, "The range is not all mapped.");
    return fail(EIO, "msync(2): %s.", strerrordesc_np(errno));
}

}  // namespace

std::uint32_t flush_in_force(std::uint32_t flush) {
    const char* const forced = secure_getenv("PMEM_IS_PMEM_FORCE");
    if (forced == nullptr) return flush;
    if (std::string_view{forced} == "1") return PINFS_FLUSH_LINE;
    if (std::string_view{forced} == "0") return PINFS_FLUSH_PAGE;
    return flush;
}

void durable_begin(std::uint32_t flush, const std::byte* address, std::uint64_t bytes) {
    if (flush == PINFS_FLUSH_LINE) lines.store(true, std::memory_order_release);
    if (flush != PINFS_FLUSH_PAGE) return;
    const std::lock_guard hold{address_lock()};
    page_maps()[address] = bytes;
    page_map_count.store(page_maps().size(), std::memory_order_release);
}

void durable_end(std::uint32_t flush, const std::byte* address) {
    if (flush != PINFS_FLUSH_PAGE) return;
    const std::lock_guard hold{address_lock()};
    page_maps().erase(address);
    page_map_count.store(page_maps().size(), std::memory_order_release);
}

}  // namespace pinfs::client

using namespace pinfs::client;

int pinfs_flush(const void* addr, size_t length_bytes) {
    const auto* const address = static_cast<const std::byte*>(addr);
    if (needs_msync(address)) return entry([&] { return sync_pages(address, length_bytes); });
    if (lines.load(std::memory_order_acquire)) pmem_flush(addr, length_bytes);
    return 0;
}

int pinfs_drain(void) {
    pmem_drain();
    return 0;
}

int pinfs_persist(const void* addr, size_t length_bytes) {
    const int result = pinfs_flush(addr, length_bytes);
    pmem_drain();
    return result;
}

int pinfs_memcpy_persist(void* to, const void* from, size_t length_bytes) {
    const auto* const address = static_cast<const std::byte*>(to);
    if (!needs_msync(address) && lines.load(std::memory_order_acquire)) {
        pmem_memcpy(to, from, length_bytes, 0);
        return 0;
    }
    std::memcpy(to, from, length_bytes);
    return pinfs_persist(to, length_bytes);
}

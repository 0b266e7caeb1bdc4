// SPDX-License-Identifier: Apache-2.0
#include "lib/address_space.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "lib/failure.h"

namespace pinfs::client {

namespace {

std::mutex lock;
std::atomic<std::uint64_t> forks{1};

// Before any map can be made: when the library is loaded.
[[gnu::constructor]] void watch_forks() {
    pthread_atfork([] { lock.lock(); }, [] { lock.unlock(); },
                   [] {
                       forks.fetch_add(1, std::memory_order_relaxed);
                       lock.unlock();
                   });
}

std::uint64_t page_bytes() {
    static const auto bytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    return bytes;
}

std::uint64_t rounded_up(std::uint64_t value, std::uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

int cannot_map(int error, std::uint64_t bytes) {
    if (error == ENOMEM)
        return fail(ENOMEM,
                    "mmap(2) of %llu bytes: the process has as many mappings as vm.max_map_count "
                    "allows, or no room for more.",
                    static_cast<unsigned long long>(bytes));
    return fail(error, "mmap(2) of %llu bytes of the region: %s.",
                static_cast<unsigned long long>(bytes), strerrordesc_np(error));
}

// A file of no length: every access to a mapping of it raises SIGBUS.
class Nothing {
public:
    ~Nothing() {
        if (fd_ >= 0) close(fd_);
    }
    int fd() {
        if (fd_ < 0) fd_ = memfd_create("pinfs-nothing", MFD_CLOEXEC);
        return fd_;
    }

private:
    int fd_ = -1;
};

}  // namespace

std::mutex& address_lock() { return lock; }

std::uint64_t fork_count() { return forks.load(std::memory_order_relaxed); }

std::vector<Extent> joined(const std::vector<Extent>& extents, std::uint64_t begin,
                           std::uint64_t end) {
    std::vector<Extent> result;
    for (Extent extent : extents) {
        const std::uint64_t from = std::max(extent.file_offset_bytes, begin);
        const std::uint64_t to = std::min(extent.file_offset_bytes + extent.length_bytes, end);
        if (from >= to) continue;
        extent.region_offset_bytes += from - extent.file_offset_bytes;
        extent.file_offset_bytes = from;
        extent.length_bytes = to - from;
        if (!result.empty()) {
            Extent& last = result.back();
            if (last.file_offset_bytes + last.length_bytes == from &&
                last.region_offset_bytes + last.length_bytes == extent.region_offset_bytes) {
                last.length_bytes += extent.length_bytes;
                continue;
            }
        }
        result.push_back(extent);
    }
    return result;
}

int AddressRange::reserve(const Memory& memory, std::uint64_t file_begin, std::uint64_t bytes,
                          const Extent* first) {
    const std::uint64_t unit = std::max(memory.unit_bytes, page_bytes());
    const std::uint64_t wanted = rounded_up(bytes, unit);
    if (wanted < bytes || wanted > PTRDIFF_MAX / 2)
        return fail(ENOMEM, "%llu bytes do not fit the address space.",
                    static_cast<unsigned long long>(bytes));
    const std::uint64_t align =
        wanted >= memory.huge_bytes ? std::max(memory.huge_bytes, unit) : unit;
    const std::uint64_t room = wanted + (align > page_bytes() ? align : 0);
    const std::lock_guard hold{lock};
    void* const memory_at =
        mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_at == MAP_FAILED) return cannot_map(errno, room);
    // Where the range has to begin for the first extent's pages to be whole.
    std::uint64_t phase = 0;
    if (first != nullptr)
        phase = (first->region_offset_bytes - (first->file_offset_bytes - file_begin)) % align;
    const auto base = reinterpret_cast<std::uintptr_t>(memory_at);
    const std::uint64_t skip = room == wanted ? 0 : (phase + align - base % align) % align;
    auto* const start = static_cast<std::byte*>(memory_at);
    if (skip > 0) munmap(start, skip);
    if (room - skip > wanted) munmap(start + skip + wanted, room - skip - wanted);
    address_ = start + skip;
    file_begin_ = file_begin;
    bytes_ = wanted;
    madvise(address_, bytes_, MADV_DONTFORK);
    return 0;
}

int AddressRange::replace(const Memory& memory, int protection, std::uint64_t begin,
                          std::uint64_t end, const std::uint64_t* region_offset) {
    std::byte* const at = address_ + (begin - file_begin_);
    const std::uint64_t bytes = end - begin;
    const int kind =
        region_offset != nullptr && memory.map_sync ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED;
    const auto offset = static_cast<off_t>(region_offset != nullptr ? *region_offset : 0);
    const std::lock_guard hold{lock};
    if (mmap(at, bytes, protection, kind | MAP_FIXED, memory.fd, offset) == MAP_FAILED)
        return cannot_map(errno, bytes);
    madvise(at, bytes, MADV_DONTFORK);
    // Only advice: where huge pages are always or never taken it changes nothing.
    if (region_offset != nullptr && memory.huge_bytes > page_bytes() && bytes >= memory.huge_bytes)
        madvise(at, bytes, MADV_HUGEPAGE);
    return 0;
}

int AddressRange::show(const Memory& memory, int protection, std::uint64_t begin, std::uint64_t end,
                       const std::vector<Extent>& extents) {
    const std::uint64_t unit = std::max(memory.unit_bytes, page_bytes());
    const std::uint64_t file_end = file_begin_ + bytes_;
    begin = std::max(file_begin_, begin / unit * unit);
    end = end < file_end ? rounded_up(end, unit) : file_end;
    Nothing nothing;
    std::uint64_t at = begin;
    const auto show_nothing = [&](std::uint64_t until) {
        if (until <= at) return 0;
        Memory empty;
        empty.fd = nothing.fd();
        if (empty.fd < 0) return fail(errno, "memfd_create(2): %s.", strerrordesc_np(errno));
        return replace(empty, protection, at, until, nullptr);
    };
    for (const Extent& extent : joined(extents, begin, end)) {
        if (const int result = show_nothing(extent.file_offset_bytes); result != 0) return result;
        // The rest of the last unit is the file's own as well (SPEC 1.5).
        at = rounded_up(extent.file_offset_bytes + extent.length_bytes, unit);
        if (const int result = replace(memory, protection, extent.file_offset_bytes, at,
                                       &extent.region_offset_bytes);
            result != 0)
            return result;
    }
    return show_nothing(end);
}

void AddressRange::release() {
    if (address_ == nullptr) return;
    const std::lock_guard hold{lock};
    munmap(address_, bytes_);
    address_ = nullptr;
    bytes_ = 0;
}

void* map_guard(int fd) {
    void* const guard = mmap(nullptr, page_bytes(), PROT_NONE, MAP_PRIVATE, fd, 0);
    if (guard == MAP_FAILED) return nullptr;
    madvise(guard, page_bytes(), MADV_DONTFORK);
    return guard;
}

void unmap_guard(void* guard) {
    const std::lock_guard hold{lock};
    munmap(guard, page_bytes());
}

}  // namespace pinfs::client

// SPDX-License-Identifier: Apache-2.0
#include "fs/pmem/region.h"

#include <libpmem.h>
#ifdef __x86_64__
#include <emmintrin.h>
#endif

#include <atomic>
#include <cassert>
#include <cstring>

#include "fs/pmem/sigbus.h"

namespace pinfs::pmem {
namespace {

// The copies. Past the caches (non-temporal) where it helps: always for file data on persistent
// memory, where it is also the flush; on memory that needs no flush from kNonTemporalBytes on,
// which *measured* 1.5 times the bandwidth at 64 KiB and more, and no loss below it.
constexpr std::size_t kNonTemporalBytes = 32 * 1024;

void copy_plain(std::byte* to, const std::byte* from, std::size_t bytes) {
    std::memcpy(to, from, bytes);
}

void copy_non_temporal(std::byte* to, const std::byte* from, std::size_t bytes) {
    pmem_memcpy(to, from, bytes, PMEM_F_MEM_NONTEMPORAL | PMEM_F_MEM_NODRAIN);
}

// Small pieces of metadata stay in the caches, flushed line by line; libpmem knows where that ends.
void copy_and_flush(std::byte* to, const std::byte* from, std::size_t bytes) {
    pmem_memcpy(to, from, bytes, PMEM_F_MEM_NODRAIN);
}

void zero_plain(std::byte* to, const std::byte*, std::size_t bytes) { std::memset(to, 0, bytes); }

void zero_non_temporal(std::byte* to, const std::byte*, std::size_t bytes) {
    pmem_memset(to, 0, bytes, PMEM_F_MEM_NONTEMPORAL | PMEM_F_MEM_NODRAIN);
}

void store_eight(std::byte* to, const std::byte* from, std::size_t) {
    std::uint64_t value;
    std::memcpy(&value, from, sizeof(value));
    // One store; order among threads comes from locks and fence(). (A releasing store would take a
    // lock of the thread sanitizer's, which the recovery point would jump out of.)
    __atomic_store_n(reinterpret_cast<std::uint64_t*>(to), value, __ATOMIC_RELAXED);
}

void store_eight_and_flush(std::byte* to, const std::byte* from, std::size_t bytes) {
    store_eight(to, from, bytes);
    pmem_flush(to, bytes);
}

void flush_lines(std::byte* to, const std::byte*, std::size_t bytes) { pmem_flush(to, bytes); }

void order_stores() {
#ifdef __x86_64__
    _mm_sfence();
#else
    std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

}  // namespace

Region::Region(std::span<std::byte> memory, const Capabilities& capabilities, Observer* observer)
    : memory_(memory.data()),
      bytes_(memory.size()),
      capabilities_(capabilities),
      observer_(observer),
      path_("test memory") {
    assert(reinterpret_cast<std::uintptr_t>(memory.data()) % kBlockBytes == 0);
    install_sigbus_handler();
}

std::unexpected<Error> Region::lost(std::uint64_t offset) const {
    bad_.add({offset / kBlockBytes, 1});
    return fail(Cause::media_error, offset);
}

Expected<void> Region::load(std::uint64_t offset, std::span<std::byte> out) const {
    if (!holds(offset, out.size())) return fail(Cause::media_corrupt, offset);
    if (out.empty()) return {};
    if (observer_ != nullptr && !observer_->before_load(offset, out.size())) return lost(offset);
    const std::byte* const media = memory_ + offset;
    const std::byte* const fault = copy_guarded(copy_plain, out.data(), media, out.size(), media);
    if (fault != nullptr) return lost(offset_of(fault));
    return {};
}

/// A bad block is given new memory where all of it is stored anyway; each at most once.
Expected<void> Region::store_guarded(CopyFunction copy, std::uint64_t offset, const std::byte* from,
                                     std::uint64_t bytes, Renew renew) {
    std::byte* const media = memory_ + offset;
    for (std::uint64_t next = 0;;) {
        const std::byte* const fault = copy_guarded(copy, media, from, bytes, media);
        if (fault == nullptr) break;
        const std::uint64_t block = offset_of(fault) / kBlockBytes;
        const bool is_whole =
            block * kBlockBytes >= offset && (block + 1) * kBlockBytes <= offset + bytes;
        if (renew == Renew::never || !is_whole || block < next || !renew_block(block))
            return lost(offset_of(fault));
        next = block + 1;
    }
    if (bad_.any()) bad_.remove_inside(offset, bytes);
    return {};
}

Expected<void> Region::store(CopyFunction copy, std::uint64_t offset, const std::byte* from,
                             std::uint64_t bytes, Renew renew, const Where& where) {
    assert(!read_only_);
    if (!holds(offset, bytes)) return fail(Cause::media_corrupt, offset);
    if (bytes == 0) return {};
    if (observer_ != nullptr && !observer_->before_store(offset, bytes)) return lost(offset);
    const auto stored = store_guarded(copy, offset, from, bytes, renew);
    if (observer_ != nullptr) observer_->stored(offset, bytes);
    TRY(stored);
    // libpmem widens the range to whole pages.
    if (capabilities_.flush == Flush::page && pmem_msync(memory_ + offset, bytes) != 0)
        return lost(offset);
    if (observer_ != nullptr) observer_->flushed(offset, bytes, where);
    return {};
}

Expected<void> Region::read(std::uint64_t offset, std::span<std::byte> out) const {
    return load(offset, out);
}

Expected<void> Region::copy_out(std::uint64_t offset, std::span<std::byte> out) const {
    return load(offset, out);
}

Expected<void> Region::copy_in(std::uint64_t offset, std::span<const std::byte> bytes, Renew renew,
                               Where where) {
    const bool past_caches =
        capabilities_.flush == Flush::line ||
        (capabilities_.flush == Flush::none && bytes.size() >= kNonTemporalBytes);
    return store(past_caches ? copy_non_temporal : copy_plain, offset, bytes.data(), bytes.size(),
                 renew, where);
}

Expected<void> Region::zero(std::uint64_t offset, std::uint64_t bytes, Where where) {
    const bool past_caches = capabilities_.flush == Flush::line ||
                             (capabilities_.flush == Flush::none && bytes >= kNonTemporalBytes);
    return store(past_caches ? zero_non_temporal : zero_plain, offset, nullptr, bytes,
                 Renew::allowed, where);
}

Expected<void> Region::store_flush(std::uint64_t offset, std::span<const std::byte> bytes,
                                   Where where) {
    const bool line = capabilities_.flush == Flush::line;
    return store(line ? copy_and_flush : copy_plain, offset, bytes.data(), bytes.size(),
                 Renew::allowed, where);
}

Expected<void> Region::store8_flush(std::uint64_t offset, std::uint64_t value, Where where) {
    assert(offset % sizeof(value) == 0);
    const bool line = capabilities_.flush == Flush::line;
    return store(line ? store_eight_and_flush : store_eight, offset,
                 reinterpret_cast<const std::byte*>(&value), sizeof(value), Renew::allowed, where);
}

Expected<void> Region::flush(std::uint64_t offset, std::uint64_t bytes, Where where) {
    if (!holds(offset, bytes)) return fail(Cause::media_corrupt, offset);
    std::byte* const media = memory_ + offset;
    if (capabilities_.flush == Flush::line) {
        // A page that is not there is asked for, and may be bad.
        const std::byte* const fault = copy_guarded(flush_lines, media, nullptr, bytes, media);
        if (fault != nullptr) return lost(offset_of(fault));
    } else if (capabilities_.flush == Flush::page && pmem_msync(media, bytes) != 0) {
        return lost(offset);
    }
    if (observer_ != nullptr) observer_->flushed(offset, bytes, where);
    return {};
}

void Region::fence(Where where) {
    if (capabilities_.flush == Flush::line)
        pmem_drain();
    else
        order_stores();  // also where nothing is flushed: nothing else orders non-temporal stores
    if (observer_ != nullptr) observer_->fenced(where);
}

}  // namespace pinfs::pmem

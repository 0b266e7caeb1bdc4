// SPDX-License-Identifier: Apache-2.0
#include "tests/support/crash_region.h"

#include <sys/mman.h>

#include <cassert>
#include <cstdio>
#include <cstring>
#include <new>

namespace pinfs::test {
namespace {

std::span<std::byte> new_memory(std::uint64_t bytes) {
    void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return {static_cast<std::byte*>(memory), bytes};
}

/// As persistent memory that is flushed line by line, so that nothing above is left out.
pmem::Capabilities recorded_capabilities() {
    pmem::Capabilities capabilities;
    capabilities.kind = pmem::Kind::tmpfs;  // its pages can be taken from a device
    capabilities.flush = pmem::Flush::line;
    capabilities.map_sync = true;
    capabilities.persistent = true;
    capabilities.pinnable = true;
    return capabilities;
}

/// What a program's crash tests saw altogether, printed when it ends.
struct ProgramTotals {
    std::mutex mutex;
    std::size_t recordings = 0;
    ImageTotals images;
    ~ProgramTotals() {
        if (recordings == 0) return;
        std::printf(
            "crash images: %zu recordings, %zu crash points (%zu enumerated), %zu images, "
            "%zu duplicates\n",
            recordings, images.crash_points, images.enumerated, images.images, images.duplicates);
    }
} program_totals;

}  // namespace

std::string Site::text() const {
    return file + ":" + std::to_string(line) + ":" + std::to_string(column) +
           (is_fence ? " fence" : " flush");
}

Site site_of(const std::source_location& where, bool is_fence) {
    std::string file = where.file_name();
    for (const char* root : {"/fs/", "/tests/"})
        if (const auto at = file.rfind(root); at != std::string::npos) file.erase(0, at + 1);
    return {file, where.line(), where.column(), is_fence};
}

CrashRegion::CrashRegion(std::span<std::byte> memory, bool own, UndoLog* undo)
    : memory_(memory), own_(own), undo_(undo), region_(memory, recorded_capabilities(), this) {}

CrashRegion::CrashRegion(std::uint64_t bytes) : CrashRegion(new_memory(bytes), true, nullptr) {}

CrashRegion::CrashRegion(CrashImage& image) : CrashRegion(image.memory, false, &image.undo) {}

CrashRegion::~CrashRegion() {
    if (own_) munmap(memory_.data(), memory_.size());
    if (!scratch_.empty()) munmap(scratch_.data(), scratch_.size());
}

void CrashRegion::start_recording() {
    const std::lock_guard lock(mutex_);
    log_.clear();
    log_.sites.clear();
    threads_.clear();
    site_indices_.clear();
    site_counts_.clear();
    base_.assign(memory_.begin(), memory_.end());
    recording_ = true;
    const std::lock_guard totals_lock(program_totals.mutex);
    ++program_totals.recordings;
}

void CrashRegion::stop_recording() {
    const std::lock_guard lock(mutex_);
    recording_ = false;
}

void CrashRegion::mark(std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    if (recording_) log_.events.push_back({.kind = Event::Kind::mark, .first = number});
}

void CrashRegion::store_past(std::uint64_t offset, std::span<const std::byte> bytes) {
    if (!before_store(offset, bytes.size())) return;
    std::memcpy(memory_.data() + offset, bytes.data(), bytes.size());
    stored(offset, bytes.size());
}

ImageTotals CrashRegion::for_each_image(const ImageOptions& options, const ImageVisitor& visit) {
    assert(!recording_ && base_.size() == memory_.size());
    if (scratch_.empty()) scratch_ = new_memory(memory_.size());
    std::memcpy(scratch_.data(), base_.data(), base_.size());
    ImageOptions with_drop = options;
    if (!with_drop.without) with_drop.without = dropped_;
    const ImageTotals totals =
        for_each_crash_image(log_, scratch_, recorded_capabilities(), with_drop, visit);
    const std::lock_guard lock(program_totals.mutex);
    program_totals.images.crash_points += totals.crash_points;
    program_totals.images.enumerated += totals.enumerated;
    program_totals.images.images += totals.images;
    program_totals.images.duplicates += totals.duplicates;
    return totals;
}

std::map<Site, std::size_t> CrashRegion::sites() const {
    std::map<Site, std::size_t> result;
    for (std::size_t i = 0; i < log_.sites.size(); ++i) result[log_.sites[i]] = site_counts_[i];
    return result;
}

bool CrashRegion::before_load(std::uint64_t offset, std::uint64_t bytes) {
    loaded_bytes_ += bytes;
    const std::uint64_t number = ++loads_;
    if (offset < poison_end_ && poison_begin_ < offset + bytes) return false;
    return number != load_to_fail_;
}

bool CrashRegion::before_store(std::uint64_t offset, std::uint64_t bytes) {
    if (++stores_ == store_to_fail_) return false;
    mutex_.lock();
    if (undo_ != nullptr) undo_->touch(offset, bytes);
    if (recording_)
        old_.assign(memory_.begin() + static_cast<std::ptrdiff_t>(offset),
                    memory_.begin() + static_cast<std::ptrdiff_t>(offset + bytes));
    return true;
}

void CrashRegion::stored(std::uint64_t offset, std::uint64_t bytes) {
    const std::lock_guard lock(mutex_, std::adopt_lock);
    if (!recording_) return;
    Event event{.kind = Event::Kind::store, .thread = thread_index(), .first = log_.pieces.size()};
    const std::size_t data = log_.data.size();
    log_.data.insert(log_.data.end(), memory_.begin() + static_cast<std::ptrdiff_t>(offset),
                     memory_.begin() + static_cast<std::ptrdiff_t>(offset + bytes));
    for (std::uint64_t at = offset; at < offset + bytes;) {
        const std::uint64_t line = at / kLineBytes;
        const std::uint64_t end = std::min(offset + bytes, (line + 1) * kLineBytes);
        StoredPiece piece{.line = line,
                          .begin = static_cast<std::uint8_t>(at % kLineBytes),
                          .end = static_cast<std::uint8_t>(end - line * kLineBytes),
                          .data = data + (at - offset)};
        const std::byte* const before = old_.data() + (at - offset);
        const std::byte* const after = log_.data.data() + piece.data;
        if (std::memcmp(before, after, end - at) != 0)
            for (std::uint64_t i = 0; i < end - at; ++i)
                if (before[i] != after[i])
                    piece.words |=
                        static_cast<std::uint8_t>(1u << ((piece.begin + i) / kWordBytes));
        // What was there already makes no difference, whenever it persists.
        if (piece.words != 0) log_.pieces.push_back(piece);
        at = end;
    }
    event.count = log_.pieces.size() - event.first;
    if (event.count != 0) log_.events.push_back(event);
}

void CrashRegion::flushed(std::uint64_t offset, std::uint64_t bytes,
                          const std::source_location& where) {
    const std::lock_guard lock(mutex_);
    if (!recording_) return;
    const std::uint64_t first = offset / kLineBytes;
    log_.events.push_back({.kind = Event::Kind::flush,
                           .thread = thread_index(),
                           .site = site_index(where, false),
                           .first = first,
                           .count = (offset + bytes - 1) / kLineBytes - first + 1});
}

void CrashRegion::fenced(const std::source_location& where) {
    if (fence_pause_.count() != 0) std::this_thread::sleep_for(fence_pause_);
    const std::lock_guard lock(mutex_);
    if (!recording_) return;
    log_.events.push_back(
        {.kind = Event::Kind::fence, .thread = thread_index(), .site = site_index(where, true)});
}

std::uint32_t CrashRegion::thread_index() {
    return threads_
        .try_emplace(std::this_thread::get_id(), static_cast<std::uint32_t>(threads_.size()))
        .first->second;
}

std::uint32_t CrashRegion::site_index(const std::source_location& where, bool is_fence) {
    const auto [entry, is_new] = site_indices_.try_emplace(
        site_of(where, is_fence), static_cast<std::uint32_t>(log_.sites.size()));
    if (is_new) {
        log_.sites.push_back(entry->first);
        site_counts_.push_back(0);
    }
    ++site_counts_[entry->second];
    return entry->second;
}

}  // namespace pinfs::test

// SPDX-License-Identifier: Apache-2.0
//
// fsync of what clients and devices stored past us (SPEC 6.3): flushes the written blocks of maps
// and pins that somebody may have dirtied.
#include <algorithm>
#include <atomic>
#include <thread>

#include "fs/volume/core.h"

namespace pinfs {

namespace {

/// Below this a second thread costs more than it brings.
constexpr std::uint64_t kThreadBytesMin = 32 << 20;
constexpr std::uint64_t kThreadsMax = 8;
/// What a thread takes at a time, so that one that has to wait for a processor leaves the rest to
/// the others.
constexpr std::uint64_t kPieceBytes = 4 << 20;

}  // namespace

/// Everything undeclared of the file.
Expected<void> Volume::Core::flush_reached(InodeState& state) {
    if (!state.watched.load()) return {};
    const bool nothing_to_flush = region_.capabilities().flush == pmem::Flush::none;
    pin::RangeSet dirty;
    {
        const PinsLock lock{pins_mutex_};
        const pin::FilePins* const file = registry_.find(state.ino.value);
        if (file == nullptr) return {};
        const auto collect = [&](const pin::Reference& reference) {
            if (reference.writable && !reference.self_flushed)
                reference.declared.for_each_gap(
                    reference.begin, reference.end,
                    [&](std::uint64_t begin, std::uint64_t end) { dirty.add(begin, end); });
            return dirty.empty() || !nothing_to_flush;  // whether there is any is asked, no more
        };
        file->maps.for_each(0, UINT64_MAX, collect);
        file->pins.for_each(0, UINT64_MAX, collect);
        file->gone.for_each(0, UINT64_MAX, collect);
    }
    if (dirty.empty()) return {};
    Expected<void> result;
    dirty.for_each([&](std::uint64_t begin, std::uint64_t end) {
        if (result) result = flush_range(state, begin, end);
    });
    note_outside_change(state);
    return result;
}

Expected<void> Volume::Core::flush_range(InodeState& state, std::uint64_t begin_bytes,
                                         std::uint64_t end_bytes) {
    if (region_.capabilities().flush == pmem::Flush::none) return {};
    const RangeLock::Hold hold{state.ranges, begin_bytes, end_bytes, RangeLock::Mode::shared};
    struct Piece {
        std::uint64_t offset;
        std::uint64_t bytes;
    };
    std::vector<Piece> pieces;
    std::uint64_t bytes = 0;
    for (const Extent& extent : TRY(extents_of(state, begin_bytes, end_bytes, /*holes_too=*/true)))
        for (std::uint64_t at = 0; at < extent.bytes; at += kPieceBytes) {
            pieces.push_back({extent.region_offset + at, std::min(kPieceBytes, extent.bytes - at)});
            bytes += pieces.back().bytes;
        }
    static const std::uint64_t kCores = std::thread::hardware_concurrency();
    const std::uint64_t threads = std::min({bytes / kThreadBytesMin, kCores, kThreadsMax});
    std::mutex failed_mutex;
    Expected<void> result;
    std::atomic<std::size_t> next{0};
    // A fence orders the flushes of its own thread only.
    const auto work = [&] {
        for (std::size_t i = next++; i < pieces.size(); i = next++) {
            const auto flushed = region_.flush(pieces[i].offset, pieces[i].bytes);
            const std::scoped_lock lock{failed_mutex};
            if (!flushed) result = flushed;
        }
        region_.fence();
    };
    std::vector<std::thread> others;
    try {
        while (others.size() + 1 < threads) others.emplace_back(work);
    } catch (const std::exception&) {
        // No thread, or no memory for one: those that there are do it all.
    }
    work();
    for (std::thread& other : others) other.join();
    return result;
}

}  // namespace pinfs

// SPDX-License-Identifier: Apache-2.0
//
// A region over memory that records what is done to it, shows what a crash could have left
// (crash_images.h), and makes loads and stores fail.
//
//     CrashRegion crash{1_MiB};
//     ... make a file system in crash.region(), mount it ...
//     crash.start_recording();
//     ... an operation ...
//     crash.mark(1);                      // it returned
//     crash.stop_recording();
//     crash.for_each_image({.per_fence_max = 256, .seed = 7}, [&](CrashImage& image) {
//         ... mount image.region, compare with what image.completed promises ...
//     });
//
// A crash during recovery: inside the visitor, `CrashRegion again{image};` and the same once more.
// Mutations: for (const Site& site : crash.sites()) for_each_image({.without = site}, ...) must
// fail.
//
// Thread-safe while recording. The images are a single thread's.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/support/crash_images.h"

namespace pinfs::test {

class CrashRegion : private pmem::Observer {
public:
    explicit CrashRegion(std::uint64_t bytes);
    /// Over an image that another one shows, for the visitor's time.
    explicit CrashRegion(CrashImage& image);
    ~CrashRegion() override;
    CrashRegion(const CrashRegion&) = delete;
    CrashRegion& operator=(const CrashRegion&) = delete;

    [[nodiscard]] pmem::Region& region() { return region_; }
    [[nodiscard]] std::span<std::byte> memory() const { return memory_; }

    // Recording. What is there when it starts counts as durable.
    void start_recording();
    void stop_recording();
    /// `number` operations have returned: what they promised must be in every later image.
    void mark(std::uint64_t number);
    /// As a client stores through a direct map: past the region, not flushed.
    void store_past(std::uint64_t offset, std::span<const std::byte> bytes);
    template <class Workload>
    void record(Workload&& workload) {
        start_recording();
        workload();
        stop_recording();
    }

    /// Lets every fence last this long, so that changes of several threads overlap.
    void pause_at_fences(std::chrono::microseconds pause) { fence_pause_ = pause; }

    /// After stop_recording; as often as wanted. Nothing of the region changes.
    ImageTotals for_each_image(const ImageOptions& options, const ImageVisitor& visit);

    /// Every place that flushed or fenced while recording, and how often.
    [[nodiscard]] std::map<Site, std::size_t> sites() const;
    /// Lets all later images be made as if this place did not flush, or not fence.
    void drop_site(const Site& site) { dropped_ = site; }
    void drop_nothing() { dropped_.reset(); }

    // Failing. Numbers count from the call, 1 is the next; the failure comes once.
    void fail_load(std::uint64_t number) { load_to_fail_ = loads_ + number; }
    void fail_store(std::uint64_t number) { store_to_fail_ = stores_ + number; }
    /// Every load that meets [offset, offset + bytes) fails, until `bytes` is 0.
    void poison(std::uint64_t offset, std::uint64_t bytes) {
        poison_begin_ = offset;
        poison_end_ = offset + bytes;
    }

    // Since the region was made, recording or not.
    [[nodiscard]] std::uint64_t loads() const { return loads_; }
    [[nodiscard]] std::uint64_t loaded_bytes() const { return loaded_bytes_; }
    [[nodiscard]] std::uint64_t stores() const { return stores_; }

private:
    CrashRegion(std::span<std::byte> memory, bool own, UndoLog* undo);

    bool before_load(std::uint64_t offset, std::uint64_t bytes) override;
    bool before_store(std::uint64_t offset, std::uint64_t bytes) override;
    void stored(std::uint64_t offset, std::uint64_t bytes) override;
    void flushed(std::uint64_t offset, std::uint64_t bytes,
                 const std::source_location& where) override;
    void fenced(const std::source_location& where) override;

    std::uint32_t thread_index();
    std::uint32_t site_index(const std::source_location& where, bool is_fence);

    const std::span<std::byte> memory_;
    const bool own_;
    UndoLog* const undo_;
    pmem::Region region_;

    // Held from before_store to stored: stores have one order, and a store's old bytes are the ones
    // it replaced.
    std::mutex mutex_;
    bool recording_ = false;
    std::vector<std::byte> old_;  // bytes that the store under way replaces
    CrashLog log_;
    std::map<std::thread::id, std::uint32_t> threads_;
    std::map<Site, std::uint32_t> site_indices_;
    std::vector<std::size_t> site_counts_;
    std::vector<std::byte> base_;   // the memory when the recording started
    std::span<std::byte> scratch_;  // images are made here
    std::optional<Site> dropped_;
    std::chrono::microseconds fence_pause_{0};

    std::atomic<std::uint64_t> loads_{0}, loaded_bytes_{0}, stores_{0};
    std::atomic<std::uint64_t> load_to_fail_{0}, store_to_fail_{0};
    std::atomic<std::uint64_t> poison_begin_{0}, poison_end_{0};
};

}  // namespace pinfs::test

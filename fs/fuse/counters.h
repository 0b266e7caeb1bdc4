// SPDX-License-Identifier: Apache-2.0
//
// How many requests of each kind there were, how long they took and how they ended, for metrics.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <numeric>

namespace pinfs::fuse {

// clang-format off
#define PINFS_OPERATIONS(X) \
    X(lookup) X(forget) X(forget_multi) X(getattr) X(setattr) X(readlink) X(mknod) X(mkdir) \
    X(unlink) X(rmdir) X(symlink) X(rename) X(link) X(open) X(read) X(write) X(flush) X(release) \
    X(fsync) X(opendir) X(readdir) X(readdirplus) X(releasedir) X(fsyncdir) X(statfs) X(setxattr) \
    X(getxattr) X(listxattr) X(removexattr) X(create) X(tmpfile) X(ioctl) X(poll) X(fallocate) \
    X(copy_file_range) X(lseek) X(statx)
// clang-format on

enum class Operation : std::uint8_t {
#define X(name) name,
    PINFS_OPERATIONS(X)
#undef X
};
inline constexpr std::array kOperationNames{
#define X(name) #name,
    PINFS_OPERATIONS(X)
#undef X
};
constexpr const char* name_of(Operation operation) {
    return kOperationNames[static_cast<std::size_t>(operation)];
}

/// Durations in buckets whose bounds double: up to 2^10 ns, 2^11 ns ... 2^34 ns (17 s), and more.
struct Durations {
    static constexpr int kFirstBit = 10;
    static constexpr std::size_t kBuckets = 26;
    /// Inclusive; of all buckets but the last.
    static constexpr std::uint64_t bound_ns(std::size_t bucket) {
        return std::uint64_t{1} << (bucket + kFirstBit);
    }
    static constexpr std::size_t bucket_of(std::uint64_t ns) {
        const auto bits = static_cast<int>(std::bit_width(ns > 0 ? ns - 1 : 0));
        if (bits <= kFirstBit) return 0;
        return std::min(static_cast<std::size_t>(bits - kFirstBit), kBuckets - 1);
    }

    [[nodiscard]] std::uint64_t count() const {
        return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
    }

    std::array<std::uint64_t, kBuckets> counts{};
    std::uint64_t sum_ns = 0;
};

/// Thread-safe. Each thread counts in a row that few others use, so that counting costs no
/// traffic between processors.
class Counters {
public:
    static constexpr std::size_t kErrors = 134;  ///< errno values there are

    Counters() = default;
    ~Counters() {
        for (const auto& row : rows_) delete row.load(std::memory_order_relaxed);
    }
    Counters(const Counters&) = delete;
    Counters& operator=(const Counters&) = delete;

    /// `result` is what the request was answered: a negative errno, or how many bytes.
    void answered(Operation operation, std::uint64_t ns, std::int64_t result) noexcept {
        Row& row = row_of_this_thread();
        OfOperation& of = row.operations[static_cast<std::size_t>(operation)];
        add(of.counts[Durations::bucket_of(ns)], 1);
        add(of.sum_ns, ns);
        if (result < 0)
            failed(of, static_cast<std::size_t>(-result));
        else if (operation == Operation::read)
            add(row.read_bytes, static_cast<std::uint64_t>(result));
        else if (operation == Operation::write || operation == Operation::copy_file_range)
            add(row.written_bytes, static_cast<std::uint64_t>(result));
    }

    [[nodiscard]] Durations durations(Operation operation) const {
        const auto index = static_cast<std::size_t>(operation);
        Durations all;
        for (std::size_t i = 0; i < Durations::kBuckets; ++i)
            all.counts[i] = sum([&](const Row& row) { return &row.operations[index].counts[i]; });
        all.sum_ns = sum([&](const Row& row) { return &row.operations[index].sum_ns; });
        return all;
    }
    [[nodiscard]] std::uint64_t failures(Operation operation) const {
        const auto index = static_cast<std::size_t>(operation);
        return sum([&](const Row& row) { return &row.operations[index].failures; });
    }
    [[nodiscard]] std::uint64_t read_bytes() const {
        return sum([](const Row& row) { return &row.read_bytes; });
    }
    [[nodiscard]] std::uint64_t written_bytes() const {
        return sum([](const Row& row) { return &row.written_bytes; });
    }
    [[nodiscard]] std::uint64_t errors(int number) const {
        return errors_[static_cast<std::size_t>(number)].load(std::memory_order_relaxed);
    }

private:
    using Count = std::atomic<std::uint64_t>;
    struct OfOperation {
        std::array<Count, Durations::kBuckets> counts{};
        Count sum_ns{};
        Count failures{};
    };
    struct alignas(64) Row {
        std::array<OfOperation, kOperationNames.size()> operations{};
        Count read_bytes{};
        Count written_bytes{};
    };

    static void add(Count& count, std::uint64_t number) noexcept {
        count.fetch_add(number, std::memory_order_relaxed);
    }
    void failed(OfOperation& of, std::size_t number) noexcept {
        add(of.failures, 1);
        if (number < kErrors) add(errors_[number], 1);
    }
    template <class Member>
    std::uint64_t sum(Member member) const {
        std::uint64_t all = member(spare_)->load(std::memory_order_relaxed);
        for (const auto& row : rows_)
            if (const Row* const there = row.load(std::memory_order_acquire))
                all += member(*there)->load(std::memory_order_relaxed);
        return all;
    }

    Row& row_of_this_thread() noexcept {
        static std::atomic<std::size_t> threads{0};
        thread_local std::size_t number = 0;
        if (number == 0) number = threads.fetch_add(1, std::memory_order_relaxed) + 1;
        std::atomic<Row*>& place = rows_[number % rows_.size()];
        Row* const row = place.load(std::memory_order_acquire);
        return row != nullptr ? *row : make(place);
    }
    /// Without memory for one, the row that is always there.
    Row& make(std::atomic<Row*>& place) noexcept {
        std::unique_ptr<Row> made{new (std::nothrow) Row};
        Row* there = nullptr;
        if (!made) return spare_;
        if (place.compare_exchange_strong(there, made.get(), std::memory_order_acq_rel))
            return *made.release();
        return *there;
    }

    std::array<std::atomic<Row*>, 64> rows_{};
    Row spare_;
    std::array<Count, kErrors> errors_{};
};

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
//
// How many requests of each kind came and which errors were answered, for metrics.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace pinfs::fuse {

// clang-format off
#define PINFS_OPERATIONS(X) \
    X(lookup) X(forget) X(forget_multi) X(getattr) X(setattr) X(readlink) X(mknod) X(mkdir) \
    X(unlink) X(rmdir) X(symlink) X(rename) X(link) X(open) X(read) X(write) X(flush) X(release) \
    X(fsync) X(opendir) X(readdir) X(readdirplus) X(releasedir) X(fsyncdir) X(setxattr) \
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

/// Thread-safe. Each thread counts in a row that few others use, so that counting costs no
/// traffic between processors.
class Counters {
public:
    static constexpr std::size_t kErrors = 134;  ///< errno values there are

    void request(Operation operation) noexcept {
        row().requests[static_cast<std::size_t>(operation)].fetch_add(1, std::memory_order_relaxed);
    }
    void error(int number) noexcept {
        const auto index = static_cast<std::size_t>(number);
        if (index < kErrors) errors_[index].fetch_add(1, std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t requests(Operation operation) const {
        std::uint64_t sum = 0;
        for (const Row& row : rows_)
            sum +=
                row.requests[static_cast<std::size_t>(operation)].load(std::memory_order_relaxed);
        return sum;
    }
    [[nodiscard]] std::uint64_t errors(int number) const {
        return errors_[static_cast<std::size_t>(number)].load(std::memory_order_relaxed);
    }

private:
    struct alignas(64) Row {
        std::array<std::atomic<std::uint64_t>, kOperationNames.size()> requests{};
    };
    Row& row() noexcept {
        static std::atomic<std::size_t> threads{0};
        thread_local const std::size_t mine = threads.fetch_add(1, std::memory_order_relaxed);
        return rows_[mine % rows_.size()];
    }

    std::array<Row, 16> rows_{};
    std::array<std::atomic<std::uint64_t>, kErrors> errors_{};
};

}  // namespace pinfs::fuse

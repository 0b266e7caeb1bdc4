// SPDX-License-Identifier: Apache-2.0
//
// Which bytes of one file are being read, written or cut: the short references of SPEC 3.7. Readers
// share, writers and cuts exclude; whoever comes first goes first, so nobody starves. A thread
// holds one range of one file at a time and waits with no lock held that another holder needs (rank
// `range`).
#pragma once

#include <cstdint>

#include "fs/lock.h"

namespace pinfs {

inline constexpr std::uint64_t kToTheEnd = UINT64_MAX;

class RangeLock {
public:
    enum class Mode : std::uint8_t { shared, exclusive };

    /// Holds [begin, end) of a file until destroyed.
    class Hold {
    public:
        Hold(RangeLock& lock, std::uint64_t begin, std::uint64_t end, Mode mode);
        ~Hold();
        Hold(const Hold&) = delete;
        Hold& operator=(const Hold&) = delete;

    private:
        friend class RangeLock;
        [[nodiscard]] bool conflicts(const Hold& other) const {
            return begin_ < other.end_ && other.begin_ < end_ &&
                   (mode_ == Mode::exclusive || other.mode_ == Mode::exclusive);
        }
        RangeLock& lock_;
        std::uint64_t begin_;
        std::uint64_t end_;
        Mode mode_;
        Hold* earlier_ = nullptr;
        Hold* later_ = nullptr;
    };

private:
    [[nodiscard]] static bool must_wait(const Hold& hold);

    // Guarded by a mutex that several files share (a file's own would cost every cached inode its
    // space); it is held for a look only.
    Hold* latest_ = nullptr;
    std::uint32_t waiting_ = 0;
};

}  // namespace pinfs

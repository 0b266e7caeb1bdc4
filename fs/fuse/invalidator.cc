// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/invalidator.h"

#define FUSE_USE_VERSION 317
#include <fuse_lowlevel.h>

#include <chrono>
#include <utility>

namespace pinfs::fuse {
namespace {

/// How long after some inodes the next ones are only gathered: to wake the thread for each of many
/// pins would cost more than the pins.
constexpr std::chrono::milliseconds kGathering{2};

}  // namespace

void Invalidator::start(fuse_session* session) {
    session_ = session;
    stopping_ = false;
    thread_ = std::thread([this] { send_all(); });
}

void Invalidator::stop() {
    if (!thread_.joinable()) return;
    {
        const std::lock_guard lock{mutex_};
        stopping_ = true;
        queue_.clear();
    }
    wake_.notify_one();
    thread_.join();
}

void Invalidator::attributes(Ino ino) noexcept {
    try {
        const std::lock_guard lock{mutex_};
        if (stopping_ || (!queue_.empty() && queue_.back() == ino)) return;
        queue_.push_back(ino);
        if (gathering_) return;
    } catch (...) {
        return;
    }
    wake_.notify_one();
}

void Invalidator::everything(const std::vector<Ino>& inodes) {
    {
        const std::lock_guard lock{mutex_};
        if (stopping_) return;
        with_pages_.insert(with_pages_.end(), inodes.begin(), inodes.end());
        names_ = true;
    }
    wake_.notify_one();
}

void Invalidator::send_all() {
    std::vector<Ino> batch;
    std::vector<Ino> batch_with_pages;
    std::unique_lock lock{mutex_};
    while (true) {
        wake_.wait(lock, [this] { return stopping_ || !queue_.empty() || names_; });
        if (stopping_) return;
        std::swap(batch, queue_);
        std::swap(batch_with_pages, with_pages_);
        const bool names = std::exchange(names_, false);
        lock.unlock();
        // A negative offset: attributes only, no pages. Inodes that the kernel forgot meanwhile
        // are none of its business, so results say nothing.
        for (const Ino ino : batch) fuse_lowlevel_notify_inval_inode(session_, ino.value, -1, 0);
        for (const Ino ino : batch_with_pages)
            fuse_lowlevel_notify_inval_inode(session_, ino.value, 0, 0);
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
        if (names) fuse_lowlevel_notify_increment_epoch(session_);  // kernels before 6.16: ENOSYS
#else
        static_cast<void>(names);
#endif
        batch.clear();
        batch_with_pages.clear();
        lock.lock();
        gathering_ = true;
        wake_.wait_for(lock, kGathering, [this] { return stopping_ || names_; });
        gathering_ = false;
    }
}

}  // namespace pinfs::fuse

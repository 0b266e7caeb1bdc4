// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/report_maker.h"

#include <utility>

namespace pinfs::fuse {

void ReportMaker::start() {
    thread_ = std::thread([this] { run(); });
}

void ReportMaker::stop() {
    if (!thread_.joinable()) return;
    {
        const std::lock_guard lock{mutex_};
        stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
}

void ReportMaker::add(Job job) {
    {
        const std::lock_guard lock{mutex_};
        jobs_.push_back(std::move(job));
    }
    wake_.notify_one();
}

void ReportMaker::run() {
    std::unique_lock lock{mutex_};
    while (true) {
        wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
        if (jobs_.empty()) return;
        const Job job = std::move(jobs_.front());
        jobs_.pop_front();
        const bool cancelled = stopping_;
        lock.unlock();
        job(cancelled);
        lock.lock();
    }
}

}  // namespace pinfs::fuse

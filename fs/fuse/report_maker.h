// SPDX-License-Identifier: Apache-2.0
//
// The thread that makes reports and answers those who open them. A report of a million records
// takes seconds, and threads that serve requests are few: one user's reports must not keep the
// others' reads and writes waiting. (Over io_uring, answers of another thread must come from one
// that lives as long as the session: this one does.)
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace pinfs::fuse {

class ReportMaker {
public:
    /// `cancelled`: there is no time left to make it, only to answer.
    using Job = std::function<void(bool cancelled)>;

    ReportMaker() = default;
    ~ReportMaker() { stop(); }
    ReportMaker(const ReportMaker&) = delete;
    ReportMaker& operator=(const ReportMaker&) = delete;

    void start();
    /// Cancels what waits and ends the thread.
    void stop();
    /// Each is run once, in order. Throws bad_alloc; then it is not.
    void add(Job job);

private:
    void run();

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Job> jobs_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace pinfs::fuse

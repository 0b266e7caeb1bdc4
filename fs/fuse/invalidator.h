// SPDX-License-Identifier: Apache-2.0
//
// Tells the kernel that attributes it keeps are stale: a change it did not ask for, or whose
// effects it does not know (flags set by ioctl change ctime, the last close gives blocks back). Of
// a file system that was shut down everything is stale.
//
// Invariant: notifications leave from a thread of their own. The kernel may wait, inside one, for
// a request that only the notifying thread could have served.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "fs/units.h"

struct fuse_session;

namespace pinfs::fuse {

class Invalidator {
public:
    Invalidator() = default;
    ~Invalidator() { stop(); }
    Invalidator(const Invalidator&) = delete;
    Invalidator& operator=(const Invalidator&) = delete;

    /// Begins to send to `session`, which outlives stop().
    void start(fuse_session* session);
    /// Drops what is not sent and ends the thread.
    void stop();

    /// The kernel shall ask again for the attributes of `ino`. Never waits; where memory is short
    /// nothing happens, and the kernel shows the old attributes until it asks of itself.
    void attributes(Ino ino) noexcept;
    /// Nor shall it answer from what else it keeps: names, and the attributes and pages of
    /// `inodes`. Throws bad_alloc; then nothing happened.
    void everything(const std::vector<Ino>& inodes);

private:
    void send_all();

    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<Ino> queue_;
    std::vector<Ino> with_pages_;
    bool names_ = false;
    bool stopping_ = false;
    bool gathering_ = false;  // the thread looks again soon, of itself
    fuse_session* session_ = nullptr;
    std::thread thread_;
};

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
//
// The connection of a supervised mount: descriptors that the supervisor keeps, so that the kernel
// waits for the next daemon when one ends. Hides how that one gets what the last one had read and
// not answered (FUSE_NOTIFY_RESEND, Linux 6.9), and the kernel's first request, which comes once.
//
// Requests that come again are all read before anything is served: so what they are is known when
// the volume is mounted. They were read from the first descriptor, so they are answered there.
// One object of a process at a time: libfuse gives a callback no place for more.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <expected>
#include <mutex>
#include <string>
#include <vector>

#include "fs/fuse/connection.h"
#include "fs/fuse/ledger.h"
#include "fs/units.h"

namespace pinfs::fuse {

/// Empty, or why this kernel is too old for a supervised mount.
std::string why_no_supervision();
/// Threads that serve a supervised mount, and so descriptors that are of use.
unsigned supervised_threads();
/// Further descriptors of the connection `device`, as many as threads; none if this user may not
/// open the device.
std::vector<int> clones_of(int device);

class SupervisedConnection {
public:
    /// Owns the descriptors.
    SupervisedConnection(int device, std::vector<int> clones, Ledger& ledger);
    ~SupervisedConnection();
    SupervisedConnection(const SupervisedConnection&) = delete;
    SupervisedConnection& operator=(const SupervisedConnection&) = delete;

    /// Has the kernel send again what the last daemon did not answer, and reads it: the numbers of
    /// these requests.
    std::expected<std::vector<std::uint64_t>, std::string> take_back();
    /// Whether the kernel has an inode in memory.
    [[nodiscard]] bool kernel_has(Ino ino) const;
    /// Whoever polls by this number asks again.
    void wake(std::uint64_t poller) const;

    /// Makes `session` use this connection. If the kernel's first request was answered before, it
    /// is answered again, to nobody. The error is one sentence.
    std::expected<void, std::string> connect(fuse_session* session);
    [[nodiscard]] bool has_clones() const { return !clones_.empty(); }
    /// The number under which the poll that this thread serves waits; 0: it does not.
    static std::uint64_t poller_of_this_thread();

private:
    static ssize_t on_read(int descriptor, void* buffer, std::size_t bytes, void*);
    static ssize_t on_writev(int descriptor, iovec* parts, int count, void*);
    static int on_clone(int);
    ssize_t read_request(int descriptor, std::byte* buffer, std::size_t bytes);
    ssize_t write_answer(int descriptor, iovec* parts, int count);
    void look_at(const std::byte* request, std::size_t bytes);
    [[nodiscard]] bool notify(int code, const void* words, std::size_t bytes) const;

    const int device_;
    std::vector<int> clones_;
    std::atomic<std::size_t> next_clone_{0};
    Ledger& ledger_;
    std::mutex mutex_;  // guards `taken_back_`
    std::deque<std::vector<std::byte>> taken_back_;
    std::atomic<bool> has_taken_back_{false};
    std::uint64_t fresh_ = 0;  // one that came behind those: read with them, so answered as they
    std::atomic<std::uint64_t> first_request_{0};  // whose answer is to be kept
    bool repeating_ = false;
    std::vector<std::byte> repeated_;  // what the first request is answered now
};

}  // namespace pinfs::fuse

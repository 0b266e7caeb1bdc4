// SPDX-License-Identifier: Apache-2.0
//
// The trace of a mount (-o trace): a line for each request that was answered. Lines are written by
// a thread of its own; no request waits for it: where it is too slow, the oldest lines are lost,
// which their numbers show.
//
// A file of its own is opened before the daemon is confined, together with a second one, FILE.old,
// that gets what the first holds when it is full: so both together are bounded.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>

namespace spdlog {
class logger;
namespace details {
class thread_pool;
}
}  // namespace spdlog

namespace pinfs::fuse {

struct TracedRequest {
    static constexpr std::uint64_t kNone = UINT64_MAX;

    std::uint64_t ino = 0;
    std::uint64_t offset = kNone;
    std::uint64_t size = kNone;
    std::int32_t pid = 0;  ///< thread of the caller; 0: in a pid namespace that is not below ours
    std::uint32_t uid = 0;
    std::chrono::system_clock::time_point came;
    std::uint64_t waited_before_ns = 0;  ///< waited_by_this_thread_ns() when it came
};

struct TraceOptions {
    std::string file;  ///< empty: to the daemon's log
    std::uint64_t file_bytes = std::uint64_t{64} << 20;
};

class Trace {
public:
    /// Opens the file, and makes it if there is none; 0600, as requests tell what users do.
    /// Starts nothing yet. The error is one sentence.
    static std::expected<std::unique_ptr<Trace>, std::string> open(const TraceOptions& options);
    ~Trace();
    Trace(const Trace&) = delete;
    Trace& operator=(const Trace&) = delete;

    /// Once, when there may be threads. Throws bad_alloc.
    void start();
    /// Writes what waits to be written.
    void stop();

    /// `result`: a negative errno, or how many bytes.
    void answered(const char* operation, const TracedRequest& request, std::uint64_t ns,
                  std::int64_t result) noexcept;

private:
    Trace(int file, int old, std::uint64_t file_bytes)
        : file_(file), old_(old), file_bytes_(file_bytes) {}

    const int file_;  // -1: the daemon's log
    const int old_;
    const std::uint64_t file_bytes_;
    std::atomic<std::uint64_t> lines_{0};
    std::shared_ptr<spdlog::details::thread_pool> thread_;
    std::shared_ptr<spdlog::logger> logger_;
};

}  // namespace pinfs::fuse

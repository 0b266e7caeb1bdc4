// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/trace.h"

#include <fcntl.h>
#include <spdlog/async.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/ringbuffer_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "fs/waits.h"

namespace pinfs::fuse {
namespace {

constexpr std::size_t kLinesWaiting = 8192;

/// Appends to a file; when that is full its content goes to the other one.
class TwoFiles final : public spdlog::sinks::base_sink<std::mutex> {
public:
    TwoFiles(int file, int old, std::uint64_t file_bytes)
        : file_(file), old_(old), file_bytes_(file_bytes) {}

protected:
    void sink_it_(const spdlog::details::log_msg& message) override {
        spdlog::memory_buf_t line;
        formatter_->format(message, line);
        struct stat st {};
        if (fstat(file_, &st) == 0 &&
            static_cast<std::uint64_t>(st.st_size) + line.size() > file_bytes_)
            turn_over();
        // A full disk costs lines, as everything else that goes wrong here.
        if (write(file_, line.data(), line.size()) < 0) return;
    }
    void flush_() override {}

private:
    void turn_over() const {
        std::array<char, 65536> piece{};
        if (ftruncate(old_, 0) != 0) return;
        off_t at = 0;
        for (ssize_t count = 0; (count = pread(file_, piece.data(), piece.size(), at)) > 0;
             at += count)
            if (pwrite(old_, piece.data(), static_cast<std::size_t>(count), at) != count) break;
        // Nothing to be done: then it grows.
        if (ftruncate(file_, 0) != 0) return;
    }

    const int file_;
    const int old_;
    const std::uint64_t file_bytes_;
};

std::expected<int, std::string> opened(const std::string& path, int flags) {
    const int file =
        ::open(path.c_str(), flags | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    struct stat st {};
    if (file >= 0 && fstat(file, &st) == 0 && S_ISREG(st.st_mode)) return file;
    const std::string why = file < 0 ? strerror(errno) : "not a regular file";
    if (file >= 0) close(file);
    return std::unexpected("the trace cannot be written to " + path + ": " + why);
}

}  // namespace

std::expected<std::unique_ptr<Trace>, std::string> Trace::open(const TraceOptions& options) {
    if (options.file.empty()) return std::unique_ptr<Trace>{new Trace{-1, -1, 0}};
    const auto file = opened(options.file, O_RDWR | O_APPEND);
    if (!file) return std::unexpected(file.error());
    const auto old = opened(options.file + ".old", O_RDWR);
    if (!old) {
        close(*file);
        return std::unexpected(old.error());
    }
    return std::unique_ptr<Trace>{new Trace{*file, *old, options.file_bytes}};
}

Trace::~Trace() {
    stop();
    for (const int descriptor : {file_, old_})
        if (descriptor >= 0) close(descriptor);
}

void Trace::start() {
    std::vector<spdlog::sink_ptr> sinks = spdlog::default_logger()->sinks();
    // What .pinfs/log shows is no place for so many lines.
    std::erase_if(sinks, [](const spdlog::sink_ptr& sink) {
        return dynamic_cast<spdlog::sinks::ringbuffer_sink_mt*>(sink.get()) != nullptr;
    });
    if (file_ >= 0) {
        sinks = {std::make_shared<TwoFiles>(file_, old_, file_bytes_)};
        sinks[0]->set_pattern("%Y-%m-%dT%H:%M:%S.%f%z %v");
    }
    thread_ = std::make_shared<spdlog::details::thread_pool>(kLinesWaiting, 1);
    logger_ = std::make_shared<spdlog::async_logger>("trace", sinks.begin(), sinks.end(), thread_,
                                                     spdlog::async_overflow_policy::overrun_oldest);
}

void Trace::stop() {
    logger_.reset();
    thread_.reset();  // when it has written all
}

void Trace::answered(const char* operation, const TracedRequest& request, std::uint64_t ns,
                     std::int64_t result) noexcept {
    if (!logger_) return;
    const std::uint64_t number = lines_.fetch_add(1, std::memory_order_relaxed) + 1;
    const std::uint64_t waited_ns = waited_by_this_thread_ns() - request.waited_before_ns;
    try {
        fmt::memory_buffer line;
        const auto to = std::back_inserter(line);
        fmt::format_to(to, "{} n={} us={:.1f} waited_us={:.1f} result=", operation, number,
                       static_cast<double>(ns) / 1000, static_cast<double>(waited_ns) / 1000);
        const char* const error = result < 0 ? strerrorname_np(static_cast<int>(-result)) : nullptr;
        if (error != nullptr)
            fmt::format_to(to, "{}", error);
        else
            fmt::format_to(to, "{}", result);
        fmt::format_to(to, " pid={} uid={} ino={}", request.pid, request.uid, request.ino);
        if (request.offset != TracedRequest::kNone)
            fmt::format_to(to, " offset={}", request.offset);
        if (request.size != TracedRequest::kNone) fmt::format_to(to, " size={}", request.size);
        logger_->log(request.came, spdlog::source_loc{}, spdlog::level::info,
                     spdlog::string_view_t{line.data(), line.size()});
    } catch (...) {  // a line is lost, as its number shows
    }
}

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/edge.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <ctime>
#include <mutex>

#include "fs/fuse/ledger.h"
#include "fs/fuse/reports.h"

namespace pinfs::fuse {
namespace {

// A bad page that a program reads in a loop must not fill the log: an error like the one before
// it is counted, not written, until this has passed.
constexpr std::time_t kQuietSeconds = 5;

constexpr std::uint64_t kHandleDax = 4;  // beside O_ACCMODE

void log_failure(const Error& error, const char* operation, fuse_ino_t ino) {
    static std::atomic<std::uint64_t> last_place{~std::uint64_t{0}};
    static std::atomic<std::time_t> last_seconds{0};
    const std::uint64_t place =
        error.offset ^ (std::uint64_t{ino} << 32) ^ static_cast<std::uint64_t>(error.cause);
    const std::time_t now = std::time(nullptr);
    if (last_place.exchange(place) == place && now - last_seconds.load() < kQuietSeconds) return;
    last_seconds = now;
    spdlog::error("{} of inode {}: {}", operation, ino, error.message());
}

/// Lets few lines through in a while.
class Rarely {
public:
    /// How many were not let through before this one; nullopt: this one is not either.
    std::optional<std::uint64_t> may_speak() {
        constexpr int kLinesMax = 20;
        const std::lock_guard lock{mutex_};
        const std::time_t now = std::time(nullptr);
        if (now - since_ >= kQuietSeconds) {
            since_ = now;
            lines_ = 0;
        }
        if (lines_ >= kLinesMax) {
            ++unsaid_;
            return std::nullopt;
        }
        ++lines_;
        return std::exchange(unsaid_, 0);
    }

private:
    std::mutex mutex_;
    std::time_t since_ = 0;
    int lines_ = 0;
    std::uint64_t unsaid_ = 0;
};

bool is_worth_a_line(const Error& error) {
    const int number = error.number();
    return (number == EUCLEAN || number == EIO) && error.cause != Cause::shut_down;
}

}  // namespace

void reply_error(fuse_req_t req, const Error& error, const char* operation,
                 fuse_ino_t ino) noexcept {
    if (is_worth_a_line(error)) {
        try {
            log_failure(error, operation, ino);
        } catch (...) {  // the request is answered all the same
        }
    }
    RequestInHand::set_result(-error.number());
    fuse_reply_err(req, error.number());
}

void reply_bytes(fuse_req_t req, const void* bytes, std::size_t count) noexcept {
    RequestInHand::set_result(static_cast<std::int64_t>(count));
    fuse_reply_buf(req, static_cast<const char*>(bytes), count);
}

void reply_count(fuse_req_t req, std::size_t count) noexcept {
    RequestInHand::set_result(static_cast<std::int64_t>(count));
    fuse_reply_write(req, count);
}

std::string sentence_of_refusal(Edge& edge, const Error& error, Ino ino, std::uint64_t begin,
                                std::uint64_t end) {
    std::string sentence = error.message() + ": [" + std::to_string(begin) + ", " +
                           (end == UINT64_MAX ? "end" : std::to_string(end)) + ")";
    if (ino) sentence += " of inode " + std::to_string(ino.value);
    const std::string holder =
        error.in_the_way == 0 ? std::string{} : edge.volume.describe(error.in_the_way);
    if (!holder.empty()) sentence += ", " + escaped(holder);
    return sentence;
}

void log_refusal(Edge& edge, const char* operation, const Error& error, Ino ino,
                 std::uint64_t begin, std::uint64_t end) {
    static Rarely rarely;
    const auto unsaid = rarely.may_speak();
    if (!unsaid) return;
    if (*unsaid != 0) spdlog::warn("{} more operations were refused", *unsaid);
    spdlog::warn("{} of {} was refused: {}", operation, escaped(edge.volume.path(ino)),
                 sentence_of_refusal(edge, error, ino, begin, end));
}

void reply_refusal(fuse_req_t req, const Error& error, const char* operation, fuse_ino_t ino,
                   std::uint64_t begin, std::uint64_t end) noexcept {
    if (error.number() == EBUSY) {
        guarded([&]() -> Expected<void> {
            log_refusal(edge_of(req), operation, error, Ino{ino}, begin, end);
            return {};
        });
    }
    reply_error(req, error, operation, ino);
}

void reply_done(fuse_req_t req, const Expected<void>& result, const char* operation,
                fuse_ino_t ino) noexcept {
    if (!result) return reply_error(req, result.error(), operation, ino);
    fuse_reply_err(req, 0);
}

struct stat stat_of(const Attributes& attributes) {
    struct stat st {};
    st.st_ino = attributes.ino.value;
    st.st_mode = attributes.mode;
    st.st_nlink = attributes.nlink;
    st.st_uid = attributes.uid;
    st.st_gid = attributes.gid;
    st.st_rdev = makedev(attributes.device_major, attributes.device_minor);
    st.st_size = static_cast<off_t>(attributes.size_bytes);
    st.st_blksize = kBlockBytes;
    st.st_blocks = static_cast<blkcnt_t>(attributes.blocks * (kBlockBytes / 512));
    const auto timespec_of = [](const Time& time) {
        return timespec{time.seconds, static_cast<long>(time.nanoseconds)};
    };
    st.st_atim = timespec_of(attributes.atime);
    st.st_mtim = timespec_of(attributes.mtime);
    st.st_ctim = timespec_of(attributes.ctime);
    return st;
}

double attribute_timeout_of(const Attributes& attributes) {
    // A write that takes setuid away changes the mode behind the kernel's back
    // (HANDLE_KILLPRIV_V2).
    const bool may_lose_bits = S_ISREG(attributes.mode) && (attributes.mode & (S_ISUID | S_ISGID));
    return may_lose_bits ? 0 : kEntryTimeoutSeconds;
}

fuse_entry_param entry_param_of(const Attributes& attributes) {
    fuse_entry_param param{};
    param.ino = attributes.ino.value;
    param.generation = attributes.generation & 0xffffffff;
    param.attr = stat_of(attributes);
    param.attr_timeout = attribute_timeout_of(attributes);
    param.entry_timeout = kEntryTimeoutSeconds;
    return param;
}

void reply_entry(fuse_req_t req, const Entry& entry) noexcept {
    Volume& volume = volume_of(req);  // the request ends with the reply
    const fuse_entry_param param = entry_param_of(entry.attributes);
    if (fuse_reply_entry(req, &param) != 0) volume.forget(entry.attributes.ino, 1);
}

void reply_attributes(fuse_req_t req, const Attributes& attributes) noexcept {
    const struct stat st = stat_of(attributes);
    fuse_reply_attr(req, &st, attribute_timeout_of(attributes));
}

std::uint64_t new_handle(Edge& edge, int open_flags, bool dax) {
    const std::uint64_t number = edge.ledger != nullptr
                                     ? edge.ledger->take_handle_number()
                                     : edge.next_handle.fetch_add(1, std::memory_order_relaxed);
    return number << 3 | (dax ? kHandleDax : 0) |
           (static_cast<std::uint64_t>(open_flags) & O_ACCMODE);
}

HandleKind kind_of_handle(std::uint64_t handle) {
    const auto mode = static_cast<int>(handle & O_ACCMODE);
    return {.reads = mode == O_RDONLY || mode == O_RDWR,
            .writes = mode == O_WRONLY || mode == O_RDWR,
            .dax = (handle & kHandleDax) != 0};
}

Caller caller_of(fuse_req_t req) {
    const fuse_ctx* context = fuse_req_ctx(req);
    return {.uid = context->uid, .gid = context->gid};
}

Time time_now() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return {.seconds = now.tv_sec, .nanoseconds = static_cast<std::uint32_t>(now.tv_nsec)};
}

}  // namespace pinfs::fuse

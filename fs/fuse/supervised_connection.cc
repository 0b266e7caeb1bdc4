// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/supervised_connection.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <span>
#include <thread>

#include "fs/fuse/kernel_features.h"
#include "fs/fuse/mountpoint.h"
#include "fs/volume/finished_requests.h"

namespace pinfs::fuse {
namespace {

// Newer than the headers of Linux 6.1.
constexpr int kNotifyResend = 7;
constexpr std::uint64_t kResent = std::uint64_t{1} << 63;  // in a request's number

/// A request of 1 MiB, and what stands before it.
constexpr std::size_t kBufferBytes = 2 << 20;

SupervisedConnection* the_connection = nullptr;
thread_local std::uint64_t poller_of_thread = 0;

fuse_in_header header_of(const std::byte* request) {
    fuse_in_header header;
    std::memcpy(&header, request, sizeof(header));
    return header;
}

bool is_answered(std::uint32_t opcode) {
    return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

/// Has memory behind all of a buffer. While a daemon is killed the kernel gives it no more, and
/// would fail the request that it is just handing over, with EIO.
void have_memory(std::byte* buffer, std::size_t bytes) {
    thread_local std::span<const std::byte> has;
    if (has.data() == buffer && has.size() == bytes) return;
    constexpr std::size_t kPage = 4096;
    for (std::size_t at = 0; at < bytes; at += kPage)
        *static_cast<volatile std::byte*>(buffer + at) = std::byte{0};
    if (bytes > 0) *static_cast<volatile std::byte*>(buffer + bytes - 1) = std::byte{0};
    has = {buffer, bytes};
}

}  // namespace

std::string why_no_supervision() {
    if (kernel_is_at_least(6, 9)) return {};
    return std::string{
               "it needs Linux 6.9, whose FUSE sends requests again to a new daemon, and "
               "this is "} +
           kernel_release();
}

unsigned supervised_threads() {
    constexpr unsigned kMax = FinishedRequests::kThreadsMax;
    return std::clamp(2 * std::thread::hardware_concurrency(), 8U, kMax);
}

std::vector<int> clones_of(int device) {
    std::vector<int> clones;
    while (clones.size() < supervised_threads()) {
        const int clone = open(kFuseDevice, O_RDWR | O_CLOEXEC);
        if (clone < 0) break;
        auto from = static_cast<std::uint32_t>(device);
        if (ioctl(clone, FUSE_DEV_IOC_CLONE, &from) != 0) {
            close(clone);
            break;
        }
        clones.push_back(clone);
    }
    return clones;
}

SupervisedConnection::SupervisedConnection(int device, std::vector<int> clones, Ledger& ledger)
    : device_(device), clones_(std::move(clones)), ledger_(ledger) {
    assert(the_connection == nullptr);
    the_connection = this;
}

SupervisedConnection::~SupervisedConnection() {
    for (const int clone : clones_) close(clone);
    close(device_);
    the_connection = nullptr;
}

bool SupervisedConnection::notify(int code, const void* words, std::size_t bytes) const {
    fuse_out_header header{.len = static_cast<std::uint32_t>(sizeof(fuse_out_header) + bytes),
                           .error = code,
                           .unique = 0};
    std::array<iovec, 2> parts{iovec{&header, sizeof(header)},
                               iovec{const_cast<void*>(words), bytes}};
    return writev(device_, parts.data(), bytes == 0 ? 1 : 2) >= 0;
}

bool SupervisedConnection::kernel_has(Ino ino) const {
    // Of what it has not, it says so; of what it has, no more than the attributes is asked again.
    const fuse_notify_inval_inode_out words{.ino = ino.value, .off = -1, .len = 0};
    return notify(FUSE_NOTIFY_INVAL_INODE, &words, sizeof(words)) || errno != ENOENT;
}

void SupervisedConnection::wake(std::uint64_t poller) const {
    const fuse_notify_poll_wakeup_out words{.kh = poller};
    static_cast<void>(notify(FUSE_NOTIFY_POLL, &words, sizeof(words)));  // or it waits no more
}

std::expected<std::vector<std::uint64_t>, std::string> SupervisedConnection::take_back() {
    const auto failed = [](const char* what) {
        return std::unexpected(std::string{what} + ": " + strerror(errno));
    };
    if (!notify(kNotifyResend, nullptr, 0)) return failed("the kernel sends nothing again");
    const int flags = fcntl(device_, F_GETFL);
    if (flags < 0 || fcntl(device_, F_SETFL, flags | O_NONBLOCK) != 0)
        return failed("the connection");
    std::vector<std::uint64_t> numbers;
    std::vector<std::byte> buffer(kBufferBytes);
    int failure = 0;
    // They stand before all others.
    while (fresh_ == 0) {
        const ssize_t count = read(device_, buffer.data(), buffer.size());
        if (count < 0 && (errno == EINTR || errno == ENOENT)) continue;
        if (count < 0) failure = errno == EAGAIN || errno == ENODEV ? 0 : errno;
        if (count < static_cast<ssize_t>(sizeof(fuse_in_header))) break;
        const fuse_in_header header = header_of(buffer.data());
        const bool resent = (header.unique & kResent) != 0;
        if (resent) numbers.push_back(header.unique & ~kResent);
        if (!resent && is_answered(header.opcode)) fresh_ = header.unique;
        taken_back_.emplace_back(buffer.begin(), buffer.begin() + count);
    }
    has_taken_back_ = !taken_back_.empty();
    fcntl(device_, F_SETFL, flags);
    errno = failure;
    if (failure != 0) return failed("the connection");
    return numbers;
}

std::expected<void, std::string> SupervisedConnection::connect(fuse_session* session) {
    const fuse_custom_io callbacks{.writev = on_writev,
                                   .read = on_read,
                                   .splice_receive = nullptr,
                                   .splice_send = nullptr,
                                   .clone_fd = on_clone};
    const int own = fcntl(device_, F_DUPFD_CLOEXEC, 0);  // libfuse closes it with the session
    if (own < 0 || fuse_session_custom_io(session, &callbacks, sizeof(callbacks), own) != 0)
        return std::unexpected(
            "libfuse was built without custom I/O, which a supervised mount needs");
    const bool comes_again = std::ranges::any_of(taken_back_, [](const auto& request) {
        return header_of(request.data()).opcode == FUSE_INIT;
    });
    const auto saved = ledger_.first_request();
    if (saved.empty() || ledger_.first_answer().empty() || comes_again) return {};
    std::vector<std::byte> request{saved.begin(), saved.end()};
    fuse_buf buffer{};
    buffer.size = request.size();
    buffer.mem = request.data();
    repeating_ = true;
    fuse_session_process_buf(session, &buffer);
    repeating_ = false;
    if (!std::ranges::equal(repeated_, ledger_.first_answer()))
        return std::unexpected(
            "this version agrees with the kernel on other features than the mount has: unmount it, "
            "and mount it anew");
    return {};
}

std::uint64_t SupervisedConnection::poller_of_this_thread() { return poller_of_thread; }

/// Remembers what a handler cannot learn from libfuse.
void SupervisedConnection::look_at(const std::byte* request, std::size_t bytes) {
    const fuse_in_header header = header_of(request);
    served_request() = {.number = header.unique & ~kResent,
                        .resent = (header.unique & kResent) != 0};
    poller_of_thread = 0;
    if (header.opcode == FUSE_POLL && bytes >= sizeof(header) + sizeof(fuse_poll_in)) {
        fuse_poll_in words;
        std::memcpy(&words, request + sizeof(header), sizeof(words));
        if ((words.flags & FUSE_POLL_SCHEDULE_NOTIFY) != 0) poller_of_thread = words.kh;
    }
    if (header.opcode == FUSE_INIT) {
        ledger_.set_first_request({request, bytes});
        first_request_ = header.unique;
    }
}

// The thread may be cancelled while it reads, so nothing from here on is noexcept.
ssize_t SupervisedConnection::read_request(int descriptor, std::byte* buffer, std::size_t bytes) {
    if (has_taken_back_.load(std::memory_order_relaxed)) {
        const std::scoped_lock lock{mutex_};
        if (!taken_back_.empty()) {
            if (taken_back_.front().size() > bytes) {  // as the kernel says that it is too small
                errno = EINVAL;
                return -1;
            }
            const std::vector<std::byte> request = std::move(taken_back_.front());
            taken_back_.pop_front();
            has_taken_back_ = !taken_back_.empty();
            std::ranges::copy(request, buffer);
            look_at(buffer, request.size());
            return static_cast<ssize_t>(request.size());
        }
    }
    have_memory(buffer, bytes);
    const ssize_t count = read(descriptor, buffer, bytes);
    if (count >= static_cast<ssize_t>(sizeof(fuse_in_header)))
        look_at(buffer, static_cast<std::size_t>(count));
    return count;
}

ssize_t SupervisedConnection::write_answer(int descriptor, iovec* parts, int count) {
    fuse_out_header header;
    std::memcpy(&header, parts[0].iov_base, sizeof(header));
    const bool first = header.unique != 0 && header.unique == first_request_.load();
    if (repeating_ || first) {
        std::vector<std::byte> bytes;
        for (int i = 0; i < count; ++i) {
            const auto* const from = static_cast<const std::byte*>(parts[i].iov_base);
            bytes.insert(bytes.end(), from, from + parts[i].iov_len);
        }
        if (repeating_) {
            repeated_ = std::move(bytes);
            return static_cast<ssize_t>(repeated_.size());
        }
        ledger_.set_first_answer(bytes);
        first_request_ = 0;
    }
    const bool of_device =
        header.unique != 0 && ((header.unique & kResent) != 0 || header.unique == fresh_);
    return writev(of_device ? device_ : descriptor, parts, count);
}

ssize_t SupervisedConnection::on_read(int descriptor, void* buffer, std::size_t bytes, void*) {
    return the_connection->read_request(descriptor, static_cast<std::byte*>(buffer), bytes);
}

ssize_t SupervisedConnection::on_writev(int descriptor, iovec* parts, int count, void*) {
    return the_connection->write_answer(descriptor, parts, count);
}

int SupervisedConnection::on_clone(int) {
    const auto& clones = the_connection->clones_;
    if (clones.empty()) return -1;
    return fcntl(clones[the_connection->next_clone_.fetch_add(1) % clones.size()], F_DUPFD_CLOEXEC,
                 0);
}

}  // namespace pinfs::fuse

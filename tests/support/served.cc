// SPDX-License-Identifier: Apache-2.0
#include "tests/support/served.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdarg>
#include <stdexcept>
#include <string>

#include "fs/fuse/routing.h"

#define FUSE_USE_VERSION 317
#include <fuse_lowlevel.h>

namespace pinfs::test {

namespace {

constexpr std::size_t kAnswerBytesMax = std::size_t{1} << 17;

void require(bool holds, const char* what) {
    if (!holds) throw std::runtime_error(what);
}

/// What libfuse says of answers that are lost.
void say_nothing(fuse_log_level, const char*, va_list) {}

}  // namespace

Served::Served(Volume& volume)
    : edge_{volume,
            {.kernel_mmap = true,
             .described = {},
             .mountpoint = "/",
             .region_path = {},
             .report_gid = {},
             .user_contexts = 16,
             .supervisor = {}}} {
    fuse_set_log_func(say_nothing);
    std::string name = "served";
    std::array<char*, 2> words{name.data(), nullptr};
    fuse_args arguments = FUSE_ARGS_INIT(1, words.data());
    const fuse_lowlevel_ops operations = fuse::routed_operations();
    session_ = fuse_session_new(&arguments, &operations, sizeof operations, &edge_);
    fuse_opt_free_args(&arguments);
    require(session_ != nullptr, "no session");
    std::array<int, 2> ends{-1, -1};
    require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0, "no sockets");
    session_end_ = ends[0];
    answers_ = ends[1];
    const std::string place = "/dev/fd/" + std::to_string(session_end_);
    require(fuse_session_mount(session_, place.c_str()) == 0, "the session takes no descriptor");
    message_.reserve(kAnswerBytesMax);
    answer_.reserve(kAnswerBytesMax);
    fuse_init_in init{};
    init.major = FUSE_KERNEL_VERSION;
    init.minor = FUSE_KERNEL_MINOR_VERSION;
    init.max_readahead = 1 << 17;
    send(FUSE_INIT, FUSE_ROOT_ID, init);
    require(error_ == 0, "the session does not begin");
}

Served::~Served() {
    fuse_session_destroy(session_);
    close(answers_);
    if (kept_ >= 0) close(kept_);
}

void Served::lose_answers(bool lost) {
    lost_ = lost;
    if (lost) {
        kept_ = fcntl(session_end_, F_DUPFD_CLOEXEC, 0);
        const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
        dup2(full, session_end_);
        close(full);
    } else {
        dup2(kept_, session_end_);
        close(kept_);
        kept_ = -1;
    }
}

void Served::send(std::uint32_t operation, std::uint64_t node, const void* head,
                  std::size_t head_bytes, const void* behind, std::size_t behind_bytes) {
    fuse_in_header start{};
    start.len = static_cast<std::uint32_t>(sizeof start + head_bytes + behind_bytes);
    start.opcode = operation;
    start.unique = ++unique_;
    start.nodeid = node;
    start.pid = static_cast<std::uint32_t>(getpid());
    message_.resize(start.len);
    std::memcpy(message_.data(), &start, sizeof start);
    if (head_bytes != 0) std::memcpy(message_.data() + sizeof start, head, head_bytes);
    if (behind_bytes != 0)
        std::memcpy(message_.data() + sizeof start + head_bytes, behind, behind_bytes);
    fuse_buf whole{};
    whole.size = message_.size();
    whole.mem = message_.data();
    const auto handle = [&] {
        fuse_session_process_buf(session_, &whole);
    };
    if (const auto around = std::exchange(around_, {}))
        around(handle);
    else
        handle();

    answer_.resize(kAnswerBytesMax);
    const ssize_t got = recv(answers_, answer_.data(), answer_.size(), MSG_DONTWAIT);
    const bool forgets = operation == FUSE_FORGET || operation == FUSE_BATCH_FORGET;
    fuse_out_header out{};
    if (lost_ || forgets) {
        require(got < 0, "an answer that nobody takes, or asks for");
        answer_.clear();
        return;
    }
    require(got >= static_cast<ssize_t>(sizeof out), "a request has no answer");
    std::memcpy(&out, answer_.data(), sizeof out);
    answer_.resize(static_cast<std::size_t>(got));
    answer_.erase(answer_.begin(), answer_.begin() + sizeof out);
    error_ = -out.error;
    std::uint8_t more = 0;
    require(recv(answers_, &more, 1, MSG_DONTWAIT) < 0, "a request has two answers");
}

}  // namespace pinfs::test

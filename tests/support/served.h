// SPDX-License-Identifier: Apache-2.0
//
// The kernel edge without a kernel: requests are handed to libfuse one by one, on this thread, and
// their answers come back through a socket instead of /dev/fuse.
#pragma once

#include <linux/fuse.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "fs/fuse/edge.h"

struct fuse_session;

namespace pinfs::test {

class Served {
public:
    explicit Served(Volume& volume);
    ~Served();
    Served(const Served&) = delete;
    Served& operator=(const Served&) = delete;

    [[nodiscard]] fuse::Edge& edge() { return edge_; }

    /// Hands over a request of root: a struct of linux/fuse.h, and what stands behind it. Throws
    /// unless it is answered exactly once, or, with answers lost, never.
    void send(std::uint32_t operation, std::uint64_t node, const void* head, std::size_t head_bytes,
              const void* behind = nullptr, std::size_t behind_bytes = 0);
    template <class Head>
    void send(std::uint32_t operation, std::uint64_t node, const Head& head,
              const void* behind = nullptr, std::size_t behind_bytes = 0) {
        send(operation, node, &head, sizeof head, behind, behind_bytes);
    }
    /// Of the last answer: errno or 0, and what stands behind its head.
    [[nodiscard]] int error() const { return error_; }
    [[nodiscard]] const std::vector<std::uint8_t>& answer() const { return answer_; }
    template <class Struct>
    [[nodiscard]] Struct answer_as() const {
        Struct value{};
        if (answer_.size() >= sizeof value) std::memcpy(&value, answer_.data(), sizeof value);
        return value;
    }

    /// Lets the next request alone be handled inside of `around`, which is to call what it is
    /// given.
    void handle_next_in(std::function<void(const std::function<void()>&)> around) {
        around_ = std::move(around);
    }
    /// From now on the kernel takes no answer, as of a request whose process was killed; or it does
    /// again.
    void lose_answers(bool lost);

private:
    fuse::Edge edge_;
    fuse_session* session_ = nullptr;
    int session_end_ = -1;  // as libfuse has it
    int kept_ = -1;         // the same socket while answers are lost
    int answers_ = -1;
    std::uint64_t unique_ = 0;
    int error_ = 0;
    bool lost_ = false;
    std::function<void(const std::function<void()>&)> around_;
    std::vector<std::uint8_t> message_;
    std::vector<std::uint8_t> answer_;
};

}  // namespace pinfs::test

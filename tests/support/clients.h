// SPDX-License-Identifier: Apache-2.0
//
// What tests of the library have in common: open files, processes that end by a signal.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include "tests/support/kernel_mount.h"

namespace pinfs::test {

/// A descriptor, closed at the end; the file is made if it is not there.
class TestFile {
public:
    explicit TestFile(const std::string& path, int flags = O_RDWR | O_CREAT)
        : fd_(open(path.c_str(), flags | O_CLOEXEC, 0644)) {
        CAPTURE(path);
        REQUIRE(fd_ >= 0);
    }
    ~TestFile() { close(fd_); }
    TestFile(const TestFile&) = delete;
    TestFile& operator=(const TestFile&) = delete;

    [[nodiscard]] int fd() const { return fd_; }
    void resize(std::uint64_t bytes) const {
        REQUIRE(ftruncate(fd_, static_cast<off_t>(bytes)) == 0);
    }
    void write(std::uint64_t offset, const std::string& text) const {
        REQUIRE(pwrite(fd_, text.data(), text.size(), static_cast<off_t>(offset)) ==
                static_cast<ssize_t>(text.size()));
    }
    [[nodiscard]] std::string read(std::uint64_t offset, std::size_t bytes) const {
        std::string text(bytes, '\0');
        const ssize_t count = pread(fd_, text.data(), bytes, static_cast<off_t>(offset));
        text.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
        return text;
    }

private:
    int fd_;
};

/// Looks again and again, for ten seconds at most.
template <class Look>
bool becomes_true(const Look& look) {
    for (int i = 0; i < 2000; ++i) {
        if (look()) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
    return false;
}

/// Runs `body` in a child of fork. Its exit status, or 128 + the signal that ended it.
inline int in_child(const std::function<int()>& body) {
    const pid_t child = fork();
    if (child == 0) {
        for (const int fatal : {SIGBUS, SIGSEGV, SIGABRT}) std::signal(fatal, SIG_DFL);
        int result = 99;
        try {
            result = body();
        } catch (...) {  // a child has no test to fail
        }
        _exit(result);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace pinfs::test

// SPDX-License-Identifier: Apache-2.0
#include "cmd/output_of.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>

namespace pinfs::cmd {
namespace {

using std::chrono::steady_clock;

std::string search_path() {
    std::error_code ignored;
    const auto ours = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
    const char* const path = std::getenv("PATH");
    return ours.string() + ":" + (path != nullptr ? path : "/usr/bin:/bin") + ":/usr/sbin:/sbin";
}

[[noreturn]] void become(const std::vector<std::string>& words, const std::string& path, int out) {
    std::vector<char*> arguments;
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    setenv("PATH", path.c_str(), 1);
    execvp(arguments[0], arguments.data());
    _exit(127);
}

/// Reads until the other end is closed or it is `end`: whether it was.
bool read_until(int from, steady_clock::time_point end, std::string& text) {
    std::array<char, 65536> piece{};
    while (true) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(end - steady_clock::now()).count();
        pollfd ready{from, POLLIN, 0};
        const int count = poll(&ready, 1, static_cast<int>(std::max<long>(left, 0)));
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        const ssize_t bytes = read(from, piece.data(), piece.size());
        if (bytes <= 0) return true;
        text.append(piece.data(), static_cast<std::size_t>(bytes));
    }
}

}  // namespace

Output output_of(const std::vector<std::string>& words, std::chrono::milliseconds time) {
    Output output;
    std::array<int, 2> pipe{};
    if (pipe2(pipe.data(), O_CLOEXEC) != 0) return output;
    const std::string path = search_path();
    const pid_t child = fork();
    if (child == 0) become(words, path, pipe[1]);
    close(pipe[1]);
    if (child > 0) {
        output.in_time = read_until(pipe[0], steady_clock::now() + time, output.text);
        int status = 0;
        if (!output.in_time) kill(child, SIGKILL);  // it may be beyond that: nobody waits for it
        if (output.in_time && waitpid(child, &status, 0) == child && WIFEXITED(status))
            output.status = WEXITSTATUS(status);
    }
    close(pipe[0]);
    return output;
}

}  // namespace pinfs::cmd

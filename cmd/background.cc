// SPDX-License-Identifier: Apache-2.0
#include "cmd/background.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cmd/exit_codes.h"

namespace pinfs::cmd {
namespace {

// On the pipe: one byte of exit status, then the sentence, then the end.
void send(int descriptor, int status, const std::string& sentence) {
    std::string message(1, static_cast<char>(status));
    message += sentence;
    // A pipe takes this much at once; if nobody reads any more, nobody needs it.
    if (write(descriptor, message.data(), message.size()) < 0) return;
}

std::string receive(int descriptor) {
    std::string message;
    std::array<char, 1024> piece{};
    while (true) {
        const ssize_t count = read(descriptor, piece.data(), piece.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return message;
        message.append(piece.data(), static_cast<std::size_t>(count));
    }
}

void let_go_of_terminal() {
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) return;
    for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null, standard);
    if (null > STDERR_FILENO) close(null);
}

}  // namespace

void Start::succeeded() {
    if (descriptor_ < 0) return;
    let_go_of_terminal();
    send(descriptor_, kSuccess, {});
    close(descriptor_);
    descriptor_ = -1;
}

int Start::failed(int status, const std::string& sentence) {
    if (failed_) {
        failed_(status, sentence);
        return status;
    }
    if (descriptor_ < 0) return complain(program_, status, sentence);
    send(descriptor_, status, sentence);
    close(descriptor_);
    descriptor_ = -1;
    return status;
}

int complain(const std::string& program, int status, const std::string& sentence) {
    std::fprintf(stderr, "%s: %s\n", program.c_str(), sentence.c_str());
    return status;
}

int in_background(const std::string& program, const std::function<int(Start&)>& daemon,
                  const std::function<std::string()>& confirm) {
    std::array<int, 2> pipe{};
    if (pipe2(pipe.data(), O_CLOEXEC) != 0)
        return complain(program, kSystem, std::string{"no pipe: "} + strerror(errno));
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child < 0) return complain(program, kSystem, std::string{"no process: "} + strerror(errno));
    if (child == 0) {
        close(pipe[0]);
        setsid();
        Start start{program, pipe[1]};
        return daemon(start);
    }
    close(pipe[1]);
    const std::string message = receive(pipe[0]);
    close(pipe[0]);
    if (message.empty())
        return complain(program, kSystem, "the daemon ended before it served; see the system log");
    const int status = static_cast<unsigned char>(message[0]);
    if (status != kSuccess) return complain(program, status, message.substr(1));
    const std::string sentence = confirm();
    return sentence.empty() ? kSuccess : complain(program, kFailure, sentence);
}

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
#include "cmd/run_command.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cmd/background.h"
#include "cmd/process.h"

namespace pinfs::cmd {
namespace {

constexpr std::array kForwarded{SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,
                                SIGUSR2, SIGALRM, SIGPIPE, SIGWINCH};

[[noreturn]] void become(const CommandToRun& command, const sigset_t& mask, pid_t parent,
                         int failure) {
    sigprocmask(SIG_SETMASK, &mask, nullptr);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(kRunnerFailed);
    for (const auto& [name, value] : command.environment) setenv(name.c_str(), value.c_str(), 1);
    std::vector<std::string> copy = command.words;
    std::vector<char*> words;
    for (std::string& word : copy) words.push_back(word.data());
    words.push_back(nullptr);
    execvp(words[0], words.data());
    const int number = errno;
    if (write(failure, &number, sizeof(number)) < 0) _exit(kRunnerFailed);
    _exit(kNotExecutable);
}

/// What a terminal's keys sent came to the program as well.
void pass_on(int signals, int pidfd) {
    signalfd_siginfo info{};
    while (read(signals, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info)))
        if (info.ssi_code != SI_KERNEL)
            pidfd_send_signal(pidfd, static_cast<int>(info.ssi_signo), nullptr, 0);
}

int status_of(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

int run_command(const CommandToRun& command) {
    const auto failed = [&](int status, const std::string& what) {
        return complain(command.program, status, what + ": " + strerror(errno));
    };
    sigset_t ours;
    sigset_t before;
    sigemptyset(&ours);
    for (const int signal : kForwarded) sigaddset(&ours, signal);
    sigprocmask(SIG_BLOCK, &ours, &before);
    const int signals = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    std::array<int, 2> failure{};
    if (signals < 0 || pipe2(failure.data(), O_CLOEXEC) != 0)
        return failed(kRunnerFailed, "no descriptor");
    std::fflush(nullptr);
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0) return failed(kRunnerFailed, "no process");
    if (child == 0) become(command, before, parent, failure[1]);
    close(failure[1]);
    int number = 0;
    const bool started = read(failure[0], &number, sizeof(number)) == 0;
    close(failure[0]);
    const int pidfd = pidfd_open(child, 0);
    if (started && pidfd >= 0) {
        std::array<pollfd, 3> waiting{pollfd{pidfd, POLLIN, 0}, pollfd{signals, POLLIN, 0},
                                      pollfd{command.watched, POLLIN, 0}};
        while (waiting[0].revents == 0) {
            if (poll(waiting.data(), waiting.size(), -1) < 0) continue;
            if (waiting[1].revents != 0) pass_on(signals, pidfd);
            if ((waiting[2].revents & POLLIN) != 0)
                command.readable(child);
            else if (waiting[2].revents != 0)
                waiting[2].fd = -1;
        }
    }
    const int status = status_of(child);
    if (pidfd >= 0) close(pidfd);
    close(signals);
    if (started) return status;
    return complain(command.program, number == ENOENT ? kNoSuchProgram : kNotExecutable,
                    command.words[0] + ": " + strerror(number));
}

}  // namespace pinfs::cmd

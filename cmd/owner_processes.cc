// SPDX-License-Identifier: Apache-2.0
#include "cmd/owner_processes.h"

#include <linux/kcmp.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <utility>

#include "cmd/process.h"

namespace pinfs::cmd {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

bool has_ended(int pidfd) {
    pollfd waiting{pidfd, POLLIN, 0};
    return poll(&waiting, 1, 0) != 0;
}

std::uint64_t pid_namespace_of(int pid) {
    struct stat st {};
    const std::string path = "/proc/" + std::to_string(pid) + "/ns/pid";
    return stat(path.c_str(), &st) == 0 ? st.st_ino : 0;
}

/// The descriptors by which a process has the mount's .pinfs/context open.
std::vector<int> contexts_of(int pid, const std::string& mountpoint) {
    std::vector<int> numbers;
    std::error_code error;
    const std::string directory = "/proc/" + std::to_string(pid) + "/fd";
    for (std::filesystem::directory_iterator at{directory, error}, end; !error && at != end;
         at.increment(error)) {
        std::error_code unreadable;
        const auto target = std::filesystem::read_symlink(at->path(), unreadable);
        if (!unreadable && target == mountpoint + "/.pinfs/context")
            numbers.push_back(std::stoi(at->path().filename()));
    }
    return numbers;
}

bool is_same_open_file(int left_pid, int left, int right_pid, int right) {
    return syscall(SYS_kcmp, left_pid, right_pid, KCMP_FILE, left, right) == 0;
}

/// A descriptor of the only context that the process has of the mount; -1 if it has none or
/// several.
int only_context_of(int pid, const std::string& mountpoint) {
    const std::vector<int> numbers = contexts_of(pid, mountpoint);
    for (const int number : numbers)
        if (!is_same_open_file(pid, numbers.front(), pid, number)) return -1;
    return numbers.empty() ? -1 : numbers.front();
}

}  // namespace

OwnerProcesses::OwnerProcesses(OwnerProcesses&& other) noexcept
    : processes_(std::exchange(other.processes_, {})) {}

OwnerProcesses::~OwnerProcesses() {
    for (const Process& process : processes_) close(process.pidfd);
}

std::expected<OwnerProcesses, std::string> OwnerProcesses::of(const Pinned& item) {
    if (item.pid <= 0)
        return std::unexpected("the owner of " + sentence_of(item) +
                               " is no process that can be seen from here");
    const int pid = static_cast<int>(item.pid);
    OwnerProcesses owners;
    const int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0 && errno != ESRCH)
        return std::unexpected("process " + std::to_string(pid) + ": " + strerror(errno));
    if (pidfd >= 0) owners.processes_.push_back({pid, pidfd});
    // If the number is the owner's now, it was when the pidfd was opened.
    if (pidfd < 0 || start_ticks_of(pid) != item.start_ticks ||
        (item.pid_namespace != 0 && pid_namespace_of(pid) != item.pid_namespace))
        return std::unexpected("process " + owner_text(item) + " has ended");
    if (item.owner == "context") owners.add_sharers(item, pid);
    return owners;
}

void OwnerProcesses::add_sharers(const Pinned& item, int owner) {
    const int context = only_context_of(owner, item.mountpoint);
    if (context < 0) return;
    std::error_code error;
    for (std::filesystem::directory_iterator at{"/proc", error}, end; !error && at != end;
         at.increment(error)) {
        const std::string name = at->path().filename();
        int pid = 0;
        const auto [rest, wrong] = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (wrong != std::errc() || *rest != '\0' || pid == owner || pid == getpid()) continue;
        const int pidfd = pidfd_open(pid, 0);
        if (pidfd < 0) continue;
        bool shares = false;
        for (const int number : contexts_of(pid, item.mountpoint))
            shares = shares || is_same_open_file(owner, context, pid, number);
        // Had it ended meanwhile, the answer might be about another.
        if (shares && !has_ended(pidfd))
            processes_.push_back({pid, pidfd});
        else
            close(pidfd);
    }
}

std::string OwnerProcesses::text() const {
    std::string text;
    for (const Process& process : processes_)
        text += (text.empty() ? "" : ", ") + std::to_string(process.pid);
    return text;
}

std::string OwnerProcesses::signal(int number) const {
    for (const Process& process : processes_)
        if (pidfd_send_signal(process.pidfd, number, nullptr, 0) != 0 && errno != ESRCH)
            return "process " + std::to_string(process.pid) + ": " + strerror(errno);
    return {};
}

bool OwnerProcesses::wait(milliseconds patience) const {
    const auto end = steady_clock::now() + patience;
    for (const Process& process : processes_) {
        const auto left =
            std::chrono::duration_cast<milliseconds>(end - steady_clock::now()).count();
        pollfd waiting{process.pidfd, POLLIN, 0};
        if (poll(&waiting, 1, static_cast<int>(std::max<std::int64_t>(left, 0))) <= 0) return false;
    }
    return true;
}

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/processes.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <fstream>
#include <memory>
#include <sstream>

namespace pinfs::fuse {
namespace {

constexpr std::string_view kContextName = "/.pinfs/context";

std::string process_path(std::uint64_t pid, const char* name) {
    return "/proc/" + std::to_string(pid) + "/" + name;
}

/// Whether /proc has our own numbers.
bool proc_is_ours() {
    static const bool ours = [] {
        std::array<char, 32> self{};
        const ssize_t count = readlink("/proc/self", self.data(), self.size() - 1);
        return count > 0 && std::string_view{self.data()} == std::to_string(getpid());
    }();
    return ours;
}

std::string link_target(const std::string& path) {
    std::array<char, PATH_MAX> target{};
    const ssize_t count = readlink(path.c_str(), target.data(), target.size());
    return count < 0 ? std::string{} : std::string(target.data(), static_cast<std::size_t>(count));
}

/// When the process began; 0 if there is none.
std::uint64_t start_ticks(std::uint64_t pid) {
    std::string text;
    std::getline(std::ifstream{process_path(pid, "stat")}, text, '\0');
    // The name stands in parentheses and may hold anything; field 3 follows it.
    const std::size_t name_end = text.rfind(')');
    if (name_end == text.npos) return 0;
    std::istringstream fields{text.substr(name_end + 1)};
    std::string skipped;
    for (int field = 3; field < 22; ++field) fields >> skipped;
    std::uint64_t ticks = 0;
    fields >> ticks;
    return ticks;
}

std::string command_of(std::uint64_t pid) {
    std::string command;  // which may have line ends of its own
    std::getline(std::ifstream{process_path(pid, "comm")}, command, '\0');
    if (command.ends_with('\n')) command.pop_back();
    return command;
}

KnownProcess ask(pid_t thread) {
    KnownProcess known;
    std::uint32_t pid = 0;
    if (!(std::istringstream{status_field(thread, "Tgid")} >> pid)) return known;
    struct stat space {};
    const std::uint64_t begun = start_ticks(pid);
    if (begun == 0 || stat(process_path(pid, "ns/pid").c_str(), &space) != 0) return known;
    known.process = {.pid = pid, .start_ticks = begun, .pid_namespace = space.st_ino};
    known.command = command_of(pid);
    return known;
}

/// The name of the thread whose file this is; nullopt if it has ended.
std::optional<std::string> name_of_living(int comm) {
    std::array<char, 64> text{};
    const ssize_t count = pread(comm, text.data(), text.size(), 0);
    if (count <= 0) return std::nullopt;
    return std::string(text.data(), static_cast<std::size_t>(count) - 1);  // without the line end
}

}  // namespace

std::string status_field(pid_t pid, std::string_view field) {
    if (pid == 0 || !proc_is_ours()) return {};
    std::ifstream status{process_path(static_cast<std::uint64_t>(pid), "status")};
    for (std::string line; std::getline(status, line);)
        if (line.starts_with(field) && line.size() > field.size() && line[field.size()] == ':')
            return line.substr(field.size() + 1);
    return {};
}

bool is_process(pid_t pid) {
    pid_t leader = 0;
    return pid != 0 && (std::istringstream{status_field(pid, "Tgid")} >> leader) && leader == pid;
}

std::string descriptor_target(std::uint32_t pid, std::uint32_t number) {
    if (pid == 0 || !proc_is_ours()) return {};
    return link_target(process_path(pid, "fd/") + std::to_string(number));
}

ProcessesOfThreads::~ProcessesOfThreads() {
    for (const auto& [thread, seen] : seen_) close(seen.comm);
}

KnownProcess ProcessesOfThreads::find(pid_t thread) {
    if (thread == 0 || !proc_is_ours()) return {};
    const std::lock_guard lock{mutex_};
    const auto at = seen_.find(thread);
    if (at != seen_.end()) {
        KnownProcess& known = at->second.known;
        if (auto name = name_of_living(at->second.comm)) {
            // That of the first thread is the process': it changes at exec.
            if (known.process.pid == static_cast<std::uint32_t>(thread)) known.command = *name;
            return known;
        }
        close(at->second.comm);
        seen_.erase(at);
    }
    // Opened first: if the thread ends now, the file says so later.
    const int comm = open(process_path(static_cast<std::uint64_t>(thread), "comm").c_str(),
                          O_RDONLY | O_CLOEXEC);
    if (comm < 0) return {};
    KnownProcess known;
    try {
        known = ask(thread);
        if (known.process.pid == 0 || !name_of_living(comm)) {
            close(comm);
            return {};
        }
        if (seen_.size() >= kSeenMax) {
            close(seen_.begin()->second.comm);
            seen_.erase(seen_.begin());
        }
        seen_.insert({thread, Seen{known, comm}});
    } catch (...) {
        close(comm);
        throw;
    }
    return known;
}

OwnersSeen::Seen& OwnersSeen::of(const pin::Process& process) {
    const auto [at, is_new] = seen_.try_emplace(process);
    if (is_new && process.pid != 0 && proc_is_ours())
        at->second.lives = start_ticks(process.pid) == process.start_ticks;
    return at->second;
}

std::optional<std::string> OwnersSeen::container(const pin::Process& process) {
    Seen& seen = of(process);
    if (!seen.lives || seen.container) return seen.container;
    std::ifstream cgroups{process_path(process.pid, "cgroup")};
    for (std::string line; std::getline(cgroups, line);) {
        // HIERARCHY:CONTROLLERS:PATH; the unified hierarchy is 0, and the last if there is another.
        const std::size_t path = line.find(':', line.find(':') + 1);
        if (path != line.npos) seen.container = line.substr(path + 1);
    }
    return seen.container;
}

bool OwnersSeen::shows(const pin::Process& process, std::uint32_t number,
                       const std::string& target) {
    Seen& seen = of(process);
    if (!seen.lives) return false;
    const auto [at, is_new] = seen.targets.try_emplace(number);
    if (is_new) at->second = descriptor_target(process.pid, number);
    return !target.empty() && at->second == target;
}

bool OwnersSeen::shows_context(const pin::Process& process) {
    Seen& seen = of(process);
    if (!seen.lives) return false;
    if (seen.context) return *seen.context;
    seen.context = false;
    const std::string directory = process_path(process.pid, "fd/");
    const std::unique_ptr<DIR, int (*)(DIR*)> entries{opendir(directory.c_str()), closedir};
    while (const dirent* entry = entries ? readdir(entries.get()) : nullptr) {
        if (!link_target(directory + entry->d_name).ends_with(kContextName)) continue;
        seen.context = true;
        break;
    }
    return *seen.context;
}

}  // namespace pinfs::fuse

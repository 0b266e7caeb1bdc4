// SPDX-License-Identifier: Apache-2.0
//
// What /proc tells of processes: who a thread belongs to, whether an owner still lives, what its
// descriptors are. Nothing here asks anything of a mount: links are read, never followed.
//
// Where /proc is not that of our own pid namespace its numbers are others', so nothing is seen.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "fs/pin/owner.h"

namespace pinfs::fuse {

/// A process with its name.
struct KnownProcess {
    pin::Process process;
    std::string command;
};

/// What follows "`field`:" in the status of thread `pid`; empty if it cannot be seen.
std::string status_field(pid_t pid, std::string_view field);
/// Whether `pid` is a process, and no thread of one.
bool is_process(pid_t pid);
/// Where descriptor `number` of a process points; empty if it is not open or cannot be seen.
std::string descriptor_target(std::uint32_t pid, std::uint32_t number);

/// The processes behind threads. /proc is slow to ask, and the same threads ask again and again:
/// their answers are kept as long as the thread lives, which an open file of its /proc directory
/// tells (numbers come back, that file does not). Thread-safe.
class ProcessesOfThreads {
public:
    ProcessesOfThreads() = default;
    ~ProcessesOfThreads();
    ProcessesOfThreads(const ProcessesOfThreads&) = delete;
    ProcessesOfThreads& operator=(const ProcessesOfThreads&) = delete;

    /// The process of thread `thread`; pid 0 if it cannot be seen. Throws bad_alloc.
    KnownProcess find(pid_t thread);

private:
    struct Seen {
        KnownProcess known;
        int comm = -1;  ///< /proc/THREAD/comm
    };
    static constexpr std::size_t kSeenMax = 256;

    std::mutex mutex_;
    std::map<pid_t, Seen> seen_;
};

/// Processes as one report sees them, each asked once.
class OwnersSeen {
public:
    /// Whether it still lives.
    bool lives(const pin::Process& process) { return of(process).lives; }
    /// Its cgroup; nullopt if it does not live.
    std::optional<std::string> container(const pin::Process& process);
    /// Whether its descriptor `number` points to `target` now.
    bool shows(const pin::Process& process, std::uint32_t number, const std::string& target);
    /// Whether any of its descriptors is a .pinfs/context.
    bool shows_context(const pin::Process& process);

private:
    struct Seen {
        bool lives = false;
        std::map<std::uint32_t, std::string> targets;
        std::optional<bool> context;
        std::optional<std::string> container;
    };
    Seen& of(const pin::Process& process);

    std::map<pin::Process, Seen> seen_;
};

}  // namespace pinfs::fuse

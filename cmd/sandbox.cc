// SPDX-License-Identifier: Apache-2.0
#include "cmd/sandbox.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/magic.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include "cmd/arguments.h"
#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/mount.h"
#include "cmd/new_file_system.h"
#include "cmd/process.h"
#include "cmd/run_command.h"
#include "fs/format/superblock.h"
#include "fs/fuse/mount_table.h"
#include "fs/fuse/mountpoint.h"
#include "fs/pmem/region.h"

namespace pinfs::cmd {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr const char* kShm = "/dev/shm";

bool is_tmpfs(const char* path) {
    struct statfs status {};
    return statfs(path, &status) == 0 && status.f_type == TMPFS_MAGIC;
}

/// Where the region and the mount point are.
struct Place {
    std::string directory;
    [[nodiscard]] std::string region() const { return directory + "/region"; }
    [[nodiscard]] std::string leaving() const { return directory + "/leaving"; }
    [[nodiscard]] std::string mountpoint() const { return directory + "/mnt"; }
};

/// Empty, or why there is none.
std::string make_place(const std::string& program, Place& place) {
    const char* const wanted = std::getenv("TMPDIR");
    const bool shm = is_tmpfs(kShm) && access(kShm, W_OK | X_OK) == 0;
    const std::string parent = shm ? kShm : wanted != nullptr ? wanted : "/tmp";
    if (!shm && !is_tmpfs(parent.c_str()))
        complain(program, 0,
                 "there is no tmpfs in /dev/shm: the region is in " + parent +
                     ", and devices cannot pin it");
    place.directory = parent + "/pinfs-sandbox-XXXXXX";
    if (mkdtemp(place.directory.data()) == nullptr)
        return "no directory in " + parent + ": " + strerror(errno);
    // The command may let other users work in it.
    if (chmod(place.directory.c_str(), 0711) != 0 || mkdir(place.mountpoint().c_str(), 0755) != 0)
        return place.mountpoint() + ": " + strerror(errno);
    return {};
}

bool is_mounted(const Place& place) { return fuse::mount_at(place.mountpoint()).has_value(); }

/// Unmounts as soon as nobody uses it any more: what the command started may be just ending.
void unmount_when_idle(const Place& place) {
    const auto end = steady_clock::now() + 1s;
    while (is_mounted(place) &&
           fuse::detach(place.mountpoint(), fuse::Detach::when_idle) == EBUSY &&
           steady_clock::now() < end)
        std::this_thread::sleep_for(10ms);
}

/// Everything goes: from programs that still use the mount it is taken away. False if a daemon
/// does not end.
bool take_down(const std::string& program, const Place& place) {
    // No daemon that is only about to start finds the region any more.
    static_cast<void>(std::rename(place.region().c_str(), place.leaving().c_str()));
    unmount_when_idle(place);
    if (is_mounted(place))
        complain(program, 0, "programs still use the sandbox: it is taken away from them");
    const auto patience = steady_clock::now() + 10s;
    const auto impatience = patience + 10s;
    bool told = false;
    while (true) {
        const auto daemons = pmem::Region::find_lock_holders(place.leaving());
        if (daemons.empty() && !is_mounted(place)) break;
        const auto now = steady_clock::now();
        if (now > impatience) break;
        if (now > patience || daemons.empty())
            fuse::detach(place.mountpoint(), fuse::Detach::at_once);
        for (const pmem::LockHolder& daemon : daemons)
            if (now > patience)
                kill(daemon.pid, SIGKILL);
            else if (!told && is_mounted(place))
                kill(daemon.pid, SIGTERM);
        told = told || !daemons.empty();
        std::this_thread::sleep_for(5ms);
    }
    const bool gone = !is_mounted(place);
    std::error_code ignored;
    if (gone) std::filesystem::remove_all(place.directory, ignored);
    return gone;
}

/// A process that takes down what a killed sandbox leaves. Its pid, or -1.
pid_t start_heir(const std::string& program, const Place& place) {
    const int we = pidfd_open(getpid(), 0);
    const pid_t heir = we < 0 ? -1 : fork();
    if (heir == 0) {
        setsid();
        for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE})
            std::signal(signal, SIG_IGN);
        pollfd waiting{we, POLLIN, 0};
        while (poll(&waiting, 1, -1) < 0 && errno == EINTR) {
        }
        _exit(take_down(program, place) ? 0 : 1);
    }
    if (we >= 0) close(we);
    return heir;
}

int wait_for(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : kSystem;
}

std::string make_region(const Place& place, std::uint64_t bytes) {
    if (const auto made = pmem::Region::create_file(place.region(), bytes, 0600); !made)
        return made.error().number() == ENOSPC
                   ? "no room in " + std::filesystem::path{place.directory}.parent_path().string() +
                         " for a region of " + size_text(bytes)
                   : place.region() + ": " + made.error().message();
    const auto region = pmem::Region::open(place.region(), {});
    if (!region) return place.region() + ": " + region.error().message();
    MakeOptions options = new_file_system();
    options.map_unit_bytes = (*region)->capabilities().map_unit_bytes;
    const auto made = make_file_system(**region, options);
    return made ? std::string{} : place.region() + ": " + made.error().message();
}

/// The exit status of `pinfs mount`. In a process of its own: the daemon's goes on from there.
int mount(const SandboxCommand& command, const Place& place) {
    const pid_t child = fork();
    if (child < 0)
        return complain(command.program, kSystem, std::string{"no process: "} + strerror(errno));
    if (child == 0)
        _exit(mount_region({.program = command.program,
                            .region = place.region(),
                            .mountpoint = place.mountpoint(),
                            .options = command.options}));
    return wait_for(child);
}

int mount_and_run(const SandboxCommand& command, const Place& place, std::uint64_t bytes) {
    if (const std::string why = make_region(place, bytes); !why.empty())
        return complain(command.program, kRunnerFailed, why);
    if (mount(command, place) != kSuccess) return kRunnerFailed;
    return run_command({.program = command.program,
                        .words = command.words,
                        .environment = {{"PINFS_MOUNT", place.mountpoint()}},
                        .readable = {}});
}

}  // namespace

int sandbox(const SandboxCommand& command) {
    const auto refuse = [&](const std::string& why) {
        return complain(command.program, kRunnerFailed, why);
    };
    const auto bytes = parse_size(command.size);
    if (!bytes) return refuse("'" + command.size + "' is no size: write it as 64M or 2G");
    if (*bytes < media::kRegionBytesMin || *bytes > media::kRegionBytesMax)
        return refuse("a region has 1 MiB to 64 TiB, not " + command.size);
    Place place;
    if (const std::string why = make_place(command.program, place); !why.empty())
        return refuse(why);
    const pid_t heir = start_heir(command.program, place);
    if (heir < 0) {
        take_down(command.program, place);
        return refuse("no process: " + std::string{strerror(errno)});
    }
    const int status = mount_and_run(command, place, round_down(*bytes, kBlockBytes));
    const bool gone = take_down(command.program, place);
    kill(heir, SIGKILL);
    wait_for(heir);
    if (gone) return status;
    return refuse(place.mountpoint() + " cannot be taken away; pinfs umount -l does");
}

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
//
// What the daemon gives up when it serves, and that it is given up in all of its threads.
#include <fcntl.h>
#include <linux/ndctl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "fs/fuse/confinement.h"
#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

/// CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE.
constexpr std::uint64_t kKept = std::uint64_t{1} << 2 | std::uint64_t{1} << 19;

std::string field_of(const std::string& status, const std::string& name) {
    std::istringstream lines{status};
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with(name + ":"))
            return line.substr(line.find_first_not_of(" \t", name.size() + 1));
    return "none";
}
std::uint64_t set_of(const std::string& status, const std::string& name) {
    return std::stoull(field_of(status, name), nullptr, 16);
}

/// The status of each of its threads.
std::vector<std::string> threads_of(pid_t pid) {
    std::vector<std::string> threads;
    for (const auto& task :
         std::filesystem::directory_iterator{"/proc/" + std::to_string(pid) + "/task"})
        threads.push_back(contents(task.path() / "status"));
    return threads;
}

pid_t child_of(pid_t pid) {
    const std::string name = std::to_string(pid);
    pid_t child = 0;
    std::istringstream{contents("/proc/" + name + "/task/" + name + "/children")} >> child;
    return child;
}

/// The exit status, or 128 + the signal, of `body` in a confined process.
int confined(const std::function<int()>& body, const pinfs::fuse::Needs& needs = {}) {
    return in_child([&] { return pinfs::fuse::confine(needs) ? body() : 98; });
}

/// 0 if the call failed with `number`.
int fails_with(int number, long result) { return result == -1 && errno == number ? 0 : 1; }

}  // namespace

TEST_CASE("the daemon keeps two capabilities, gains no privileges and has a filter of calls",
          "[mount][security]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "served");
    const std::uint64_t ours = set_of(contents("/proc/self/status"), "CapPrm");
    const auto threads = threads_of(mounted.daemon());
    CHECK(threads.size() > 4);
    for (const std::string& status : threads) {
        INFO(status);
        CHECK(field_of(status, "NoNewPrivs") == "1");
        CHECK(field_of(status, "Seccomp") == "2");
        for (const char* set : {"CapPrm", "CapEff", "CapBnd"}) {
            CAPTURE(set);
            CHECK(set_of(status, set) == (kKept & ours));
        }
        for (const char* set : {"CapInh", "CapAmb"}) {
            CAPTURE(set);
            CHECK(set_of(status, set) == 0);
        }
    }
    CHECK(contents(mounted.path("f")) == "served");
}

TEST_CASE("with confine=off the daemon is what its user is", "[mount][security]") {
    KernelMount mounted;
    mounted.mount("confine=off");
    const std::string status = contents("/proc/" + std::to_string(mounted.daemon()) + "/status");
    CHECK(field_of(status, "Seccomp") == field_of(contents("/proc/self/status"), "Seccomp"));
    CHECK(field_of(status, "CapPrm") == field_of(contents("/proc/self/status"), "CapPrm"));
    CHECK(mounted.try_mount("remount,confine=on").status != 0);
    CHECK(mounted.try_mount("remount,confine=off").status == 0);
}

TEST_CASE("the process that mounts for the daemon ends with it", "[mount][security]") {
    KernelMount mounted;
    mounted.mount();
    for (const bool killed : {true, false}) {
        const pid_t helper = child_of(mounted.daemon());
        REQUIRE(helper != 0);
        if (killed) {
            mounted.kill_daemon();
            mounted.mount();
        } else {
            mounted.unmount();
        }
        CHECK(becomes_true([&] {
            return kill(helper, 0) != 0 ||
                   field_of(contents("/proc/" + std::to_string(helper) + "/status"), "State")
                       .starts_with("Z");
        }));
    }
    mounted.check();
}

TEST_CASE("a daemon that cannot unmount for want of its helper ends all the same",
          "[mount][security]") {
    KernelMount mounted;
    mounted.mount_in_foreground();
    const pid_t daemon = mounted.daemon();
    REQUIRE(kill(child_of(daemon), SIGKILL) == 0);
    REQUIRE(kill(daemon, SIGTERM) == 0);
    CHECK(mounted.wait_for_daemon() == 0);
    CHECK(mounted.is_mounted());  // dead, as after kill -9
    REQUIRE(umount2(mounted.root().c_str(), MNT_DETACH) == 0);
    mounted.check();
}

TEST_CASE("what serving never needs fails in a confined process", "[mount][security]") {
    const TemporaryDirectory directory;
    const std::string file = directory.file("f");
    write_file(file, "x");
    CHECK(confined([&] { return contents(file) == "x" ? 0 : 1; }) == 0);
    CHECK(confined([] {
              int answer = 1;
              std::thread{[&] {
                  answer = 0;
              }}.join();
              return answer;
          }) == 0);
    CHECK(confined([] { return fails_with(ENOSYS, socket(AF_INET, SOCK_STREAM, 0)); }) == 0);
    CHECK(confined([&] { return fails_with(ENOSYS, chmod(file.c_str(), 0777)); }) == 0);
    CHECK(confined([&] { return fails_with(ENOSYS, rename(file.c_str(), file.c_str())); }) == 0);
    const auto clears_places = [] {
        return ioctl(-1, ND_IOCTL_CLEAR_ERROR, nullptr);
    };
    CHECK(confined([&] { return fails_with(ENOSYS, clears_places()); }) == 0);
    CHECK(confined([&] { return fails_with(EBADF, clears_places()); }, {.device = true}) == 0);
    if (kSanitized) return;  // their runtimes do some of what follows
    CHECK(confined([&] {
              return fails_with(ENOSYS,
                                open(directory.file("new").c_str(), O_CREAT | O_RDWR, 0600));
          }) == 0);
    CHECK(confined([] { return fails_with(ENOSYS, fork()); }) == 0);
    CHECK(confined([] {
              return mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                          0) == MAP_FAILED
                         ? 0
                         : 1;
          }) == 0);
}

TEST_CASE("what only an intruder wants ends a confined process", "[mount][security]") {
    constexpr int kKilled = 128 + SIGSYS;
    CHECK(confined([] { return execl("/bin/true", "true", nullptr); }) == kKilled);
    CHECK(confined([] { return umount2("/none", MNT_DETACH); }) == kKilled);
    CHECK(confined([] { return mount("none", "/none", "tmpfs", 0, nullptr); }) == kKilled);
    CHECK(confined([] { return setuid(0); }) == kKilled);
    CHECK(confined([] { return static_cast<int>(syscall(SYS_unshare, 0)); }) == kKilled);
    CHECK(confined([] { return static_cast<int>(syscall(SYS_bpf, 0, nullptr, 0)); }) == kKilled);
    CHECK(confined([] {
              return static_cast<int>(syscall(SYS_open_by_handle_at, -1, nullptr, 0));
          }) == kKilled);
    if (kSanitized) return;
    CHECK(confined([] { return static_cast<int>(ptrace(PTRACE_TRACEME, 0, 0, 0)); }) == kKilled);
}

// SPDX-License-Identifier: Apache-2.0
#include "tests/support/kernel_mount.h"

#ifndef CATCH_CONFIG_EXTERNAL_INTERFACES
#define CATCH_CONFIG_EXTERNAL_INTERFACES  // listeners
#endif
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <sstream>
#include <string_view>
#include <thread>

#include "fs/fuse/mount_table.h"
#include "fs/fuse/session.h"
#include "fs/fuse/supervised_connection.h"
#include "fs/pmem/region.h"
#include "tests/support/region_bytes.h"

namespace pinfs::test {
namespace {

// --- What is left when a program ends in the middle
// -----------------------------------------------

// Written by the test's thread, read by a signal handler: fixed memory, no locks.
struct Leftover {
    std::atomic<bool> used{false};
    char mountpoint[256];
    char region[256];
    char directory[256];
    char log[256];
};
std::array<Leftover, 16> leftovers;

// The kernel's switch for FUSE over io_uring.
constexpr const char* kRingSwitch = "/sys/module/fuse/parameters/enable_uring";
std::atomic<bool> rings_were_off{false};

/// Safe in a signal handler.
bool set_ring_switch(char value) {
    const int descriptor = open(kRingSwitch, O_WRONLY | O_CLOEXEC);
    const bool done = descriptor >= 0 && write(descriptor, &value, 1) == 1;
    if (descriptor >= 0) close(descriptor);
    return done;
}

/// Whether mounts can be over io_uring now: turned on if it was off, until restore_rings.
bool allow_rings() {
    char value = 0;
    std::ifstream{kRingSwitch} >> value;
    if (value == 'N') rings_were_off = set_ring_switch('Y');
    return value == 'Y' || rings_were_off;
}
void restore_rings() {
    if (rings_were_off.exchange(false)) set_ring_switch('N');
}

// Where this program has mounted huge pages, or empty; and how many came on demand before.
char huge_pages[64];
char huge_pages_before[32];
constexpr const char* kHugePagesOnDemand =
    "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages";

/// Safe in a signal handler.
void unmount_huge_pages() {
    if (huge_pages[0] == 0) return;
    umount2(huge_pages, MNT_DETACH);
    rmdir(huge_pages);
    huge_pages[0] = 0;
    const int limit = open(kHugePagesOnDemand, O_WRONLY | O_CLOEXEC);
    constexpr char kText[] = "the number of huge pages on demand stays changed\n";
    if (write(limit, huge_pages_before, std::strlen(huge_pages_before)) < 0 &&
        write(STDERR_FILENO, kText, sizeof(kText) - 1) < 0)
        _exit(1);
    close(limit);
}

void clean_up_and_end(int signal) {
    for (Leftover& leftover : leftovers) {
        if (!leftover.used.load()) continue;
        umount2(leftover.mountpoint, MNT_DETACH);
        unlink(leftover.region);  // its memory is free when the daemon has ended
        unlink(leftover.log);
        rmdir(leftover.mountpoint);
        rmdir(leftover.directory);
    }
    restore_rings();
    unmount_huge_pages();
    constexpr char kText[] = "ended by a signal or too slow; mounts were taken away\n";
    if (write(STDERR_FILENO, kText, sizeof(kText) - 1) < 0) _exit(1);
    _exit(128 + signal);
}

void keep(const std::string& mountpoint, const std::string& region, const std::string& directory) {
    for (Leftover& leftover : leftovers) {
        if (leftover.used.load()) continue;
        const auto copy = [](char(&to)[256], const std::string& from) {
            std::snprintf(to, sizeof(to), "%s", from.c_str());
        };
        copy(leftover.mountpoint, mountpoint);
        copy(leftover.region, region);
        copy(leftover.directory, directory);
        copy(leftover.log, directory + "/log");
        leftover.used = true;
        return;
    }
}

bool is_in_use(dev_t device) {
    return std::ranges::any_of(leftovers, [&](const Leftover& leftover) {
        struct stat status {};
        return leftover.used.load() && stat(leftover.region, &status) == 0 &&
               S_ISCHR(status.st_mode) && status.st_rdev == device;
    });
}

void let_go(const std::string& mountpoint) {
    for (Leftover& leftover : leftovers)
        if (leftover.used.load() && mountpoint == leftover.mountpoint) leftover.used = false;
}

// --- Regions elsewhere
// -----------------------------------------------

/// The first of `paths`, devices and directories separated by spaces, where a region of `mib` MiB
/// can be: a directory, or a device with as much room that no other region of this test has.
std::string free_place(const std::string& paths, std::uint64_t mib) {
    std::istringstream words{paths};
    for (std::string path; words >> path;) {
        struct stat status {};
        if (stat(path.c_str(), &status) != 0) continue;
        if (S_ISDIR(status.st_mode) || (S_ISCHR(status.st_mode) && !is_in_use(status.st_rdev) &&
                                        region_length(status) >= mib << 20))
            return path;
    }
    return {};
}

/// A file system of huge pages, which come when they are used, for PINFS_TEST_REGIONS=hugetlbfs.
/// Empty, or why there is none.
std::string mount_huge_pages() {
    constexpr long kPages = 256;
    char directory[] = "/tmp/pinfs-huge-XXXXXX";
    if (mkdtemp(directory) == nullptr) return "there is no /tmp";
    std::snprintf(huge_pages, sizeof(huge_pages), "%s", directory);
    long before = 0;
    std::ifstream{kHugePagesOnDemand} >> before;
    std::snprintf(huge_pages_before, sizeof(huge_pages_before), "%ld", before);
    std::ofstream{kHugePagesOnDemand} << std::max(before, kPages);
    if (::mount("none", huge_pages, "hugetlbfs", 0, "pagesize=2M") != 0)
        return std::string{"hugetlbfs cannot be mounted: "} + strerror(errno);
    const std::string file = std::string{huge_pages} + "/all";
    const int all = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    const bool are_there = all >= 0 && fallocate(all, 0, 0, kPages << 21) == 0;
    if (all >= 0) close(all);
    unlink(file.c_str());
    setenv("PINFS_TEST_REGIONS", huge_pages, 1);
    return are_there ? "" : "there are no 512 MiB of huge pages";
}

/// Seconds until a program ends itself, before meson would end it without cleaning up.
unsigned alarm_seconds() {
    const char* wanted = std::getenv("PINFS_TEST_ALARM");
    return wanted != nullptr ? static_cast<unsigned>(std::atoi(wanted)) : 170;
}

/// Becomes the same program as root where sudo asks no password; returns if it does.
void become_root() {
    std::ifstream file{"/proc/self/cmdline", std::ios::binary};
    std::vector<std::string> words{
        "sudo", "-n",
        "--preserve-env=PINFS_TEST_RESULTS,PINFS_TEST_ALARM,PINFS_TEST_REGIONS,"
        "PINFS_TEST_MOUNT_OPTIONS,PINFS_KILL_SEEDS,PINFS_KILL_FIRST_SEED,PINFS_REAL_TREE,PINFS_"
        "FULL_MIB"};
    for (std::string word; std::getline(file, word, '\0');) words.push_back(word);
    if (words.size() < 4 || std::system("sudo -n true 2>/dev/null") != 0) return;
    words[3] = std::filesystem::read_symlink("/proc/self/exe");
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    execvp(arguments[0], arguments.data());
}

constinit bool supervision_needed = false;  // set before main

/// Ends the program with 77 where FUSE is unusable, and leaves a line that says so.
struct Environment : Catch::TestEventListenerBase {
    using TestEventListenerBase::TestEventListenerBase;

    void testRunStarting(const Catch::TestRunInfo& program) override {
        if (geteuid() != 0) become_root();
        std::string why;
        if (geteuid() != 0) why = "neither root nor sudo without a password";
        const int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        if (device < 0 && why.empty())
            why = std::string{"/dev/fuse cannot be opened: "} + strerror(errno);
        if (device >= 0) close(device);
        const char* options = std::getenv("PINFS_TEST_MOUNT_OPTIONS");
        if (why.empty() && options != nullptr && std::strstr(options, "io_uring") != nullptr) {
            if (!fuse::built_with_io_uring())
                why = "this build has no FUSE over io_uring";
            else if (!allow_rings())
                why = "this kernel has no FUSE over io_uring, or enable_uring cannot be written";
        }
        if (why.empty() && supervision_needed) why = fuse::why_no_supervision();
        const char* regions = std::getenv("PINFS_TEST_REGIONS");
        if (why.empty() && regions != nullptr && regions == std::string_view{"hugetlbfs"})
            why = mount_huge_pages();
        if (!why.empty()) skip(program.name, why);
        for (const int signal : {SIGALRM, SIGTERM, SIGINT, SIGHUP})
            std::signal(signal, clean_up_and_end);
        alarm(alarm_seconds());
    }
    void testRunEnded(const Catch::TestRunStats& /*all*/) override {
        restore_rings();
        unmount_huge_pages();
    }

    [[noreturn]] static void skip(const std::string& program, const std::string& why) {
        unmount_huge_pages();
        std::fprintf(stderr, "skipped: %s\n", why.c_str());
        if (const char* results = std::getenv("PINFS_TEST_RESULTS"); results != nullptr)
            std::ofstream{results, std::ios::app} << "skipped\t" << program << '\t' << why << '\n';
        _exit(77);
    }
};

std::string program_path(const std::string& name) {
    if (name.find('/') != std::string::npos) return name;
    const std::string ours = std::string{PINFS_COMMAND_DIR} + "/" + name;
    return access(ours.c_str(), X_OK) == 0 ? ours : name;
}

std::string all_of(int descriptor) {
    std::string text;
    std::array<char, 4096> piece{};
    lseek(descriptor, 0, SEEK_SET);
    for (ssize_t count = 0; (count = read(descriptor, piece.data(), piece.size())) > 0;)
        text.append(piece.data(), static_cast<std::size_t>(count));
    return text;
}

/// `options`, and those of PINFS_TEST_MOUNT_OPTIONS (io_uring, say), as words of a command.
std::vector<std::string> option_words(const std::string& options) {
    const char* more = std::getenv("PINFS_TEST_MOUNT_OPTIONS");
    std::vector<std::string> words;
    if (!options.empty()) words.insert(words.end(), {"-o", options});
    if (more != nullptr) words.insert(words.end(), {"-o", more});
    return words;
}

[[noreturn]] void become(const std::vector<std::string>& words, int out, int err, uid_t uid) {
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    for (const int signal : {SIGALRM, SIGTERM, SIGINT, SIGHUP}) std::signal(signal, SIG_DFL);
    if (uid != 0 && (setgroups(0, nullptr) != 0 || setgid(uid) != 0 || setuid(uid) != 0))
        _exit(126);
    std::vector<std::string> copy = words;
    copy[0] = program_path(copy[0]);
    std::vector<char*> arguments;
    for (std::string& word : copy) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    execvp(arguments[0], arguments.data());
    _exit(127);
}

int status_of(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// A daemon in the background is not our child: it has ended when its lock is free.
void wait_until_free(const std::string& region) {
    const int file = open(region.c_str(), O_RDONLY | O_CLOEXEC);
    while (flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    close(file);
}

bool answers(const std::string& root) {
    const auto entry = fuse::mount_at(root);
    struct stat st {};
    return entry && entry->type == "fuse.pinfs" && stat(root.c_str(), &st) == 0;
}

}  // namespace

bool needs_supervision() { return supervision_needed = true; }

Ran run(const std::vector<std::string>& words, uid_t uid) {
    const int out = memfd_create("out", MFD_CLOEXEC);
    const int err = memfd_create("err", MFD_CLOEXEC);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) become(words, out, err, uid);
    Ran ran;
    ran.status = status_of(child);
    ran.out = all_of(out);
    ran.err = all_of(err);
    close(out);
    close(err);
    return ran;
}

KernelMount::KernelMount(std::uint64_t mib, const std::vector<std::string>& mkfs_options,
                         const std::string& parent)
    : directory_{parent}, region_{directory_.file("region")} {
    REQUIRE(mkdir(root().c_str(), 0755) == 0);
    chmod(directory_.path().c_str(), 0755);  // other users walk through it
    std::vector<std::string> words{"mkfs.pinfs"};
    struct stat place {};
    if (const char* places = std::getenv("PINFS_TEST_REGIONS");
        places != nullptr && parent == "/dev/shm") {
        const std::string path = free_place(places, mib);
        CAPTURE(places, mib);
        REQUIRE(stat(path.c_str(), &place) == 0);
        if (S_ISDIR(place.st_mode)) {
            region_ = path + directory_.path().substr(directory_.path().rfind('/'));
            mib += mib % 2;  // hugetlbfs has no other files
        }
    }
    if (S_ISCHR(place.st_mode)) {
        // A node of the test's own: what a test does to a region's owner, mode and name ends with
        // it.
        REQUIRE(mknod(region().c_str(), S_IFCHR | 0600, place.st_rdev) == 0);
        // Nor is there anything of the test before, which one that looks for bytes would find.
        std::ranges::fill(RegionBytes{region()}.get(), std::byte{0});
        words.emplace_back("--force");
    } else {
        words.insert(words.end(), {"--size", std::to_string(mib) + "M"});
    }
    keep(root(), region(), directory_.path());
    words.insert(words.end(), mkfs_options.begin(), mkfs_options.end());
    words.push_back(region());
    const Ran made = run(words);
    CAPTURE(made.err);
    REQUIRE(made.status == 0);
}

KernelMount::~KernelMount() {
    const pid_t pid = daemon();
    // First, or a supervisor would start another.
    while (umount2(root().c_str(), MNT_DETACH) == 0) {
    }
    if (pid != 0) {
        kill(pid, SIGKILL);
        if (foreground_ != 0)
            status_of(foreground_);
        else
            wait_until_free(region());
    }
    unlink(region().c_str());
    let_go(root());
}

Ran KernelMount::try_mount(const std::string& options, uid_t uid) {
    std::vector<std::string> words{"pinfs", "mount", region(), root()};
    for (std::string& word : option_words(options)) words.push_back(std::move(word));
    return run(words, uid);
}

void KernelMount::mount(const std::string& options) {
    const Ran ran = try_mount(options);
    CAPTURE(ran.out, ran.err);
    REQUIRE(ran.status == 0);
    REQUIRE((ran.out + ran.err).empty());
    REQUIRE(is_mounted());
}

void KernelMount::unmount() {
    Ran ran = run({"pinfs", "umount", root()});
    const Ran first = ran;
    // The kernel tells of what was closed just now a little later.
    for (int i = 0; ran.status != 0 && i < 20; ++i) {
        usleep(50'000);
        ran = run({"pinfs", "umount", root()});
    }
    CAPTURE(first.err, ran.out, ran.err);
    REQUIRE(ran.status == 0);
    REQUIRE(!is_mounted());
}

void KernelMount::remount(const std::string& options) {
    unmount();
    mount(options);
}

void KernelMount::mount_in_foreground(const std::string& options,
                                      const std::vector<std::string>& wrapper) {
    const int file = open(outside("log").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(file >= 0);
    std::vector<std::string> words = wrapper;
    for (const std::string& word :
         {program_path("pinfs"), std::string{"mount"}, std::string{"-f"}, region(), root()})
        words.push_back(word);
    for (std::string& word : option_words(options)) words.push_back(std::move(word));
    foreground_ = fork();
    REQUIRE(foreground_ >= 0);
    if (foreground_ == 0) become(words, file, file, 0);
    close(file);
    while (!answers(root())) {
        const bool lives = waitpid(foreground_, nullptr, WNOHANG) == 0;
        if (!lives) foreground_ = 0;
        CAPTURE(log());
        REQUIRE(lives);
        std::this_thread::sleep_for(std::chrono::milliseconds{2});
    }
}

std::string KernelMount::log() const { return contents(outside("log")); }

int KernelMount::wait_for_daemon() {
    const int status = status_of(foreground_);
    foreground_ = 0;
    return status;
}

pid_t KernelMount::daemon() const {
    if (foreground_ != 0) return foreground_;
    const std::string holders = pmem::Region::lock_holders(region());
    int pid = 0;
    return std::sscanf(holders.c_str(), "process %d", &pid) == 1 ? pid : 0;
}

void KernelMount::kill_daemon() {
    const pid_t pid = daemon();
    REQUIRE(pid != 0);
    REQUIRE(kill(pid, SIGKILL) == 0);
    if (foreground_ != 0)
        wait_for_daemon();
    else
        wait_until_free(region());
    REQUIRE(umount2(root().c_str(), MNT_DETACH) == 0);
}

bool KernelMount::kernel_has(const std::string& feature) const {
    const auto kernel = nlohmann::json::parse(contents(path(".pinfs/region"))).at("kernel");
    if (kernel.at(feature) == true) return true;
    WARN("skipped: Linux " << kernel.at("release").get<std::string>() << " has no " << feature);
    return false;
}

std::string KernelMount::region_kind() const {
    struct stat status {};
    struct statfs file_system {};
    REQUIRE(stat(region().c_str(), &status) == 0);
    REQUIRE(statfs(region().c_str(), &file_system) == 0);
    if (S_ISCHR(status.st_mode)) return "devdax";
    if (file_system.f_type == HUGETLBFS_MAGIC) return "hugetlb";
    return file_system.f_type == TMPFS_MAGIC ? "tmpfs" : "file";
}

std::uint64_t KernelMount::region_bytes() const {
    struct stat status {};
    REQUIRE(stat(region().c_str(), &status) == 0);
    return region_length(status);
}

std::uint64_t KernelMount::map_unit() const {
    return nlohmann::json::parse(contents(path(".pinfs/region"))).at("map_align_bytes");
}

bool KernelMount::is_mounted() const { return fuse::mount_at(root()).has_value(); }

void KernelMount::check() const {
    const Ran ran = run({"fsck.pinfs", "-n", region()});
    CAPTURE(ran.out, ran.err);
    REQUIRE(ran.status == 0);
}

std::string contents(const std::string& path) {
    CAPTURE(path);
    std::ifstream file{path, std::ios::binary};
    REQUIRE(file.good());
    std::ostringstream text;
    text << file.rdbuf();
    REQUIRE(!file.bad());
    return text.str();
}

void write_file(const std::string& path, const std::string& text) {
    CAPTURE(path);
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    REQUIRE(file >= 0);
    std::size_t done = 0;
    while (done < text.size()) {
        const ssize_t count = write(file, text.data() + done, text.size() - done);
        CAPTURE(done, errno);
        REQUIRE(count > 0);
        done += static_cast<std::size_t>(count);
    }
    REQUIRE(close(file) == 0);
}

std::string noise(std::uint64_t seed, std::size_t bytes) {
    std::mt19937_64 random{seed};
    std::string text(bytes, '\0');
    for (std::size_t at = 0; at < bytes; at += sizeof(std::uint64_t)) {
        const std::uint64_t word = random();
        std::memcpy(text.data() + at, &word, std::min(sizeof(word), bytes - at));
    }
    return text;
}

int errno_if(long result) { return result < 0 ? errno : 0; }

CATCH_REGISTER_LISTENER(Environment)

}  // namespace pinfs::test

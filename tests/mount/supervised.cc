// SPDX-License-Identifier: Apache-2.0
//
// Supervised mounts: daemons are killed and exchanged under load, and programs see a pause. Each
// worker knows what every one of its operations must come to; one that is done twice, or not at
// all, says EEXIST or ENOENT where nobody else could have been.
//
// PINFS_KILL_SEEDS seeds (2) from PINFS_KILL_FIRST_SEED (1) on.
#include <dirent.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <new>
#include <optional>
#include <pinfs.hpp>
#include <random>
#include <set>
#include <thread>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs::test;
using namespace std::chrono_literals;

namespace {

[[maybe_unused]] const bool all_cases_do = needs_supervision();

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
    const char* text = std::getenv(variable);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// A supervised mount in the foreground; its daemons are children of that process.
class SupervisedMount {
public:
    SupervisedMount() : mount_(256) { mount_.mount_in_foreground("supervise"); }

    [[nodiscard]] std::string path(const std::string& name) const { return mount_.path(name); }
    [[nodiscard]] std::string root() const { return mount_.root(); }
    [[nodiscard]] std::string log() const { return mount_.log(); }
    KernelMount& mount() { return mount_; }

    /// The daemon that has the region; waits until there is one other than `but`.
    [[nodiscard]] pid_t daemon(pid_t but = 0) const {
        const std::string supervisor = std::to_string(mount_.daemon());
        for (int i = 0; i < 5000; ++i) {
            std::ifstream file{"/proc/" + supervisor + "/task/" + supervisor + "/children"};
            for (pid_t child = 0; file >> child;)
                if (child != but && !is_zombie(child)) return child;
            std::this_thread::sleep_for(1ms);
        }
        return 0;
    }
    void kill_daemon() {
        const pid_t pid = daemon();
        REQUIRE(pid != 0);
        REQUIRE(kill(pid, SIGKILL) == 0);
        REQUIRE(daemon(pid) != 0);
    }
    void upgrade() {
        const Ran ran = run({"pinfs", "upgrade", root()});
        INFO(ran.err + log());
        REQUIRE(ran.status == 0);
        CHECK(ran.out.find(" -> ") != std::string::npos);
    }
    /// Unmounts; the supervisor ends well, and fsck finds nothing.
    void end() {
        const Ran ran = run({"pinfs", "umount", root()});
        INFO(ran.err + log());
        CHECK(ran.status == 0);
        CHECK(mount_.wait_for_daemon() == 0);
        mount_.check();
    }

private:
    static bool is_zombie(pid_t pid) {
        std::ifstream file{"/proc/" + std::to_string(pid) + "/stat"};
        std::string number;
        std::string name;
        std::string state;
        file >> number >> name >> state;
        return !file || state == "Z" || state == "X";
    }
    KernelMount mount_;
};

/// What a worker found wrong, in memory that the test shares with it.
struct Report {
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> operations{0};
    std::atomic<int> line{0};
    std::atomic<int> error{0};
};

class Shared {
public:
    explicit Shared(std::size_t count) : count_(count) {
        void* memory = mmap(nullptr, sizeof(Report) * count, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        REQUIRE(memory != MAP_FAILED);
        reports_ = new (memory) Report[count];
    }
    ~Shared() { munmap(reports_, sizeof(Report) * count_); }
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;
    Report& operator[](std::size_t i) { return reports_[i]; }

private:
    std::size_t count_;
    Report* reports_ = nullptr;
};

#define EXPECT(condition)               \
    do {                                \
        if (!(condition)) {             \
            report.error = errno;       \
            report.line = __LINE__;     \
            return;                     \
        }                               \
        report.operations.fetch_add(1); \
    } while (false)

/// Names come and go; each operation says whether it was done once.
void storm(const std::string& root, Report& report) {
    EXPECT(mkdir(root.c_str(), 0755) == 0);
    EXPECT(chdir(root.c_str()) == 0);
    for (unsigned i = 0; !report.stop; ++i) {
        const std::string name = "f" + std::to_string(i);
        const std::string other = "g" + std::to_string(i);
        const int file = open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        EXPECT(file >= 0);
        EXPECT(write(file, name.data(), name.size()) == static_cast<ssize_t>(name.size()));
        EXPECT(fsetxattr(file, "user.once", "1", 1, XATTR_CREATE) == 0);
        EXPECT(fsetxattr(file, "user.once", "22", 2, XATTR_REPLACE) == 0);
        EXPECT(fremovexattr(file, "user.once") == 0);
        EXPECT(renameat2(AT_FDCWD, name.c_str(), AT_FDCWD, other.c_str(), RENAME_NOREPLACE) == 0);
        EXPECT(link(other.c_str(), name.c_str()) == 0);
        struct stat st {};
        EXPECT(fstat(file, &st) == 0 && st.st_nlink == 2);
        EXPECT(unlink(other.c_str()) == 0);
        EXPECT(mkdir(other.c_str(), 0755) == 0);
        EXPECT(symlink(name.c_str(), (other + "/link").c_str()) == 0);
        EXPECT(mkfifo((other + "/fifo").c_str(), 0600) == 0);
        EXPECT(renameat2(AT_FDCWD, name.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) == 0);
        EXPECT(unlink((name + "/link").c_str()) == 0);
        EXPECT(unlink((name + "/fifo").c_str()) == 0);
        EXPECT(rmdir(name.c_str()) == 0);
        EXPECT(unlink(other.c_str()) == 0);
        // Without a name it lives as long as it is open.
        std::string text(name.size(), '\0');
        EXPECT(pread(file, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
        EXPECT(text == name);
        EXPECT(close(file) == 0);
        const int unnamed = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        EXPECT(unnamed >= 0);
        const std::string by_number = "/proc/self/fd/" + std::to_string(unnamed);
        EXPECT(linkat(AT_FDCWD, by_number.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0);
        EXPECT(unlink(name.c_str()) == 0);
        EXPECT(close(unnamed) == 0);
    }
}

/// A file whose bytes are known: writes, appends, cuts and reads of two handles.
void rewrite(const std::string& path, std::uint64_t seed, Report& report) {
    std::mt19937_64 random{seed};
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    const int reader = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT(file >= 0 && reader >= 0);
    std::string bytes;
    while (!report.stop) {
        const std::size_t offset = random() % 200000;
        const std::string piece = noise(random(), 1 + random() % 30000);
        switch (random() % 4) {
            case 0:
                bytes.resize(offset);
                EXPECT(ftruncate(file, static_cast<off_t>(offset)) == 0);
                break;
            case 1:
                EXPECT(lseek(file, 0, SEEK_END) == static_cast<off_t>(bytes.size()));
                EXPECT(write(file, piece.data(), piece.size()) ==
                       static_cast<ssize_t>(piece.size()));
                bytes += piece;
                break;
            default:
                if (bytes.size() < offset + piece.size()) bytes.resize(offset + piece.size());
                bytes.replace(offset, piece.size(), piece);
                EXPECT(pwrite(file, piece.data(), piece.size(), static_cast<off_t>(offset)) ==
                       static_cast<ssize_t>(piece.size()));
        }
        std::string found(bytes.size() + 1, '\0');
        const ssize_t count = pread(reader, found.data(), found.size(), 0);
        EXPECT(count == static_cast<ssize_t>(bytes.size()));
        found.pop_back();
        EXPECT(found == bytes);
    }
    close(file);
    close(reader);
}

/// A directory that does not change is listed whole, from handles that stay open.
void list(const std::string& root, std::size_t names, Report& report) {
    DIR* const directory = opendir(root.c_str());
    EXPECT(directory != nullptr);
    while (!report.stop) {
        rewinddir(directory);
        std::set<std::string> seen;
        errno = 0;
        while (const dirent* const entry = readdir(directory)) {
            EXPECT(seen.insert(entry->d_name).second);
            if (seen.size() % 50 == 0) std::this_thread::sleep_for(1ms);
        }
        EXPECT(errno == 0);
        EXPECT(seen.size() == names + 2);
    }
    closedir(directory);
}

/// Workers in processes of their own while `disturb` runs.
std::uint64_t under_load(SupervisedMount& mounted, std::uint64_t seed,
                         const std::function<void()>& disturb) {
    constexpr std::size_t kNames = 400;
    constexpr std::size_t kWorkers = 6;
    const std::string listed = mounted.path("listed");
    REQUIRE(mkdir(listed.c_str(), 0755) == 0);
    for (std::size_t i = 0; i < kNames; ++i) write_file(listed + "/n" + std::to_string(i), "");
    Shared reports{kWorkers};
    std::vector<pid_t> workers;
    for (std::size_t i = 0; i < kWorkers; ++i) {
        const pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            Report& report = reports[i];
            const std::string own = mounted.path("w" + std::to_string(i));
            if (i < 3) storm(own, report);
            if (i == 3 || i == 4) rewrite(own, seed * 10 + i, report);
            if (i == 5) list(listed, kNames, report);
            _exit(0);
        }
        workers.push_back(child);
    }
    disturb();
    for (std::size_t i = 0; i < kWorkers; ++i) reports[i].stop = true;
    for (const pid_t worker : workers) waitpid(worker, nullptr, 0);
    std::uint64_t operations = 0;
    for (std::size_t i = 0; i < kWorkers; ++i) {
        CAPTURE(i, reports[i].error.load());
        CHECK(reports[i].line == 0);
        CHECK(reports[i].operations > 0);
        operations += reports[i].operations;
    }
    return operations;
}

bool has_line(const SupervisedMount& mounted, const std::string& text) {
    return contents(mounted.path(".file_pins")).find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("kill -9 of a supervised daemon under load: each operation is done once",
          "[mount][supervised]") {
    const std::uint64_t first = number_from("PINFS_KILL_FIRST_SEED", 1);
    const std::uint64_t count = number_from("PINFS_KILL_SEEDS", 2);
    std::uint64_t operations = 0;
    std::uint64_t kills = 0;
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
        CAPTURE(seed);
        std::mt19937_64 random{seed};
        SupervisedMount mounted;
        operations += under_load(mounted, seed, [&] {
            for (int i = 0; i < 5; ++i, ++kills) {
                std::this_thread::sleep_for(std::chrono::microseconds{20000 + random() % 400000});
                mounted.kill_daemon();
            }
            std::this_thread::sleep_for(300ms);
        });
        mounted.end();
    }
    std::printf("%llu seeds from %llu: %llu kills, %llu operations, each done once\n",
                static_cast<unsigned long long>(count), static_cast<unsigned long long>(first),
                static_cast<unsigned long long>(kills),
                static_cast<unsigned long long>(operations));
}

TEST_CASE("pinfs upgrade under load: programs see a pause", "[mount][supervised]") {
    SupervisedMount mounted;
    under_load(mounted, 1, [&] {
        for (int i = 0; i < 10; ++i) {
            std::this_thread::sleep_for(50ms);
            mounted.upgrade();
        }
    });
    mounted.end();
}

TEST_CASE("leases, maps and pins live on with another daemon", "[mount][supervised][pins]") {
    constexpr std::uint64_t kBytes = 1 << 20;
    SupervisedMount mounted;
    const TestFile file{mounted.path("f")};
    file.write(0, noise(1, kBytes));
    pinfs::Context context{mounted.root()};
    const auto refused = [&](off_t size) {
        return errno_if(truncate(mounted.path("f").c_str(), size)) == EBUSY;
    };
    {
        const pinfs::Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE, 0,
                                 kBytes};
        const pinfs::Map map{context, file.fd(), 0, kBytes};
        const pinfs::Pin pin{context, file.fd(), 0, 4096};
        for (const bool by_kill : {true, false, true}) {
            CAPTURE(by_kill, mounted.log());
            if (by_kill)
                mounted.kill_daemon();
            else
                mounted.upgrade();
            CHECK(refused(0));
            CHECK(refused(8192));
            CHECK(!has_line(mounted, "(recovered)"));
            CHECK(has_line(mounted, "\t/f\n"));
            // Stores and writes meet, as before.
            std::memcpy(map.data(), "direct", 6);
            CHECK(file.read(0, 6) == "direct");
            file.write(8192, "written");
            CHECK(std::memcmp(map.data() + 8192, "written", 7) == 0);
        }
    }
    // They ended at a daemon that did not make them.
    CHECK(!refused(8192));
    const pinfs::Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE};
    CHECK(refused(0));
    mounted.kill_daemon();
    CHECK(refused(0));
}

TEST_CASE("who waits for events gets those of the next daemon", "[mount][supervised][pins]") {
    SupervisedMount mounted;
    const TestFile file{mounted.path("f")};
    file.write(0, noise(1, 1 << 16));
    pinfs::Context context{mounted.root()};
    const pinfs::Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT, 0, 1 << 16, 7};
    const auto told = [&] {
        const auto event = context.next_event(5000);
        return event && event->type == PINFS_EVENT_GONE && event->user_data == 7;
    };
    // By the last daemon, maybe: nobody knows, so all is told.
    std::thread killer{[&] {
        std::this_thread::sleep_for(200ms);
        mounted.kill_daemon();
    }};
    CHECK(told());
    killer.join();
    while (context.next_event(0)) {
    }
    std::thread cutter{[&] {
        std::this_thread::sleep_for(200ms);
        truncate(mounted.path("f").c_str(), 4096);
    }};
    CHECK(told());
    cutter.join();
}

TEST_CASE("what is open and has no name lives on, and goes in the end", "[mount][supervised]") {
    SupervisedMount mounted;
    const std::string bytes = noise(3, 1 << 20);
    const auto blocks = [&] {
        struct statvfs status {};
        REQUIRE(statvfs(mounted.root().c_str(), &status) == 0);
        return status.f_bfree;
    };
    const auto free_before = blocks();
    {
        const TestFile unlinked{mounted.path("f")};
        unlinked.write(0, bytes);
        REQUIRE(unlink(mounted.path("f").c_str()) == 0);
        REQUIRE(mkdir(mounted.path("d").c_str(), 0755) == 0);
        const int directory = open(mounted.path("d").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
        REQUIRE(directory >= 0);
        REQUIRE(rmdir(mounted.path("d").c_str()) == 0);
        const int unnamed = open(mounted.root().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        REQUIRE(unnamed >= 0);
        for (int i = 0; i < 3; ++i) {
            mounted.kill_daemon();
            CHECK(unlinked.read(0, bytes.size()) == bytes);
            struct stat st {};
            CHECK(errno_if(fstatat(directory, "", &st, AT_EMPTY_PATH)) == 0);
            CHECK(st.st_nlink == 0);
        }
        const std::string by_number = "/proc/self/fd/" + std::to_string(unnamed);
        CHECK(errno_if(linkat(AT_FDCWD, by_number.c_str(), AT_FDCWD, mounted.path("named").c_str(),
                              AT_SYMLINK_FOLLOW)) == 0);
        close(unnamed);
        close(directory);
    }
    REQUIRE(unlink(mounted.path("named").c_str()) == 0);
    for (int i = 0; i < 500 && blocks() != free_before; ++i) std::this_thread::sleep_for(10ms);
    CHECK(blocks() == free_before);
    mounted.end();
}

TEST_CASE("DAX mode changes when the file is open nowhere, also before this daemon",
          "[mount][supervised]") {
    SupervisedMount mounted;
    std::optional<TestFile> file{std::in_place, mounted.path("f")};
    file->write(0, "text");
    REQUIRE(run({"pinfs", "dax", "off", mounted.path("f")}).status == 0);
    mounted.kill_daemon();
    const TestFile second{mounted.path("f"), O_RDWR};
    second.write(0, "more");
    CHECK(file->read(0, 4) == "more");
}

TEST_CASE("a daemon that dies again and again is given up", "[mount][supervised]") {
    SupervisedMount mounted;
    pid_t last = 0;
    for (int i = 0; i < 20; ++i) {
        const pid_t daemon = mounted.daemon(last);
        if (daemon == 0) break;
        last = daemon;
        kill(daemon, SIGKILL);
    }
    CHECK(mounted.mount().wait_for_daemon() != 0);
    CHECK(mounted.log().find("it is given up") != std::string::npos);
    struct stat st {};
    CHECK(errno_if(stat(mounted.path("x").c_str(), &st)) == ENOTCONN);
    CHECK(umount2(mounted.root().c_str(), 0) == 0);
    mounted.mount().check();
}

TEST_CASE("a daemon goes on when its supervisor is killed", "[mount][supervised]") {
    SupervisedMount mounted;
    const pid_t daemon = mounted.daemon();
    const TestFile file{mounted.path("f")};
    REQUIRE(kill(mounted.mount().daemon(), SIGKILL) == 0);
    mounted.mount().wait_for_daemon();
    file.write(0, "text");
    CHECK(file.read(0, 4) == "text");
    CHECK(run({"pinfs", "upgrade", mounted.root()}).status == 32);
    CHECK(kill(daemon, 0) == 0);
}

TEST_CASE("what a supervised mount cannot be is refused in one sentence", "[mount][supervised]") {
    KernelMount mounted;
    const Ran ran = mounted.try_mount("supervise,io_uring");
    CHECK(ran.status != 0);
    CHECK(ran.err.find("io_uring") != std::string::npos);
    mounted.mount();
    const Ran upgrade = run({"pinfs", "upgrade", mounted.root()});
    CHECK(upgrade.status == 32);
    CHECK(upgrade.err.find("--supervise") != std::string::npos);
}

// SPDX-License-Identifier: Apache-2.0
//
// Bytes of files, through the kernel. What can differ is run twice: on a file in DAX mode and on
// one that the kernel caches.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "fs/units.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

namespace {

class File {
public:
    File(const std::string& path, int flags, mode_t mode = 0644)
        : number_(open(path.c_str(), flags | O_CLOEXEC, mode)) {
        CAPTURE(path, flags, strerror(errno));
        REQUIRE(number_ >= 0);
    }
    ~File() { close(number_); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    operator int() const { return number_; }  // NOLINT

private:
    int number_;
};

struct stat stat_of(const std::string& path) {
    struct stat st {};
    CAPTURE(path);
    REQUIRE(stat(path.c_str(), &st) == 0);
    return st;
}

void write_at(int file, const std::string& text, std::uint64_t offset) {
    REQUIRE(pwrite(file, text.data(), text.size(), static_cast<off_t>(offset)) ==
            static_cast<ssize_t>(text.size()));
}

std::string read_at(int file, std::uint64_t offset, std::size_t bytes) {
    std::string text(bytes, '\0');
    const ssize_t count = pread(file, text.data(), bytes, static_cast<off_t>(offset));
    REQUIRE(count >= 0);
    text.resize(static_cast<std::size_t>(count));
    return text;
}

std::uint64_t free_bytes(const std::string& root) {
    struct statvfs st {};
    REQUIRE(statvfs(root.c_str(), &st) == 0);
    return st.f_bfree * st.f_frsize;
}

std::string dax_option() { return GENERATE("dax=always", "dax=never"); }

}  // namespace

TEST_CASE("bytes at any offset and length read back as they were written", "[mount][content]") {
    KernelMount mounted{128};
    const std::string option = dax_option();
    CAPTURE(option);
    mounted.mount(option);
    constexpr std::size_t kBytes = 3 << 20;
    std::string expected(kBytes, '\0');
    std::mt19937_64 random{17};
    {
        const File file{mounted.path("f"), O_RDWR | O_CREAT};
        REQUIRE(ftruncate(file, kBytes) == 0);
        for (int i = 0; i < 400; ++i) {
            const std::size_t bytes = 1 + random() % (i % 20 == 0 ? 1500000 : 9000);
            const std::size_t offset = random() % (kBytes - bytes);
            const std::string text = noise(random(), bytes);
            write_at(file, text, offset);
            expected.replace(offset, bytes, text);
            const std::size_t from = random() % kBytes;
            REQUIRE(read_at(file, from, 5000) == expected.substr(from, 5000));
        }
        REQUIRE(fsync(file) == 0);
    }
    REQUIRE((contents(mounted.path("f")) == expected));
    mounted.remount(option == "dax=always" ? "dax=never" : "dax=always");
    REQUIRE((contents(mounted.path("f")) == expected));
    mounted.unmount();
    mounted.check();
}

TEST_CASE("a sparse file reaches 16 TiB and no further", "[mount][content]") {
    KernelMount mounted;
    mounted.mount(dax_option());
    constexpr std::uint64_t kEnd = 16_TiB;
    const std::uint64_t before = free_bytes(mounted.root());
    {
        const File file{mounted.path("sparse"), O_RDWR | O_CREAT};
        REQUIRE(ftruncate(file, static_cast<off_t>(kEnd)) == 0);
        write_at(file, "begin", 0);
        write_at(file, "middle", 5_TiB + 12345);
        write_at(file, "end", kEnd - 3);
        CHECK(errno_if(pwrite(file, "x", 1, static_cast<off_t>(kEnd))) == EFBIG);
        CHECK(errno_if(ftruncate(file, static_cast<off_t>(kEnd) + 1)) == EFBIG);
        // A write across the limit stops at it.
        CHECK(pwrite(file, "xyz", 3, static_cast<off_t>(kEnd) - 2) <= 2);
        CHECK(read_at(file, 1_TiB, 4096) == std::string(4096, '\0'));
        CHECK(read_at(file, 5_TiB + 12344, 8) == std::string{"\0middle\0", 8});
        CHECK(read_at(file, kEnd - 3, 10).size() == 3);
    }
    const auto st = stat_of(mounted.path("sparse"));
    CHECK(static_cast<std::uint64_t>(st.st_size) == kEnd);
    CHECK(st.st_blocks <= 64);
    mounted.remount();
    {
        const File file{mounted.path("sparse"), O_RDONLY};
        CHECK(read_at(file, 5_TiB + 12345, 6) == "middle");
    }
    REQUIRE(unlink(mounted.path("sparse").c_str()) == 0);
    mounted.remount();
    CHECK(free_bytes(mounted.root()) == before);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("truncate cuts, and what grows again reads as zeros", "[mount][content]") {
    KernelMount mounted;
    mounted.mount(dax_option());
    const std::string text = noise(1, 100000);
    write_file(mounted.path("f"), text);
    const File file{mounted.path("f"), O_RDWR};
    for (const std::size_t length : {99999, 70001, 65536, 4097, 4096, 4095, 1, 0}) {
        CAPTURE(length);
        write_at(file, text, 0);
        REQUIRE(ftruncate(file, static_cast<off_t>(length)) == 0);
        CHECK(stat_of(mounted.path("f")).st_size == static_cast<off_t>(length));
        REQUIRE(ftruncate(file, 100000) == 0);
        std::string expected = text.substr(0, length);
        expected.resize(100000, '\0');
        CHECK((read_at(file, 0, 100000) == expected));
    }
}

TEST_CASE("O_TRUNC empties a file and sets its times", "[mount][content]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "old");
    const timespec times[2] = {{1, 1}, {2, 2}};
    REQUIRE(utimensat(AT_FDCWD, mounted.path("f").c_str(), times, 0) == 0);
    { const File file{mounted.path("f"), O_WRONLY | O_TRUNC}; }
    const auto st = stat_of(mounted.path("f"));
    CHECK(st.st_size == 0);
    CHECK(st.st_mtim.tv_sec > 2);
}

TEST_CASE("an unlinked file lives until it is closed, then its space comes back",
          "[mount][content]") {
    KernelMount mounted;
    mounted.mount(dax_option());
    const std::uint64_t before = free_bytes(mounted.root());
    const std::string text = noise(3, 5 << 20);
    {
        const File file{mounted.path("f"), O_RDWR | O_CREAT};
        write_at(file, text, 0);
        REQUIRE(unlink(mounted.path("f").c_str()) == 0);
        CHECK(errno_if(access(mounted.path("f").c_str(), F_OK)) == ENOENT);
        CHECK((read_at(file, 0, text.size()) == text));
        write_at(file, "more", text.size());
        CHECK(read_at(file, text.size(), 10) == "more");
        struct stat st {};
        REQUIRE(fstat(file, &st) == 0);
        CHECK(st.st_nlink == 0);
        CHECK(free_bytes(mounted.root()) < before);
    }
    mounted.remount();
    CHECK(free_bytes(mounted.root()) == before);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("appends of several writers are all there", "[mount][content][concurrency]") {
    KernelMount mounted;
    mounted.mount(dax_option());
    constexpr int kWriters = 4;
    constexpr int kLines = 300;
    std::vector<std::thread> threads;
    for (int writer = 0; writer < kWriters; ++writer)
        threads.emplace_back([&, writer] {
            const int file =
                open(mounted.path("log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
            for (int line = 0; line < kLines; ++line) {
                char text[64];
                const int bytes =
                    std::snprintf(text, sizeof(text), "%d:%03d:%.*s\n", writer, line, line % 40,
                                  "abcdefghijklmnopqrstuvwxyzabcdefghijklmnop");
                if (write(file, text, static_cast<std::size_t>(bytes)) != bytes) break;
            }
            close(file);
        });
    for (std::thread& thread : threads) thread.join();
    std::istringstream lines{contents(mounted.path("log"))};
    std::vector<int> next(kWriters, 0);
    int count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
        int writer = -1;
        int number = -1;
        CAPTURE(line);
        REQUIRE(std::sscanf(line.c_str(), "%d:%d:", &writer, &number) == 2);
        REQUIRE(next.at(static_cast<std::size_t>(writer))++ == number);
    }
    CHECK(count == kWriters * kLines);
}

TEST_CASE("a shared mapping and read and write see each other", "[mount][content]") {
    KernelMount mounted;
    const std::string option = dax_option();
    mounted.mount(option);
    if (option != "dax=never" && !mounted.kernel_has("kernel_mmap")) return;
    const std::string text = noise(5, 64 << 10);
    write_file(mounted.path("f"), text);
    std::optional<File> file;
    file.emplace(mounted.path("f"), O_RDWR);
    void* memory = mmap(nullptr, text.size(), PROT_READ | PROT_WRITE, MAP_SHARED, *file, 0);
    REQUIRE(memory != MAP_FAILED);
    auto* bytes = static_cast<char*>(memory);
    CHECK((std::string(bytes, text.size()) == text));
    write_at(*file, "through write", 5000);
    CHECK(std::string(bytes + 5000, 13) == "through write");
    std::string_view{"through memory"}.copy(bytes + 9000, 14);
    CHECK(read_at(*file, 9000, 14) == "through memory");
    REQUIRE(msync(memory, text.size(), MS_SYNC) == 0);
    REQUIRE(munmap(memory, text.size()) == 0);
    file.reset();
    mounted.remount();
    CHECK(contents(mounted.path("f")).substr(9000, 14) == "through memory");
}

TEST_CASE("kernel_mmap=off refuses shared mappings of DAX files only", "[mount][content]") {
    KernelMount mounted;
    mounted.mount("kernel_mmap=off");
    write_file(mounted.path("f"), "text");
    const File file{mounted.path("f"), O_RDWR};
    CHECK(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) == MAP_FAILED);
    CHECK(errno == ENODEV);
    void* memory = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, file, 0);
    CHECK(memory != MAP_FAILED);
    munmap(memory, 4096);
}

TEST_CASE("a write by another user takes setuid away", "[mount][content]") {
    KernelMount mounted;
    mounted.mount(dax_option());
    write_file(mounted.path("f"), "text");
    const auto mode = [&] {
        return stat_of(mounted.path("f")).st_mode & 07777;
    };
    const auto reset = [&] {
        REQUIRE(chmod(mounted.path("f").c_str(), 06777) == 0);
    };
    reset();
    CHECK(mode() == 06777);
    CHECK(run({"sh", "-c", "echo x >> " + mounted.path("f")}, 1000).status == 0);
    CHECK(mode() == 0777);
    reset();
    CHECK(run({"truncate", "-s", "1", mounted.path("f")}, 1000).status == 0);
    CHECK(mode() == 0777);
    reset();
    CHECK(run({"sh", "-c", ": > " + mounted.path("f")}, 1000).status == 0);
    CHECK(mode() == 0777);
    write_file(mounted.path("source"), "text");
    for (const char* command : {"falloc 0 9000", "fpunch 0 2", "fzero 0 2", "copy_range -l 3 "}) {
        CAPTURE(command);
        reset();
        const bool copies = std::string{command}.starts_with("copy");
        const std::string words = command + (copies ? mounted.path("source") : "");
        CHECK(run({"xfs_io", "-c", words, mounted.path("f")}, 1000).status == 0);
        CHECK(mode() == 0777);
        reset();
        CHECK(run({"xfs_io", "-c", words, mounted.path("f")}).status == 0);
        CHECK(mode() == 06777);
    }
    reset();
    write_file(mounted.path("f"), "by root");  // who has CAP_FSETID keeps them
    CHECK(mode() == 06777);
    REQUIRE(chown(mounted.path("f").c_str(), 1, 1) == 0);
    CHECK(mode() == 0777);
}

TEST_CASE("a program that another user wrote into does not run setuid", "[mount][content]") {
    KernelMount mounted;
    mounted.mount(dax_option());
    const std::string program = mounted.path("id");
    REQUIRE(run({"cp", "/usr/bin/id", program}).status == 0);
    REQUIRE(chmod(program.c_str(), 04777) == 0);
    CHECK(run({program, "-u"}, 1000).out == "0\n");
    // The kernel is not asked for the attributes between the write and the start.
    CHECK(run({"sh", "-c", "printf x >>" + program + " && " + program + " -u"}, 1000).out ==
          "1000\n");
}

TEST_CASE("a write takes a program's capabilities away", "[mount][content]") {
    KernelMount mounted;
    mounted.mount(dax_option());
    const std::string program = mounted.path("program");
    write_file(program, "x");
    REQUIRE(chmod(program.c_str(), 0777) == 0);
    // struct vfs_cap_data of revision 2, effective: CAP_NET_RAW.
    const std::uint32_t capability[5] = {0x02000001, 1u << 13, 0, 0, 0};
    const auto has_one = [&] {
        return getxattr(program.c_str(), "security.capability", nullptr, 0) > 0;
    };
    const auto give = [&] {
        REQUIRE(setxattr(program.c_str(), "security.capability", capability, sizeof(capability),
                         0) == 0);
        CHECK(has_one());
    };
    for (int round = 0; round < 2; ++round) {
        give();
        CHECK(run({"sh", "-c", "echo x >>" + program}, 1000).status == 0);
        CHECK(!has_one());
    }
    give();
    CHECK(run({"truncate", "-s", "0", program}, 1000).status == 0);
    CHECK(!has_one());
    give();
    REQUIRE(chown(program.c_str(), 1, 1) == 0);
    CHECK(!has_one());
}

TEST_CASE("a full region refuses with ENOSPC, keeps what it has, and gives everything back",
          "[mount][content][space]") {
    // PINFS_FULL_MIB: another size, 1024 for the demonstration.
    const char* wanted = std::getenv("PINFS_FULL_MIB");
    const std::uint64_t mib = wanted != nullptr ? std::strtoull(wanted, nullptr, 10)
                                                : static_cast<std::uint64_t>(GENERATE(1, 48));
    CAPTURE(mib);
    KernelMount mounted{mib};
    mounted.mount(dax_option());
    REQUIRE(mkdir(mounted.path("d").c_str(), 0755) == 0);
    write_file(mounted.path("d/before"), noise(7, 20000));
    const std::uint64_t before = free_bytes(mounted.root());
    std::vector<std::uint64_t> sizes;
    for (int i = 0;; ++i) {
        REQUIRE(i < 100000);
        const std::string path = mounted.path("d/" + std::to_string(i));
        const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (file < 0) {
            REQUIRE(errno == ENOSPC);
            break;
        }
        const std::string text = noise(static_cast<std::uint64_t>(i), mib << 12);
        std::size_t done = 0;
        ssize_t count = 0;
        while (done < text.size() &&
               (count = write(file, text.data() + done, text.size() - done)) > 0)
            done += static_cast<std::size_t>(count);
        const int failure = count < 0 ? errno : 0;
        sizes.push_back(done);
        REQUIRE(close(file) == 0);
        if (count < 0) {
            REQUIRE(failure == ENOSPC);
            break;
        }
    }
    REQUIRE(sizes.size() > 3);
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        CAPTURE(i);
        CHECK((contents(mounted.path("d/" + std::to_string(i))) ==
               noise(i, mib << 12).substr(0, sizes[i])));
    }
    CHECK((contents(mounted.path("d/before")) == noise(7, 20000)));
    mounted.remount();
    // On the full region: cut in the middle of a block, remove, remove the directory.
    REQUIRE(truncate(mounted.path("d/0").c_str(), 1234) == 0);
    CHECK(contents(mounted.path("d/0")) == noise(0, mib << 12).substr(0, 1234));
    for (std::size_t i = 0; i < sizes.size(); ++i)
        REQUIRE(unlink(mounted.path("d/" + std::to_string(i)).c_str()) == 0);
    unlink(mounted.path("d/" + std::to_string(sizes.size())).c_str());
    mounted.remount();
    CHECK(free_bytes(mounted.root()) == before);
    REQUIRE(unlink(mounted.path("d/before").c_str()) == 0);
    REQUIRE(rmdir(mounted.path("d").c_str()) == 0);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("two processes work in one mount at the same time", "[mount][content][concurrency]") {
    KernelMount mounted{256};
    mounted.mount();
    const auto work = [&](int job) {
        const std::string own = mounted.path("job" + std::to_string(job));
        if (mkdir(own.c_str(), 0755) != 0) return 1;
        const int shared = open(mounted.path("shared").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        for (int i = 0; i < 150; ++i) {
            const std::string name = own + "/" + std::to_string(i);
            const std::string text = noise(
                static_cast<std::uint64_t>(job) * 1000 + static_cast<std::uint64_t>(i), 30000);
            const int file = open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
            std::string back(text.size(), '\0');
            if (pwrite(file, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
                pread(file, back.data(), back.size(), 0) != static_cast<ssize_t>(text.size()) ||
                back != text || close(file) != 0)
                return 2;
            if (rename(name.c_str(), (name + ".new").c_str()) != 0) return 3;
            if (i % 3 == 0 && unlink((name + ".new").c_str()) != 0) return 4;
            const off_t at = (2L * i + job) * 4096;  // the block after the other job's
            if (pwrite(shared, text.data(), 4096, at) != 4096 ||
                pread(shared, back.data(), 4096, at) != 4096 ||
                std::memcmp(back.data(), text.data(), 4096) != 0)
                return 5;
        }
        close(shared);
        return 0;
    };
    std::vector<pid_t> children;
    for (int job = 0; job < 2; ++job) {
        const pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) _exit(work(job));
        children.push_back(child);
    }
    for (const pid_t child : children) {
        int status = 0;
        REQUIRE(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == 0);
    }
    mounted.unmount();
    mounted.check();
}

// SPDX-License-Identifier: Apache-2.0
//
// Files without a name, O_TMPFILE, through the kernel.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>

#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

int make_unnamed(const std::string& directory, int flags = 0, mode_t mode = 0640) {
    return open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC | flags, mode);
}

int link_through_proc(int file, const std::string& name) {
    const std::string path = "/proc/self/fd/" + std::to_string(file);
    return errno_if(linkat(AT_FDCWD, path.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW));
}

struct stat stat_of(int file) {
    struct stat st {};
    REQUIRE(fstat(file, &st) == 0);
    return st;
}

/// Inodes in use, when what was closed has gone.
std::uint64_t inodes_when_idle(const KernelMount& mounted, std::uint64_t expected) {
    for (int i = 0;; ++i) {
        const Ran df = run({"df", "--output=iused", mounted.root()});
        const std::uint64_t used = std::stoull(df.out.substr(df.out.find('\n') + 1));
        if (used == expected || i == 400) return used;
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
}

}  // namespace

TEST_CASE("a file without a name is written, read, and gone with its last close",
          "[mount][unnamed]") {
    KernelMount mounted;
    mounted.mount();
    REQUIRE(mkdir(mounted.path("d").c_str(), 0777) == 0);
    REQUIRE(chmod(mounted.path("d").c_str(), 02777) == 0);
    REQUIRE(chown(mounted.path("d").c_str(), 0, 4321) == 0);
    const mode_t umask_before = umask(0077);
    const int file = make_unnamed(mounted.path("d"), 0, 0666);
    umask(umask_before);
    REQUIRE(file >= 0);
    CHECK(stat_of(file).st_nlink == 0);
    CHECK((stat_of(file).st_mode & 07777) == 0600);
    CHECK(stat_of(file).st_gid == 4321);
    const std::string text = noise(1, 300000);
    REQUIRE(write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    std::string back(text.size(), '\0');
    REQUIRE(pread(file, back.data(), back.size(), 0) == static_cast<ssize_t>(back.size()));
    CHECK(back == text);
    CHECK(rmdir(mounted.path("d").c_str()) == 0);  // it is not in there
    close(file);
    CHECK(inodes_when_idle(mounted, 1) == 1);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("a file without a name is linked by its descriptor, unless made with O_EXCL",
          "[mount][unnamed]") {
    KernelMount mounted;
    mounted.mount();
    const int first = make_unnamed(mounted.root());
    const int second = make_unnamed(mounted.root());
    const int exclusive = make_unnamed(mounted.root(), O_EXCL);
    REQUIRE((first >= 0 && second >= 0 && exclusive >= 0));
    REQUIRE(write(first, "first", 5) == 5);
    REQUIRE(write(second, "second", 6) == 6);
    CHECK(link_through_proc(first, mounted.path("a")) == 0);
    CHECK(errno_if(linkat(second, "", AT_FDCWD, mounted.path("b").c_str(), AT_EMPTY_PATH)) == 0);
    CHECK(link_through_proc(exclusive, mounted.path("c")) == ENOENT);
    CHECK(stat_of(first).st_nlink == 1);
    CHECK(link_through_proc(first, mounted.path("b")) == EEXIST);
    CHECK(link_through_proc(first, mounted.path("again")) == 0);
    CHECK(contents(mounted.path("again")) == "first");
    CHECK(contents(mounted.path("b")) == "second");
    // What had a name and lost it is a removed file.
    REQUIRE(unlink(mounted.path("b").c_str()) == 0);
    CHECK(link_through_proc(second, mounted.path("b")) == ENOENT);
    for (const int file : {first, second, exclusive}) close(file);
    mounted.remount();
    CHECK(contents(mounted.path("a")) == "first");
    struct stat st {};
    REQUIRE(stat(mounted.path("a").c_str(), &st) == 0);
    CHECK(st.st_nlink == 2);
    CHECK(errno_if(make_unnamed(mounted.path("a"))) == ENOTDIR);
}

TEST_CASE("a file without a name is gone when the daemon was killed; a linked one is there",
          "[mount][unnamed]") {
    KernelMount mounted;
    mounted.mount();
    const int lost = make_unnamed(mounted.root());
    const int linked = make_unnamed(mounted.root());
    REQUIRE(write(lost, std::string(100000, 'x').data(), 100000) == 100000);
    REQUIRE(write(linked, "kept", 4) == 4);
    REQUIRE(link_through_proc(linked, mounted.path("kept")) == 0);
    mounted.kill_daemon();
    close(lost);
    close(linked);
    mounted.check();
    mounted.mount();
    CHECK(inodes_when_idle(mounted, 2) == 2);
    CHECK(contents(mounted.path("kept")) == "kept");
    mounted.unmount();
    mounted.check();
}

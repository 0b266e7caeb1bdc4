// SPDX-License-Identifier: Apache-2.0
//
// Errors that a program must be able to tell apart, each reached through the kernel; those of one
// subject alone stand in its own file.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "fs/checksum.h"
#include "fs/format/inode.h"
#include "fs/format/superblock.h"
#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/region_bytes.h"

using namespace pinfs;
using namespace pinfs::test;

namespace {

long open_and_close(const std::string& path, int flags, mode_t mode = 0644) {
    const int file = open(path.c_str(), flags | O_CLOEXEC, mode);
    if (file >= 0) close(file);
    return file;
}

/// Gives inode `ino` of an unmounted region another link count, as only a million links could.
void set_link_count(const std::string& region, std::uint64_t ino, std::uint32_t count) {
    const RegionBytes all{region};
    const std::size_t bytes = all.get().size();
    std::byte* const memory = all.get().data();
    media::Superblock super;
    std::memcpy(&super, memory, sizeof super);
    int found = 0;
    for (std::size_t at = 0; at + sizeof(media::Inode) <= bytes; at += media::kSlotBytes) {
        media::Inode inode;
        std::memcpy(&inode, memory + at, sizeof inode);
        const auto sum = unit_checksum(super.checksum_seed, std::as_bytes(std::span{&inode, 1}));
        if (inode.magic != media::kInodeMagic || inode.ino != ino || inode.crc32c != sum) continue;
        inode.nlink = count;
        inode.crc32c = unit_checksum(super.checksum_seed, std::as_bytes(std::span{&inode, 1}));
        std::memcpy(memory + at, &inode, sizeof inode);
        ++found;
    }
    REQUIRE(found == 1);
}

}  // namespace

TEST_CASE("EMLINK: a file has at most 1048576 names", "[mount][errors]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "x");
    struct stat st {};
    REQUIRE(stat(mounted.path("f").c_str(), &st) == 0);
    mounted.unmount();
    set_link_count(mounted.region(), st.st_ino, (1u << 20) - 1);
    mounted.mount();
    const auto link_to = [&](const char* name) {
        return errno_if(link(mounted.path("f").c_str(), mounted.path(name).c_str()));
    };
    CHECK(link_to("a") == 0);
    CHECK(link_to("b") == EMLINK);
    REQUIRE(stat(mounted.path("f").c_str(), &st) == 0);
    CHECK(st.st_nlink == 1u << 20);
    REQUIRE(unlink(mounted.path("a").c_str()) == 0);
    CHECK(link_to("b") == 0);
}

TEST_CASE("EFBIG: a file ends at 16 TiB", "[mount][errors]") {
    KernelMount mounted;
    mounted.mount(GENERATE(false, true) ? "dax=never" : "dax=inode");
    const std::string f = mounted.path("f");
    constexpr off_t kEnd = off_t{1} << 44;
    write_file(f, "x");
    CHECK(truncate(f.c_str(), kEnd) == 0);
    CHECK(errno_if(truncate(f.c_str(), kEnd + 1)) == EFBIG);
    const int file = open(f.c_str(), O_RDWR | O_CLOEXEC);
    CHECK(pwrite(file, "12345", 5, kEnd - 3) == 3);
    CHECK(errno_if(pwrite(file, "x", 1, kEnd)) == EFBIG);
    char text[5] = {};
    CHECK(pread(file, text, 5, kEnd - 3) == 3);
    CHECK(std::string{text} == "123");
    close(file);
    REQUIRE(truncate(f.c_str(), 0) == 0);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("names, links and types: ENAMETOOLONG, ELOOP, EISDIR, ENOTDIR and their kin",
          "[mount][errors]") {
    KernelMount mounted;
    mounted.mount();
    const auto at = [&](const std::string& name) {
        return mounted.path(name);
    };
    write_file(at("f"), "x");
    REQUIRE(mkdir(at("d").c_str(), 0755) == 0);
    write_file(at("d/f"), "x");
    REQUIRE(symlink("loop", at("loop").c_str()) == 0);
    REQUIRE(symlink("f", at("link").c_str()) == 0);
    REQUIRE(mkfifo(at("fifo").c_str(), 0644) == 0);
    const std::string long_name(256, 'n');
    const std::string long_target(4096, 't');

    struct Case {
        const char* name;
        int expected;
        std::function<long()> call;
    };
    // clang-format off
    const std::vector<Case> cases{
        {"a long name is made", ENAMETOOLONG, [&] { return open_and_close(at(long_name), O_CREAT | O_WRONLY); }},
        {"a long name is looked up", ENAMETOOLONG, [&] { return open_and_close(at(long_name), O_RDONLY); }},
        {"a long name is moved to", ENAMETOOLONG, [&] { return rename(at("f").c_str(), at(long_name).c_str()); }},
        {"a long name is removed", ENAMETOOLONG, [&] { return unlink(at(long_name).c_str()); }},
        {"a long target", ENAMETOOLONG, [&] { return symlink(long_target.c_str(), at("s").c_str()); }},
        {"a loop of links", ELOOP, [&] { return open_and_close(at("loop"), O_RDONLY); }},
        {"O_NOFOLLOW", ELOOP, [&] { return open_and_close(at("link"), O_RDONLY | O_NOFOLLOW); }},
        {"a directory is written", EISDIR, [&] { return open_and_close(at("d"), O_WRONLY); }},
        {"a directory is truncated", EISDIR, [&] { return truncate(at("d").c_str(), 0); }},
        {"a directory is unlinked", EISDIR, [&] { return unlink(at("d").c_str()); }},
        {"a file takes a directory's name", EISDIR, [&] { return rename(at("f").c_str(), at("d").c_str()); }},
        {"a file is made with a slash behind", EISDIR, [&] { return open_and_close(at("new/"), O_CREAT | O_WRONLY); }},
        {"a file is walked through", ENOTDIR, [&] { return open_and_close(at("f/x"), O_RDONLY); }},
        {"a file is opened as a directory", ENOTDIR, [&] { return open_and_close(at("f"), O_RDONLY | O_DIRECTORY); }},
        {"a file is removed as a directory", ENOTDIR, [&] { return rmdir(at("f").c_str()); }},
        {"a directory takes a file's name", ENOTDIR, [&] { return rename(at("d").c_str(), at("f").c_str()); }},
        {"a full directory is removed", ENOTEMPTY, [&] { return rmdir(at("d").c_str()); }},
        {"the way up is removed", ENOTEMPTY, [&] { return rmdir(at("d/..").c_str()); }},
        {"a directory removes itself", EINVAL, [&] { return rmdir(at("d/.").c_str()); }},
        {"a directory moves into itself", EINVAL, [&] { return rename(at("d").c_str(), at("d/x").c_str()); }},
        {"a directory moves to itself", EBUSY, [&] { return rename(at("f").c_str(), at("d/.").c_str()); }},
        {"a mount point is removed", EBUSY, [&] { return rmdir(mounted.root().c_str()); }},
        {"a name is there", EEXIST, [&] { return mkdir(at("f").c_str(), 0755); }},
        {"a name is there for O_EXCL", EEXIST, [&] { return open_and_close(at("f"), O_CREAT | O_EXCL | O_WRONLY); }},
        {"a name is not there", ENOENT, [&] { return unlink(at("none").c_str()); }},
        {"a directory has two names", EPERM, [&] { return link(at("d").c_str(), at("e").c_str()); }},
        {"a link leaves the file system", EXDEV, [&] { return link(at("f").c_str(), mounted.outside("f").c_str()); }},
        {"a name leaves the file system", EXDEV, [&] { return rename(at("f").c_str(), mounted.outside("f").c_str()); }},
        {"a pipe without a reader", ENXIO, [&] { return open_and_close(at("fifo"), O_WRONLY | O_NONBLOCK); }},
        {"a pipe is truncated", EINVAL, [&] { return truncate(at("fifo").c_str(), 0); }},
        {"a file is read as a link", EINVAL, [&] { char text[9]; return readlink(at("f").c_str(), text, 9); }},
        {"a negative size", EINVAL, [&] { return truncate(at("f").c_str(), -1); }},
    };
    // clang-format on
    for (const Case& each : cases) {
        CAPTURE(each.name);
        CHECK(errno_if(each.call()) == each.expected);
    }
    mounted.unmount();
    mounted.check();
}

TEST_CASE("EOVERFLOW, ETXTBSY, EROFS and who may not", "[mount][errors]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "x");
    file_handle handle{};  // no room for any
    int mount = 0;
    CHECK(errno_if(name_to_handle_at(AT_FDCWD, mounted.path("f").c_str(), &handle, &mount, 0)) ==
          EOVERFLOW);

    const std::string program = mounted.path("sleep");
    REQUIRE(run({"cp", "/bin/sleep", program}).status == 0);
    const pid_t child = fork();
    if (child == 0) {
        do  // what we try below keeps it from running, too
            execl(program.c_str(), "sleep", "60", nullptr);
        while (errno == ETXTBSY);
        _exit(127);
    }
    CHECK(becomes_true([&] { return errno_if(open_and_close(program, O_WRONLY)) == ETXTBSY; }));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);

    CHECK(run({"mknod", mounted.path("null"), "c", "1", "3"}, 1000).status != 0);
    REQUIRE(chmod(mounted.path("f").c_str(), 0) == 0);
    CHECK(run({"cat", mounted.path("f")}, 1000).err.find("Permission denied") != std::string::npos);
    mounted.remount("ro");
    CHECK(errno_if(open_and_close(mounted.path("f"), O_WRONLY)) == EROFS);
    CHECK(errno_if(unlink(mounted.path("f").c_str())) == EROFS);
    CHECK(errno_if(chmod(mounted.path("f").c_str(), 0644)) == EROFS);
    CHECK(errno_if(setxattr(mounted.path("f").c_str(), "user.a", "1", 1, 0)) == EROFS);
}

// SPDX-License-Identifier: Apache-2.0
//
// Attributes, extended attributes, flags and totals, through the kernel.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <ctime>
#include <set>
#include <thread>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

struct stat stat_of(const std::string& path) {
    struct stat st {};
    CAPTURE(path);
    REQUIRE(lstat(path.c_str(), &st) == 0);
    return st;
}

bool operator==(const timespec& left, const timespec& right) {
    return left.tv_sec == right.tv_sec && left.tv_nsec == right.tv_nsec;
}

class Descriptor {
public:
    explicit Descriptor(const std::string& path)
        : number_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
        CAPTURE(path);
        REQUIRE(number_ >= 0);
    }
    ~Descriptor() { close(number_); }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    operator int() const { return number_; }  // NOLINT

private:
    int number_;
};

bool has_dax_flag(const std::string& path) {
    const Descriptor file{path};
    fsxattr extended{};
    REQUIRE(ioctl(file, FS_IOC_FSGETXATTR, &extended) == 0);
    int flags = 0;
    REQUIRE(ioctl(file, FS_IOC_GETFLAGS, &flags) == 0);
    CHECK(((extended.fsx_xflags & FS_XFLAG_DAX) != 0) == ((flags & FS_DAX_FL) != 0));
    return (extended.fsx_xflags & FS_XFLAG_DAX) != 0;
}

int set_dax_flag(const std::string& path, bool on) {
    const Descriptor file{path};
    fsxattr extended{};
    REQUIRE(ioctl(file, FS_IOC_FSGETXATTR, &extended) == 0);
    extended.fsx_xflags = on ? extended.fsx_xflags | FS_XFLAG_DAX
                             : extended.fsx_xflags & ~std::uint32_t{FS_XFLAG_DAX};
    return errno_if(ioctl(file, FS_IOC_FSSETXATTR, &extended));
}

/// A file in DAX mode is not cached: kernel_mmap=off makes the kernel say which it is.
bool is_in_dax_mode(const std::string& path) {
    const Descriptor file{path};
    void* memory = mmap(nullptr, 1, PROT_READ, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) {
        CHECK(errno == ENODEV);
        return true;
    }
    munmap(memory, 1);
    return false;
}

}  // namespace

TEST_CASE("times keep nanoseconds, before 1970 and after 2038", "[mount][attributes]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "x");
    const timespec cases[][2] = {
        {{0, 0}, {0, 1}},
        {{-1, 999999999}, {-2208988800, 5}},          // 1969, 1900
        {{2147483648, 123456789}, {4294967296, 42}},  // 2038, 2106
        {{253402300799, 999999999}, {-62135596800, 0}},
    };
    for (const auto& times : cases) {
        CAPTURE(times[0].tv_sec, times[1].tv_sec);
        REQUIRE(utimensat(AT_FDCWD, mounted.path("f").c_str(), times, 0) == 0);
        for (int round = 0; round < 2; ++round) {
            const auto st = stat_of(mounted.path("f"));
            CHECK((st.st_atim == times[0]));
            CHECK((st.st_mtim == times[1]));
            if (round == 0) mounted.remount();
        }
    }
    const timespec some[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
    REQUIRE(utimensat(AT_FDCWD, mounted.path("f").c_str(), some, 0) == 0);
    CHECK((stat_of(mounted.path("f")).st_atim == cases[3][0]));
    CHECK(stat_of(mounted.path("f")).st_mtim.tv_sec > 1600000000);
}

TEST_CASE("the time of birth is shown and stays", "[mount][attributes]") {
    KernelMount mounted;
    mounted.mount();
    if (!mounted.kernel_has("birth_times")) return;
    const std::string f = mounted.path("f");
    const auto birth = [&] {
        struct statx st {};
        REQUIRE(statx(AT_FDCWD, f.c_str(), 0, STATX_BTIME | STATX_BASIC_STATS, &st) == 0);
        CHECK(st.stx_size == 1);
        CHECK(st.stx_nlink == 1);
        REQUIRE((st.stx_mask & STATX_BTIME) != 0);
        return std::pair{st.stx_btime.tv_sec, st.stx_btime.tv_nsec};
    };
    const std::time_t before = std::time(nullptr);
    write_file(f, "x");
    const auto born = birth();
    CHECK((born.first >= before - 1 && born.first <= std::time(nullptr)));
    const timespec times[2] = {{5, 0}, {6, 0}};
    REQUIRE(utimensat(AT_FDCWD, f.c_str(), times, 0) == 0);
    REQUIRE(chmod(f.c_str(), 0600) == 0);
    CHECK(birth() == born);
    mounted.remount();
    CHECK(birth() == born);
}

TEST_CASE("what changes a file or a directory moves its times, at once", "[mount][attributes]") {
    KernelMount mounted;
    mounted.mount();
    const std::string file = mounted.path("f");
    write_file(file, "x");
    const auto advances = [&](const std::string& path, auto which, auto&& action) {
        const timespec before = stat_of(path).*which;
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
        action();
        const timespec after = stat_of(path).*which;
        return after.tv_sec > before.tv_sec ||
               (after.tv_sec == before.tv_sec && after.tv_nsec > before.tv_nsec);
    };
    CHECK(advances(file, &stat::st_mtim, [&] { write_file(file, "y"); }));
    CHECK(advances(file, &stat::st_ctim, [&] { write_file(file, "y"); }));
    CHECK(advances(file, &stat::st_ctim, [&] { chmod(file.c_str(), 0600); }));
    CHECK(advances(file, &stat::st_mtim, [&] { truncate(file.c_str(), 5); }));
    CHECK(advances(file, &stat::st_ctim, [&] { setxattr(file.c_str(), "user.x", "1", 1, 0); }));
    CHECK(advances(file, &stat::st_ctim, [&] { link(file.c_str(), mounted.path("g").c_str()); }));
    CHECK(advances(file, &stat::st_ctim, [&] { unlink(mounted.path("g").c_str()); }));
    CHECK(
        advances(mounted.root(), &stat::st_mtim, [&] { mkdir(mounted.path("d").c_str(), 0755); }));
    CHECK(advances(mounted.root(), &stat::st_mtim, [&] { rmdir(mounted.path("d").c_str()); }));
    // An ioctl: the kernel learns of it from a notification.
    const timespec before = stat_of(file).st_ctim;
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
    REQUIRE(set_dax_flag(file, !has_dax_flag(file)) == 0);
    bool moved = false;
    for (int i = 0; i < 200 && !moved; ++i) {
        moved = !(stat_of(file).st_ctim == before);
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
    CHECK(moved);
}

TEST_CASE("mode, owner and sizes hold over a remount", "[mount][attributes]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), std::string(10000, 'x'));
    REQUIRE(chown(mounted.path("f").c_str(), 4294967294, 123456) == 0);
    REQUIRE(chmod(mounted.path("f").c_str(), 07531) == 0);
    for (int round = 0; round < 2; ++round) {
        const auto st = stat_of(mounted.path("f"));
        CHECK(st.st_uid == 4294967294);
        CHECK(st.st_gid == 123456);
        CHECK((st.st_mode & 07777) == 07531);
        CHECK(st.st_size == 10000);
        CHECK(st.st_blocks == 24);
        if (round == 0) mounted.remount();
    }
}

TEST_CASE("the kernel checks permissions", "[mount][attributes]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("secret"), "x");
    REQUIRE(chmod(mounted.path("secret").c_str(), 0600) == 0);
    REQUIRE(mkdir(mounted.path("theirs").c_str(), 0755) == 0);
    REQUIRE(chown(mounted.path("theirs").c_str(), 1000, 1000) == 0);
    REQUIRE(mkdir(mounted.path("sticky").c_str(), 0755) == 0);
    REQUIRE(chmod(mounted.path("sticky").c_str(), 01777) == 0);
    write_file(mounted.path("sticky/root"), "x");
    CHECK(run({"cat", mounted.path("secret")}, 1000).status != 0);
    CHECK(run({"touch", mounted.path("new")}, 1000).status != 0);
    CHECK(run({"touch", mounted.path("theirs/new")}, 1000).status == 0);
    CHECK(stat_of(mounted.path("theirs/new")).st_uid == 1000);
    CHECK(stat_of(mounted.path("theirs/new")).st_gid == 1000);
    CHECK(run({"rm", "-f", mounted.path("sticky/root")}, 1000).status != 0);
    CHECK(run({"chmod", "777", mounted.path("secret")}, 1000).status != 0);
}

TEST_CASE("extended attributes: create, replace, sizes, lists, limits", "[mount][attributes]") {
    KernelMount mounted;
    mounted.mount();
    const std::string file = mounted.path("f");
    const char* path = file.c_str();
    write_file(file, "x");
    char value[70000];
    CHECK(errno_if(getxattr(path, "user.none", value, sizeof(value))) == ENODATA);
    CHECK(setxattr(path, "user.a", "first", 5, XATTR_CREATE) == 0);
    CHECK(errno_if(setxattr(path, "user.a", "x", 1, XATTR_CREATE)) == EEXIST);
    CHECK(errno_if(setxattr(path, "user.b", "x", 1, XATTR_REPLACE)) == ENODATA);
    CHECK(setxattr(path, "user.a", "second value", 12, XATTR_REPLACE) == 0);
    CHECK(getxattr(path, "user.a", nullptr, 0) == 12);
    CHECK(errno_if(getxattr(path, "user.a", value, 11)) == ERANGE);
    CHECK(getxattr(path, "user.a", value, 12) == 12);
    CHECK(std::string(value, 12) == "second value");
    CHECK(setxattr(path, "user.empty", "", 0, 0) == 0);
    CHECK(getxattr(path, "user.empty", value, sizeof(value)) == 0);
    CHECK(setxattr(path, "trusted.t", "1", 1, 0) == 0);
    CHECK(setxattr(path, "security.s", "2", 1, 0) == 0);
    CHECK(errno_if(setxattr(path, "other.o", "2", 1, 0)) == EOPNOTSUPP);
    const std::string large = noise(9, 65536);
    CHECK(setxattr(path, "user.large", large.data(), large.size(), 0) == 0);

    const auto list = [&] {
        std::set<std::string> names;
        const ssize_t bytes = listxattr(path, value, sizeof(value));
        CHECK(bytes == listxattr(path, nullptr, 0));
        for (ssize_t at = 0; at < bytes;
             at += static_cast<ssize_t>(std::string{value + at}.size()) + 1)
            names.insert(value + at);
        return names;
    };
    const std::set<std::string> expected{"user.a", "user.empty", "user.large", "trusted.t",
                                         "security.s"};
    CHECK(list() == expected);
    CHECK(errno_if(listxattr(path, value, 3)) == ERANGE);
    CHECK(run({"getfattr", "-d", "-m", "-", file}, 1000).out.find("trusted.t") ==
          std::string::npos);
    mounted.remount();
    CHECK(list() == expected);
    CHECK(getxattr(path, "user.large", value, sizeof(value)) == 65536);
    CHECK((std::string(value, 65536) == large));
    CHECK(removexattr(path, "user.large") == 0);
    CHECK(errno_if(removexattr(path, "user.large")) == ENODATA);
    CHECK(setxattr(mounted.root().c_str(), "user.dir", "d", 1, 0) == 0);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("statfs counts blocks and inodes", "[mount][attributes]") {
    KernelMount mounted;
    mounted.mount();
    const auto totals = [&] {
        struct statvfs st {};
        REQUIRE(statvfs(mounted.root().c_str(), &st) == 0);
        return st;
    };
    const auto before = totals();
    CHECK(before.f_bsize == 4096);
    CHECK(before.f_blocks * before.f_frsize == mounted.region_bytes());
    CHECK(before.f_namemax == 255);
    CHECK(before.f_bavail < before.f_bfree);
    write_file(mounted.path("f"), std::string(1 << 20, 'x'));
    const auto after = totals();
    CHECK(before.f_bfree - after.f_bfree >= 256);
    CHECK(after.f_files - after.f_ffree == before.f_files - before.f_ffree + 1);
    REQUIRE(unlink(mounted.path("f").c_str()) == 0);
}

TEST_CASE("the DAX flag: set by mkfs, inherited, changed by its owner",
          "[mount][attributes][dax]") {
    KernelMount mounted;
    mounted.mount("kernel_mmap=off");
    const auto at = [&](const char* name) {
        return mounted.path(name);
    };
    write_file(at("f"), "x");
    REQUIRE(mkdir(at("d").c_str(), 0755) == 0);
    CHECK(has_dax_flag(mounted.root()));
    CHECK(has_dax_flag(at("f")));
    CHECK(has_dax_flag(at("d")));
    CHECK(is_in_dax_mode(at("f")));

    REQUIRE(set_dax_flag(at("d"), false) == 0);
    write_file(at("d/plain"), "x");
    REQUIRE(mkdir(at("d/e").c_str(), 0755) == 0);
    CHECK(!has_dax_flag(at("d/plain")));
    CHECK(!has_dax_flag(at("d/e")));
    CHECK(!is_in_dax_mode(at("d/plain")));

    const auto as_user = [&](const char* change) {
        return run({"xfs_io", "-r", "-c", std::string{"chattr "} + change, at("f")}, 1000);
    };
    as_user("-x");
    CHECK(has_dax_flag(at("f")));
    REQUIRE(chown(at("f").c_str(), 1000, 1000) == 0);
    as_user("-x");
    CHECK(!has_dax_flag(at("f")));
    // It takes effect when the kernel has told that the last open file is closed.
    CHECK(becomes_true([&] { return !is_in_dax_mode(at("f")); }));
    const std::string listed = run({"xfs_io", "-r", "-c", "lsattr", at("d")}).out;
    CHECK(listed.substr(0, listed.find(' ')).find('x') == std::string::npos);
    mounted.remount("kernel_mmap=off");
    CHECK(!has_dax_flag(at("f")));
    REQUIRE(set_dax_flag(at("f"), true) == 0);
    CHECK(becomes_true([&] { return is_in_dax_mode(at("f")); }));
}

TEST_CASE("a change of the DAX flag takes effect when the file is open nowhere",
          "[mount][attributes][dax]") {
    KernelMount mounted;
    mounted.mount("kernel_mmap=off");
    write_file(mounted.path("f"), "x");
    {
        const Descriptor held{mounted.path("f")};
        REQUIRE(set_dax_flag(mounted.path("f"), false) == 0);
        CHECK(!has_dax_flag(mounted.path("f")));
        CHECK(is_in_dax_mode(mounted.path("f")));
    }
    // The kernel sends the last close when it likes.
    CHECK(becomes_true([&] { return !is_in_dax_mode(mounted.path("f")); }));
}

TEST_CASE("dax=always and dax=never override the flag", "[mount][attributes][dax]") {
    KernelMount mounted{64, {"--no-dax"}};
    mounted.mount("kernel_mmap=off");
    write_file(mounted.path("f"), "x");
    CHECK(!has_dax_flag(mounted.path("f")));
    CHECK(!is_in_dax_mode(mounted.path("f")));
    mounted.remount("dax=always,kernel_mmap=off");
    CHECK(!has_dax_flag(mounted.path("f")));
    CHECK(is_in_dax_mode(mounted.path("f")));
    mounted.unmount();
    mounted.mount("kernel_mmap=off");
    REQUIRE(set_dax_flag(mounted.path("f"), true) == 0);
    mounted.remount("dax=never,kernel_mmap=off");
    CHECK(has_dax_flag(mounted.path("f")));
    CHECK(!is_in_dax_mode(mounted.path("f")));
}

TEST_CASE("an ioctl of others is no ioctl here, a flag that nothing obeys is refused",
          "[mount][attributes]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "x");
    const Descriptor file{mounted.path("f")};
    CHECK(isatty(file) == 0);
    CHECK(errno == ENOTTY);
    int value = 0;
    CHECK(errno_if(ioctl(file, _IOWR('z', 77, int), &value)) == ENOTTY);
    int flags = 0;
    REQUIRE(ioctl(file, FS_IOC_GETFLAGS, &flags) == 0);
    flags |= FS_COMPR_FL;
    CHECK(errno_if(ioctl(file, FS_IOC_SETFLAGS, &flags)) == EOPNOTSUPP);
}

// SPDX-License-Identifier: Apache-2.0
//
// Flags of inodes (chattr, lsattr), projects, generations and the label, through the kernel.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <functional>
#include <map>
#include <string>

#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

/// A call's errno for each name, so that a failure says which call it was.
using Calls = std::map<std::string, std::function<long()>>;

void all_give(const Calls& calls, int expected) {
    for (const auto& [name, call] : calls) {
        CAPTURE(name);
        CHECK(errno_if(call()) == expected);
    }
}

long open_and_close(const std::string& path, int flags, mode_t mode = 0644) {
    const int file = open(path.c_str(), flags | O_CLOEXEC, mode);
    if (file >= 0) close(file);
    return file;
}

int chattr(const std::string& change, const std::string& path, uid_t uid = 0) {
    return run({"chattr", change, path}, uid).status;
}

fsxattr extended_of(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    fsxattr extended{};
    CAPTURE(path);
    REQUIRE(ioctl(file, FS_IOC_FSGETXATTR, &extended) == 0);
    close(file);
    return extended;
}

/// As a system call: -1 and errno.
long set_project(const std::string& path, std::uint32_t project, std::uint32_t flags) {
    fsxattr extended = extended_of(path);
    extended.fsx_projid = project;
    extended.fsx_xflags |= flags;
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    const long result = ioctl(file, FS_IOC_FSSETXATTR, &extended);
    close(file);  // a success leaves errno alone
    return result;
}

long rename_to(const std::string& from, const std::string& to, unsigned flags = 0) {
    return renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags);
}

std::string dax_option() { return GENERATE(false, true) ? "dax=never" : "dax=inode"; }

}  // namespace

TEST_CASE("an immutable file is read, and nothing else", "[mount][flags]") {
    KernelMount mounted;
    mounted.mount(dax_option());
    const std::string f = mounted.path("f");
    write_file(f, "content");
    write_file(mounted.path("g"), "other");
    REQUIRE(setxattr(f.c_str(), "user.a", "1", 1, 0) == 0);
    const int writer = open(f.c_str(), O_RDWR | O_CLOEXEC);
    REQUIRE(writer >= 0);
    REQUIRE(chattr("+i", f) == 0);
    const timespec past[2] = {{5, 0}, {6, 0}};
    // clang-format off
    const Calls changes{
        {"open", [&] { return open_and_close(f, O_WRONLY); }},
        {"append", [&] { return open_and_close(f, O_WRONLY | O_APPEND); }},
        {"O_TRUNC", [&] { return open_and_close(f, O_RDONLY | O_TRUNC); }},
        {"O_CREAT", [&] { return open_and_close(f, O_RDWR | O_CREAT); }},
        {"truncate", [&] { return truncate(f.c_str(), 3); }},
        {"ftruncate", [&] { return ftruncate(writer, 300); }},
        {"write", [&] { return pwrite(writer, "x", 1, 0); }},
        {"allocate", [&] { return fallocate(writer, 0, 0, 10000); }},
        {"write behind the end", [&] { return pwrite(writer, "x", 1, 100); }},
        {"unlink", [&] { return unlink(f.c_str()); }},
        {"rename", [&] { return rename_to(f, mounted.path("h")); }},
        {"rename over", [&] { return rename_to(mounted.path("g"), f); }},
        {"exchange", [&] { return rename_to(mounted.path("g"), f, RENAME_EXCHANGE); }},
        {"link", [&] { return link(f.c_str(), mounted.path("h").c_str()); }},
        {"chmod", [&] { return chmod(f.c_str(), 0600); }},
        {"chown", [&] { return chown(f.c_str(), 1, 1); }},
        {"set times", [&] { return utimensat(AT_FDCWD, f.c_str(), past, 0); }},
        {"touch", [&] { return utimensat(AT_FDCWD, f.c_str(), nullptr, 0); }},
        {"setxattr", [&] { return setxattr(f.c_str(), "user.a", "2", 1, 0); }},
        {"removexattr", [&] { return removexattr(f.c_str(), "user.a"); }},
        {"project", [&] { return set_project(f, 5, 0); }},
    };
    // clang-format on
    all_give(changes, EPERM);
    CHECK(chattr("+d", f) != 0);
    CHECK(chattr("+i", f) == 0);
    close(writer);
    mounted.remount();
    CHECK(contents(f) == "content");
    CHECK(run({"lsattr", "-d", f}).out.find('i') < 20);
    CHECK(errno_if(unlink(f.c_str())) == EPERM);
    CHECK(chattr("-i", f) == 0);
    CHECK(unlink(f.c_str()) == 0);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("the names in an immutable directory stay, the files may change", "[mount][flags]") {
    KernelMount mounted;
    mounted.mount();
    const std::string d = mounted.path("d");
    REQUIRE(mkdir(d.c_str(), 0755) == 0);
    REQUIRE(mkdir((d + "/sub").c_str(), 0755) == 0);
    write_file(d + "/f", "f");
    write_file(mounted.path("g"), "g");
    REQUIRE(chattr("+i", d) == 0);
    // clang-format off
    const Calls changes{
        {"create", [&] { return open_and_close(d + "/new", O_WRONLY | O_CREAT); }},
        {"tmpfile", [&] { return open_and_close(d, O_WRONLY | O_TMPFILE); }},
        {"mkdir", [&] { return mkdir((d + "/new").c_str(), 0755); }},
        {"mknod", [&] { return mknod((d + "/new").c_str(), S_IFIFO | 0644, 0); }},
        {"symlink", [&] { return symlink("x", (d + "/new").c_str()); }},
        {"link", [&] { return link(mounted.path("g").c_str(), (d + "/new").c_str()); }},
        {"unlink", [&] { return unlink((d + "/f").c_str()); }},
        {"rmdir", [&] { return rmdir((d + "/sub").c_str()); }},
        {"rename in it", [&] { return rename_to(d + "/f", d + "/new"); }},
        {"rename out of it", [&] { return rename_to(d + "/f", mounted.path("new")); }},
        {"rename into it", [&] { return rename_to(mounted.path("g"), d + "/new"); }},
        {"rename it", [&] { return rename_to(d, mounted.path("new")); }},
        {"remove it", [&] { return rmdir(d.c_str()); }},
        {"chmod", [&] { return chmod(d.c_str(), 0700); }},
    };
    // clang-format on
    all_give(changes, EPERM);
    write_file(d + "/f", "changed");
    CHECK(open_and_close(d + "/sub/new", O_WRONLY | O_CREAT) >= 0);
    CHECK(chattr("-i", d) == 0);
    CHECK(unlink((d + "/f").c_str()) == 0);
}

TEST_CASE("an append-only file grows at its end", "[mount][flags]") {
    KernelMount mounted;
    const std::string option = dax_option();
    mounted.mount(option);
    const std::string f = mounted.path("f");
    write_file(f, "first ");
    const int early = open(f.c_str(), O_RDWR | O_CLOEXEC);
    REQUIRE(chattr("+a", f) == 0);
    const int file = open(f.c_str(), O_RDWR | O_APPEND | O_CLOEXEC);
    REQUIRE(file >= 0);
    CHECK(write(file, "second ", 7) == 7);
    CHECK(fallocate(file, FALLOC_FL_KEEP_SIZE, 0, 10000) == 0);
    CHECK(utimensat(AT_FDCWD, f.c_str(), nullptr, 0) == 0);
    const timespec past[2] = {{5, 0}, {6, 0}};
    // clang-format off
    const Calls changes{
        {"open", [&] { return open_and_close(f, O_WRONLY); }},
        {"O_TRUNC", [&] { return open_and_close(f, O_WRONLY | O_APPEND | O_TRUNC); }},
        {"truncate", [&] { return truncate(f.c_str(), 3); }},
        {"punch", [&] { return fallocate(early, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 9); }},
        {"zero", [&] { return fallocate(early, FALLOC_FL_ZERO_RANGE, 0, 9); }},
        {"write over what is there", [&] { return pwrite(early, "x", 1, 0); }},
        {"unlink", [&] { return unlink(f.c_str()); }},
        {"rename", [&] { return rename_to(f, mounted.path("h")); }},
        {"link", [&] { return link(f.c_str(), mounted.path("h").c_str()); }},
        {"chmod", [&] { return chmod(f.c_str(), 0600); }},
        {"set times", [&] { return utimensat(AT_FDCWD, f.c_str(), past, 0); }},
        {"setxattr", [&] { return setxattr(f.c_str(), "user.a", "2", 1, 0); }},
    };
    // clang-format on
    all_give(changes, EPERM);
    // Neither a descriptor that forgot its O_APPEND nor a mapping goes past it.
    REQUIRE(fcntl(file, F_SETFL, 0) == 0);
    CHECK(errno_if(pwrite(file, "x", 1, 0)) == EPERM);
    if (option == "dax=never" || mounted.kernel_has("kernel_mmap")) {
        auto* memory =
            static_cast<char*>(mmap(nullptr, 13, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
        REQUIRE(memory != MAP_FAILED);
        memory[0] = 'X';
        CHECK(msync(memory, 13, MS_SYNC) != 0);
        munmap(memory, 13);
    }
    close(file);
    close(early);
    mounted.remount();
    CHECK(contents(f) == "first second ");
    CHECK(chattr("-a", f) == 0);
    CHECK(truncate(f.c_str(), 0) == 0);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("an append-only directory takes names and gives none", "[mount][flags]") {
    KernelMount mounted;
    mounted.mount();
    const std::string d = mounted.path("d");
    REQUIRE(mkdir(d.c_str(), 0755) == 0);
    write_file(d + "/f", "f");
    for (const char* name : {"g", "h"}) write_file(mounted.path(name), name);
    REQUIRE(chattr("+a", d) == 0);
    CHECK(open_and_close(d + "/new", O_WRONLY | O_CREAT) >= 0);
    CHECK(mkdir((d + "/sub").c_str(), 0755) == 0);
    CHECK(link(mounted.path("g").c_str(), (d + "/linked").c_str()) == 0);
    CHECK(rename_to(mounted.path("g"), d + "/moved") == 0);
    // clang-format off
    const Calls changes{
        {"unlink", [&] { return unlink((d + "/f").c_str()); }},
        {"rmdir", [&] { return rmdir((d + "/sub").c_str()); }},
        {"rename in it", [&] { return rename_to(d + "/f", d + "/other"); }},
        {"rename out of it", [&] { return rename_to(d + "/f", mounted.path("other")); }},
        {"rename over", [&] { return rename_to(mounted.path("h"), d + "/f"); }},
        {"exchange", [&] { return rename_to(mounted.path("h"), d + "/f", RENAME_EXCHANGE); }},
        {"remove it", [&] { return rmdir(d.c_str()); }},
    };
    // clang-format on
    all_give(changes, EPERM);
    write_file(d + "/f", "changed");
    CHECK(chattr("-a", d) == 0);
    CHECK(unlink((d + "/f").c_str()) == 0);
}

TEST_CASE("protecting flags need CAP_LINUX_IMMUTABLE, the others an owner", "[mount][flags]") {
    KernelMount mounted;
    mounted.mount();
    const std::string f = mounted.path("f");
    write_file(f, "x");
    REQUIRE(chown(f.c_str(), 1000, 1000) == 0);
    for (const char* flag : {"+i", "+a"}) {
        CAPTURE(flag);
        CHECK(chattr(flag, f, 1000) != 0);
        CHECK(run({"setpriv", "--bounding-set", "-linux_immutable", "chattr", flag, f}).status !=
              0);
        CHECK(run({"unshare", "--user", "--map-root-user", "chattr", flag, f}, 1000).status != 0);
    }
    for (const char* flag : {"+d", "+A", "+S", "-d", "-A", "-S"}) {
        CAPTURE(flag);
        CHECK(chattr(flag, f, 1001) != 0);
        CHECK(chattr(flag, f, 1000) == 0);
        CHECK(chattr(flag, f) == 0);
    }
    CHECK(chattr("+c", f) != 0);
    CHECK(chattr("+P", f) != 0);  // directories pass a project on, not files
    REQUIRE(chattr("+i", f) == 0);
    CHECK(chattr("-i", f, 1000) != 0);
    CHECK(chattr("-i", f) == 0);
}

TEST_CASE("new files take what their directory passes on", "[mount][flags]") {
    KernelMount mounted;
    mounted.mount();
    const std::string d = mounted.path("d");
    REQUIRE(mkdir(d.c_str(), 0755) == 0);
    REQUIRE(chattr("+dASa", d) == 0);
    REQUIRE(set_project(d, 42, FS_XFLAG_PROJINHERIT) == 0);
    write_file(d + "/f", "x");
    REQUIRE(mkdir((d + "/sub").c_str(), 0755) == 0);
    mounted.remount();
    constexpr std::uint32_t kPassed = FS_XFLAG_NODUMP | FS_XFLAG_NOATIME | FS_XFLAG_SYNC;
    CHECK(extended_of(d + "/f").fsx_xflags == (kPassed | FS_XFLAG_DAX));
    CHECK(extended_of(d + "/f").fsx_projid == 42);
    CHECK(extended_of(d + "/sub").fsx_xflags == (kPassed | FS_XFLAG_DAX | FS_XFLAG_PROJINHERIT));
    CHECK(extended_of(d + "/sub").fsx_projid == 42);
    REQUIRE(chattr("-a", d) == 0);

    // Nothing of another project gets a name in a tree that passes its own on.
    write_file(mounted.path("g"), "g");
    // clang-format off
    const Calls across{
        {"link", [&] { return link(mounted.path("g").c_str(), (d + "/g").c_str()); }},
        {"rename", [&] { return rename_to(mounted.path("g"), d + "/g"); }},
        {"exchange", [&] { return rename_to(mounted.path("g"), d + "/f", RENAME_EXCHANGE); }},
        {"exchange", [&] { return rename_to(d + "/f", mounted.path("g"), RENAME_EXCHANGE); }},
    };
    // clang-format on
    all_give(across, EXDEV);
    CHECK(run({"mv", mounted.path("g"), d + "/g"}).status == 0);  // by copying
    CHECK(extended_of(d + "/g").fsx_projid == 42);
    CHECK(rename_to(d + "/g", d + "/sub/g") == 0);
    CHECK(rename_to(d + "/sub/g", mounted.path("g")) == 0);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("the generation and the label can be asked for", "[mount][flags]") {
    KernelMount mounted{64, {"--label", "some label"}};
    mounted.mount();
    write_file(mounted.path("f"), "x");
    const int file = open(mounted.path("f").c_str(), O_RDONLY | O_CLOEXEC);
    int generation[2] = {0, 77};
    REQUIRE(ioctl(file, FS_IOC_GETVERSION, generation) == 0);
    CHECK(generation[0] != 0);
    CHECK(generation[1] == 77);
    CHECK(run({"lsattr", "-v", mounted.path("f")}).out.starts_with(std::to_string(generation[0])));
    char label[FSLABEL_MAX] = {};
    REQUIRE(ioctl(file, FS_IOC_GETFSLABEL, label) == 0);
    CHECK(std::string{label} == "some label");
    CHECK(errno_if(ioctl(file, FS_IOC_SETFSLABEL, label)) == EOPNOTSUPP);
    close(file);
}

// SPDX-License-Identifier: Apache-2.0
//
// POSIX access lists through the kernel, with the tools that people use, by users who are not root.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <string>

#include "tests/support/kernel_mount.h"
#include "tests/support/operation.h"

using namespace pinfs::test;

namespace {

constexpr const char* kAccess = "system.posix_acl_access";
constexpr const char* kDefault = "system.posix_acl_default";

mode_t mode_of(const std::string& path) {
    struct stat st {};
    CAPTURE(path);
    REQUIRE(lstat(path.c_str(), &st) == 0);
    return st.st_mode & 07777;
}

void setfacl(const std::string& entries, const std::string& path) {
    const Ran ran = run({"setfacl", "-m", entries, path});
    CAPTURE(entries, path, ran.err);
    REQUIRE(ran.status == 0);
}

/// Without comments and effective rights, in one line.
std::string list_on(const std::string& path) {
    const Ran ran = run({"getfacl", "-c", "-n", "-E", "-p", path});
    CAPTURE(path, ran.err);
    REQUIRE(ran.status == 0);
    std::string line;
    for (const char letter : ran.out) line += letter == '\n' ? ' ' : letter;
    while (line.ends_with(' ')) line.pop_back();
    return line;
}

bool has_list(const std::string& path, const char* name = kAccess) {
    const ssize_t bytes = getxattr(path.c_str(), name, nullptr, 0);
    if (bytes < 0) CHECK(errno == ENODATA);
    return bytes > 0;
}

bool can(uid_t uid, const std::string& command) {
    return run({"sh", "-c", command + " 2>/dev/null"}, uid).status == 0;
}

/// With a umask that would matter.
template <class Action>
void with_umask(mode_t mask, const Action& action) {
    const mode_t before = umask(mask);
    action();
    umask(before);
}

}  // namespace

TEST_CASE("an access list gives and takes rights, and the mode shows its mask",
          "[mount][access_lists]") {
    KernelMount mounted;
    mounted.mount();
    const std::string f = mounted.path("f");
    write_file(f, "x");
    REQUIRE(chmod(f.c_str(), 0600) == 0);
    CHECK(!can(1000, "cat " + f));
    setfacl("u:1000:r", f);
    CHECK(mode_of(f) == 0640);
    CHECK(can(1000, "cat " + f));
    CHECK(!can(1000, "echo >> " + f));
    CHECK(!can(1001, "cat " + f));
    setfacl("u:1000:rw,u:1001:-,o::r", f);
    CHECK(mode_of(f) == 0664);
    CHECK(can(1000, "echo >> " + f));
    CHECK(!can(1001, "cat " + f));
    CHECK(can(1002, "cat " + f));
    // chmod changes the mask, not the owning group's rights.
    REQUIRE(chmod(f.c_str(), 0600) == 0);
    CHECK(!can(1000, "cat " + f));
    CHECK(list_on(f) == "user::rw- user:1000:rw- user:1001:--- group::--- mask::--- other::---");
    REQUIRE(chmod(f.c_str(), 0640) == 0);
    CHECK(can(1000, "cat " + f));
    CHECK(!can(1000, "echo >> " + f));
    const std::string before = list_on(f);
    mounted.remount();
    CHECK(list_on(f) == before);
    // One that a mode can say is a mode; without a list the mode stays.
    REQUIRE(run({"setfacl", "--set", "u::rw,g::r,o::-", f}).status == 0);
    CHECK(!has_list(f));
    CHECK(mode_of(f) == 0640);
    setfacl("u:1000:rwx", f);
    CHECK(has_list(f));
    REQUIRE(run({"setfacl", "-b", f}).status == 0);
    CHECK(!has_list(f));
    CHECK(!can(1000, "cat " + f));
    CHECK(errno_if(removexattr(f.c_str(), kAccess)) == 0);  // as on other file systems
    CHECK(!can(1000, "setfacl -m u:1000:rw " + f));
    mounted.unmount();
    mounted.check();
}

TEST_CASE("a default list decides what is made, the umask does where there is none",
          "[mount][access_lists]") {
    KernelMount mounted;
    mounted.mount();
    const std::string d = mounted.path("d");
    REQUIRE(mkdir(d.c_str(), 0755) == 0);
    const auto make_all = [&](const std::string& in) {
        with_umask(027, [&] {
            CHECK(close(open((in + "/f").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0666)) == 0);
            CHECK(mkdir((in + "/d").c_str(), 0777) == 0);
            CHECK(mknod((in + "/p").c_str(), S_IFIFO | 0666, 0) == 0);
            CHECK(symlink("x", (in + "/l").c_str()) == 0);
        });
    };
    make_all(d);
    CHECK(mode_of(d + "/f") == 0640);
    CHECK(mode_of(d + "/d") == 0750);
    CHECK(mode_of(d + "/p") == 0640);
    CHECK(mode_of(d + "/l") == 0777);

    const std::string e = mounted.path("e");
    REQUIRE(mkdir(e.c_str(), 0755) == 0);
    setfacl("d:u::rwx,d:u:1000:rwx,d:g::rx,d:o::r", e);
    CHECK(!has_list(e));
    make_all(e);
    CHECK(mode_of(e + "/f") == 0664);
    CHECK(list_on(e + "/f") == "user::rw- user:1000:rwx group::r-x mask::rw- other::r--");
    CHECK(mode_of(e + "/d") == 0774);
    CHECK(list_on(e + "/d") ==
          "user::rwx user:1000:rwx group::r-x mask::rwx other::r-- default:user::rwx "
          "default:user:1000:rwx default:group::r-x default:mask::rwx default:other::r--");
    CHECK(list_on(e + "/p") == "user::rw- user:1000:rwx group::r-x mask::rw- other::r--");
    CHECK(mode_of(e + "/l") == 0777);
    make_all(e + "/d");
    CHECK(has_list(e + "/d/d", kDefault));
    CHECK(can(1000, "echo >> " + e + "/d/f"));
    CHECK(!can(1001, "echo >> " + e + "/d/f"));
    // A file without a name takes it too.
    const int unnamed = open(e.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    REQUIRE(unnamed >= 0);
    CHECK(fgetxattr(unnamed, kAccess, nullptr, 0) == 4 + 5 * 8);
    close(unnamed);

    // Three entries are no list, but take the umask's place.
    REQUIRE(run({"setfacl", "-k", e + "/d"}).status == 0);
    CHECK(!has_list(e + "/d", kDefault));
    setfacl("d:u::rw,d:g::rw,d:o::rw", e + "/d");
    with_umask(077, [&] { write_file(e + "/d/g", "x"); });
    CHECK(mode_of(e + "/d/g") == 0644);  // asked for 0644
    CHECK(!has_list(e + "/d/g"));
    mounted.remount();
    CHECK(can(1000, "echo >> " + e + "/d/f"));
    mounted.unmount();
    mounted.check();
}

TEST_CASE("setting a list takes setgid from who is not in the group", "[mount][access_lists]") {
    KernelMount mounted;
    mounted.mount();
    const std::string f = mounted.path("f");
    const auto reset = [&](gid_t gid) {
        write_file(f, "x");
        REQUIRE(chown(f.c_str(), 1000, gid) == 0);
        REQUIRE(chmod(f.c_str(), 02755) == 0);
    };
    reset(3000);
    CHECK(can(1000, "setfacl -m u:1001:r " + f));
    CHECK(mode_of(f) == 0755);
    reset(1000);
    CHECK(can(1000, "setfacl -m u:1001:rw " + f));
    CHECK(mode_of(f) == 02775);
    reset(3000);
    setfacl("u:1001:rw", f);
    CHECK(mode_of(f) == 02775);
}

TEST_CASE("lists that are none are refused", "[mount][access_lists]") {
    KernelMount mounted;
    mounted.mount();
    const std::string f = mounted.path("f");
    write_file(f, "x");
    const Bytes list = list_of(045716);
    const auto set = [&](const std::string& path, const char* name, const Bytes& value) {
        return errno_if(lsetxattr(path.c_str(), name, value.data(), value.size(), 0));
    };
    CHECK(set(f, kAccess, list) == 0);
    CHECK(set(f, kDefault, list) == EACCES);
    Bytes bad = list;
    bad[4] = std::byte{0x40};
    CHECK(set(f, kAccess, bad) == EINVAL);
    bad = list;
    bad.resize(20);
    CHECK(set(f, kAccess, bad) == EINVAL);
    CHECK(set(mounted.root(), kDefault, bad) == EINVAL);
    bad[0] = std::byte{1};
    CHECK(set(f, kAccess, bad) == EOPNOTSUPP);  // another version: the kernel says so
    REQUIRE(symlink("f", mounted.path("l").c_str()) == 0);
    CHECK(set(mounted.path("l"), kAccess, list) == EOPNOTSUPP);
    CHECK(list_on(f) == "user::rw- user:1000:--x group::rwx mask::r-x other::r--");
}

TEST_CASE("copies and archives keep the lists", "[mount][access_lists]") {
    KernelMount mounted;
    mounted.mount();
    const auto at = [&](const char* name) {
        return mounted.path(name);
    };
    REQUIRE(mkdir(at("d").c_str(), 0755) == 0);
    setfacl("u:1000:rwx,d:u:1001:rx", at("d"));
    write_file(at("d/f"), "x");
    setfacl("g:3000:rw", at("d/f"));
    REQUIRE(run({"cp", "-a", at("d"), at("copy")}).status == 0);
    REQUIRE(
        run({"tar", "--acls", "-C", mounted.root(), "-cf", mounted.outside("a.tar"), "d"}).status ==
        0);
    REQUIRE(mkdir(at("out").c_str(), 0755) == 0);
    REQUIRE(run({"tar", "--acls", "-C", at("out"), "-xpf", mounted.outside("a.tar")}).status == 0);
    for (const char* copy : {"copy", "out/d"}) {
        CAPTURE(copy);
        CHECK(list_on(at(copy)) == list_on(at("d")));
        CHECK(list_on(at(copy) + "/f") == list_on(at("d/f")));
    }
    mounted.unmount();
    mounted.check();
}

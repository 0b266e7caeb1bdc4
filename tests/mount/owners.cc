// SPDX-License-Identifier: Apache-2.0
//
// Owners, groups and the bits that go with them, through the kernel and by users who are not root.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

constexpr uid_t kUser = 1000;
constexpr gid_t kGroup = 2000;   // one of the user's
constexpr gid_t kOthers = 3000;  // not one of them

/// Exit status of a shell command by kUser, of group kUser and kGroup.
int by_user(const std::string& command) {
    return run({"setpriv", "--reuid", std::to_string(kUser), "--regid", std::to_string(kUser),
                "--groups", std::to_string(kGroup), "sh", "-c", command + " 2>/dev/null"})
        .status;
}

struct stat stat_of(const std::string& path) {
    struct stat st {};
    CAPTURE(path);
    REQUIRE(lstat(path.c_str(), &st) == 0);
    return st;
}
mode_t mode_of(const std::string& path) { return stat_of(path).st_mode & 07777; }

void make_file(const std::string& path, mode_t mode, uid_t uid, gid_t gid) {
    write_file(path, "x");
    REQUIRE(chown(path.c_str(), uid, gid) == 0);
    REQUIRE(chmod(path.c_str(), mode) == 0);
}
void make_directory(const std::string& path, mode_t mode, uid_t uid, gid_t gid) {
    REQUIRE(mkdir(path.c_str(), 0700) == 0);
    REQUIRE(chown(path.c_str(), uid, gid) == 0);
    REQUIRE(chmod(path.c_str(), mode) == 0);
}

}  // namespace

TEST_CASE("who is not root changes the group of what it owns to one of its own, and no more",
          "[mount][owners]") {
    KernelMount mounted;
    mounted.mount();
    const std::string file = mounted.path("f");
    make_file(file, 0644, kUser, kUser);
    CHECK(by_user("chgrp 2000 " + file) == 0);
    CHECK(stat_of(file).st_gid == kGroup);
    CHECK(by_user("chgrp 3000 " + file) != 0);
    CHECK(by_user("chown 1001 " + file) != 0);
    CHECK(by_user("chown 1000 " + file) == 0);  // no change
    make_file(mounted.path("roots"), 0666, 0, kGroup);
    CHECK(by_user("chgrp 1000 " + mounted.path("roots")) != 0);
    CHECK(by_user("chmod 600 " + mounted.path("roots")) != 0);
    CHECK(stat_of(mounted.path("roots")).st_gid == kGroup);
    // Times: to now by who may write, to others by the owner alone.
    CHECK(by_user("touch " + mounted.path("roots")) == 0);
    CHECK(by_user("touch -d 2000-01-01 " + mounted.path("roots")) != 0);
    CHECK(by_user("touch -d 2000-01-01 " + file) == 0);
    CHECK(stat_of(file).st_mtime < 1000000000);
}

TEST_CASE("a change of owner takes setuid and setgid from programs, not from directories",
          "[mount][owners]") {
    KernelMount mounted;
    mounted.mount();
    const std::string file = mounted.path("f");
    make_file(file, 06755, kUser, kUser);
    CHECK(by_user("chgrp 2000 " + file) == 0);
    CHECK(mode_of(file) == 0755);
    REQUIRE(chmod(file.c_str(), 06755) == 0);
    REQUIRE(chown(file.c_str(), 1, 1) == 0);  // by root too
    CHECK(mode_of(file) == 0755);

    // Setgid without group execute is no privilege of a program: who might set it keeps it.
    make_file(mounted.path("ours"), 02644, kUser, kGroup);
    CHECK(by_user("chgrp 1000 " + mounted.path("ours")) == 0);
    CHECK(mode_of(mounted.path("ours")) == 02644);
    make_file(mounted.path("theirs"), 02644, kUser, kOthers);
    CHECK(by_user("chgrp 1000 " + mounted.path("theirs")) == 0);
    CHECK(mode_of(mounted.path("theirs")) == 0644);
    make_file(mounted.path("roots"), 02644, kUser, kOthers);
    REQUIRE(chown(mounted.path("roots").c_str(), 1, 1) == 0);
    CHECK(mode_of(mounted.path("roots")) == 02644);

    make_directory(mounted.path("d"), 02755, kUser, kUser);
    CHECK(by_user("chgrp 2000 " + mounted.path("d")) == 0);
    CHECK(mode_of(mounted.path("d")) == 02755);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("what is made in a setgid directory is of its group", "[mount][owners]") {
    KernelMount mounted;
    mounted.mount();
    const std::string d = mounted.path("d");
    make_directory(d, 02777, 0, kOthers);
    CHECK(by_user("umask 022; cd " + d +
                  "; touch f; mkdir sub; ln -s x l; mkfifo p; touch sub/f") == 0);
    for (const char* name : {"/f", "/sub", "/l", "/p", "/sub/f"}) {
        CAPTURE(name);
        CHECK(stat_of(d + name).st_gid == kOthers);
        CHECK(stat_of(d + name).st_uid == kUser);
    }
    CHECK(mode_of(d + "/sub") == 02755);
    CHECK(mode_of(d + "/f") == 0644);
    // A program that runs as a group is made by its members alone, and by root.
    const std::string python = "python3 -c 'import os,stat;os.umask(0);";
    CHECK(by_user(python + "os.close(os.open(\"" + d + "/bad\", os.O_CREAT, 0o2777))'") == 0);
    CHECK(mode_of(d + "/bad") == 0777);
    CHECK(by_user(python + "os.mknod(\"" + d + "/worse\", 0o2777 | stat.S_IFREG)'") == 0);
    CHECK(mode_of(d + "/worse") == 0777);
    CHECK(by_user("chmod g+s " + d + "/bad") == 0);
    CHECK(mode_of(d + "/bad") == 0777);
    make_directory(mounted.path("e"), 02777, 0, kGroup);
    CHECK(by_user(python + "os.close(os.open(\"" + mounted.path("e/good") +
                  "\", os.O_CREAT, 0o2777))'") == 0);
    CHECK(mode_of(mounted.path("e/good")) == 02777);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("in a sticky directory names belong to their owners", "[mount][owners]") {
    KernelMount mounted;
    mounted.mount();
    const std::string d = mounted.path("d");
    make_directory(d, 01777, 0, 0);
    make_file(d + "/theirs", 0666, 1001, 1001);
    make_file(d + "/ours", 0666, kUser, kUser);
    make_directory(d + "/sub", 0777, 1001, 1001);
    for (const char* command :
         {"rm -f theirs", "mv theirs new", "mv ours theirs", "rmdir sub", "mv -T sub other"}) {
        CAPTURE(command);
        CHECK(by_user("cd " + d + " && " + command) != 0);
    }
    CHECK(by_user("cd " + d + " && ln theirs mine || cp theirs mine") == 0);
    CHECK(by_user("cd " + d + " && mv ours new && rm new") == 0);
    make_directory(mounted.path("own"), 01777, kUser, kUser);
    make_file(mounted.path("own/theirs"), 0600, 1001, 1001);
    CHECK(by_user("rm -f " + mounted.path("own/theirs")) == 0);  // the directory's owner may
}

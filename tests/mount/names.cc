// SPDX-License-Identifier: Apache-2.0
//
// Names, through the kernel.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <map>
#include <set>
#include <thread>

#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

struct stat lstat_of(const std::string& path) {
    struct stat st {};
    CAPTURE(path);
    REQUIRE(lstat(path.c_str(), &st) == 0);
    return st;
}

bool is_there(const std::string& path) {
    struct stat st {};
    return lstat(path.c_str(), &st) == 0;
}

std::multiset<std::string> names_in(const std::string& path) {
    std::multiset<std::string> names;
    DIR* directory = opendir(path.c_str());
    REQUIRE(directory != nullptr);
    while (const dirent* entry = readdir(directory)) names.insert(entry->d_name);
    closedir(directory);
    return names;
}

void make_file(const std::string& path) { write_file(path, path); }

}  // namespace

TEST_CASE("hard links share an inode and its count", "[mount][names]") {
    KernelMount mounted;
    mounted.mount();
    make_file(mounted.path("a"));
    REQUIRE(mkdir(mounted.path("d").c_str(), 0755) == 0);
    REQUIRE(link(mounted.path("a").c_str(), mounted.path("b").c_str()) == 0);
    REQUIRE(link(mounted.path("a").c_str(), mounted.path("d/c").c_str()) == 0);
    CHECK(lstat_of(mounted.path("a")).st_nlink == 3);
    CHECK(lstat_of(mounted.path("d/c")).st_ino == lstat_of(mounted.path("a")).st_ino);
    write_file(mounted.path("d/c"), "changed");
    CHECK(contents(mounted.path("b")) == "changed");
    REQUIRE(unlink(mounted.path("a").c_str()) == 0);
    CHECK(lstat_of(mounted.path("b")).st_nlink == 2);
    CHECK(errno_if(link(mounted.path("b").c_str(), mounted.path("d/c").c_str())) == EEXIST);
    CHECK(errno_if(link(mounted.path("d").c_str(), mounted.path("e").c_str())) == EPERM);
    mounted.remount();
    CHECK(lstat_of(mounted.path("b")).st_nlink == 2);
    CHECK(contents(mounted.path("d/c")) == "changed");
    mounted.unmount();
    mounted.check();
}

TEST_CASE("symbolic links hold any target up to 4095 bytes", "[mount][names]") {
    KernelMount mounted;
    mounted.mount();
    for (const std::size_t length : {1, 95, 96, 97, 4095}) {
        CAPTURE(length);
        const std::string target(length, 't');
        const std::string link = mounted.path("l" + std::to_string(length));
        REQUIRE(symlink(target.c_str(), link.c_str()) == 0);
        CHECK(lstat_of(link).st_size == static_cast<off_t>(length));
    }
    make_file(mounted.path("file"));
    REQUIRE(symlink("file", mounted.path("relative").c_str()) == 0);
    CHECK(contents(mounted.path("relative")) == mounted.path("file"));
    REQUIRE(symlink("loop", mounted.path("loop").c_str()) == 0);
    CHECK(errno_if(open(mounted.path("loop").c_str(), O_RDONLY)) == ELOOP);
    mounted.remount();
    for (const std::size_t length : {1, 95, 96, 97, 4095}) {
        char target[5000];
        const ssize_t got =
            readlink(mounted.path("l" + std::to_string(length)).c_str(), target, sizeof(target));
        CHECK(got == static_cast<ssize_t>(length));
        CHECK(std::string(target, static_cast<std::size_t>(got)) == std::string(length, 't'));
    }
    mounted.unmount();
    mounted.check();
}

TEST_CASE("every type of inode can be made and keeps its device number", "[mount][names]") {
    KernelMount mounted;
    mounted.mount();
    REQUIRE(mknod(mounted.path("file").c_str(), S_IFREG | 0640, 0) == 0);
    REQUIRE(mknod(mounted.path("fifo").c_str(), S_IFIFO | 0600, 0) == 0);
    REQUIRE(mknod(mounted.path("socket").c_str(), S_IFSOCK | 0600, 0) == 0);
    REQUIRE(mknod(mounted.path("null").c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0);
    REQUIRE(mknod(mounted.path("block").c_str(), S_IFBLK | 0600, makedev(259, 70000)) == 0);
    for (int round = 0; round < 2; ++round) {
        CHECK(S_ISREG(lstat_of(mounted.path("file")).st_mode));
        CHECK(S_ISFIFO(lstat_of(mounted.path("fifo")).st_mode));
        CHECK(S_ISSOCK(lstat_of(mounted.path("socket")).st_mode));
        CHECK(S_ISCHR(lstat_of(mounted.path("null")).st_mode));
        CHECK(lstat_of(mounted.path("null")).st_rdev == makedev(1, 3));
        CHECK(S_ISBLK(lstat_of(mounted.path("block")).st_mode));
        CHECK(lstat_of(mounted.path("block")).st_rdev == makedev(259, 70000));
        // A device works: root's mount honours device nodes as other file systems do.
        const int null = open(mounted.path("null").c_str(), O_RDWR | O_CLOEXEC);
        CHECK(null >= 0);
        CHECK(write(null, "x", 1) == 1);
        close(null);
        if (round == 0) mounted.remount();
    }
    mounted.unmount();
    mounted.check();
}

TEST_CASE("rename moves, replaces and refuses as POSIX has it", "[mount][names]") {
    KernelMount mounted;
    mounted.mount();
    const auto at = [&](const char* name) {
        return mounted.path(name);
    };
    const auto move = [&](const char* from, const char* to) {
        return errno_if(rename(at(from).c_str(), at(to).c_str()));
    };
    for (const char* name : {"d1", "d2", "d1/sub", "full"})
        REQUIRE(mkdir(at(name).c_str(), 0755) == 0);
    for (const char* name : {"a", "b", "full/x"}) make_file(at(name));

    CHECK(move("a", "b") == 0);
    CHECK(!is_there(at("a")));
    CHECK(contents(at("b")) == at("a"));
    CHECK(move("b", "d1/b") == 0);
    CHECK(move("d1/b", "d2/c") == 0);
    CHECK(contents(at("d2/c")) == at("a"));

    const nlink_t before = lstat_of(at("d2")).st_nlink;
    CHECK(move("d1/sub", "d2/sub") == 0);
    CHECK(lstat_of(at("d2")).st_nlink == before + 1);
    CHECK(lstat_of(at("d1")).st_nlink == 2);
    CHECK(lstat_of(at("d2/sub/..")).st_ino == lstat_of(at("d2")).st_ino);

    CHECK(move("d2", "d2/sub/d2") == EINVAL);
    CHECK(move("d1", "full") == ENOTEMPTY);
    CHECK(move("d1", "d2/c") == ENOTDIR);
    CHECK(move("d2/c", "d1") == EISDIR);
    CHECK(move("none", "d1") == ENOENT);
    CHECK(move("full", "d1") == 0);  // over an empty directory
    CHECK(is_there(at("d1/x")));
    CHECK(move("d1/x", "d1/x") == 0);

    REQUIRE(link(at("d1/x").c_str(), at("d1/y").c_str()) == 0);
    CHECK(move("d1/x", "d1/y") == 0);  // two links of one inode: nothing happens
    CHECK(is_there(at("d1/x")));
    mounted.unmount();
    mounted.check();
}

TEST_CASE("renameat2 exchanges and refuses to replace", "[mount][names]") {
    KernelMount mounted;
    mounted.mount();
    make_file(mounted.path("a"));
    make_file(mounted.path("b"));
    const auto move = [&](const char* from, const char* to, unsigned flags) {
        return errno_if(renameat2(AT_FDCWD, mounted.path(from).c_str(), AT_FDCWD,
                                  mounted.path(to).c_str(), flags));
    };
    CHECK(move("a", "b", RENAME_NOREPLACE) == EEXIST);
    CHECK(move("a", "b", RENAME_EXCHANGE) == 0);
    CHECK(contents(mounted.path("b")) == mounted.path("a"));
    CHECK(move("a", "c", RENAME_NOREPLACE) == 0);
    CHECK(move("c", "none", RENAME_EXCHANGE) == ENOENT);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("renameat2 leaves a whiteout at the old name", "[mount][names]") {
    KernelMount mounted;
    mounted.mount();
    REQUIRE(mkdir(mounted.path("d").c_str(), 0755) == 0);
    REQUIRE(chown(mounted.path("d").c_str(), 1000, 1000) == 0);
    for (const char* name : {"d/a", "d/b", "d/c"}) make_file(mounted.path(name));
    const auto move = [&](const char* from, const char* to, unsigned flags) {
        return errno_if(renameat2(AT_FDCWD, mounted.path(from).c_str(), AT_FDCWD,
                                  mounted.path(to).c_str(), flags));
    };
    const auto is_whiteout = [&](const char* name) {
        const auto st = lstat_of(mounted.path(name));
        return S_ISCHR(st.st_mode) && st.st_rdev == 0 && (st.st_mode & 07777) == 0 &&
               st.st_nlink == 1;
    };
    CHECK(move("d/a", "d/b", RENAME_EXCHANGE | RENAME_WHITEOUT) == EINVAL);
    CHECK(move("d/a", "d/b", RENAME_NOREPLACE | RENAME_WHITEOUT) == EEXIST);
    CHECK(move("d/a", "d/b", RENAME_WHITEOUT) == 0);
    CHECK(move("d/c", "c", RENAME_NOREPLACE | RENAME_WHITEOUT) == 0);
    CHECK(move("d", "e", RENAME_WHITEOUT) == 0);
    mounted.remount();
    CHECK(contents(mounted.path("e/b")) == mounted.path("d/a"));
    CHECK(contents(mounted.path("c")) == mounted.path("d/c"));
    for (const char* name : {"e/a", "e/c", "d"}) CHECK(is_whiteout(name));
    CHECK(lstat_of(mounted.root()).st_nlink == 3);
    CHECK(unlink(mounted.path("e/a").c_str()) == 0);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("names are 255 bytes of anything but slash and NUL", "[mount][names]") {
    KernelMount mounted;
    mounted.mount();
    const std::string longest(255, 'n');
    make_file(mounted.path(longest));
    CHECK(errno_if(mkdir(mounted.path(longest + "n").c_str(), 0755)) == ENAMETOOLONG);
    std::string odd;
    for (int letter = 1; letter < 256; ++letter)
        if (letter != '/') odd += static_cast<char>(letter);
    make_file(mounted.path(odd));
    mounted.remount();
    CHECK(names_in(mounted.root()) == std::multiset<std::string>{".", "..", longest, odd});
}

TEST_CASE("directories: not removed while full, counted, gone with their space", "[mount][names]") {
    KernelMount mounted;
    mounted.mount();
    REQUIRE(mkdir(mounted.path("d").c_str(), 0755) == 0);
    for (int i = 0; i < 3000; ++i) make_file(mounted.path("d/" + std::to_string(i)));
    CHECK(names_in(mounted.path("d")).size() == 3002);
    CHECK(errno_if(rmdir(mounted.path("d").c_str())) == ENOTEMPTY);
    CHECK(errno_if(rmdir(mounted.path("d/0").c_str())) == ENOTDIR);
    CHECK(errno_if(unlink(mounted.path("d").c_str())) == EISDIR);
    for (int i = 0; i < 3000; ++i)
        REQUIRE(unlink(mounted.path("d/" + std::to_string(i)).c_str()) == 0);
    CHECK(rmdir(mounted.path("d").c_str()) == 0);
    CHECK(!is_there(mounted.path("d")));
    // What a process still works in stays usable, and empty.
    REQUIRE(mkdir(mounted.path("e").c_str(), 0755) == 0);
    const int open_directory = open(mounted.path("e").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE(rmdir(mounted.path("e").c_str()) == 0);
    CHECK(errno_if(mkdirat(open_directory, "x", 0755)) == ENOENT);
    close(open_directory);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("a listing sees every entry that stays exactly once, whatever comes and goes",
          "[mount][names][concurrency]") {
    KernelMount mounted{128};
    mounted.mount();
    REQUIRE(mkdir(mounted.path("d").c_str(), 0755) == 0);
    std::set<std::string> staying;
    for (int i = 0; i < 2000; ++i) {
        const std::string name = "stays" + std::to_string(i);
        make_file(mounted.path("d/" + name));
        staying.insert(name);
    }
    std::atomic<bool> done{false};
    std::thread restless{[&] {
        for (int round = 0; !done; ++round) {
            const std::string name = mounted.path("d/goes" + std::to_string(round % 500));
            if (round % 1000 < 500)
                close(open(name.c_str(), O_CREAT | O_CLOEXEC, 0644));
            else
                unlink(name.c_str());
        }
    }};
    for (int round = 0; round < 20; ++round) {
        std::map<std::string, int> seen;
        for (const std::string& name : names_in(mounted.path("d"))) ++seen[name];
        for (const auto& [name, count] : seen) {
            CAPTURE(name, round);
            if (count != 1) CHECK(count == 1);
        }
        std::size_t found = 0;
        for (const std::string& name : staying) found += seen.contains(name);
        CHECK(found == staying.size());
    }
    done = true;
    restless.join();
    mounted.unmount();
    mounted.check();
}

TEST_CASE("cookies: telldir and seekdir return to their entry, also after a remount",
          "[mount][names]") {
    KernelMount mounted;
    mounted.mount();
    REQUIRE(mkdir(mounted.path("d").c_str(), 0755) == 0);
    for (int i = 0; i < 500; ++i) make_file(mounted.path("d/" + std::to_string(i)));
    DIR* directory = opendir(mounted.path("d").c_str());
    std::map<long, std::string> next_at;
    for (long at = telldir(directory);; at = telldir(directory)) {
        const dirent* entry = readdir(directory);
        if (entry == nullptr) break;
        next_at[at] = entry->d_name;
    }
    CHECK(next_at.size() == 502);
    closedir(directory);
    mounted.remount();
    // Others leave; those that stay keep their cookies.
    for (int i = 0; i < 500; i += 2)
        REQUIRE(unlink(mounted.path("d/" + std::to_string(i)).c_str()) == 0);
    directory = opendir(mounted.path("d").c_str());
    for (const auto& [at, name] : next_at) {
        if (!is_there(mounted.path("d/" + name))) continue;
        seekdir(directory, at);
        const dirent* entry = readdir(directory);
        REQUIRE(entry != nullptr);
        CHECK(entry->d_name == name);
    }
    closedir(directory);
}

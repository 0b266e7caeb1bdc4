// SPDX-License-Identifier: Apache-2.0
//
// Regions through the machine's own mount(8), umount(8) and fstab: what these hand to the helpers,
// and what is left when they return. The helpers stand in /sbin of a mount namespace that is this
// program's alone.
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <thread>

#include "fs/fuse/mount_table.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/region_bytes.h"

using namespace pinfs::test;

namespace {

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

/// /sbin with the helpers of this build, /dev/fuse for everybody, and an fstab to write.
class System {
public:
    static System& get() {
        static System system;
        return system;
    }
    ~System() { umount2(directory_.path().c_str(), MNT_DETACH); }
    System(const System&) = delete;
    System& operator=(const System&) = delete;
    void write_fstab(const std::string& lines) { write_file(fstab_, lines); }

private:
    System() {
        REQUIRE(unshare(CLONE_NEWNS) == 0);
        REQUIRE(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
        const std::string base = directory_.path();
        REQUIRE(mount("helpers", base.c_str(), "tmpfs", 0, nullptr) == 0);
        for (const char* name : {"upper", "work"})
            REQUIRE(mkdir((base + "/" + name).c_str(), 0755) == 0);
        const std::string sbin = std::filesystem::canonical("/sbin");
        const std::string layers =
            "lowerdir=" + sbin + ",upperdir=" + base + "/upper,workdir=" + base + "/work";
        REQUIRE(mount("sbin", sbin.c_str(), "overlay", 0, layers.c_str()) == 0);
        for (const std::string command : {"mount", "umount", "fsck"}) {
            std::filesystem::copy_file(std::string{PINFS_COMMAND_DIR} + "/" + command + ".pinfs",
                                       sbin + "/" + command + ".pinfs",
                                       std::filesystem::copy_options::overwrite_existing);
            std::filesystem::remove(sbin + "/" + command + ".fuse.pinfs");
            std::filesystem::create_symlink(command + ".pinfs",
                                            sbin + "/" + command + ".fuse.pinfs");
        }
        const std::string device = base + "/fuse";
        REQUIRE(mknod(device.c_str(), S_IFCHR | 0666, makedev(10, 229)) == 0);
        REQUIRE(chmod(device.c_str(), 0666) == 0);
        REQUIRE(mount(device.c_str(), "/dev/fuse", nullptr, MS_BIND, nullptr) == 0);
        fstab_ = base + "/fstab";
        write_file(fstab_, "");
        REQUIRE(mount(fstab_.c_str(), "/etc/fstab", nullptr, MS_BIND, nullptr) == 0);
    }

    TemporaryDirectory directory_;
    std::string fstab_;
};

Ran succeed(const std::vector<std::string>& words, uid_t uid = 0) {
    const Ran ran = run(words, uid);
    CAPTURE(words, ran.out, ran.err);
    REQUIRE(ran.status == 0);
    return ran;
}
void silently(const std::vector<std::string>& words, uid_t uid = 0) {
    const Ran ran = succeed(words, uid);
    CAPTURE(words);
    CHECK((ran.out + ran.err).empty());
}

/// Words of the kernel's options of what is mounted there.
bool shows(const KernelMount& mounted, const std::string& word) {
    const auto entry = pinfs::fuse::mount_at(mounted.root());
    REQUIRE(entry);
    return has("," + entry->options + ",", "," + word + ",");
}

std::string state_of(const KernelMount& mounted) {
    const Ran ran = succeed({"pinfs", "info", "--json", mounted.region()});
    const std::string key = "\"state\": \"";
    const std::size_t at = ran.out.find(key) + key.size();
    return ran.out.substr(at, ran.out.find('"', at) - at);
}

void check_orderly_end(KernelMount& mounted) {
    const int status = mounted.wait_for_daemon();
    CAPTURE(mounted.log());
    CHECK(status == 0);
    CHECK(state_of(mounted) == "clean");
}

std::string in_force(const KernelMount& mounted) {
    return succeed({"getfattr", "--only-values", "-n", "user.pinfs.options", mounted.root()}).out;
}

/// A user that the machine knows, since fusermount3 wants one.
std::optional<uid_t> some_user() {
    struct stat helper {};
    if (stat("/usr/bin/fusermount3", &helper) != 0 || (helper.st_mode & S_ISUID) == 0)
        return std::nullopt;
    for (const uid_t uid : {1000U, 65534U})
        if (getpwuid(uid) != nullptr) return uid;
    return std::nullopt;
}

}  // namespace

TEST_CASE("mount(8) mounts a region by both names of the type and prints nothing",
          "[mount][system]") {
    System::get();
    const std::string type = GENERATE("pinfs", "fuse.pinfs");
    KernelMount mounted;
    silently({"mount", "-t", type, mounted.region(), mounted.root()});
    CHECK(pinfs::fuse::mount_at(mounted.root())->type == "fuse.pinfs");
    for (const char* word : {"nosuid", "nodev", "noexec", "ro"}) CHECK(!shows(mounted, word));
    CHECK(shows(mounted, "relatime"));
    write_file(mounted.path("f"), "text");
    silently({"umount", mounted.root()});
    CHECK(!mounted.is_mounted());
    mounted.check();
    silently({"mount", "-t", type, "-o", "suid,dev,noexec", mounted.region(), mounted.root()});
    CHECK(!shows(mounted, "nosuid"));
    CHECK(!shows(mounted, "nodev"));
    CHECK(shows(mounted, "noexec"));
    CHECK(contents(mounted.path("f")) == "text");
    silently({"umount", mounted.region()});
}

TEST_CASE("access time options reach the kernel", "[mount][system]") {
    System::get();
    struct Case {
        std::string asked;
        std::string shown;
    };
    const Case one =
        GENERATE(Case{"noatime", "noatime"}, Case{"strictatime", ""}, Case{"relatime", "relatime"},
                 Case{"norelatime", "relatime"}, Case{"lazytime,nodiratime", "nodiratime"},
                 Case{"noatime,atime,nolazytime", "relatime"});
    CAPTURE(one.asked);
    KernelMount mounted;
    silently({"mount", "-t", "pinfs", "-o", one.asked, mounted.region(), mounted.root()});
    for (const std::string word : {"noatime", "relatime"})
        CHECK(shows(mounted, word) ==
              (one.shown == word || (one.shown == "nodiratime" && word == "relatime")));
    CHECK(shows(mounted, "nodiratime") == (one.shown == "nodiratime"));
    silently({"umount", mounted.root()});
}

TEST_CASE("access times follow the options, also those of a remount", "[mount][system]") {
    System::get();
    KernelMount mounted;
    silently({"mount", "-t", "pinfs", "-o", "noatime", mounted.region(), mounted.root()});
    const std::string file = mounted.path("f");
    write_file(file, "text");
    // Whether reading moves an access time that is newer than the other two.
    const auto moves = [&] {
        REQUIRE(run({"touch", "-a", "-d", "1 hour", file}).status == 0);
        struct stat before {};
        struct stat after {};
        REQUIRE(stat(file.c_str(), &before) == 0);
        CHECK(contents(file) == "text");
        // Of a file that was opened with O_DIRECT or in DAX mode the kernel asks again.
        REQUIRE(stat(file.c_str(), &after) == 0);
        return after.st_atime != before.st_atime;
    };
    CHECK(!moves());
    silently({"mount", "-o", "remount,strictatime", mounted.root()});
    for (int i = 0; i < 300 && !moves(); ++i) usleep(10'000);
    CHECK(moves());
    silently({"mount", "-o", "remount,relatime", mounted.root()});
    for (int i = 0; i < 300 && moves(); ++i) usleep(10'000);
    CHECK(!moves());
    silently({"umount", mounted.root()});
}

TEST_CASE("source= names the region", "[mount][system]") {
    System::get();
    KernelMount mounted;
    silently({"mount", "-t", "pinfs", "none", mounted.root(), "-o", "source=" + mounted.region()});
    CHECK(pinfs::fuse::mount_at(mounted.root())->source == mounted.region());
    silently({"umount", mounted.root()});
    const Ran none = run({"mount", "-t", "pinfs", "none", mounted.root(), "-o",
                          "source=UUID=00000000-0000-4000-8000-000000000000"});
    CHECK(none.status == 32);
    CHECK(has(none.err, "/dev/pinfs/by-uuid/00000000-0000-4000-8000-000000000000"));
}

TEST_CASE("umount is followed at once by mount, fsck and mkfs", "[mount][system]") {
    System::get();
    KernelMount mounted;
    int busy = 0;
    // umount(2) itself: no helper waits here for the daemon. Somebody who reads /proc/PID/fd of all
    // processes, as lsof or another test does, has a file of ours in hand for that moment, also
    // when it was closed since: any file system is busy then.
    const auto unmount_at_once = [&] {
        Ran ran = run({"umount", "-i", mounted.root()});
        if (has(ran.err, "target is busy")) {
            ++busy;
            usleep(200'000);
            ran = run({"umount", "-i", mounted.root()});
        }
        CAPTURE(ran.out, ran.err);
        REQUIRE(ran.status == 0);
    };
    for (int round = 0; round < 5; ++round) {
        for (const std::string next : {"mount", "fsck.pinfs", "mkfs.pinfs"}) {
            CAPTURE(round, next);
            silently({"mount", "-t", "pinfs", mounted.region(), mounted.root()});
            write_file(mounted.path("f"), noise(7, 1 << 20));
            REQUIRE(unlink(mounted.path("f").c_str()) == 0);
            unmount_at_once();
            if (next == "mount") {
                silently({"mount", "-t", "pinfs", mounted.region(), mounted.root()});
                unmount_at_once();
            } else if (next == "fsck.pinfs") {
                succeed({"fsck.pinfs", "-n", mounted.region()});
            } else {
                succeed({"mkfs.pinfs", "--force", mounted.region()});
            }
        }
    }
    CHECK(busy <= 1);
}

TEST_CASE("what uses a mounted region is refused at once and told who has it, where, since when",
          "[mount][system]") {
    System::get();
    KernelMount mounted;
    silently({"mount", "-t", "pinfs", mounted.region(), mounted.root()});
    const std::string other = mounted.outside("other");
    REQUIRE(mkdir(other.c_str(), 0755) == 0);
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{"mount", "-t", "pinfs", mounted.region(), other},
          {"mkfs.pinfs", "--force", mounted.region()},
          {"fsck.pinfs", "-n", mounted.region()}}) {
        CAPTURE(words);
        const auto before = std::chrono::steady_clock::now();
        const Ran refused = run(words);
        CHECK(std::chrono::steady_clock::now() - before < std::chrono::seconds{20});
        CHECK(refused.status != 0);
        CHECK(has(refused.err, "is in use by process " + std::to_string(mounted.daemon())));
        CHECK(has(refused.err, "mounted on " + mounted.root() + " since 20"));
    }
    silently({"umount", mounted.root()});
}

TEST_CASE("a copy of a mounted region is refused, and the way out is said", "[mount][system]") {
    System::get();
    KernelMount mounted;
    const std::string copy = mounted.outside("copy");
    write_file(copy, RegionBytes{mounted.region()}.copy());
    const std::string other = mounted.outside("other");
    REQUIRE(mkdir(other.c_str(), 0755) == 0);
    silently({"mount", "-t", "pinfs", mounted.region(), mounted.root()});
    const Ran refused = run({"mount", "-t", "pinfs", copy, other});
    CHECK(refused.status == 32);
    CHECK(has(refused.err, "which is mounted on " + mounted.root()));
    CHECK(has(refused.err, "pinfs tune --uuid random " + copy));
    silently({"umount", mounted.root()});
    silently({"mount", "-t", "pinfs", copy, other});
    silently({"umount", other});
}

TEST_CASE("remount makes a file system read-only and writable again", "[mount][system]") {
    System::get();
    KernelMount mounted;
    silently({"mount", "-t", "pinfs", mounted.region(), mounted.root()});
    write_file(mounted.path("f"), "text");
    silently({"mount", "-o", "remount,ro", mounted.root()});
    CHECK(shows(mounted, "ro"));
    CHECK(in_force(mounted).starts_with("ro,"));
    CHECK(errno_if(mkdir(mounted.path("d").c_str(), 0755)) == EROFS);
    CHECK(contents(mounted.path("f")) == "text");
    // Marked clean: a machine that goes down now leaves nothing to do.
    const std::string image = mounted.outside("image");
    write_file(image, RegionBytes{mounted.region()}.copy());
    CHECK(has(succeed({"pinfs", "info", image}).out, "state           clean"));
    succeed({"fsck.pinfs", "-n", image});

    silently({"mount", "-o", "remount,rw,noexec", mounted.root()});
    CHECK(shows(mounted, "rw"));
    CHECK(shows(mounted, "noexec"));
    write_file(mounted.path("f"), "more");
    const int file = open(mounted.path("f").c_str(), O_WRONLY | O_CLOEXEC);
    const Ran busy = run({"mount", "-o", "remount,ro", mounted.root()});
    CHECK(busy.status == 32);
    CHECK(has(busy.err, "files are open for writing"));
    close(file);
    write_file(mounted.path("f"), "last");
    silently({"umount", mounted.root()});
    mounted.check();
    silently({"mount", "-t", "pinfs", "-o", "ro", mounted.region(), mounted.root()});
    CHECK(errno_if(mkdir(mounted.path("d").c_str(), 0755)) == EROFS);
    silently({"mount", "-o", "remount,rw", mounted.root()});
    CHECK(errno_if(mkdir(mounted.path("d").c_str(), 0755)) == 0);
    CHECK(contents(mounted.path("f")) == "last");
    silently({"umount", mounted.root()});
    mounted.check();
}

TEST_CASE("a remount that asks nobody reaches the daemon too", "[mount][system]") {
    System::get();
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "text");
    const auto change = [&](unsigned long flags) {
        REQUIRE(mount(nullptr, mounted.root().c_str(), nullptr, MS_REMOUNT | flags, nullptr) == 0);
        const std::string word = (flags & MS_RDONLY) != 0 ? "ro," : "rw,";
        for (int i = 0; i < 500 && !in_force(mounted).starts_with(word); ++i) usleep(10'000);
        CHECK(in_force(mounted).starts_with(word));
    };
    change(MS_RDONLY);
    change(0);
    write_file(mounted.path("f"), "more");
    change(MS_RDONLY);
    mounted.kill_daemon();
    CHECK(state_of(mounted) == "clean");
    mounted.check();
}

TEST_CASE("options of pinfs's own stay as they are in a remount", "[mount][system]") {
    System::get();
    KernelMount mounted;
    silently({"mount", "-t", "pinfs", "-o", "dax=never", mounted.region(), mounted.root()});
    CHECK(in_force(mounted) ==
          "rw,dax=never,kernel_mmap=on,durability=sync,confine=on,allow_other");
    silently({"mount", "-o", "remount,ro,dax=never", mounted.root()});
    const Ran refused = run({"mount", "-o", "remount,rw,dax=always", mounted.root()});
    CHECK(refused.status == 32);
    CHECK(has(refused.err, "option 'dax=always' cannot be changed while mounted"));
    CHECK(in_force(mounted).starts_with("ro,"));
    silently({"umount", mounted.root()});
    const Ran none = run({"mount.pinfs", mounted.region(), mounted.root(), "-o", "remount,ro"});
    CHECK(none.status == 32);
    CHECK(has(none.err, "no pinfs is mounted on"));
}

TEST_CASE("a region that cannot be written is mounted read-only, and only if it is clean",
          "[mount][system][read-only region]") {
    System::get();
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "text");
    mounted.unmount();
    // Root may write a file of mode 0400, but not one below a read-only mount.
    const std::string directory = std::filesystem::path(mounted.region()).parent_path();
    const std::string view = mounted.outside("view");
    REQUIRE(mkdir(view.c_str(), 0755) == 0);
    REQUIRE(mount(directory.c_str(), view.c_str(), nullptr, MS_BIND, nullptr) == 0);
    REQUIRE(mount(nullptr, view.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) == 0);
    const std::string name = std::filesystem::path(mounted.region()).filename();
    const Ran writable = run({"mount.pinfs", view + "/" + name, mounted.root()});
    CHECK(writable.status == 32);
    CHECK(has(writable.err, "Read-only file system"));
    silently({"mount.pinfs", view + "/" + name, mounted.root(), "-o", "ro"});
    CHECK(contents(mounted.path("f")) == "text");
    const Ran remounted = run({"mount", "-o", "remount,rw", mounted.root()});
    CHECK(remounted.status == 32);
    CHECK(has(remounted.err, "was opened read-only"));
    silently({"umount", mounted.root()});
    REQUIRE(umount2(view.c_str(), MNT_DETACH) == 0);
    mounted.check();
}

TEST_CASE("umount: lazily, by force, read-only if busy", "[mount][system]") {
    System::get();
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "text");
    const int file = open(mounted.path("f").c_str(), O_RDONLY | O_CLOEXEC);
    REQUIRE(file >= 0);
    CHECK(run({"umount", mounted.root()}).status == 32);
    const Ran read_only = succeed({"umount.pinfs", mounted.root(), "-r"});
    CHECK(has(read_only.err, "is in use, and read-only now"));
    CHECK(in_force(mounted).starts_with("ro,"));
    silently({"umount", "-l", mounted.root()});
    CHECK(!mounted.is_mounted());
    char text[4] = {};
    CHECK(pread(file, text, 4, 0) == 4);
    close(file);
    silently({"mount", "-t", "pinfs", mounted.region(), mounted.root()});
    REQUIRE(kill(mounted.daemon(), SIGSTOP) == 0);
    const pid_t stopped = mounted.daemon();
    // A daemon that does not answer: force fails what waits for it.
    std::thread waiting{[&] {
        struct stat st {};
        CHECK(errno_if(stat(mounted.path("g").c_str(), &st)) != 0);
    }};
    usleep(100'000);
    std::thread unmounting{[&] {
        CHECK(run({"umount.pinfs", mounted.root(), "-f"}).status == 0);
    }};
    waiting.join();
    REQUIRE(kill(stopped, SIGCONT) == 0);
    unmounting.join();
    CHECK(!mounted.is_mounted());
    CHECK(has(succeed({"pinfs", "info", mounted.region()}).out, "state           clean"));
}

TEST_CASE("a line of fstab mounts for root and, with user, for a user", "[mount][system]") {
    System& system = System::get();
    KernelMount mounted;
    system.write_fstab(mounted.region() + " " + mounted.root() +
                       " pinfs noauto,user,dax=never,nofail,x-systemd.device-timeout=5 0 2\n");
    const Ran verified = succeed({"findmnt", "--verify"});
    CHECK(has(verified.out + verified.err, "0 parse errors, 0 errors"));
    silently({"mount", mounted.root()});
    for (const char* word : {"nosuid", "nodev", "noexec"}) CHECK(shows(mounted, word));
    CHECK(in_force(mounted).starts_with("rw,dax=never,"));
    silently({"mount", "-o", "remount,ro", mounted.root()});
    silently({"umount", mounted.root()});
    system.write_fstab(mounted.region() + " " + mounted.root() +
                       " pinfs user,suid,dev,exec,nofail,x-systemd.device-timeout=5 0 2\n");
    silently({"mount", "-a"});
    for (const char* word : {"nosuid", "nodev", "noexec"}) CHECK(!shows(mounted, word));
    silently({"umount", "-a", "-t", "fuse.pinfs"});
    CHECK(!mounted.is_mounted());

    const auto user = some_user();
    if (!user) {
        WARN("not tried: users of this machine may not mount, or there is none");
        return;
    }
    REQUIRE(chown(mounted.region().c_str(), *user, *user) == 0);
    REQUIRE(chown(mounted.root().c_str(), *user, *user) == 0);
    silently({"mount", mounted.root()}, *user);
    for (const char* word : {"nosuid", "nodev"}) CHECK(shows(mounted, word));
    silently({"umount", mounted.root()}, *user);
    CHECK(!mounted.is_mounted());
    mounted.check();
}

TEST_CASE("a user's supervised mount outlives its daemon, and its user upgrades it",
          "[mount][system][supervised]") {
    System::get();
    KernelMount mounted;
    const auto user = some_user();
    if (!user) {
        WARN("not tried: users of this machine may not mount, or there is none");
        return;
    }
    mounted.mount();
    if (!mounted.kernel_has("resend")) return;
    REQUIRE(chmod(mounted.root().c_str(), 0777) == 0);
    mounted.unmount();
    REQUIRE(chown(mounted.region().c_str(), *user, *user) == 0);
    REQUIRE(chown(mounted.root().c_str(), *user, *user) == 0);
    silently({"pinfs", "mount", "--supervise", mounted.region(), mounted.root()}, *user);
    for (const char* word : {"nosuid", "nodev"}) CHECK(shows(mounted, word));
    const std::string file = mounted.path("f");
    silently({"dd", "if=/dev/zero", "of=" + file, "bs=4096", "count=3", "status=none"}, *user);
    const auto size = [&] {
        return run({"stat", "-c", "%s", file}, *user).out;
    };
    CHECK(size() == "12288\n");

    const pid_t first = mounted.daemon();
    REQUIRE(kill(first, SIGKILL) == 0);
    CHECK(size() == "12288\n");  // waits for the next daemon
    const pid_t second = mounted.daemon();
    CHECK(second != first);
    CHECK(has(succeed({"pinfs", "upgrade", mounted.root()}, *user).out, " -> "));
    CHECK(size() == "12288\n");
    CHECK(mounted.daemon() != second);
    const Ran strangers = run({"pinfs", "upgrade", mounted.root()}, *user + 1);
    CHECK(strangers.status == 32);
    CHECK(has(strangers.err, mounted.root()));

    silently({"pinfs", "umount", mounted.root()}, *user);
    CHECK(!mounted.is_mounted());
    mounted.check();
}

TEST_CASE("nofail passes over a region that is not there", "[mount][system]") {
    System& system = System::get();
    KernelMount mounted;
    system.write_fstab(mounted.outside("none") + " " + mounted.root() +
                       " pinfs nofail,x-systemd.device-timeout=5 0 2\n");
    silently({"mount", "-a"});
    CHECK(!mounted.is_mounted());
    silently({"mount", "--fake", "-t", "pinfs", mounted.region(), mounted.root()});
    CHECK(!mounted.is_mounted());
}

TEST_CASE("SIGTERM during an unmount waits for its end", "[mount][system]") {
    KernelMount mounted;
    for (int round = 0; round < 10; ++round) {
        CAPTURE(round);
        mounted.mount_in_foreground();
        for (int i = 0; i < 50; ++i)
            write_file(mounted.path("f" + std::to_string(i)), std::string(10'000, 'x'));
        const pid_t daemon = mounted.daemon();
        REQUIRE(umount2(mounted.root().c_str(), 0) == 0);
        usleep(static_cast<useconds_t>(300 * round));
        kill(daemon, SIGTERM);
        check_orderly_end(mounted);
    }
    mounted.check();
}

// The kernel tells of a last close when close(2) has returned: it does so while the connection
// ends.
TEST_CASE("an unmount right after closes is no failure", "[mount][system]") {
    KernelMount mounted;
    for (int round = 0; round < 40; ++round) {
        CAPTURE(round);
        mounted.mount_in_foreground();
        const std::string path = mounted.path("f");
        write_file(path, "x");
        std::vector<int> files;
        for (int i = 0; i < 500; ++i) files.push_back(open(path.c_str(), O_RDONLY | O_CLOEXEC));
        for (const int file : files) REQUIRE(close(file) == 0);
        // Lazily: others that read /proc may have a file in hand for a moment.
        REQUIRE(umount2(mounted.root().c_str(), MNT_DETACH) == 0);
        check_orderly_end(mounted);
    }
    mounted.check();
}

TEST_CASE("user.pinfs names are computed, not listed and cannot be set", "[mount][system]") {
    KernelMount mounted;
    mounted.mount();
    const std::string file = mounted.path("f");
    write_file(file, std::string(1 << 20, 'x'));
    const Ran extents = succeed({"getfattr", "--only-values", "-n", "user.pinfs.extents", file});
    unsigned long long first = 1;
    unsigned long long region = 0;
    unsigned long long blocks = 0;
    REQUIRE(sscanf(extents.out.c_str(), "%llu %llu %llu written", &first, &region, &blocks) == 3);
    CHECK(first == 0);
    CHECK(region > 0);
    CHECK(blocks == 256);
    CHECK(!has(succeed({"getfattr", "-m", "-", file}).out, "pinfs"));
    CHECK(run({"setfattr", "-n", "user.pinfs.extents", "-v", "x", file}).status != 0);
    CHECK(run({"setfattr", "-x", "user.pinfs.extents", file}).status != 0);
    CHECK(run({"getfattr", "-n", "user.pinfs.extents", mounted.root()}).status != 0);
    CHECK(run({"getfattr", "-n", "user.pinfs.options", file}).status != 0);
    for (const std::string name :
         {"user.pinfs.extents.", "user.pinfs.extents.x", "user.pinfs.extents.-1",
          "user.pinfs.extents5", "user.pinfs.extents.4294967296"})
        CHECK(run({"getfattr", "-n", name, file}).status != 0);
    CHECK(succeed({"getfattr", "--only-values", "-n", "user.pinfs.extents.255", file}).out ==
          "255 " + std::to_string(region + 255) + " 1 written\n");
    CHECK(succeed({"getfattr", "--only-values", "-n", "user.pinfs.extents.256", file}).out.empty());
}

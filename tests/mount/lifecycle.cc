// SPDX-License-Identifier: Apache-2.0
//
// How mounts begin and end: commands, options, signals, users.
#include <fcntl.h>
#include <pwd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "fs/fuse/mount_table.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

nlohmann::json info_of(const std::string& target) {
    const Ran ran = run({"pinfs", "info", "--json", target});
    CAPTURE(ran.err);
    REQUIRE(ran.status == 0);
    return nlohmann::json::parse(ran.out);
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a mount shows its region as source and fuse.pinfs as type", "[mount][lifecycle]") {
    KernelMount mounted;
    mounted.mount("nodev,noexec");
    const auto entry = pinfs::fuse::mount_at(mounted.root());
    REQUIRE(entry);
    CHECK(entry->type == "fuse.pinfs");
    CHECK(entry->source == mounted.region());
    CHECK(has(entry->options, "rw"));
    for (const char* option : {"nodev", "noexec", "allow_other", "default_permissions"})
        CHECK(has(entry->options, option));
    CHECK(!has(entry->options, "nosuid"));
}

TEST_CASE("options stand before or after the places, once or often", "[mount][lifecycle]") {
    KernelMount mounted;
    CHECK(
        run({"pinfs", "mount", "-o", "ro", "-o", "nodev,noexec", mounted.region(), mounted.root()})
            .status == 0);
    const auto entry = pinfs::fuse::mount_at(mounted.root());
    REQUIRE(entry);
    for (const char* option : {"ro", "nodev", "noexec"}) CHECK(has(entry->options, option));
}

TEST_CASE("umount and mount follow each other at once", "[mount][lifecycle]") {
    KernelMount mounted;
    for (int round = 0; round < 30; ++round) {
        mounted.mount();
        const std::string name = mounted.path("f" + std::to_string(round));
        write_file(name, name);
        mounted.unmount();
        if (round % 10 == 0) mounted.check();
    }
    mounted.mount();
    for (int round = 0; round < 30; ++round)
        CHECK(contents(mounted.path("f" + std::to_string(round))) ==
              mounted.path("f" + std::to_string(round)));
}

TEST_CASE("a mount in use is not unmounted, and says so", "[mount][lifecycle]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "x");
    const int file = open(mounted.path("f").c_str(), O_RDONLY | O_CLOEXEC);
    const Ran refused = run({"pinfs", "umount", mounted.root()});
    CHECK(refused.status == 32);
    CHECK(has(refused.err, mounted.root() + " is in use"));
    CHECK(contents(mounted.path("f")) == "x");
    close(file);
    mounted.unmount();
    const Ran again = run({"pinfs", "umount", mounted.root()});
    CHECK(again.status == 32);
    CHECK(has(again.err, "is not mounted"));
}

TEST_CASE("umount takes the region's name too", "[mount][lifecycle]") {
    KernelMount mounted;
    mounted.mount();
    CHECK(run({"pinfs", "umount", mounted.region()}).status == 0);
    CHECK(!mounted.is_mounted());
    CHECK(run({"pinfs", "umount", "/proc"}).status == 32);
}

TEST_CASE("umount takes a mount away whose daemon has died", "[mount][lifecycle]") {
    KernelMount mounted;
    mounted.mount();
    REQUIRE(kill(mounted.daemon(), SIGKILL) == 0);
    CHECK(run({"pinfs", "umount", mounted.root()}).status == 0);
    CHECK(!mounted.is_mounted());
    mounted.mount();
}

TEST_CASE("a signal ends a daemon cleanly", "[mount][lifecycle]") {
    const int signal = GENERATE(SIGTERM, SIGINT, SIGHUP);
    CAPTURE(signal);
    KernelMount mounted;
    mounted.mount_in_foreground();
    write_file(mounted.path("f"), "text");
    REQUIRE(kill(mounted.daemon(), signal) == 0);
    CHECK(mounted.wait_for_daemon() == 0);
    CAPTURE(mounted.log());
    CHECK(!mounted.is_mounted());
    CHECK(has(mounted.log(), "is unmounted"));
    CHECK(info_of(mounted.region())["state"] == "clean");
    mounted.check();
    mounted.mount();
    CHECK(contents(mounted.path("f")) == "text");
}

TEST_CASE("a signal ends a daemon whose files are open, with what was written to memory",
          "[mount][lifecycle]") {
    KernelMount mounted;
    mounted.mount_in_foreground("dax=never");
    write_file(mounted.path("f"), std::string(8192, 'a'));
    const int file = open(mounted.path("f").c_str(), O_RDWR | O_CLOEXEC);
    void* memory = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    REQUIRE(memory != MAP_FAILED);
    std::memcpy(memory, "mapped", 6);
    REQUIRE(kill(mounted.daemon(), SIGTERM) == 0);
    CHECK(mounted.wait_for_daemon() == 0);
    CHECK(has(mounted.log(), "is in use"));
    CHECK(!mounted.is_mounted());
    char byte = 0;
    CHECK(errno_if(pread(file, &byte, 1, 1 << 20)) != 0);
    munmap(memory, 8192);
    close(file);
    mounted.check();
    mounted.mount();
    CHECK(contents(mounted.path("f")).starts_with("mappedaa"));
}

TEST_CASE("a region that was not unmounted is replayed, and one line says so",
          "[mount][lifecycle]") {
    KernelMount mounted;
    mounted.mount_in_foreground();
    CHECK(!has(mounted.log(), "was not unmounted"));
    write_file(mounted.path("f"), "text");
    mounted.kill_daemon();
    CHECK(info_of(mounted.region())["state"] == "to be replayed");
    mounted.mount_in_foreground();
    CHECK(has(mounted.log(), mounted.region() + " was not unmounted"));
    CHECK(contents(mounted.path("f")) == "text");
}

TEST_CASE("a second mount is refused and names who has the region", "[mount][lifecycle]") {
    KernelMount mounted;
    mounted.mount();
    const std::string other = mounted.outside("other");
    REQUIRE(mkdir(other.c_str(), 0755) == 0);
    const Ran refused = run({"pinfs", "mount", mounted.region(), other});
    CHECK(refused.status == 32);
    CHECK(has(refused.err, "is in use by process " + std::to_string(mounted.daemon())));
    CHECK(has(refused.err, "mounted on " + mounted.root()));
    // By another name of the file too.
    REQUIRE(symlink(mounted.region().c_str(), mounted.outside("alias").c_str()) == 0);
    CHECK(run({"pinfs", "mount", mounted.outside("alias"), other}).status == 32);
    CHECK(run({"mkfs.pinfs", "--force", mounted.region()}).status != 0);
    write_file(mounted.path("f"), "still here");
    mounted.unmount();
    mounted.check();
}

TEST_CASE("ro refuses every change and writes no file", "[mount][lifecycle]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "text");
    mounted.remount("ro");
    CHECK(contents(mounted.path("f")) == "text");
    CHECK(errno_if(open(mounted.path("f").c_str(), O_WRONLY | O_CLOEXEC)) == EROFS);
    CHECK(errno_if(mkdir(mounted.path("d").c_str(), 0755)) == EROFS);
    CHECK(errno_if(unlink(mounted.path("f").c_str())) == EROFS);
    CHECK(errno_if(chmod(mounted.path("f").c_str(), 0600)) == EROFS);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("mount.pinfs takes what mount(8) passes", "[mount][lifecycle]") {
    KernelMount mounted;
    const Ran ran = run({"mount.pinfs", mounted.region(), mounted.root(), "-n", "-v", "-o",
                         "rw,nofail,_netdev,x-systemd.automount,user=joe,comment=hello,nosuid"});
    CAPTURE(ran.err);
    CHECK(ran.status == 0);
    CHECK((ran.out + ran.err).empty());
    CHECK(mounted.is_mounted());
    mounted.unmount();
    CHECK(run({"mount.pinfs", mounted.region(), mounted.root(), "-f"}).status == 0);
    CHECK(!mounted.is_mounted());
    CHECK(run({"mount.pinfs", mounted.region(), mounted.root(), "-o", "strange"}).status == 1);
    CHECK(run({"mount.pinfs", mounted.region(), mounted.root(), "-s", "-o", "strange"}).status ==
          0);
    CHECK(mounted.is_mounted());
}

TEST_CASE("a user's mount is the user's alone", "[mount][lifecycle]") {
    struct stat helper {};
    struct stat device {};
    const bool may_mount = stat("/usr/bin/fusermount3", &helper) == 0 &&
                           (helper.st_mode & S_ISUID) != 0 && stat("/dev/fuse", &device) == 0 &&
                           (device.st_mode & 0006) == 0006;
    if (!may_mount || (getpwuid(1000) == nullptr && getpwuid(65534) == nullptr)) {
        WARN("not tried: users of this machine may not mount, or there is none");
        return;
    }
    // fusermount3 wants a user that the machine knows.
    const uid_t user = getpwuid(1000) != nullptr ? 1000 : 65534;
    KernelMount mounted{64};
    REQUIRE(chown(mounted.region().c_str(), user, user) == 0);
    REQUIRE(chown(mounted.root().c_str(), user, user) == 0);
    const Ran ran = mounted.try_mount({}, user);
    CAPTURE(ran.err);
    REQUIRE(ran.status == 0);
    CHECK(run({"ls", mounted.root()}, user).status == 0);
    CHECK(errno_if(access(mounted.root().c_str(), R_OK)) == EACCES);  // root too
    CHECK(has(pinfs::fuse::mount_at(mounted.root())->options, "default_permissions"));
    CHECK(info_of(mounted.root())["state"] == "mounted");
    const Ran unmounted = run({"pinfs", "umount", mounted.root()}, user);
    CAPTURE(unmounted.err);
    CHECK(unmounted.status == 0);
    CHECK(!mounted.is_mounted());
    mounted.check();
}

TEST_CASE("info tells of a region and of a mount point", "[mount][lifecycle]") {
    KernelMount mounted{64, {"--label", "some label"}};
    const auto fresh = info_of(mounted.region());
    CHECK(fresh["state"] == "clean");
    CHECK(fresh["label"] == "some label");
    CHECK(fresh["geometry"]["region_bytes"] == mounted.region_bytes());
    CHECK(fresh["capabilities"]["kind"] == mounted.region_kind());
    CHECK(fresh["counts"]["inodes"] == 1);
    mounted.mount();
    write_file(mounted.path("f"), std::string(1 << 20, 'x'));
    for (const std::string& target : {mounted.region(), mounted.root()}) {
        const auto info = info_of(target);
        CHECK(info["state"] == "mounted");
        CHECK(info["region"] == mounted.region());
        CHECK(info["mounted_on"] == mounted.root());
        CHECK(info["uuid"] == fresh["uuid"]);
        CHECK(info["counts"]["inodes"] == 2);
        CHECK(info["last_mount"]["pid"] == mounted.daemon());
        CHECK(info["counts"]["blocks_free"].get<int>() <=
              fresh["counts"]["blocks_free"].get<int>() - 256);
    }
    const Ran text = run({"pinfs", "info", mounted.root()});
    CHECK(text.status == 0);
    CHECK(has(text.out, "mounted on " + mounted.root()));
    CHECK(run({"pinfs", "info", mounted.outside("none")}).status == 32);
    CHECK(run({"pinfs", "--version"}).status == 0);
    CHECK(run({"pinfs"}).status == 1);
    CHECK(run({"pinfs", "fly"}).status == 1);
}

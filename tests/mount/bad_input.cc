// SPDX-License-Identifier: Apache-2.0
//
// What cannot be mounted is refused with one sentence that names the thing and the place, an exit
// status of mount(8)'s family, and nothing written.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <random>
#include <span>

#include "fs/checksum.h"
#include "fs/format/superblock.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/region_bytes.h"

using namespace pinfs;
using namespace pinfs::test;

namespace {

/// One line on stderr with `part` in it, nothing on stdout.
void check_refused(const Ran& ran, int status, const std::string& part) {
    CAPTURE(ran.out, ran.err, part);
    CHECK(ran.status == status);
    CHECK(ran.out.empty());
    CHECK(std::ranges::count(ran.err, '\n') == 1);
    CHECK(ran.err.find(part) != std::string::npos);
}

void overwrite(const std::string& path, std::uint64_t offset, std::span<const std::byte> bytes) {
    const RegionBytes region{path};
    std::ranges::copy(bytes, region.get().subspan(offset).begin());
}

using SuperblockBytes = std::array<std::byte, sizeof(media::Superblock)>;

SuperblockBytes superblock_of(const std::string& path, std::uint64_t offset) {
    SuperblockBytes bytes;
    const RegionBytes region{path};
    std::memcpy(bytes.data(), region.get().data() + offset, bytes.size());
    return bytes;
}

void seal(SuperblockBytes& bytes) {
    const std::uint32_t sum = unit_checksum(0xffffffff, bytes);
    std::memcpy(bytes.data() + 4, &sum, sizeof(sum));
}

}  // namespace

TEST_CASE("options that are unknown or not available are named", "[mount][bad input]") {
    KernelMount mounted;
    const std::string before = RegionBytes{mounted.region()}.copy();
    check_refused(mounted.try_mount("rw,colour=red"), 1, "unknown option 'colour=red'");
    check_refused(mounted.try_mount("auto_unmount"), 1, "'auto_unmount'");
    check_refused(mounted.try_mount("durability=posix"), 1, "'durability=posix' is reserved");
    check_refused(mounted.try_mount("dax=sometimes"), 1, "'dax=sometimes'");
    check_refused(mounted.try_mount("kernel_mmap=maybe"), 1, "'kernel_mmap=maybe'");
    check_refused(mounted.try_mount("remount,ro"), 32, "no pinfs is mounted on");
    check_refused(mounted.try_mount("allow_other,allow_root"), 1, "exclude each other");
    check_refused(run({"pinfs", "mount", mounted.region()}), 1, "MOUNTPOINT");
    check_refused(run({"pinfs", "mount", "--strange", mounted.region(), mounted.root()}), 1,
                  "--strange");
    check_refused(run({"mount.pinfs", mounted.region()}), 1, "DIR");
    char allowed = '-';
    std::ifstream{"/sys/module/fuse/parameters/enable_uring"} >> allowed;
    if (allowed == 'N') check_refused(mounted.try_mount("io_uring"), 2, "enable_uring");
    if (allowed == '-') check_refused(mounted.try_mount("io_uring"), 2, "kernel has no FUSE over");
    CHECK(!mounted.is_mounted());
    CHECK((RegionBytes{mounted.region()}.copy() == before));
}

TEST_CASE("mount points that are none are named", "[mount][bad input]") {
    KernelMount mounted;
    const std::string before = RegionBytes{mounted.region()}.copy();
    const std::string file = mounted.outside("file");
    write_file(file, "x");
    check_refused(run({"pinfs", "mount", mounted.region(), mounted.outside("none")}), 32,
                  mounted.outside("none"));
    check_refused(run({"pinfs", "mount", mounted.region(), file}), 32,
                  file + " is not a directory");
    CHECK((RegionBytes{mounted.region()}.copy() == before));
}

TEST_CASE("regions that are none are named and not written", "[mount][bad input]") {
    KernelMount mounted;
    const std::string path = mounted.outside("bad");
    const auto check = [&](const std::string& sentence) {
        struct stat st {};
        const bool file = stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode);
        const std::string before = file ? contents(path) : "";
        check_refused(run({"pinfs", "mount", path, mounted.root()}), 32, sentence);
        check_refused(run({"pinfs", "info", path}), 32, sentence);
        check_refused(run({"mount.pinfs", "-f", path, mounted.root()}), 32, sentence);
        if (file) CHECK((contents(path) == before));
        CHECK(!mounted.is_mounted());
    };
    check(path);  // not there
    REQUIRE(mkdir(path.c_str(), 0755) == 0);
    check(path);
    REQUIRE(rmdir(path.c_str()) == 0);
    write_file(path, "");
    check("smaller than 1 MiB");
    write_file(path, std::string((1 << 20) - 1, '\0'));
    check("smaller than 1 MiB");
    write_file(path, std::string(4 << 20, '\0'));
    check("no pinfs superblock");
    write_file(path, noise(1, 4 << 20));
    check("no pinfs superblock");
    REQUIRE(unlink(path.c_str()) == 0);
    REQUIRE(mkfifo(path.c_str(), 0600) == 0);
    check(path);
    REQUIRE(unlink(path.c_str()) == 0);
    REQUIRE(symlink("/dev/null", path.c_str()) == 0);
    check("/dev/null");
}

TEST_CASE("a region cut short is refused", "[mount][bad input][resizes region]") {
    KernelMount mounted;
    REQUIRE(truncate(mounted.region().c_str(), 32 << 20) == 0);
    const std::string before = RegionBytes{mounted.region()}.copy();
    check_refused(mounted.try_mount(), 32, "shorter than its superblock says");
    CHECK((RegionBytes{mounted.region()}.copy() == before));
}

TEST_CASE("an unknown incompatible feature is refused, one for writers mounts read-only",
          "[mount][bad input]") {
    KernelMount mounted;
    const auto set_bit = [&](std::size_t field) {
        for (const std::uint64_t offset : {std::uint64_t{0}, media::kSuperCopyOffset}) {
            SuperblockBytes bytes = superblock_of(mounted.region(), offset);
            bytes[field + 3] |= std::byte{0x40};
            seal(bytes);
            overwrite(mounted.region(), offset, bytes);
        }
    };
    set_bit(offsetof(media::Superblock, compatible));
    mounted.mount();
    mounted.unmount();
    set_bit(offsetof(media::Superblock, read_only));
    const Ran ran = mounted.try_mount();
    if (ran.status == 0) {
        CHECK(errno_if(mkdir(mounted.path("d").c_str(), 0755)) == EROFS);
        mounted.unmount();
    }
    set_bit(offsetof(media::Superblock, incompatible));
    const std::string before = RegionBytes{mounted.region()}.copy();
    check_refused(mounted.try_mount(), 32, "incompatible feature");
    CHECK((RegionBytes{mounted.region()}.copy() == before));
}

TEST_CASE("any word of the superblock changed: one sentence, or a mount that works",
          "[mount][bad input]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "text");
    mounted.unmount();
    const std::string good = RegionBytes{mounted.region()}.copy();
    int refused = 0;
    for (std::size_t word = 0; word < sizeof(media::Superblock); word += 4)
        for (const bool sealed : {false, true}) {
            if (sealed && word == 4) continue;  // the checksum itself
            CAPTURE(word, sealed);
            for (const std::uint64_t offset : {std::uint64_t{0}, media::kSuperCopyOffset}) {
                SuperblockBytes bytes = superblock_of(mounted.region(), offset);
                for (std::size_t i = 0; i < 4; ++i) bytes[word + i] ^= std::byte{0x15};
                if (sealed) seal(bytes);
                overwrite(mounted.region(), offset, bytes);
            }
            const Ran ran = mounted.try_mount();
            if (ran.status == 0) {
                struct stat st {};
                CHECK(stat(mounted.root().c_str(), &st) == 0);
                mounted.unmount();
            } else {
                check_refused(ran, 32, mounted.region());
                ++refused;
            }
            overwrite(mounted.region(), 0, std::as_bytes(std::span{good}.first(1 << 20)));
        }
    CHECK(refused > 128);
    overwrite(mounted.region(), 0, std::as_bytes(std::span{good}));
    mounted.mount();
    CHECK(contents(mounted.path("f")) == "text");
}

TEST_CASE("damage anywhere costs the request, not the daemon", "[mount][bad input]") {
    KernelMount mounted{8};
    mounted.mount();
    REQUIRE(mkdir(mounted.path("d").c_str(), 0755) == 0);
    for (int i = 0; i < 200; ++i)
        write_file(mounted.path("d/" + std::to_string(i)),
                   noise(static_cast<std::uint64_t>(i), 9000));
    mounted.unmount();
    const std::string good = RegionBytes{mounted.region()}.copy();
    std::mt19937_64 random{11};
    for (int round = 0; round < 60; ++round) {
        std::string bad = good;
        for (int i = 0; i < 30; ++i) bad[4096 + random() % (bad.size() - 4096)] ^= 0x41;
        overwrite(mounted.region(), 0, std::as_bytes(std::span{bad}));
        CAPTURE(round);
        const Ran ran = mounted.try_mount();
        if (ran.status != 0) {
            check_refused(ran, 32, mounted.region());
            continue;
        }
        run({"sh", "-c",
             "cd " + mounted.root() +
                 " && cat d/* >/dev/null; ls -lR; echo x >d/new; mv d/1 d/2; rm -f d/3; mkdir e"});
        struct stat st {};
        CHECK(errno_if(stat(mounted.root().c_str(), &st)) != ENOTCONN);
        REQUIRE(run({"pinfs", "umount", mounted.root()}).status == 0);
    }
}

TEST_CASE("a region truncated under its daemon gives EIO and no crash",
          "[mount][bad input][resizes region]") {
    KernelMount mounted;
    mounted.mount_in_foreground();
    write_file(mounted.path("f"), std::string(40 << 20, 'x'));
    const int file = open(mounted.path("f").c_str(), O_RDONLY | O_CLOEXEC);
    REQUIRE(truncate(mounted.region().c_str(), 8 << 20) == 0);
    std::string bytes(1 << 20, '\0');
    CHECK(errno_if(pread(file, bytes.data(), bytes.size(), 39 << 20)) == EIO);
    CHECK(mounted.log().find("media error") != std::string::npos);
    struct stat st {};
    CHECK(stat(mounted.root().c_str(), &st) == 0);
    close(file);
    REQUIRE(run({"pinfs", "umount", mounted.root()}).status == 0);
    mounted.wait_for_daemon();
}

// SPDX-License-Identifier: Apache-2.0
//
// fsck.pinfs as a user and fsck(8) have it: exit codes, words, what is repaired, and that
// nothing is written where nothing may be.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fs/volume/volume.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/sample_image.h"
#include "tests/support/temporary.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;

std::string bytes_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

bool contains(const std::string& text, const std::string& words) {
    return text.find(words) != std::string::npos;
}

// A file with one of everything in it.
class RegionFile {
public:
    RegionFile() { save(); }
    void save() {
        std::ofstream file(path, std::ios::binary);
        const auto memory = sample.image.memory();
        file.write(reinterpret_cast<const char*>(memory.data()),
                   static_cast<std::streamsize>(memory.size()));
        REQUIRE(file.good());
    }
    void damage() {
        sample.image.change<media::Inode>(sample.image.inode_at(sample.linked),
                                          [](media::Inode& inode) { inode.nlink = 9; });
        save();
    }

    TemporaryDirectory directory;
    const std::string path = directory.file("region");
    Sample sample;
};

// A region as mkfs makes it.
class MadeRegion {
public:
    MadeRegion() { REQUIRE(run({"mkfs.pinfs", "--size", "4M", path}).status == 0); }
    /// As a daemon that was killed leaves it.
    void leave_mounted() {
        const auto region = pmem::Region::open(path, {});
        REQUIRE(region);
        MountOptions options;
        options.background = false;
        REQUIRE(Volume::mount(**region, options));
    }

    TemporaryDirectory directory;
    const std::string path = directory.file("region");
};

TEST_CASE("fsck.pinfs: a clean region is one line and exit code 0", "[cmd][unit]") {
    RegionFile region;
    const std::string summary = region.path + ": clean, 167 files, ";
    for (const char* option : {"-n", "-a", "-p", "-y"}) {
        CAPTURE(option);
        const Ran ran = run({"fsck.pinfs", option, region.path});
        CHECK(ran.status == 0);
        CHECK(ran.out.starts_with(summary));
        CHECK(ran.out.ends_with("/1024 blocks\n"));
        CHECK(ran.err.empty());
    }
    const Ran ran = run({"fsck.pinfs", region.path});
    CHECK(ran.status == 0);
    CHECK(ran.out.starts_with(summary));
    CHECK(ran.err == "fsck.pinfs: checking as with -n; -y repairs\n");
}

TEST_CASE("fsck.pinfs: a log that waits for the next mount is said and is no problem",
          "[cmd][unit]") {
    RegionFile region;
    HandImage& image = region.sample.image;
    const auto slot = image.memory().subspan(image.inode_at(1), media::kSlotBytes);
    image.seal_log(1, 7, {{image.inode_at(1), {slot.begin(), slot.end()}}});
    region.save();
    const Ran ran = run({"fsck.pinfs", "-n", region.path});
    CHECK(ran.status == 0);
    CHECK(ran.out.starts_with(region.path + ": the next mount replays 1 journal log\n"));
}

TEST_CASE("fsck.pinfs: a region that was not unmounted is made clean, but not with -n",
          "[cmd][unit]") {
    MadeRegion region;
    region.leave_mounted();
    const std::string before = bytes_of(region.path);
    CHECK(run({"fsck.pinfs", "-n", region.path}).status == 0);
    CHECK(run({"fsck.pinfs", region.path}).status == 0);
    CHECK(bytes_of(region.path) == before);
    const Ran replayed = run({"fsck.pinfs", GENERATE("-a", "-p", "-y"), region.path});
    CHECK(replayed.status == 1);
    CHECK(replayed.out ==
          region.path + ": was not unmounted; 0 journal logs replayed, clean now\n");
    for (const char* option : {"-n", "-a", "-y"}) {
        const Ran clean = run({"fsck.pinfs", option, region.path});
        CHECK(clean.status == 0);
        CHECK(clean.out.starts_with(region.path + ": clean, 1 file, "));
    }
}

TEST_CASE("fsck.pinfs: a superblock that has a good copy is mended with -y", "[cmd][unit]") {
    MadeRegion region;
    std::fstream file(region.path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(GENERATE(8, 512 * 1024 + 8));
    file << "damaged" << std::flush;
    REQUIRE(file.good());
    CHECK(run({"fsck.pinfs", "-n", region.path}).status == 4);
    CHECK(run({"fsck.pinfs", "-y", region.path}).status == 1);
    CHECK(run({"fsck.pinfs", "-n", region.path}).status == 0);
}

TEST_CASE("fsck.pinfs: what fsck(8) passes is taken", "[cmd][unit]") {
    RegionFile region;
    for (const std::vector<std::string>& options : {std::vector<std::string>{"-a", "-C0"},
                                                    {"-C", "-y"},
                                                    {"-p", "-f", "-T", "-M"},
                                                    {"-n", "-r", "-t", "pinfs"}}) {
        std::vector<std::string> words{"fsck.pinfs"};
        words.insert(words.end(), options.begin(), options.end());
        words.push_back(region.path);
        const Ran ran = run(words);
        CAPTURE(words, ran.err);
        CHECK(ran.status == 0);
        CHECK(ran.err.empty());
    }
    CHECK(run({"fsck.pinfs", "-n", "-y", region.path}).status == 16);
    CHECK(run({"fsck.pinfs", "-Cx", region.path}).status == 16);
}

TEST_CASE("fsck.pinfs: each problem is a line with its place, and exit code 4; nothing is written",
          "[cmd][unit]") {
    RegionFile region;
    region.damage();
    const std::string before = bytes_of(region.path);
    const std::string line = "inode " + std::to_string(region.sample.linked) + ", region offset " +
                             std::to_string(region.sample.image.inode_at(region.sample.linked)) +
                             ": the link count is 9, but 2 entries name it\n";
    const Ran ran = run({"fsck.pinfs", "-n", region.path});
    CHECK(ran.status == 4);
    CHECK(ran.out.starts_with(line + region.path + ": 1 problem found, nothing was changed, "));
    CHECK(run({"fsck.pinfs", region.path}).status == 4);
    CHECK(bytes_of(region.path) == before);
}

TEST_CASE("fsck.pinfs: what is safe is repaired with -p, all with -y; then nothing is found",
          "[cmd][unit]") {
    RegionFile region;
    region.damage();
    const std::string line = "inode " + std::to_string(region.sample.linked) + ", region offset " +
                             std::to_string(region.sample.image.inode_at(region.sample.linked)) +
                             ": the link count is 2 now\n";
    const std::vector<std::string> options =
        GENERATE(std::vector<std::string>{"-a", "-f"}, std::vector<std::string>{"-p", "-f"},
                 std::vector<std::string>{"-y"});
    std::vector<std::string> words{"fsck.pinfs", region.path};
    words.insert(words.end(), options.begin(), options.end());
    const Ran ran = run(words);
    CHECK(ran.status == 1);
    CHECK(ran.out.starts_with(line + region.path + ": 1 repair made, clean now, 167 files, "));
    CHECK(run({"fsck.pinfs", "-n", region.path}).status == 0);
}

TEST_CASE("fsck.pinfs: what needs a decision is left by -p, with exit code 4", "[cmd][unit]") {
    RegionFile region;
    HandImage& image = region.sample.image;
    image.at<media::u8>(image.node_at(region.sample.directory, 1) + 100) ^= 0x15;
    region.save();
    const std::string before = bytes_of(region.path);
    const Ran left = run({"fsck.pinfs", "-p", "-f", region.path});
    CHECK(left.status == 4);
    CHECK(contains(left.out, "the checksum of the tree node does not match\n"));
    CHECK(left.out.ends_with(": fsck.pinfs -y repairs what can be repaired\n"));
    CHECK(bytes_of(region.path) == before);
    CHECK(run({"fsck.pinfs", "-y", region.path}).status == 1);
    const Ran clean = run({"fsck.pinfs", "-n", region.path});
    CHECK(clean.status == 0);
    CHECK(clean.err.empty());
}

TEST_CASE("fsck.pinfs: on a terminal each kind is shown and asked about", "[cmd][unit]") {
    RegionFile region;
    region.damage();
    const auto answer = [&](const std::string& word) {
        return run({"sh", "-c",
                    "(echo " + word +
                        "; sleep 1) | script -qec '" PINFS_COMMAND_DIR "/fsck.pinfs " +
                        region.path + "' /dev/null"});
    };
    const std::string before = bytes_of(region.path);
    const Ran no = answer("n");
    CHECK(no.status == 4);
    CHECK(contains(no.out, "the link count is 9, but 2 entries name it"));
    CHECK(contains(no.out, "repair 1 problem (link_count)? y, n, or a for all: "));
    CHECK(bytes_of(region.path) == before);
    const Ran yes = answer(GENERATE("y", "a"));
    CHECK(yes.status == 1);
    CHECK(contains(yes.out, "the link count is 2 now"));
    CHECK(run({"fsck.pinfs", "-n", region.path}).status == 0);
}

TEST_CASE("fsck.pinfs: a region with records of this boot is not repaired", "[cmd][unit]") {
    RegionFile region;
    std::string word;
    std::ifstream{"/proc/sys/kernel/random/boot_id"} >> word;
    std::erase(word, '-');
    region.sample.image.change<media::Record>(
        region.sample.image.record_at(region.sample.pin_record), [&](media::Record& record) {
            for (std::size_t i = 0; i < sizeof record.boot_id; ++i)
                record.boot_id[i] =
                    static_cast<media::u8>(std::stoi(word.substr(2 * i, 2), nullptr, 16));
        });
    region.damage();
    const std::string before = bytes_of(region.path);
    const Ran ran = run({"fsck.pinfs", "-y", region.path});
    CHECK(ran.status == 4);
    CHECK(contains(ran.err, "is not repaired: a map, pin or hold of this boot is on record"));
    CHECK(bytes_of(region.path) == before);
}

TEST_CASE("fsck.pinfs: progress goes to the descriptor of -C, a line for each percent",
          "[cmd][unit]") {
    RegionFile region;
    const Ran ran = run({"fsck.pinfs", "-n", "-C1", region.path});
    CHECK(ran.status == 0);
    CHECK(contains(ran.out, "check 0 100 " + region.path + "\n"));
    CHECK(contains(ran.out, "check 100 100 " + region.path + "\n"));
    CHECK(run({"fsck.pinfs", "-n", "-C", region.path}).out.starts_with(region.path + ": clean"));
}

TEST_CASE("fsck.pinfs: what cannot be judged is one sentence and exit code 8", "[cmd][unit]") {
    TemporaryDirectory directory;
    const std::string path = directory.file("region");
    std::string words;
    SECTION("nothing there") { words = "No such file or directory"; }
    SECTION("a directory") { REQUIRE(mkdir(path.c_str(), 0700) == 0); }
    SECTION("a file without a file system") {
        std::ofstream(path) << std::string(1 << 20, 'x');
        words = "no pinfs superblock";
    }
    SECTION("an empty file") { std::ofstream(path).flush(); }
    SECTION("a file that was cut short") {
        RegionFile region;
        REQUIRE(rename(region.path.c_str(), path.c_str()) == 0);
        REQUIRE(truncate(path.c_str(), 2 << 20) == 0);
        words = "shorter than its superblock says";
    }
    const Ran ran = run({"fsck.pinfs", "-n", path});
    CHECK(ran.status == 8);
    CHECK(ran.out.empty());
    CHECK(ran.err.starts_with("fsck.pinfs: " + path + ": "));
    CHECK(contains(ran.err, words));
    CHECK(ran.err.find('\n') == ran.err.size() - 1);
}

TEST_CASE("fsck.pinfs: a region in use is left alone, one that others only read is not",
          "[cmd][unit]") {
    RegionFile region;
    const int fd = open(region.path.c_str(), O_RDWR | O_CLOEXEC);
    REQUIRE(fd >= 0);
    REQUIRE(flock(fd, LOCK_SH) == 0);
    CHECK(run({"fsck.pinfs", "-n", region.path}).status == 0);
    REQUIRE(flock(fd, LOCK_EX) == 0);
    const Ran ran = run({"fsck.pinfs", "-n", region.path});
    CHECK(ran.status == 8);
    CHECK(ran.out.empty());
    CHECK(contains(ran.err, " is in use by process "));
    const Ran skipped = run({"fsck.pinfs", "-a", "-M", region.path});
    CHECK(skipped.status == 0);
    CHECK((skipped.out + skipped.err).empty());
    close(fd);
}

TEST_CASE("fsck.pinfs: wrong usage is exit code 16", "[cmd][unit]") {
    CHECK(run({"fsck.pinfs"}).status == 16);
    CHECK(run({"fsck.pinfs", "-n"}).status == 16);
    CHECK(run({"fsck.pinfs", "-n", "a", "b"}).status == 16);
    const Ran ran = run({"fsck.pinfs", "--unheard-of", "a"});
    CHECK(ran.status == 16);
    CHECK(contains(ran.err, "--unheard-of"));
    CHECK(run({"fsck.pinfs", "--help"}).status == 0);
    CHECK(contains(run({"fsck.pinfs", "-V"}).out, "fsck.pinfs 0."));
}

}  // namespace

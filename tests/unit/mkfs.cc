// SPDX-License-Identifier: Apache-2.0
//
// mkfs.pinfs as a user has it: what it makes, what it refuses and in which words, and that a
// refusal writes nothing.
#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

#include "fs/check/check.h"
#include "fs/format/inode.h"
#include "fs/format/superblock.h"
#include "fs/volume/describe.h"
#include "fs/volume/volume.h"
#include "tests/support/temporary.h"

namespace {

using namespace pinfs;
using namespace pinfs::unit_literals;
using pinfs::test::TemporaryDirectory;

struct Result {
    int code = -1;
    std::string text;  ///< both outputs
    [[nodiscard]] bool says(const std::string& words) const {
        return text.find(words) != std::string::npos;
    }
};

/// Through the shell, as typed.
Result shell(const std::string& line) {
    Result result;
    FILE* const pipe = popen((line + " 2>&1").c_str(), "re");
    REQUIRE(pipe != nullptr);
    std::array<char, 4096> buffer;
    for (std::size_t n; (n = fread(buffer.data(), 1, buffer.size(), pipe)) != 0;)
        result.text.append(buffer.data(), n);
    const int status = pclose(pipe);
    result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return result;
}

Result mkfs(const std::string& words) {
    return shell(std::string(PINFS_COMMAND_DIR) + "/mkfs.pinfs " + words);
}

std::string bytes_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void make_file(const std::string& path, std::uint64_t bytes) {
    std::ofstream(path).flush();
    REQUIRE(truncate(path.c_str(), static_cast<off_t>(bytes)) == 0);
}

void put(const std::string& path, std::uint64_t offset, const std::string& bytes) {
    const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    REQUIRE(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
            static_cast<ssize_t>(bytes.size()));
    close(fd);
}

bool exists(const std::string& path) {
    struct stat status {};
    return lstat(path.c_str(), &status) == 0;
}

mode_t mode_of(const std::string& path) {
    struct stat status {};
    REQUIRE(stat(path.c_str(), &status) == 0);
    return status.st_mode & 07777;
}

Description described(const std::string& path) {
    const auto region = pmem::Region::open(path, {.read_only = true});
    REQUIRE(region);
    const auto report = check(**region);
    REQUIRE(report);
    INFO(report->text());
    CHECK(report->clean());
    const auto description = describe(**region);
    REQUIRE(description);
    return *description;
}

/// Exit code and words as expected, one sentence, and the file as it was.
void refused(const std::string& path, const std::string& options, int code,
             const std::string& words) {
    const bool there = exists(path);
    const std::string before = there ? bytes_of(path) : std::string();
    const Result result = mkfs(options + " " + path);
    CAPTURE(options, result.text);
    CHECK(result.code == code);
    CHECK(result.says(words));
    CHECK(result.text.starts_with("mkfs.pinfs: "));
    CHECK(std::count(result.text.begin(), result.text.end(), '\n') == 1);
    CHECK(exists(path) == there);
    if (there) CHECK(bytes_of(path) == before);
}

TEST_CASE("mkfs: makes the region's file, private, and says what it made", "[cmd][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    const Result result = mkfs(
        "--size 64M --label 'my data' --uuid "
        "01234567-89ab-cdef-0123-456789ABCDEF " +
        path);
    CAPTURE(result.text);
    REQUIRE(result.code == 0);
    CHECK(result.says("64 MiB"));
    CHECK(result.says("01234567-89ab-cdef-0123-456789abcdef"));
    CHECK(result.says("my data"));
    CHECK(result.says("not persistent"));
    CHECK(mode_of(path) == 0600);
    const Description found = described(path);
    CHECK(found.region_bytes == 64_MiB);
    CHECK(found.label == "my data");
    CHECK(uuid_text(found.uuid) == "01234567-89ab-cdef-0123-456789abcdef");
    CHECK_FALSE(found.mounted);
}

TEST_CASE("mkfs: says nothing of persistence where contents survive", "[cmd][unit]") {
    const TemporaryDirectory directory("/var/tmp");
    if (directory.file_system_type() == 0x01021994) {
        WARN("skipped: /var/tmp is tmpfs here");
        return;
    }
    const Result result = mkfs("--size 1M " + directory.file("region"));
    REQUIRE(result.code == 0);
    CHECK_FALSE(result.says("not persistent"));
}

TEST_CASE("mkfs: sizes are powers of 1024, between 1 MiB and 64 TiB", "[cmd][unit]") {
    const TemporaryDirectory directory;
    for (const auto& [word, bytes] : {std::pair<const char*, std::uint64_t>{"1048576", 1_MiB},
                                      {"1024K", 1_MiB},
                                      {"1025k", 1_MiB},  // rounded down to blocks
                                      {"2M", 2_MiB},
                                      {"2MiB", 2_MiB}}) {
        const std::string path = directory.file(word);
        REQUIRE(mkfs(std::string("--size ") + word + " " + path).code == 0);
        CHECK(described(path).region_bytes == bytes);
    }
    const std::string path = directory.file("none");
    refused(path, "--size 1023K", 2, "1 MiB is the least");
    refused(path, "--size 0", 2, "1 MiB is the least");
    refused(path, "--size 65T", 2, "64 TiB is the most");
    refused(path, "--size 99999999999T", 2, "is no size");
    for (const char* word : {"x", "1X", "-1", "1.5G", "1M ", "M", "1MB", "18446744073709551616"})
        refused(path, "--size '" + std::string(word) + "'", 2, "no size");
    refused(path, "--size ''", 2, "--size has an empty value");
    refused(path, "", 1, "--size says how large");
    refused(path, "--size 60T", 1, "no room for a region of 60 TiB");
}

TEST_CASE("mkfs: an existing file is used whole and keeps its mode", "[cmd][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    make_file(path, 3_MiB + 17);
    REQUIRE(chmod(path.c_str(), 0644) == 0);
    refused(path, "--size 2M", 1, "--size is for a file to be made");
    const Result result = mkfs(path);
    REQUIRE(result.code == 0);
    CHECK(mode_of(path) == 0644);
    CHECK(described(path).region_bytes == 3_MiB);
    struct stat status {};
    REQUIRE(stat(path.c_str(), &status) == 0);
    CHECK(static_cast<std::uint64_t>(status.st_blocks) * 512 >=
          3_MiB);  // tmpfs: nothing is left to run out of

    REQUIRE(chmod(path.c_str(), 0666) == 0);
    CHECK(mkfs("--force --size 3M " + path).says("Every user may open it"));
}

TEST_CASE("mkfs: with --sparse a region may be larger than the memory there is", "[cmd][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    REQUIRE(mkfs("--sparse --size 1T " + path).code == 0);
    struct stat status {};
    REQUIRE(stat(path.c_str(), &status) == 0);
    CHECK(static_cast<std::uint64_t>(status.st_size) == 1024_GiB);
    CHECK(static_cast<std::uint64_t>(status.st_blocks) * 512 < 1_GiB);
    CHECK(described(path).region_bytes == 1024_GiB);

    const std::string existing = directory.file("existing");
    make_file(existing, 64_MiB);
    REQUIRE(mkfs("--sparse " + existing).code == 0);
    REQUIRE(stat(existing.c_str(), &status) == 0);
    CHECK(static_cast<std::uint64_t>(status.st_blocks) * 512 < 32_MiB);
}

TEST_CASE("mkfs: --group gives the file to a group, and to nobody else", "[cmd][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    refused(path, "--size 1M --group no-such-group", 2, "there is no group 'no-such-group'");
    refused(path, "--size 1M --group ''", 2, "empty");
    // Its own group, so that this needs no privilege.
    const std::string gid = std::to_string(getegid());
    REQUIRE(mkfs("--size 1M --group " + gid + " " + path).code == 0);
    CHECK(mode_of(path) == 0660);
    if (geteuid() == 0) {
        REQUIRE(mkfs("--size 1M --group 12345 " + directory.file("other")).code == 0);
        struct stat status {};
        REQUIRE(stat(directory.file("other").c_str(), &status) == 0);
        CHECK(status.st_gid == 12345);
        CHECK((status.st_mode & 07777) == 0660);
    }
}

TEST_CASE("mkfs: wrong identities are refused before anything is made", "[cmd][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    for (const char* uuid :
         {"x", "0123456789abcdef0123456789abcdef", "{01234567}",
          "01234567-89ab-cdef-0123-456789abcdeg", "01234567-89ab-cdef-0123-456789abcdef0"})
        refused(path, "--size 1M --uuid '" + std::string(uuid) + "'", 2, "is no uuid");
    refused(path, "--size 1M --label " + std::string(65, 'x'), 2, "the label has 65 bytes");
    REQUIRE(mkfs("--size 1M --label " + std::string(64, 'x') + " " + path).code == 0);
    CHECK(described(path).label == std::string(64, 'x'));
    refused(directory.file("other"), "--size 1M --no-such-option", 2, "--no-such-option");
    CHECK(mkfs("").code == 2);
    CHECK(mkfs("--force --if-blank " + path).code == 2);
    CHECK(mkfs("--help").code == 0);
    CHECK(mkfs("--version").says(PINFS_VERSION));
}

TEST_CASE("mkfs: two regions have different identities unless told otherwise", "[cmd][unit]") {
    const TemporaryDirectory directory;
    REQUIRE(mkfs("--size 1M " + directory.file("a")).code == 0);
    REQUIRE(mkfs("--size 1M " + directory.file("b")).code == 0);
    CHECK(described(directory.file("a")).uuid != described(directory.file("b")).uuid);
}

TEST_CASE("mkfs: a pinfs is overwritten only with --force, even one that is half gone",
          "[cmd][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    REQUIRE(mkfs("--size 1M --label old " + path).code == 0);
    const auto uuid = described(path).uuid;
    refused(path, "", 1, "holds a pinfs file system (uuid " + uuid_text(uuid) + ", label 'old')");

    const std::string whole = bytes_of(path);
    put(path, 0, std::string(4096, '\0'));
    refused(path, "", 1, "only the copy of its superblock is intact");
    REQUIRE(mkfs("--if-blank " + path).code == 0);
    put(path, media::kSuperCopyOffset + 100, "X");
    refused(path, "", 1, "holds a damaged pinfs");
    refused(path, "--if-blank", 1, "it is not blank");
    put(path, 0, whole.substr(0, 4096));
    put(path, 100, "X");
    refused(path, "", 1, "holds a damaged pinfs");

    REQUIRE(mkfs("--force " + path).code == 0);
    CHECK(described(path).uuid != uuid);
}

TEST_CASE("mkfs: --if-blank makes one where nothing is, and is content with a pinfs",
          "[cmd][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    REQUIRE(mkfs("--if-blank --size 1M " + path).code == 0);
    const std::string before = bytes_of(path);
    const Result again = mkfs("--if-blank --size 1M " + path);
    CHECK(again.code == 0);
    CHECK(again.says("already"));
    CHECK(bytes_of(path) == before);

    const std::string blank = directory.file("blank");
    make_file(blank, 1_MiB);
    REQUIRE(mkfs("--if-blank " + blank).code == 0);
    described(blank);
}

TEST_CASE("mkfs: what blkid knows is overwritten only with --force, and then gone", "[cmd][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    const auto try_one = [&](const std::string& name) {
        CAPTURE(name);
        refused(path, "", 1, "holds '" + name + "'");
        refused(path, "--if-blank", 1, "it is not blank");
        REQUIRE(mkfs("--force " + path).code == 0);
        described(path);
        // Asked again, it is a pinfs and nothing else.
        put(path, 0, std::string(4096, '\0'));
        put(path, media::kSuperCopyOffset, std::string(4096, '\0'));
        CHECK(mkfs(path).code == 0);
    };
    SECTION("swap space") {
        make_file(path, 4_MiB);
        put(path, 4096 - 10, "SWAPSPACE2");
        put(path, 1024, std::string("\x01\0\0\0\xff\x03\0\0", 8));
        try_one("swap");
    }
    SECTION("an ext4") {
        if (shell("command -v mkfs.ext4").code == 0) {
            make_file(path, 16_MiB);
            REQUIRE(shell("mkfs.ext4 -q -F " + path).code == 0);
            try_one("ext4");
        } else {
            WARN("skipped: no mkfs.ext4");
        }
    }
    SECTION("a btrfs, whose superblock is behind our first blocks") {
        make_file(path, 1_MiB);
        put(path, 65536 + 64, "_BHRfS_M");
        try_one("btrfs");
    }
    SECTION("a partition table") {
        if (shell("command -v sfdisk").code == 0) {
            make_file(path, 16_MiB);
            REQUIRE(shell("echo 'label: gpt' | sfdisk -q " + path).code == 0);
            try_one("gpt");
        } else {
            WARN("skipped: no sfdisk");
        }
    }
}

TEST_CASE("mkfs: a region in use is refused with its holder's name, also with --force",
          "[cmd][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    REQUIRE(mkfs("--size 1M " + path).code == 0);
    const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    REQUIRE(flock(fd, LOCK_EX) == 0);
    const std::string words = "is in use by process " + std::to_string(getpid()) + " (";
    refused(path, "", 1, words);
    refused(path, "--force", 1, words);
    // It holds a pinfs: that is all --if-blank wants to know.
    CHECK(mkfs("--if-blank " + path).code == 0);
    put(path, 0, std::string(4096, '\0'));
    put(path, media::kSuperCopyOffset, std::string(4096, '\0'));
    refused(path, "--if-blank", 1, words);
    close(fd);
}

TEST_CASE("mkfs: what is no region is refused by its kind", "[cmd][unit]") {
    const TemporaryDirectory directory;
    const auto says = [](const std::string& words, const std::string& path) {
        const Result result = mkfs("--force " + path);
        CAPTURE(path, result.text);
        CHECK(result.code == 1);
        CHECK(result.says(words));
    };
    says("is a directory", directory.path());
    says("is a character device, and not device DAX", "/dev/null");
    REQUIRE(mkfifo(directory.file("fifo").c_str(), 0600) == 0);
    says("is a FIFO", directory.file("fifo"));
    REQUIRE(symlink("nowhere", directory.file("link").c_str()) == 0);
    says("is a symbolic link to nothing", directory.file("link"));
    make_file(directory.file("empty"), 0);
    says("is too small (0 bytes)", directory.file("empty"));
    make_file(directory.file("short"), 1_MiB - 1);
    says("a region has at least 1 MiB", directory.file("short"));
    make_file(directory.file("large"), 64_TiB + 4_KiB);
    says("64 TiB is the most", directory.file("large"));
    says("Not a directory", directory.file("short/below"));
    says("does not exist", directory.file("missing/region"));
    const Result nowhere = mkfs("--size 1M " + directory.file("missing/region"));
    CHECK(nowhere.code == 1);
    CHECK(nowhere.says("cannot be made: No such file or directory"));
}

TEST_CASE("mkfs: --no-dax leaves the root directory's flag off", "[cmd][unit]") {
    const TemporaryDirectory directory;
    for (const bool dax : {true, false}) {
        const std::string path = directory.file(dax ? "dax" : "plain");
        REQUIRE(mkfs(std::string(dax ? "" : "--no-dax ") + "--size 1M " + path).code == 0);
        auto region = pmem::Region::open(path, {});
        REQUIRE(region);
        MountOptions options;
        options.read_only = true;
        auto volume = Volume::mount(**region, options);
        REQUIRE(volume);
        const auto root = (*volume)->attributes(kRootIno);
        REQUIRE(root);
        CHECK(((root->flags & media::kInodeDax) != 0) == dax);
        CHECK(root->uid == geteuid());
        CHECK(root->mode == (S_IFDIR | 0755));
    }
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
//
// Access times under each policy, and a volume that is shut down.
#include <catch2/catch.hpp>

#include "fs/format/inode.h"
#include "tests/support/mounted.h"

using namespace pinfs;
using namespace pinfs::unit_literals;
using test::Mounted;
using test::must;
using test::pattern;

namespace {

constexpr Time kLongAgo{1'000'000'000, 7};

/// A file and a directory, last read and changed long ago, in a volume with `policy`.
struct Read {
    Mounted fs{{.bytes = 4_MiB}};
    Ino file, directory;
    std::unique_ptr<Volume> volume;

    explicit Read(AtimePolicy policy, bool directory_atime = true) {
        directory = fs.make_directory("/d");
        file = fs.make_file("/d/f", 100, 1);
        fs.unmount();
        MountOptions options = test::mount_options();
        options.atime = policy;
        options.directory_atime = directory_atime;
        volume = must(Volume::mount(fs.region(), options));
    }
    void set_times(Ino ino, Time atime, Time mtime) {
        AttributeChange change;
        change.atime = atime;
        change.mtime = mtime;
        change.ctime = mtime;
        must(volume->change_attributes(ino, change));
    }
    bool advances(Ino ino) {
        const Time before = must(volume->attributes(ino)).atime;
        if (ino == file) {
            std::array<std::byte, 10> bytes;
            must(volume->read(ino, 0, bytes));
        } else {
            must(volume->read_directory(ino, 0, [](const DirectoryItem&) { return true; }));
        }
        return must(volume->attributes(ino)).atime != before;
    }
};

Time seconds_ago(std::int64_t seconds) {
    timespec time{};
    clock_gettime(CLOCK_REALTIME, &time);
    return {time.tv_sec - seconds, 0};
}

}  // namespace

TEST_CASE("relatime: reading advances an atime that is older than the file or than a day",
          "[volume][unit]") {
    Read read{AtimePolicy::relative};
    for (const Ino ino : {read.file, read.directory}) {
        read.set_times(ino, seconds_ago(3000), seconds_ago(2000));
        CHECK(read.advances(ino));
        CHECK_FALSE(read.advances(ino));
        read.set_times(ino, seconds_ago(2000), seconds_ago(3000));
        CHECK_FALSE(read.advances(ino));
        read.set_times(ino, seconds_ago(25 * 3600), seconds_ago(26 * 3600));
        CHECK(read.advances(ino));
    }
}

TEST_CASE("strictatime advances always, noatime never", "[volume][unit]") {
    Read strict{AtimePolicy::strict};
    CHECK(strict.advances(strict.file));
    CHECK(strict.advances(strict.file));
    CHECK(strict.advances(strict.directory));
    Read none{AtimePolicy::none};
    none.set_times(none.file, kLongAgo, seconds_ago(5));
    CHECK_FALSE(none.advances(none.file));
    CHECK_FALSE(none.advances(none.directory));
    Read files_only{AtimePolicy::strict, false};
    CHECK(files_only.advances(files_only.file));
    CHECK_FALSE(files_only.advances(files_only.directory));
}

TEST_CASE("a file's own noatime flag holds, and a reader who does not want to be noted",
          "[volume][unit]") {
    Read read{AtimePolicy::strict};
    std::array<std::byte, 10> bytes;
    const Time before = must(read.volume->attributes(read.file)).atime;
    must(read.volume->read(read.file, 0, bytes, /*noted=*/false));
    CHECK(must(read.volume->attributes(read.file)).atime == before);
    AttributeChange change;
    change.flags = media::kInodeNoAtime;
    must(read.volume->change_attributes(read.file, change));
    CHECK_FALSE(read.advances(read.file));
}

TEST_CASE("an access time reaches the media with sync, the period's end, or another change",
          "[volume][unit]") {
    Read read{AtimePolicy::strict};
    REQUIRE(read.advances(read.file));
    const Time seen = must(read.volume->attributes(read.file)).atime;
    SECTION("sync") { must(read.volume->sync(read.file)); }
    SECTION("period") { must(read.volume->finish_pending()); }
    SECTION("change") {
        AttributeChange change;
        change.mode = 0600;
        must(read.volume->change_attributes(read.file, change));
    }
    read.volume.reset();
    read.fs.mount();
    CHECK(must(read.fs->attributes(read.file)).atime == seen);
}

TEST_CASE("a time that is set wins over one that waits", "[volume][unit]") {
    Read read{AtimePolicy::strict};
    REQUIRE(read.advances(read.file));
    read.set_times(read.file, kLongAgo, kLongAgo);
    CHECK(must(read.volume->attributes(read.file)).atime == kLongAgo);
    must(read.volume->finish_pending());
    CHECK(must(read.volume->attributes(read.file)).atime == kLongAgo);
}

TEST_CASE("after a shutdown everything fails, and the next mount has all that returned",
          "[volume][unit]") {
    Mounted fs{{.bytes = 4_MiB}};
    const Ino ino = fs.make_file("/f", 5000, 1);
    const auto before = fs.snapshot();
    fs->shut_down();
    CHECK(fs->is_shut_down());
    std::array<std::byte, 10> bytes;
    CHECK(fs->read(ino, 0, bytes).error().cause == Cause::shut_down);
    CHECK(fs->write(ino, 0, bytes).error().cause == Cause::shut_down);
    CHECK(fs->attributes(ino).error().cause == Cause::shut_down);
    CHECK(fs->lookup(kRootIno, "f").error().cause == Cause::shut_down);
    CHECK(fs->unlink(kRootIno, "f").error().cause == Cause::shut_down);
    CHECK(fs->allocate(ino, 0, 10'000, false).error().cause == Cause::shut_down);
    CHECK(fs->sync(ino).error().cause == Cause::shut_down);
    must(fs->unmount());
    fs.abandon();
    fs.mount();
    CHECK_FALSE(fs->report().was_clean);
    CHECK(test::difference(fs.snapshot(), before).empty());
    fs.unmount();
    fs.check_clean();
}

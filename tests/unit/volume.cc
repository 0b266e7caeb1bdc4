// SPDX-License-Identifier: Apache-2.0
//
// What a volume promises beyond what the model test and the kernel's view show.
#include "fs/volume/volume.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "fs/checksum.h"
#include "fs/format/inode.h"
#include "fs/format/lane.h"
#include "fs/format/state.h"
#include "fs/format/superblock.h"
#include "tests/support/mounted.h"

using namespace pinfs;
using namespace pinfs::unit_literals;
using test::Bytes;
using test::Mounted;
using test::must;
using test::pattern;

namespace {

constexpr Caller kUser{.uid = 1000, .gid = 100};

void reseal_superblock(std::byte* at) {
    media::Superblock super;
    std::memcpy(&super, at, sizeof super);
    super.crc32c = unit_checksum(0xffffffff, std::as_bytes(std::span{&super, 1}));
    std::memcpy(at, &super, sizeof super);
}

struct Raw {
    test::Memory memory;
    pmem::Region region;
    explicit Raw(std::uint64_t bytes)
        : memory{bytes}, region{memory.bytes(), pmem::Capabilities{}, nullptr} {
        test::make_empty(region, memory.bytes(), {.bytes = bytes});
    }
    Cause cause_of_mount() {
        const auto volume = Volume::mount(region, test::mount_options());
        REQUIRE(!volume);
        return volume.error().cause;
    }
};

}  // namespace

TEST_CASE("an unlinked file lives while it is open or known, and is freed after",
          "[volume][unit]") {
    Mounted fs{{.bytes = 4_MiB}};
    const auto free = fs->statistics().blocks_free;
    const auto inodes = fs->statistics().inodes;
    const Ino ino = must(fs->make(kRootIno, "f", {.mode = S_IFREG | 0644}, kUser)).attributes.ino;
    must(fs->open(ino));
    fs.write(ino, 0, pattern(0, 100000, 1));
    must(fs->unlink(kRootIno, "f"));
    CHECK(must(fs->attributes(ino)).nlink == 0);
    CHECK(fs.read(ino, 0, 100000) == pattern(0, 100000, 1));
    fs.write(ino, 100000, pattern(100000, 5000, 1));
    fs->release(ino);
    must(fs->finish_pending());
    CHECK(must(fs->attributes(ino)).nlink == 0);
    fs->forget(ino, 1);
    must(fs->finish_pending());
    CHECK(fs->attributes(ino).error().cause == Cause::stale_inode);
    CHECK(fs->statistics().blocks_free == free);
    CHECK(fs->statistics().inodes == inodes);
    fs.check_clean();
}

TEST_CASE("an orphan that the kernel knew at unmount is freed by unmount", "[volume][unit]") {
    Mounted fs{{.bytes = 4_MiB}};
    const auto free = fs->statistics().blocks_free;
    const Ino ino = must(fs->make(kRootIno, "f", {.mode = S_IFREG | 0644}, kUser)).attributes.ino;
    fs.write(ino, 0, pattern(0, 10000, 1));
    must(fs->unlink(kRootIno, "f"));
    fs.remount();
    CHECK(fs->report().was_clean);
    CHECK(fs->statistics().blocks_free == free);
}

TEST_CASE("what was unlinked long ago costs no mount anything", "[volume][unit]") {
    Mounted fs{{.bytes = 16_MiB}};
    for (int i = 0; i < 1500; ++i)
        must(fs->make(kRootIno, std::to_string(i), {.mode = S_IFREG | 0644}, kUser));
    fs.remount();
    const std::uint64_t read = fs->report().bytes_read;
    for (int i = 0; i < 1500; i += 3) must(fs->unlink(kRootIno, std::to_string(i)));
    must(fs->finish_pending());
    fs.remount();
    CHECK(fs->report().bytes_read <= read);
    fs.check_clean();
}

TEST_CASE("a file without a name is an orphan until it is linked", "[volume][unit]") {
    Mounted fs{{.bytes = 4_MiB}};
    const auto free = fs->statistics().blocks_free;
    const auto make = [&] {
        return must(fs->make_unnamed(kRootIno, {.mode = S_IFREG | 0600}, kUser)).attributes;
    };
    const auto made = make();
    CHECK(made.nlink == 0);
    CHECK((made.flags & media::kInodeDax) != 0);
    must(fs->open(made.ino));
    fs.write(made.ino, 0, pattern(0, 10000, 1));
    fs.check_clean();
    SECTION("linked, it is a file as any other") {
        CHECK(must(fs->link(made.ino, kRootIno, "f")).attributes.nlink == 1);
        fs->forget(made.ino, 2);
        fs->release(made.ino);
        must(fs->finish_pending());
        fs.abandon();
        fs.mount();
        CHECK(fs.ino("/f") == made.ino);
        CHECK(fs.read(made.ino, 0, 10000) == pattern(0, 10000, 1));
        // Once it had a name it is an unlinked file when it has none.
        must(fs->open(made.ino));
        must(fs->unlink(kRootIno, "f"));
        CHECK(fs->link(made.ino, kRootIno, "g").error().cause == Cause::not_found);
        fs->release(made.ino);
    }
    SECTION("closed, it is gone") {
        fs->forget(made.ino, 1);
        fs->release(made.ino);
    }
    SECTION("after a crash it is gone") {
        fs.abandon();
        fs.mount();
    }
    SECTION("unmount frees it") { fs.remount(); }
    must(fs->finish_pending());
    CHECK(fs->statistics().blocks_free == free);
    CHECK(fs->statistics().inodes == 1);
    CHECK(fs->make_unnamed(kRootIno, {.mode = S_IFIFO}, kUser).error().cause ==
          Cause::invalid_argument);
    fs.check_clean();
}

TEST_CASE("a node id never comes back with its generation", "[volume][unit]") {
    Mounted fs{{.bytes = 1_MiB}};
    std::map<std::uint64_t, std::vector<std::uint64_t>> seen;
    for (int i = 0; i < 600; ++i) {
        const auto made = must(fs->make(kRootIno, "f", {.mode = S_IFREG | 0644}, kUser));
        auto& generations = seen[made.attributes.ino.value];
        for (const auto generation : generations) REQUIRE(generation != made.attributes.generation);
        REQUIRE((made.attributes.generation & UINT32_MAX) != 0);
        generations.push_back(made.attributes.generation);
        fs->forget(made.attributes.ino, 1);
        must(fs->unlink(kRootIno, "f"));
        must(fs->finish_pending());
        if (i % 150 == 99) fs.abandon(), fs.mount();
    }
}

TEST_CASE("times of an overwrite in place wait in memory until sync, release or the period's end",
          "[volume][unit]") {
    Mounted fs{{.bytes = 4_MiB}};
    const Ino ino = must(fs->make(kRootIno, "f", {.mode = S_IFREG | 0644}, kUser)).attributes.ino;
    must(fs->open(ino));
    fs.write(ino, 0, pattern(0, 8192, 1));
    AttributeChange old;
    old.mtime = Time{-5, 999'999'999};
    must(fs->change_attributes(ino, old));
    CHECK(must(fs->attributes(ino)).mtime == Time{-5, 999'999'999});
    fs.write(ino, 100, pattern(100, 50, 2));
    const Time seen = must(fs->attributes(ino)).mtime;
    CHECK(seen.seconds > 0);
    SECTION("sync") { must(fs->sync(ino)); }
    SECTION("release") { fs->release(ino); }
    SECTION("period") { must(fs->finish_pending()); }
    fs.abandon();
    fs.mount();
    CHECK(must(fs->attributes(fs.ino("/f"))).mtime == seen);
}

TEST_CASE("blocks preallocated for appends go back at the last release", "[volume][unit]") {
    Mounted fs{{.bytes = 64_MiB}};
    const Ino ino = must(fs->make(kRootIno, "f", {.mode = S_IFREG | 0644}, kUser)).attributes.ino;
    must(fs->open(ino));
    must(fs->open(ino));
    for (std::uint64_t at = 0; at < 1_MiB; at += 4096) fs.write(ino, at, pattern(at, 4096, 1));
    CHECK(must(fs->attributes(ino)).blocks > 257);
    CHECK(must(fs->extents(ino, 0, kFileBytesMax)).size() < 12);
    fs->release(ino);
    CHECK(must(fs->attributes(ino)).blocks > 257);
    fs->release(ino);
    CHECK(must(fs->attributes(ino)).blocks <= 257);
    fs.check_clean();
    SECTION("and those that a crash left, at the next one") {
        must(fs->open(ino));
        fs.write(ino, 1_MiB, pattern(0, 4096, 1));
        fs.write(ino, 1_MiB + 4096, pattern(0, 4096, 1));
        fs.abandon();
        fs.mount();
        const Ino again = fs.ino("/f");
        CHECK(must(fs->attributes(again)).blocks > 259);
        must(fs->open(again));
        fs->release(again);
        CHECK(must(fs->attributes(again)).blocks <= 259);
    }
}

TEST_CASE("the DAX flag is inherited, and takes effect when the file is open nowhere",
          "[volume][unit]") {
    Mounted fs{{.bytes = 4_MiB}};
    const auto make = [&](Ino parent, const char* name, std::uint32_t mode) {
        return must(fs->make(parent, name, {.mode = mode}, kUser)).attributes;
    };
    const auto with_dax = make(kRootIno, "with", S_IFREG | 0644);
    CHECK((with_dax.flags & media::kInodeDax) != 0);
    CHECK(must(fs->open(with_dax.ino)));
    AttributeChange off;
    off.flags = 0;
    must(fs->change_attributes(with_dax.ino, off));
    CHECK(must(fs->open(with_dax.ino)));
    fs->release(with_dax.ino);
    fs->release(with_dax.ino);
    CHECK(!must(fs->open(with_dax.ino)));

    const auto directory = make(kRootIno, "d", S_IFDIR | 0755);
    CHECK((directory.flags & media::kInodeDax) != 0);
    must(fs->change_attributes(directory.ino, off));
    CHECK((make(directory.ino, "without", S_IFREG | 0644).flags & media::kInodeDax) == 0);
    CHECK((make(kRootIno, "l", S_IFIFO | 0644).flags & media::kInodeDax) == 0);
}

TEST_CASE("writes clear setuid, and setgid where the group may execute, when asked to",
          "[volume][unit]") {
    Mounted fs{{.bytes = 4_MiB}};
    const Ino ino = must(fs->make(kRootIno, "f", {.mode = S_IFREG | 06755}, kUser)).attributes.ino;
    const auto bytes = pattern(0, 10, 1);
    must(fs->write(ino, 0, bytes));
    CHECK((must(fs->attributes(ino)).mode & 07777) == 06755);
    must(fs->write(ino, 0, bytes, false, true));
    CHECK((must(fs->attributes(ino)).mode & 07777) == 0755);
}

TEST_CASE("growing a file shows zeros where old bytes were", "[volume][unit]") {
    Mounted fs{{.bytes = 4_MiB}};
    const Ino ino = fs.make_file("/f", 10000, 3);
    fs.truncate(ino, 5000);
    SECTION("by truncate") { fs.truncate(ino, 20000); }
    SECTION("by a write behind the end") { fs.write(ino, 19990, Bytes(10)); }
    SECTION("by a write in the same block") { fs.write(ino, 8000, Bytes(12000)); }
    const auto found = fs.read(ino, 0, 20000);
    Bytes expected = pattern(0, 5000, 3);
    expected.resize(20000);
    CHECK(found == expected);
}

TEST_CASE("a file of 16 TiB is sparse, and ends there", "[volume][unit]") {
    Mounted fs{{.bytes = 4_MiB}};
    const Ino ino = fs.make_file("/f");
    fs.truncate(ino, kFileBytesMax);
    must(fs->write(ino, kFileBytesMax - 5, pattern(0, 5, 1)));
    CHECK(must(fs->write(ino, kFileBytesMax - 5, pattern(0, 50, 1))) == 5);
    CHECK(fs->write(ino, kFileBytesMax, pattern(0, 5, 1)).error().cause == Cause::file_too_large);
    AttributeChange change;
    change.size_bytes = kFileBytesMax + 1;
    CHECK(fs->change_attributes(ino, change).error().cause == Cause::file_too_large);
    CHECK(fs.read(ino, kFileBytesMax - 5, 100) == pattern(0, 5, 1));
    CHECK(must(fs->attributes(ino)).blocks == 1);
    fs.check_clean();
}

TEST_CASE("a read-only mount reads, replays, and changes nothing else", "[volume][unit]") {
    Mounted fs{{.bytes = 4_MiB}};
    fs.make_file("/f", 5000, 1);
    // An orphan stays for the next mount that may write.
    must(fs->make(kRootIno, "orphan", {.mode = S_IFREG | 0644}, kUser));
    must(fs->unlink(kRootIno, "orphan"));
    fs.abandon();
    auto options = test::mount_options();
    options.read_only = true;
    const auto volume = must(Volume::mount(fs.region(), options));
    const Ino ino = must(volume->lookup(kRootIno, "f")).attributes.ino;
    CHECK(volume->unlink(kRootIno, "f").error().cause == Cause::read_only);
    CHECK(volume->write(ino, 0, pattern(0, 5, 1)).error().cause == Cause::read_only);
    CHECK(volume->make(kRootIno, "g", {.mode = S_IFREG}, kUser).error().cause == Cause::read_only);
    CHECK(volume->set_attribute(ino, "user.a", {}, SetAttribute::create).error().cause ==
          Cause::read_only);
    Bytes out(5000);
    CHECK(must(volume->read(ino, 0, out)) == 5000);
    CHECK(out == pattern(0, 5000, 1));
    must(volume->finish_pending());
    must(volume->unmount());
    CHECK(must(check(fs.region())).totals.orphans == 1);
}

TEST_CASE("a damaged superblock is rebuilt from the other copy", "[volume][fault]") {
    Raw raw{2_MiB};
    const std::uint64_t offset = GENERATE(std::uint64_t{0}, media::kSuperCopyOffset);
    const std::size_t field = GENERATE(0, 4, 8, 130, 500);
    raw.memory.bytes()[offset + field] ^= std::byte{0x40};
    CHECK(must(check(raw.region)).clean() == false);
    must(must(Volume::mount(raw.region, test::mount_options()))->unmount());
    CHECK(must(check(raw.region)).clean());
}

TEST_CASE("a first block of zeros is rebuilt if the rest is ours", "[volume][fault]") {
    Raw raw{2_MiB};
    std::memset(raw.memory.bytes().data(), 0, 4096);
    SECTION("it is") {
        must(must(Volume::mount(raw.region, test::mount_options()))->unmount());
        CHECK(must(check(raw.region)).clean());
    }
    SECTION("it is not") {
        std::memset(raw.memory.bytes().data() + 4096, 0, 4096);
        CHECK(raw.cause_of_mount() == Cause::no_superblock);
    }
}

TEST_CASE("what stands over a wiped superblock is not taken back", "[volume][fault]") {
    Raw raw{2_MiB};
    std::memset(raw.memory.bytes().data(), 0x5a, 4096);
    CHECK(raw.cause_of_mount() == Cause::no_superblock);
    CHECK(raw.memory.bytes()[0] == std::byte{0x5a});
}

TEST_CASE("a region that is not ours, of a later version, or cut short is refused unchanged",
          "[volume][fault]") {
    Raw raw{2_MiB};
    auto& first = *reinterpret_cast<media::Superblock*>(raw.memory.bytes().data());
    auto& second =
        *reinterpret_cast<media::Superblock*>(raw.memory.bytes().data() + media::kSuperCopyOffset);
    Cause expected{};
    SECTION("zeros") {
        std::memset(&first, 0, sizeof first);
        std::memset(&second, 0, sizeof second);
        expected = Cause::no_superblock;
    }
    SECTION("both damaged") {
        first.label[0] ^= 1;
        second.label[0] ^= 1;
        expected = Cause::bad_checksum;
    }
    SECTION("an incompatible feature") {
        first.incompatible = second.incompatible = 4;
        expected = Cause::feature_unknown;
    }
    SECTION("a feature that allows reading only") {
        first.read_only = second.read_only = 1;
        expected = Cause::feature_unknown;
    }
    SECTION("longer than the region") {
        first.region_bytes = second.region_bytes = 4_MiB;
        expected = Cause::region_truncated;
    }
    SECTION("another block size") {
        first.block_bytes = second.block_bytes = 512;
        expected = Cause::media_corrupt;
    }
    SECTION("lanes outside") {
        first.lanes_offset = second.lanes_offset = 2_MiB;
        expected = Cause::media_corrupt;
    }
    if (expected == Cause::feature_unknown || expected == Cause::region_truncated ||
        expected == Cause::media_corrupt) {
        reseal_superblock(reinterpret_cast<std::byte*>(&first));
        reseal_superblock(reinterpret_cast<std::byte*>(&second));
    }
    const std::vector<std::byte> before{raw.memory.bytes().begin(), raw.memory.bytes().end()};
    CHECK(raw.cause_of_mount() == expected);
    CHECK(std::ranges::equal(before, raw.memory.bytes()));
}

TEST_CASE("errors name the thing, and nothing changes", "[volume][unit]") {
    Mounted fs{{.bytes = 4_MiB}};
    fs.make_directory("/d");
    fs.make_directory("/d/e");
    fs.make_file("/f", 10, 1);
    const auto before = fs.snapshot();
    const Ino d = fs.ino("/d");
    const Ino e = fs.ino("/d/e");
    const Ino f = fs.ino("/f");
    const std::string long_name(256, 'x');
    CHECK(fs->lookup(kRootIno, "nothing").error().cause == Cause::not_found);
    CHECK(fs->lookup(f, "x").error().cause == Cause::not_a_directory);
    CHECK(fs->lookup(kRootIno, long_name).error().cause == Cause::name_too_long);
    CHECK(fs->make(kRootIno, "f", {.mode = S_IFREG}, kUser).error().cause == Cause::exists);
    CHECK(fs->make(kRootIno, long_name, {.mode = S_IFREG}, kUser).error().cause ==
          Cause::name_too_long);
    CHECK(fs->unlink(kRootIno, "d").error().cause == Cause::is_a_directory);
    CHECK(fs->remove_directory(kRootIno, "f").error().cause == Cause::not_a_directory);
    CHECK(fs->remove_directory(kRootIno, "d").error().cause == Cause::directory_not_empty);
    CHECK(fs->rename(kRootIno, "d", e, "x", 0).error().cause == Cause::would_be_ancestor);
    CHECK(fs->rename(kRootIno, "d", d, "x", 0).error().cause == Cause::would_be_ancestor);
    CHECK(fs->rename(d, "e", kRootIno, "d", 0).error().cause == Cause::directory_not_empty);
    CHECK(fs->rename(kRootIno, "f", d, "e", 0).error().cause == Cause::is_a_directory);
    CHECK(fs->rename(d, "e", kRootIno, "f", 0).error().cause == Cause::not_a_directory);
    CHECK(fs->rename(kRootIno, "f", d, "e", kRenameNoReplace).error().cause == Cause::exists);
    CHECK(fs->rename(kRootIno, "f", d, "new", kRenameExchange).error().cause == Cause::not_found);
    for (const std::uint32_t flags :
         {kRenameExchange | kRenameWhiteout, kRenameExchange | kRenameNoReplace, 8u})
        CHECK(fs->rename(kRootIno, "f", d, "e", flags).error().cause == Cause::invalid_argument);
    CHECK(fs->rename(kRootIno, "f", d, "e", kRenameNoReplace | kRenameWhiteout).error().cause ==
          Cause::exists);
    CHECK(fs->link(d, kRootIno, "x").error().cause == Cause::not_permitted);
    CHECK(fs->read_link(f).error().cause == Cause::invalid_argument);
    CHECK(fs->attribute(f, "user.none").error().cause == Cause::no_attribute);
    CHECK(fs->set_attribute(f, "other.a", {}, SetAttribute::create).error().cause ==
          Cause::not_supported);
    CHECK(fs->set_attribute(f, "user.a", {}, SetAttribute::replace).error().cause ==
          Cause::no_attribute);
    CHECK(fs->set_attribute(f, "user.a", Bytes(65537), SetAttribute::create).error().cause ==
          Cause::attribute_value_large);
    CHECK(test::difference(fs.snapshot(), before) == "");
    fs.check_clean();
}

TEST_CASE("a file that grows piece by piece lies in aligned runs from its third 2 MiB on",
          "[volume][unit]") {
    Mounted fs{{.bytes = 128_MiB}};
    fs.make_file("/other", 100'000, 2);  // what comes next does not begin at a run
    const Ino ino = fs.make_file("/f");
    const std::uint64_t piece = GENERATE(as<std::uint64_t>{}, 4096, 100'000, 1_MiB);
    must(fs->open(ino));
    for (std::uint64_t at = 0; at < 32_MiB; at += piece)
        must(fs->write(ino, at, pattern(at, piece, 1)));
    fs->release(ino);
    for (const ExtentInfo& extent : must(fs->extents(ino, 4_MiB, 28_MiB))) {
        CHECK_FALSE(extent.unwritten);
        CHECK(extent.start_block % 512 == extent.file_block % 512);
    }
    fs.check_clean();
}

// SPDX-License-Identifier: Apache-2.0
//
// What grows large and shrinks again: directories, extent maps, sparse files, extended attributes.
// Everything is counted against a model, and all blocks come back.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <set>
#include <string>

#include "tests/support/model_files.h"
#include "tests/support/mounted.h"
#include "tests/support/operations.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::size_t kScale = 10;
#else
constexpr std::size_t kScale = 1;
#endif

std::string name_of(std::size_t number) { return "entry-" + std::to_string(number); }

std::set<std::string> names_in(Volume& volume, Ino directory) {
    std::set<std::string> names;
    std::uint64_t last = 2;
    must(volume.read_directory(directory, 2, [&](const DirectoryItem& item) {
        if (item.cookie <= last) throw std::runtime_error("cookies do not rise");
        last = item.cookie;
        if (!names.insert(std::string{item.name}).second)
            throw std::runtime_error("a name is there twice");
        return true;
    }));
    return names;
}

TEST_CASE("model: a directory of a hundred thousand entries is made, listed and emptied",
          "[inode][model]") {
    const std::uint64_t seed = seed_of_test("large directory", 1);
    const std::size_t entries = 100'000 / kScale;
    // Links cost no inodes: the directory is what is to be large here.
    Mounted fs{{.bytes = 256_MiB, .poison = false}};
    const std::uint64_t free_at_first = fs->statistics().blocks_free;
    const Ino directory = fs.make_directory("/d");
    const Ino file = fs.make_file("/file", 100, 1);
    std::mt19937_64 random{seed};
    std::vector<std::size_t> order(entries);
    for (std::size_t i = 0; i < entries; ++i) order[i] = i;
    std::ranges::shuffle(order, random);
    for (const std::size_t i : order) must(fs->link(file, directory, name_of(i)));
    fs->forget(file, entries);
    fs.check_clean();
    CHECK(names_in(fs.volume(), directory).size() == entries);
    CHECK(must(fs->attributes(file)).nlink == entries + 1);
    fs.remount();
    for (std::size_t i = 0; i < 1000; ++i) {
        const std::size_t which = random() % entries;
        const Entry entry = must(fs->lookup(directory, name_of(which)));
        fs->forget(entry.attributes.ino, 1);
        CHECK(entry.attributes.ino == file);
    }
    CHECK_FALSE(fs->lookup(directory, name_of(entries)));

    // Half of it in another order, then the rest.
    std::ranges::shuffle(order, random);
    for (std::size_t i = 0; i < entries / 2; ++i) must(fs->unlink(directory, name_of(order[i])));
    fs.check_clean();
    std::set<std::string> left;
    for (std::size_t i = entries / 2; i < entries; ++i) left.insert(name_of(order[i]));
    CHECK(names_in(fs.volume(), directory) == left);
    for (std::size_t i = entries / 2; i < entries; ++i)
        must(fs->unlink(directory, name_of(order[i])));
    CHECK(must(fs->attributes(directory)).blocks == 0);
    fs.remove_all();
    fs.check_clean();
    CHECK(fs->statistics().blocks_free == free_at_first);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // a minute and more
TEST_CASE("model: a file has a million names and no more", "[inode][model]") {
    constexpr std::size_t kNames = 1u << 20;
    Mounted fs{{.bytes = 256_MiB, .poison = false}};
    const Ino file = fs.make_file("/entry-0", 100, 1);
    for (std::size_t i = 1; i < kNames; ++i) must(fs->link(file, kRootIno, name_of(i)));
    fs->forget(file, kNames - 1);
    const auto refused = fs->link(file, kRootIno, "one too many");
    REQUIRE(!refused);
    CHECK(refused.error().number() == EMLINK);
    CHECK(must(fs->attributes(file)).nlink == kNames);
    must(fs->unlink(kRootIno, name_of(7)));
    must(fs->link(file, kRootIno, "one less, one more"));
    fs->forget(file, 1);
    fs.check_clean();
}
#endif

TEST_CASE("model: ten thousand files come and go, and with them their inodes", "[inode][model]") {
    const std::size_t files = 10'000 / kScale;
    Mounted fs{{.bytes = 64_MiB, .poison = false}};
    const std::uint64_t free_at_first = fs->statistics().blocks_free;
    std::set<std::uint64_t> seen;
    for (int round = 0; round < 2; ++round) {
        const Ino directory = fs.make_directory("/d");
        for (std::size_t i = 0; i < files; ++i) {
            NewInode inode;
            inode.mode = S_IFREG | 0600;
            const Entry made = must(fs->make(directory, name_of(i), inode, {}));
            fs->forget(made.attributes.ino, 1);
            const std::uint64_t low = made.attributes.generation & 0xffffffff;
            CHECK(low != 0);
            if (!seen.insert(made.attributes.generation).second) FAIL("a generation came twice");
        }
        CHECK(fs->statistics().inodes == files + 2);
        fs.remount();
        fs.check_clean();
        CHECK(fs->statistics().inodes == files + 2);
        fs.remove_all();
        fs.check_clean();
        CHECK(fs->statistics().inodes == 1);
        CHECK(fs->statistics().blocks_free == free_at_first);
    }
}

TEST_CASE("model: a file of many small extents is filled, cut and filled again", "[inode][model]") {
    const std::uint64_t seed = seed_of_test("many extents", 1);
    const std::size_t pieces = 20'000 / kScale;
    Mounted fs{{.bytes = 256_MiB, .poison = false}};
    const std::uint64_t free_at_first = fs->statistics().blocks_free;
    std::mt19937_64 random{seed};
    const Ino file = fs.make_file("/file");
    std::map<std::uint64_t, std::uint64_t> written;  // block -> seed
    const auto check_file = [&] {
        fs.check_clean();
        const auto extents = must(fs->extents(file, 0, kFileBytesMax));
        std::uint64_t blocks = 0;
        for (const ExtentInfo& extent : extents)
            if (!extent.unwritten) blocks += extent.blocks;
        CHECK(blocks == written.size());
        for (int i = 0; i < 500 && !written.empty(); ++i) {
            auto at = written.lower_bound(random() % (3 * pieces));
            if (at == written.end()) at = written.begin();
            const std::uint64_t offset = at->first * kBlockBytes;
            const Bytes found = fs.read(file, offset + 100, 300);
            if (found != pattern(offset + 100, 300, at->second))
                FAIL("block " << at->first << " holds something else");
        }
    };
    const auto fill = [&](std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint64_t block = random() % (3 * pieces);
            const std::uint64_t one = random() % 1000;
            const std::uint64_t offset = block * kBlockBytes;
            fs.write(file, offset, pattern(offset, kBlockBytes, one));
            written[block] = one;
        }
    };
    fill(pieces);
    check_file();
    const std::uint64_t half = 3 * pieces / 2;
    fs.truncate(file, half * kBlockBytes);
    written.erase(written.lower_bound(half), written.end());
    check_file();
    fill(pieces / 2);
    fs.remount();
    check_file();
    // Holes between all pieces filled: extents join.
    for (std::uint64_t block = 0; block < 3 * pieces; block += 200) {
        const std::uint64_t offset = block * kBlockBytes;
        fs.write(file, offset, pattern(offset, 200 * kBlockBytes, 5));
        for (std::uint64_t b = block; b < block + 200; ++b) written[b] = 5;
    }
    check_file();
    fs.truncate(file, 0);
    CHECK(must(fs->attributes(file)).blocks == 0);
    fs.remove_all();
    CHECK(fs->statistics().blocks_free == free_at_first);
}

TEST_CASE("model: a file of several groups is cut in steps", "[inode][model]") {
    // One extent may be longer than what one change frees.
    constexpr std::uint64_t kSize = 330_MiB;
    Mounted fs{{.bytes = 400_MiB, .poison = false}};
    const std::uint64_t free_at_first = fs->statistics().blocks_free;
    const Ino file = fs.make_file("/file");
    const Bytes piece = pattern(0, 1_MiB, 1);
    for (std::uint64_t at = 0; at < kSize; at += piece.size()) fs.write(file, at, piece);
    fs.check_clean();
    fs.truncate(file, 20_MiB + 1);
    fs.check_clean();
    CHECK(must(fs->attributes(file)).blocks <= blocks_of(20_MiB + 1) + 2);
    CHECK(fs.read(file, 19_MiB, 1_MiB) == piece);
    for (std::uint64_t at = 20_MiB; at < kSize; at += piece.size()) fs.write(file, at, piece);
    must(fs->unlink(kRootIno, "file"));
    must(fs->finish_pending());
    fs.check_clean();
    CHECK(fs->statistics().blocks_free == free_at_first);
}

TEST_CASE("model: a sparse file of sixteen terabytes", "[inode][model]") {
    const std::uint64_t seed = seed_of_test("sparse", 1);
    Mounted fs{{.bytes = 32_MiB, .poison = true}};
    const std::uint64_t free_at_first = fs->statistics().blocks_free;
    std::mt19937_64 random{seed};
    Runner runner{fs};
    ModelFiles model;
    const auto run = [&](const Operation& operation) {
        const int expected = model.apply(operation);
        const auto done = runner.run(operation);
        INFO(operation.text());
        REQUIRE((done ? 0 : done.error().number()) == expected);
    };
    run(operations::create("/f"));
    run(operations::write("/f", kFileBytesMax - 5000, 5000, 1));
    run(operations::write("/f", kFileBytesMax - 10, 20, 2));  // short
    run(operations::write("/f", kFileBytesMax, 1, 2));
    run(operations::truncate("/f", kFileBytesMax + 1));
    for (std::size_t i = 0; i < 2000 / kScale; ++i) {
        const std::uint64_t at = random() % kFileBytesMax;
        if (i % 50 == 49)
            run(operations::truncate("/f", std::max(at, kFileBytesMax / 2)));
        else
            run(operations::write("/f", at, 1 + random() % 9000, i));
    }
    CHECK(difference(fs.snapshot(), model.snapshot()) == "");
    fs.check_clean();
    fs.remount();
    CHECK(difference(fs.snapshot(), model.snapshot()) == "");
    run(operations::truncate("/f", kFileBytesMax));
    run(operations::truncate("/f", 1));
    CHECK(difference(fs.snapshot(), model.snapshot()) == "");
    fs.remove_all();
    fs.check_clean();
    CHECK(fs->statistics().blocks_free == free_at_first);
}

TEST_CASE("model: extended attributes up to their limits", "[inode][model]") {
    const std::uint64_t seed = seed_of_test("attributes", 1);
    Mounted fs{{.bytes = 16_MiB}};
    const std::uint64_t free_at_first = fs->statistics().blocks_free;
    Runner runner{fs};
    ModelFiles model;
    std::mt19937_64 random{seed};
    std::size_t succeeded = 0;
    const auto run = [&](const Operation& operation) {
        const int expected = model.apply(operation);
        const auto done = runner.run(operation);
        INFO(operation.text());
        REQUIRE((done ? 0 : done.error().number()) == expected);
        succeeded += expected == 0 ? 1 : 0;
    };
    run(operations::create("/f"));
    run(operations::make_directory("/d"));
    run(operations::set_attribute("/f", "user.most", 65536));
    run(operations::set_attribute("/f", "user.empty", 0));
    for (std::size_t i = 0; i < 2000 / kScale; ++i) {
        const std::string name =
            "trusted." + std::string(1 + random() % 240, static_cast<char>('a' + random() % 3));
        const std::string path = random() % 2 == 0 ? "/f" : "/d";
        if (random() % 3 == 0)
            run(operations::remove_attribute(path, name));
        else
            run(operations::set_attribute(path, name,
                                          random() % 4 == 0 ? random() % 65537 : random() % 200, i,
                                          static_cast<SetAttribute>(random() % 3)));
        if (i % 200 == 0) {
            CHECK(difference(fs.snapshot(), model.snapshot()) == "");
            fs.check_clean();
            fs.remount();
        }
    }
    const Ino file = fs.ino("/f");
    CHECK(fs->set_attribute(file, "user.x", Bytes(65537), SetAttribute::create_or_replace)
              .error()
              .cause == Cause::attribute_value_large);
    CHECK(succeeded > 500 / kScale);
    CHECK(difference(fs.snapshot(), model.snapshot()) == "");
    fs.remove_all();
    CHECK(fs->statistics().blocks_free == free_at_first);
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
//
// Trees of one inode, against std::map. The inode is a staged copy that lives in the test.
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <map>
#include <random>

#include "fs/inode/directory.h"
#include "fs/inode/extended_attributes.h"
#include "fs/inode/extents.h"
#include "tests/support/layers.h"
#include "tests/support/seed.h"

using namespace pinfs;
using namespace pinfs::unit_literals;
using inode::Directory;
using inode::Extents;
using inode::Mapping;
using inode::NameHash;
using test::Layers;
using test::must;

namespace {

media::Inode new_inode(std::uint32_t mode) {
    media::Inode inode{};
    inode.ino = 2;
    inode.generation = 77;
    inode.mode = mode;
    inode.nlink = 1;
    return inode;
}

/// One change of `inode` that is committed; the inode follows only then.
template <class Edit>
void commit(Layers& layers, media::Inode& inode, const Edit& edit) {
    auto change = layers.change(space::Reserve::use);
    media::Inode edited = inode;
    edit(change, edited);
    must(change.commit());
    inode = edited;
}

}  // namespace

TEST_CASE("a directory holds what a map holds, in every size, and shrinks back into the inode",
          "[inode][model]") {
    const auto seed = test::seed_of_test("directory", 5);
    std::mt19937_64 random{seed};
    const unsigned bits = GENERATE(4u, 54u);
    Layers layers{32_MiB};
    const std::uint64_t free = layers.allocator().free_blocks();
    const NameHash hash{.seed = seed, .bits = bits};
    media::Inode inode = new_inode(S_IFDIR | 0755);
    std::map<std::string, std::uint64_t> expected;
    // Few hash bits: 16 hashes of 256 collisions each.
    const std::size_t most = bits == 4 ? 600 : 5000;
    while (expected.size() < most) {
        const std::string name = "n" + std::to_string(random()) + std::string(random() % 40, 'x');
        if (expected.contains(name)) continue;
        const std::uint64_t ino = random() % 1000 + 1;
        commit(layers, inode, [&](space::Change& change, media::Inode& edited) {
            must(Directory{change, hash, edited}.add(name, Ino{ino}, S_IFREG));
        });
        expected[name] = ino;
    }
    CHECK(inode.map_level >= (bits == 4 ? 1 : 2));
    const auto verify = [&] {
        const Directory directory{layers.units(), hash, inode};
        for (const auto& [name, ino] : expected) {
            const auto found = must(directory.find(name));
            REQUIRE(found);
            REQUIRE(found->ino == Ino{ino});
        }
        std::size_t seen = 0;
        std::uint64_t last = 0;
        std::uint64_t bytes = 0;
        must(directory.for_each(0, [&](const inode::Name& entry) {
            REQUIRE(entry.key > last);
            last = entry.key;
            REQUIRE(expected.contains(std::string{entry.name}));
            bytes += sizeof(media::DirectoryEntry) + entry.name.size();
            ++seen;
            return true;
        }));
        REQUIRE(seen == expected.size());
        REQUIRE(inode.size == bytes);
        REQUIRE(!must(directory.find("not there")));
    };
    verify();
    while (expected.size() > 1) {
        auto victim = expected.begin();
        std::advance(victim,
                     static_cast<long>(random() % std::min<std::size_t>(64, expected.size())));
        commit(layers, inode, [&](space::Change& change, media::Inode& edited) {
            Directory directory{change, hash, edited};
            const auto found = must(directory.find(victim->first));
            must(directory.remove(found->key, victim->first));
        });
        expected.erase(victim);
        if (expected.size() % 500 == 0) verify();
    }
    verify();
    CHECK(inode.map_level <= 1);
    commit(layers, inode, [&](space::Change& change, media::Inode& edited) {
        Directory directory{change, hash, edited};
        const auto& name = expected.begin()->first;
        must(directory.remove(must(directory.find(name))->key, name));
    });
    CHECK(inode.map_level == 0);
    CHECK(inode.size == 0);
    CHECK(inode.blocks == 0);
    CHECK(layers.allocator().free_blocks() == free);
}

TEST_CASE("the 257th name of one hash is refused, the others stay", "[inode][unit]") {
    Layers layers{16_MiB};
    const NameHash hash{.seed = 1, .bits = 1};
    media::Inode inode = new_inode(S_IFDIR | 0755);
    std::size_t added = 0;
    for (int i = 0; i < 1000; ++i) {
        auto change = layers.change();
        media::Inode edited = inode;
        const auto done =
            Directory{change, hash, edited}.add("name" + std::to_string(i), Ino{3}, S_IFREG);
        if (!done) {
            CHECK(done.error().cause == Cause::name_collisions);
            continue;
        }
        must(change.commit());
        inode = edited;
        ++added;
    }
    CHECK(added == 512);
}

TEST_CASE("names that none may have are refused", "[inode][unit]") {
    using namespace std::string_view_literals;
    CHECK(inode::check_name(std::string(256, 'x')).error().cause == Cause::name_too_long);
    for (const auto name : {""sv, "."sv, ".."sv, "a/b"sv, "a\0b"sv})
        CHECK(inode::check_name(name).error().cause == Cause::invalid_argument);
    CHECK(inode::check_name(std::string(255, 'x')));
}

TEST_CASE("an extent map answers as an array of blocks does", "[inode][model]") {
    const auto seed = test::seed_of_test("extents", 6);
    std::mt19937_64 random{seed};
    constexpr std::uint64_t kBlocks = 3000;
    Layers layers{64_MiB};
    const std::uint64_t free = layers.allocator().free_blocks();
    media::Inode inode = new_inode(S_IFREG | 0644);
    struct Block {
        std::uint64_t start = 0;
        bool unwritten = false;
        bool operator==(const Block&) const = default;
    };
    std::vector<Block> expected(kBlocks);
    const auto verify = [&] {
        std::vector<Block> found;
        std::uint64_t at = 0;
        for (const Mapping& piece : must(Extents{layers.units(), inode}.map(0, kBlocks))) {
            REQUIRE(piece.file_block == at);
            for (std::uint64_t i = 0; i < piece.blocks; ++i)
                found.push_back({piece.is_hole() ? 0 : piece.start_block + i, piece.unwritten});
            at = piece.end();
        }
        REQUIRE(found == expected);
    };
    std::uint64_t deepest = 0;
    for (int step = 0; step < 4000; ++step) {
        const std::uint64_t begin = random() % kBlocks;
        const std::uint64_t end = std::min(kBlocks, begin + random() % 6 + 1);
        commit(layers, inode, [&](space::Change& change, media::Inode& edited) {
            Extents extents{change, edited};
            switch (random() % 4) {
                case 0:
                case 1: {  // fill holes one by one
                    const bool unwritten = random() % 2 == 0;
                    for (std::uint64_t b = begin; b < end; ++b) {
                        if (expected[b].start != 0) continue;
                        const auto run =
                            must(change.allocate({.blocks = 1, .goal = random() % 16000}));
                        must(extents.add({.file_block = b,
                                          .blocks = 1,
                                          .start_block = run[0].begin,
                                          .unwritten = unwritten}));
                        ++edited.blocks;
                        expected[b] = {run[0].begin, unwritten};
                    }
                    break;
                }
                case 2:
                    for (std::uint64_t b = begin; b < end; ++b)
                        if (expected[b].unwritten) {
                            must(extents.mark(b, b + 1, false));
                            expected[b].unwritten = false;
                        }
                    break;
                default:
                    if (random() % 3 != 0) break;
                    REQUIRE(must(extents.remove_some(begin, end)));
                    for (std::uint64_t b = begin; b < end; ++b) expected[b] = {};
            }
        });
        deepest = std::max<std::uint64_t>(deepest, inode.map_level);
        if (step % 250 == 0) verify();
    }
    verify();
    CHECK(deepest >= 2);
    for (bool done = false; !done;)
        commit(layers, inode, [&](space::Change& change, media::Inode& edited) {
            done = must(Extents{change, edited}.remove_some(0, kBlocks));
        });
    CHECK(inode.blocks == 0);
    CHECK(inode.map_level == 0);
    CHECK(layers.allocator().free_blocks() == free);
}

TEST_CASE("neighbouring extents become one, in either order", "[inode][unit]") {
    Layers layers{16_MiB};
    media::Inode inode = new_inode(S_IFREG | 0644);
    commit(layers, inode, [&](space::Change& change, media::Inode& edited) {
        const std::uint64_t start = must(change.allocate({.blocks = 3}))[0].begin;
        Extents extents{change, edited};
        for (const std::uint64_t i : {0, 2, 1})
            must(extents.add({.file_block = 10 + i, .blocks = 1, .start_block = start + i}));
        edited.blocks += 3;
    });
    const auto pieces = must(Extents{layers.units(), inode}.map(10, 13));
    CHECK(pieces.size() == 1);
    CHECK(pieces[0].blocks == 3);
}

TEST_CASE("attributes of every size are kept, replaced and removed", "[inode][unit]") {
    Layers layers{16_MiB};
    const std::uint64_t free = layers.allocator().free_blocks();
    media::Inode inode = new_inode(S_IFREG | 0644);
    const auto set = [&](std::string_view name, std::size_t bytes, int fill) {
        commit(layers, inode, [&](space::Change& change, media::Inode& edited) {
            const std::vector<std::byte> value(bytes, static_cast<std::byte>(fill));
            const std::span<const std::byte> view{value};
            const auto old = must(inode::read_attributes(layers.units(), edited));
            must(inode::write_attributes(change, edited,
                                         must(inode::with_attribute(old, name, &view))));
        });
    };
    const auto bytes_of = [&](std::string_view name) {
        std::size_t bytes = SIZE_MAX;
        must(inode::for_each_attribute(must(inode::read_attributes(layers.units(), inode)),
                                       [&](std::string_view other, std::span<const std::byte> v) {
                                           if (other == name) bytes = v.size();
                                           return true;
                                       }));
        return bytes;
    };
    set("user.a", 10, 1);
    set("user.large", 65536, 2);
    set("user.b", 4032 - 14, 3);
    CHECK(bytes_of("user.a") == 10);
    CHECK(bytes_of("user.large") == 65536);
    CHECK(inode.blocks == 18);
    set("user.large", 0, 2);
    CHECK(bytes_of("user.large") == 0);
    CHECK(bytes_of("user.c") == SIZE_MAX);
    commit(layers, inode, [&](space::Change& change, media::Inode& edited) {
        must(inode::free_attributes(change, edited));
    });
    CHECK(inode.blocks == 0);
    CHECK(layers.allocator().free_blocks() == free);
}

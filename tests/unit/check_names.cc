// SPDX-License-Identifier: Apache-2.0
//
// What is wrong in directories and between them, each fault made on purpose with every checksum
// right: the judge names it by its own kind, at the right inode.
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <vector>

#include "fs/check/check.h"
#include "tests/support/damage.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using media::kBlockBytes;

// clang-format off
const std::vector<Case>& name_cases() {
    static const std::vector<Case> cases{
    {"a link count too high", Kind::link_count,
     [](Sample& s) { change_inode(s, s.linked, [](media::Inode& i) { i.nlink = 3; }); },
     [](const Sample& s) { return s.linked; }},
    {"a link count too low", Kind::link_count,
     [](Sample& s) { change_inode(s, s.linked, [](media::Inode& i) { i.nlink = 1; }); },
     [](const Sample& s) { return s.linked; }},
    {"a file with entries whose link count is 0", Kind::link_count,
     [](Sample& s) { change_inode(s, s.linked, [](media::Inode& i) { i.nlink = 0; }); }},
    {"a directory's link count", Kind::link_count,
     [](Sample& s) { change_inode(s, s.small_directory, [](media::Inode& i) { i.nlink = 2; }); },
     [](const Sample& s) { return s.small_directory; }},
    {"the root's link count", Kind::link_count,
     [](Sample& s) { change_inode(s, HandImage::kRoot, [](media::Inode& i) { i.nlink = 0; }); },
     [](const Sample&) { return HandImage::kRoot; }},
    {"an orphan with a link count", Kind::inode_unreachable,
     [](Sample& s) { change_inode(s, s.orphan, [](media::Inode& i) { i.nlink = 1; }); },
     [](const Sample& s) { return s.orphan; }},
    {"a directory's parent", Kind::directory_parent,
     [](Sample& s) { change_inode(s, s.subdirectory, [](media::Inode& i) { i.parent = 1; }); },
     [](const Sample& s) { return s.subdirectory; }},
    {"the root's parent", Kind::directory_parent,
     [](Sample& s) { change_inode(s, HandImage::kRoot, [&](media::Inode& i) { i.parent = s.directory; }); },
     [](const Sample&) { return HandImage::kRoot; }},
    {"the root is a file", Kind::root_directory,
     [](Sample& s) { change_inode(s, HandImage::kRoot, [](media::Inode& i) { i.mode = S_IFREG; }); }},
    {"an entry for no inode", Kind::entry_dangling,
     [](Sample& s) { change_inline_entry(s, s.small_directory, s.pipe, [](media::DirectoryEntry& e) { e.ino = 32; }); },
     [](const Sample& s) { return s.small_directory; }},
    {"an entry for inode 0", Kind::entry_dangling,
     [](Sample& s) { change_inline_entry(s, s.small_directory, s.pipe, [](media::DirectoryEntry& e) { e.ino = 0; }); }},
    {"an entry for a number far beyond all", Kind::entry_dangling,
     [](Sample& s) { change_inline_entry(s, s.small_directory, s.pipe, [](media::DirectoryEntry& e) { e.ino = ~std::uint64_t{0}; }); }},
    {"an entry of another type", Kind::entry_type,
     [](Sample& s) { change_inline_entry(s, s.small_directory, s.pipe, [](media::DirectoryEntry& e) { e.type = 8; }); },
     [](const Sample& s) { return s.small_directory; }},
    {"nobody names a file", Kind::inode_unreachable,
     [](Sample& s) { change_inline_entry(s, s.small_directory, s.pipe, [&](media::DirectoryEntry& e) { e.ino = s.device; }); },
     [](const Sample& s) { return s.pipe; }},
    {"a directory has two names", Kind::directory_two_names,
     [](Sample& s) { change_inline_entry(s, s.small_directory, s.pipe, [&](media::DirectoryEntry& e) { e.ino = s.directory; }); }},
    {"the root has a name", Kind::directory_two_names,
     [](Sample& s) { change_inline_entry(s, s.small_directory, s.pipe, [&](media::DirectoryEntry& e) { e.ino = HandImage::kRoot; }); },
     [](const Sample&) { return HandImage::kRoot; }},
    {"a directory in itself", Kind::directory_loop,
     [](Sample& s) { change_inline_entry(s, s.small_directory, s.subdirectory, [&](media::DirectoryEntry& e) { e.ino = s.small_directory; });
                     change_inode(s, HandImage::kRoot, [](media::Inode& i) { i.map_level = 0; i.map_bytes = 0; std::memset(i.inline_map, 0, sizeof i.inline_map); }); },
     [](const Sample& s) { return s.small_directory; }},
    {"an orphan directory with an entry", Kind::orphan_not_empty,
     [](Sample& s) {
         const media::Inode of = s.image.at<media::Inode>(s.image.inode_at(s.small_directory));
         change_inode(s, s.orphan_directory, [&](media::Inode& i) {
             i.size = of.size;
             i.map_bytes = of.map_bytes;
             std::memcpy(i.inline_map, of.inline_map, sizeof i.inline_map);
         });
     }, [](const Sample& s) { return s.orphan_directory; }},
    {"a key that is not the name's", Kind::entry_hash,
     [](Sample& s) {
         change_inode(s, s.small_directory, [](media::Inode& i) { i.inline_map[18] ^= 1; });
     }, [](const Sample& s) { return s.small_directory; }},
    {"a key below the least", Kind::entry_damaged,
     [](Sample& s) {
         media::DirectoryEntry first;
         std::memcpy(&first, s.image.at<media::Inode>(s.image.inode_at(s.small_directory)).inline_map, sizeof first);
         change_inline_entry(s, s.small_directory, first.ino, [](media::DirectoryEntry& e) { e.key = 255; });
     }},
    {"entries out of order", Kind::tree_order,
     [](Sample& s) {
         media::DirectoryEntry first;
         std::memcpy(&first, s.image.at<media::Inode>(s.image.inode_at(s.small_directory)).inline_map, sizeof first);
         change_inline_entry(s, s.small_directory, first.ino, [](media::DirectoryEntry& e) { e.key = (std::uint64_t{1} << 62) - 1; });
     }},
    {"entries that end within a name", Kind::entry_damaged,
     [](Sample& s) { change_inode(s, s.small_directory, [](media::Inode& i) { i.inline_map[17] = 200; }); }},
    {"entries that end within an entry", Kind::entry_damaged,
     [](Sample& s) {
         const std::uint64_t leaf = s.image.node_at(s.directory, 1, 0);
         const EntryPlace last = entry_place(s.image, leaf, 2);
         s.image.at<media::BlockHeader>(leaf).used_bytes = static_cast<std::uint32_t>(last.at + 5);
         s.image.seal(leaf, kBlockBytes);
     }},
    };
    return cases;
}
// clang-format on

TEST_CASE("check: faults of the name space are found", "[check][corruption]") { run(name_cases()); }

TEST_CASE("check: a fault that stands alone is found alone", "[check][corruption]") {
    Sample sample;
    const auto only = [&](Kind kind) {
        const auto report = check(sample.image.region());
        REQUIRE(report);
        INFO(report->text());
        REQUIRE(report->findings.size() == 1);
        CHECK(name_of(report->findings[0].kind) == name_of(kind));
    };
    SECTION("a link count") {
        change_inode(sample, sample.linked, [](media::Inode& inode) { ++inode.nlink; });
        only(Kind::link_count);
    }
    SECTION("a parent") {
        change_inode(sample, sample.subdirectory, [](media::Inode& inode) { inode.parent = 1; });
        only(Kind::directory_parent);
    }
    SECTION("a total") {
        sample.image.change<media::LaneState>(sample.image.lane_at(0) + media::kLaneStateOffset,
                                              [](media::LaneState& lane) { ++lane.inodes; });
        only(Kind::total_inodes);
    }
    SECTION("a pending bit") {
        sample.image.change<media::TableIndex>(sample.image.inode_index_at(1),
                                               [](media::TableIndex& index) {
                                                   for (auto& entry : index.entries) {
                                                       if ((entry & media::kTableHasPending) == 0)
                                                           continue;
                                                       entry &= ~media::kTableHasPending;
                                                       break;
                                                   }
                                               });
        only(Kind::table_pending_bit);
    }
}

TEST_CASE("check: two entries of one name are found, also among names that share a hash",
          "[check][corruption]") {
    const unsigned bits = GENERATE(54u, 2u);
    HandImage image({.name_hash_bits = bits, .leaf_bytes_max = 100});
    const std::uint64_t directory = image.add(1, "directory", S_IFDIR | 0755);
    for (int i = 0; i < 60; ++i) image.add(directory, "name " + std::to_string(i), S_IFREG);
    const std::uint64_t twice = image.add(directory, "twice", S_IFREG);
    image.link(directory, "twice", twice);
    image.write();
    const auto report = check(image.region());
    REQUIRE(report);
    INFO(report->text());
    CHECK(report->findings.size() == 1);
    CHECK(report->has(Kind::entry_duplicate));
}

TEST_CASE("check: names that none may have are found", "[check][corruption]") {
    const std::string_view name =
        GENERATE(std::string_view("."), std::string_view(".."), std::string_view("a/b"),
                 std::string_view("a\0b", 3), std::string_view(""));
    HandImage image({});
    image.add(1, name, S_IFREG);
    image.write();
    const auto report = check(image.region());
    REQUIRE(report);
    INFO(report->text());
    CHECK(report->findings.size() == 1);
    CHECK(report->has(Kind::entry_name));
}

TEST_CASE("check: a loop of directories is found once", "[check][corruption]") {
    HandImage image({});
    const std::uint64_t a = image.add_unnamed(S_IFDIR);
    const std::uint64_t b = image.add(a, "b", S_IFDIR);
    const std::uint64_t c = image.add(b, "c", S_IFDIR);
    image.link(c, "a", a);
    image.inode(a).parent = c;
    for (const std::uint64_t ino : {a, b, c}) image.inode(ino).nlink = 3;
    image.add(c, "below the loop", S_IFDIR);
    ++image.inode(c).nlink;
    image.inode(c).nlink = 4;
    image.write();
    const auto report = check(image.region());
    REQUIRE(report);
    INFO(report->text());
    CHECK(report->findings.size() == 1);
    CHECK(report->has(Kind::directory_loop));
}

}  // namespace

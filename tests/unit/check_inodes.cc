// SPDX-License-Identifier: Apache-2.0
//
// What is wrong in inodes, their trees and attributes, each fault made on purpose with every
// checksum right: the judge names it by its own kind, at the right inode. And trees that go in
// circles end.
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <vector>

#include "fs/check/check.h"
#include "fs/format/access_list.h"
#include "tests/support/damage.h"
#include "tests/support/operation.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using media::kBlockBytes;

// clang-format off
const std::vector<Case>& inode_cases() {
    static const std::vector<Case> cases{
    {"a mode without a type", Kind::inode_mode,
     [](Sample& s) { change_inode(s, s.pipe, [](media::Inode& i) { i.mode = 0030644; }); },
     [](const Sample& s) { return s.pipe; }},
    {"a mode of more than 16 bits", Kind::inode_mode,
     [](Sample& s) { change_inode(s, s.pipe, [](media::Inode& i) { i.mode |= 1u << 16; }); }},
    {"a generation at the limit", Kind::inode_generation,
     [](Sample& s) { change_inode(s, s.pipe, [](media::Inode& i) { i.generation = 0x1'0000'1000; }); }},
    {"a generation of 0", Kind::inode_generation,
     [](Sample& s) { change_inode(s, s.pipe, [](media::Inode& i) { i.generation = 0; }); }},
    {"a directory being cut", Kind::inode_flags,
     [](Sample& s) { change_inode(s, s.subdirectory, [](media::Inode& i) { i.flags |= media::kInodeCutting; }); }},
    {"a link being cut", Kind::inode_flags,
     [](Sample& s) { change_inode(s, s.long_link, [](media::Inode& i) { i.flags |= media::kInodeCutting; }); }},
    {"a pipe in DAX mode", Kind::inode_flags,
     [](Sample& s) { change_inode(s, s.pipe, [](media::Inode& i) { i.flags |= media::kInodeDax; }); }},
    {"a file that passes a project on", Kind::inode_flags,
     [](Sample& s) { change_inode(s, s.cut, [](media::Inode& i) { i.flags |= media::kInodeProjectInherit; }); }},
    {"a cut before the end of the file", Kind::inode_cut,
     [](Sample& s) { change_inode(s, s.cut, [](media::Inode& i) { i.size = kBlockBytes + 1; }); },
     [](const Sample& s) { return s.cut; }},
    {"a pipe with a size", Kind::inode_size,
     [](Sample& s) { change_inode(s, s.pipe, [](media::Inode& i) { i.size = 1; }); }},
    {"a pipe with a map", Kind::inode_map,
     [](Sample& s) { change_inode(s, s.pipe, [](media::Inode& i) { i.map_bytes = 24; i.inline_map[3] = 1; }); }},
    {"a directory's size", Kind::inode_size,
     [](Sample& s) { change_inode(s, s.directory, [](media::Inode& i) { ++i.size; }); },
     [](const Sample& s) { return s.directory; }},
    {"a directory's blocks", Kind::inode_blocks,
     [](Sample& s) { change_inode(s, s.directory, [](media::Inode& i) { ++i.blocks; }); },
     [](const Sample& s) { return s.directory; }},
    {"a link without a target", Kind::inode_size,
     [](Sample& s) { change_inode(s, s.short_link, [](media::Inode& i) { i.size = 0; }); }},
    {"a short link whose size is not what is inline", Kind::inode_map,
     [](Sample& s) { change_inode(s, s.short_link, [](media::Inode& i) { --i.size; }); }},
    {"a short link with a zero byte", Kind::symbolic_link,
     [](Sample& s) { change_inode(s, s.short_link, [](media::Inode& i) { i.inline_map[2] = 0; }); }},
    {"a link of 4096 bytes", Kind::inode_size,
     [](Sample& s) { change_inode(s, s.long_link, [](media::Inode& i) { i.size = 4096; }); }},
    {"a long link with a zero byte", Kind::symbolic_link,
     [](Sample& s) {
         auto& inode = s.image.at<media::Inode>(s.image.inode_at(s.long_link));
         s.image.at<char>(inline_extent(inode, 0).start_block * kBlockBytes + 3999) = 0;
     }, [](const Sample& s) { return s.long_link; }},
    {"a long link in an unwritten block", Kind::symbolic_link,
     [](Sample& s) { change_inode(s, s.long_link, [](media::Inode& i) { inline_extent(i, 0).flags = 1; }); }},
    {"inline bytes behind the map", Kind::inode_map,
     [](Sample& s) { change_inode(s, s.file, [](media::Inode& i) { i.inline_map[95] = 1; }); }},
    {"a root of 16 bytes", Kind::inode_map,
     [](Sample& s) { change_inode(s, s.tree_file, [](media::Inode& i) { i.map_bytes = 16; }); }},
    {"attributes that go round in a circle", Kind::block_shared,
     [](Sample& s) {
         s.image.change<media::BlockHeader>(s.image.attributes_at(s.attributed, 1), [&](media::BlockHeader& header) {
             header.used_bytes = media::kPayloadBytes;
             header.next = s.image.attributes_at(s.attributed, 0);
         });
         s.image.seal(s.image.attributes_at(s.attributed, 1), kBlockBytes);
     }, [](const Sample& s) { return s.attributed; }},
    {"attributes that are longer than the inode says", Kind::attributes_damaged,
     [](Sample& s) { change_inode(s, s.attributed, [](media::Inode& i) { --i.attributes_bytes; }); }},
    {"attributes that end within one", Kind::attribute_entry,
     [](Sample& s) {
         change_in_node<media::AttributeEntry>(s.image, s.image.attributes_at(s.attributed, 0), 0,
                                               [](media::AttributeEntry& entry) { entry.value_bytes += 100; });
     }, [](const Sample& s) { return s.attributed; }},
    };
    return cases;
}

const std::vector<Case>& tree_cases() {
    static const std::vector<Case> cases{
    {"extents out of order", Kind::tree_order,
     [](Sample& s) {
         change_extent(s.image, s.image.node_at(s.tree_file, 1, 1), 1, [&](media::Extent& extent) {
             extent.file_block = s.image.copy_at<media::Extent>(payload_of(s.image.node_at(s.tree_file, 1, 1))).file_block;
         });
     }, [](const Sample& s) { return s.tree_file; }},
    {"extents that overlap", Kind::extent_overlap,
     [](Sample& s) { change_inode(s, s.file, [](media::Inode& i) { inline_extent(i, 1).file_block = 1; }); },
     [](const Sample& s) { return s.file; }},
    {"extents that overlap from leaf to leaf", Kind::extent_overlap,
     [](Sample& s) {
         const std::uint64_t leaf = s.image.node_at(s.tree_file, 1, 0);
         const std::size_t last = s.image.at<media::BlockHeader>(leaf).used_bytes / sizeof(media::Extent) - 1;
         change_extent(s.image, leaf, last, [](media::Extent& extent) { extent.blocks = 4; });
     }},
    {"neighbours that should be one", Kind::extent_uncoalesced,
     [](Sample& s) {
         change_inode(s, s.file, [](media::Inode& i) {
             inline_extent(i, 1).file_block = 2;
             inline_extent(i, 1).start_block = inline_extent(i, 0).start_block + 2;
             inline_extent(i, 1).flags = 0;
         });
     }},
    {"an extent that ends beyond the largest file", Kind::extent_field,
     [](Sample& s) { change_inode(s, s.file, [](media::Inode& i) { inline_extent(i, 1).file_block = (std::uint64_t{1} << 32) - 4; }); }},
    {"an extent that ends beyond the region", Kind::block_outside,
     [](Sample& s) { change_inode(s, s.file, [](media::Inode& i) { inline_extent(i, 1).start_block = 1020; }); }},
    {"an extent at block 0", Kind::block_outside,
     [](Sample& s) { change_inode(s, s.file, [](media::Inode& i) { inline_extent(i, 1).start_block = 0; }); }},
    {"a leaf of broken extents", Kind::extent_field,
     [](Sample& s) {
         const std::uint64_t leaf = s.image.node_at(s.tree_file, 1, 0);
         s.image.at<media::BlockHeader>(leaf).used_bytes -= 1;
         s.image.seal(leaf, kBlockBytes);
     }},
    {"an index of broken entries", Kind::tree_node_damaged,
     [](Sample& s) {
         const std::uint64_t node = s.image.node_at(s.tree_file, 2, 0);
         s.image.at<media::BlockHeader>(node).used_bytes -= 1;
         s.image.seal(node, kBlockBytes);
     }},
    {"an empty leaf", Kind::tree_node_empty,
     [](Sample& s) {
         const std::uint64_t leaf = s.image.node_at(s.tree_file, 1, 0);
         s.image.at<media::BlockHeader>(leaf).used_bytes = 0;
         s.image.seal(leaf, kBlockBytes);
     }, [](const Sample& s) { return s.tree_file; }},
    {"an empty index node", Kind::tree_node_empty,
     [](Sample& s) {
         const std::uint64_t node = s.image.node_at(s.directory, 2, 0);
         s.image.at<media::BlockHeader>(node).used_bytes = 0;
         s.image.seal(node, kBlockBytes);
     }},
    {"a key below the index's", Kind::tree_bounds,
     [](Sample& s) {
         const std::uint64_t node = s.image.node_at(s.tree_file, 2, 0);
         change_in_node<media::TreeIndexEntry>(s.image, node, sizeof(media::TreeIndexEntry), [](media::TreeIndexEntry& entry) { ++entry.key; });
     }, [](const Sample& s) { return s.tree_file; }},
    {"a key above the next one's of the index", Kind::tree_bounds,
     [](Sample& s) {
         const std::uint64_t node = s.image.node_at(s.directory, 2, 0);
         const auto first = s.image.copy_at<media::TreeIndexEntry>(payload_of(node));
         change_in_node<media::TreeIndexEntry>(s.image, node, sizeof(media::TreeIndexEntry), [&](media::TreeIndexEntry& entry) { entry.key = first.key + 1; });
     }, [](const Sample& s) { return s.directory; }},
    {"index keys out of order", Kind::tree_order,
     [](Sample& s) {
         const std::uint64_t node = s.image.node_at(s.directory, 2, 0);
         change_in_node<media::TreeIndexEntry>(s.image, node, 0, [](media::TreeIndexEntry& entry) { entry.key = ~std::uint64_t{0} >> 3; });
     }},
    {"a tree that points to its own root", Kind::block_shared,
     [](Sample& s) {
         const std::uint64_t top = s.image.tree_of(s.tree_file).back().offset;
         change_in_node<media::TreeIndexEntry>(s.image, top, 0, [&](media::TreeIndexEntry& entry) { entry.child = top; });
     }, [](const Sample& s) { return s.tree_file; }},
    {"a node of another inode", Kind::tree_node_damaged,
     [](Sample& s) {
         const std::uint64_t top = s.image.tree_of(s.tree_file).back().offset;
         change_in_node<media::TreeIndexEntry>(s.image, top, 0, [&](media::TreeIndexEntry& entry) { entry.child = s.image.node_at(s.directory, 2); });
     }},
    };
    return cases;
}
// clang-format on

TEST_CASE("check: faults of inodes are found", "[check][corruption]") { run(inode_cases()); }
TEST_CASE("check: faults of trees are found", "[check][corruption]") { run(tree_cases()); }

TEST_CASE("check: access lists that are none or do not fit are found", "[check][corruption]") {
    constexpr std::string_view kAccess = media::kAccessListName;
    constexpr std::string_view kDefault = media::kDefaultListName;
    const auto list = [](std::uint64_t permissions) {
        const Bytes bytes = list_of(permissions);
        return std::string{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    };
    const auto is_found = [](std::uint32_t mode, std::string_view name, const std::string& value) {
        HandImage image({});
        const std::uint64_t ino = image.add(1, "x", mode);
        image.set_attribute(ino, name, value);
        image.write();
        const auto report = check(image.region());
        REQUIRE(report);
        CAPTURE(report->text());
        CHECK(report->clean() == !report->has(Kind::access_list));
        return report->has(Kind::access_list);
    };
    const std::string good = list(045716);  // owner 6, user 1, owning group 7, mask 5, other 4
    CHECK(!is_found(S_IFREG | 0654, kAccess, good));
    CHECK(!is_found(S_IFDIR | 0755, kDefault, good));
    CHECK(!is_found(S_IFDIR | 0755, kDefault, list(0100777)));
    CHECK(is_found(S_IFREG | 0644, kAccess, good));
    CHECK(is_found(S_IFREG | 0777, kAccess, list(0100777)));
    CHECK(is_found(S_IFREG | 0644, kDefault, good));
    CHECK(is_found(S_IFREG | 0654, kAccess, ""));
    CHECK(is_found(S_IFREG | 0654, kAccess, good + "x"));
    for (const std::size_t byte : {0, 1, 4, 5, 6, 7, 12, 13, 20, 28, 36}) {
        CAPTURE(byte);
        std::string bad = good;
        bad[byte] = static_cast<char>(bad[byte] ^ 0x40);
        CHECK(is_found(S_IFREG | 0654, kAccess, bad));
    }
    CHECK(is_found(S_IFREG | 0644, kAccess, good.substr(0, 20)));  // neither group nor other
    CHECK(is_found(S_IFREG | 0674, kAccess, good.substr(0, 28) + good.substr(36)));  // no mask
}

TEST_CASE("check: two attributes of one name are found", "[check][corruption]") {
    HandImage image({});
    const std::uint64_t file = image.add(1, "file", S_IFREG);
    for (const char* name : {"user.a", "user.b", "user.a"}) image.set_attribute(file, name, "v");
    image.write();
    const auto report = check(image.region());
    REQUIRE(report);
    CHECK(report->findings.size() == 1);
    CHECK(report->has(Kind::attribute_duplicate));
}

}  // namespace

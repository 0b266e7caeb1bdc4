// SPDX-License-Identifier: Apache-2.0
//
// What is wrong between bitmaps, owners, totals, tables and sealed logs, each fault made on purpose
// with every checksum right: the judge names it by its own kind.
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
const std::vector<Case>& space_cases() {
    static const std::vector<Case> cases{
    {"a bit of a block that nobody owns is set", Kind::block_lost,
     [](Sample& s) { set_bit(s.image, s.image.free_block(), true); }},
    {"the bit of a data block is clear", Kind::block_not_allocated,
     [](Sample& s) {
         set_bit(s.image, inline_extent(s.image.at<media::Inode>(s.image.inode_at(s.file)), 0).start_block, false);
     }},
    {"the bit of a tree node is clear", Kind::block_not_allocated,
     [](Sample& s) { set_bit(s.image, s.image.node_at(s.tree_file, 1) / kBlockBytes, false); }},
    {"the bit of a chunk is clear", Kind::block_not_allocated,
     [](Sample& s) { set_bit(s.image, s.image.chunk_at(1) / kBlockBytes, false); }},
    {"the bit of a lane is clear", Kind::block_not_allocated,
     [](Sample& s) { set_bit(s.image, s.image.lane_at(1) / kBlockBytes + 3, false); }},
    {"the bit of the superblock's copy is clear", Kind::block_not_allocated,
     [](Sample& s) { set_bit(s.image, media::kSuperCopyOffset / kBlockBytes, false); }},
    {"the bit of a hold is clear", Kind::block_not_allocated,
     [](Sample& s) {
         set_bit(s.image, s.image.at<media::Record>(s.image.record_at(s.hold_record)).start_block + 5, false);
     }},
    {"a bit beyond the region's end is clear", Kind::block_not_allocated,
     [](Sample& s) { set_bit(s.image, s.image.memory().size() / kBlockBytes, false); }},
    {"two bits are swapped, so that all counts are right", Kind::block_lost,
     [](Sample& s) {
         set_bit(s.image, s.image.free_block(), true);
         set_bit(s.image, s.image.node_at(s.tree_file, 1) / kBlockBytes, false);
     }},
    {"two runs' counts are wrong but the group's is right", Kind::group_run_free,
     [](Sample& s) {
         s.image.change<media::Group>(s.image.group_at(0), [](media::Group& group) {
             --group.run_free[0];
             ++group.run_free[1];
         });
     }},
    {"two files share a data block", Kind::block_shared,
     [](Sample& s) {
         const auto& orphan = s.image.at<media::Inode>(s.image.inode_at(s.orphan));
         const std::uint64_t taken = inline_extent(const_cast<media::Inode&>(orphan), 0).start_block;
         change_inode(s, s.file, [&](media::Inode& inode) { inline_extent(inode, 0).start_block = taken + 1; });
     }},
    {"a file's extents share a block", Kind::block_shared,
     [](Sample& s) {
         change_inode(s, s.file, [&](media::Inode& inode) {
             inline_extent(inode, 1).start_block = inline_extent(inode, 0).start_block + 1;
         });
     }, [](const Sample& s) { return s.file; }},
    {"data lies over a tree node of the same file", Kind::block_shared,
     [](Sample& s) {
         change_extent(s.image, s.image.node_at(s.tree_file, 1, 2), 0, [&](media::Extent& extent) {
             extent.start_block = s.image.node_at(s.tree_file, 1, 0) / kBlockBytes;
         });
     }, [](const Sample& s) { return s.tree_file; }},
    {"data lies over the journal", Kind::block_shared,
     [](Sample& s) {
         change_inode(s, s.file, [&](media::Inode& inode) {
             inline_extent(inode, 0).start_block = s.image.lane_at(0) / kBlockBytes;
         });
     }},
    {"a hold lies over a file's data", Kind::block_shared,
     [](Sample& s) {
         const auto& file = s.image.at<media::Inode>(s.image.inode_at(s.file));
         const std::uint64_t taken = inline_extent(const_cast<media::Inode&>(file), 0).start_block;
         change_record(s, s.hold_record, [&](media::Record& record) { record.start_block = taken; });
     }},
    {"two files have one tree", Kind::block_shared,
     [](Sample& s) {
         const media::Inode of = s.image.at<media::Inode>(s.image.inode_at(s.tree_file));
         change_inode(s, s.cut, [&](media::Inode& inode) {
             inode.map_level = of.map_level;
             inode.map_bytes = of.map_bytes;
             std::memcpy(inode.inline_map, of.inline_map, sizeof inode.inline_map);
         });
     }},
    {"the lanes' free blocks are not the groups'", Kind::total_free,
     [](Sample& s) {
         s.image.change<media::LaneState>(s.image.lane_at(0) + media::kLaneStateOffset,
                                          [](media::LaneState& lane) { ++lane.free_blocks; });
     }},
    {"the lanes' inodes are not the table's", Kind::total_inodes,
     [](Sample& s) {
         s.image.change<media::LaneState>(s.image.lane_at(0) + media::kLaneStateOffset,
                                          [](media::LaneState& lane) { --lane.inodes; });
     }},
    };
    return cases;
}

const std::vector<Case>& table_cases() {
    static const std::vector<Case> cases{
    {"an entry hides that something is pending", Kind::table_pending_bit,
     [](Sample& s) {
         s.image.change<media::TableIndex>(s.image.inode_index_at(1), [](media::TableIndex& index) {
             for (auto& entry : index.entries) entry &= ~media::kTableHasPending;
         });
     }},
    {"an entry says that a full chunk has a free slot", Kind::table_free_bit,
     [](Sample& s) {
         s.image.change<media::TableIndex>(s.image.inode_index_at(1), [](media::TableIndex& index) {
             index.entries[0] |= media::kTableHasFree;
         });
     }},
    {"an entry has bits that none has", Kind::block_outside,
     [](Sample& s) {
         s.image.change<media::TableIndex>(s.image.inode_index_at(1),
                                           [](media::TableIndex& index) { index.entries[2] |= 4; });
     }},
    {"the root has bits but no block", Kind::table_root,
     [](Sample& s) {
         s.image.change<media::State>(s.image.state_at(), [](media::State& state) { state.inodes.root = 1; });
     }},
    {"there is no inode table", Kind::root_directory,
     [](Sample& s) {
         s.image.change<media::State>(s.image.state_at(), [](media::State& state) { state.inodes = {}; });
     }},
    {"levels without a root", Kind::table_root,
     [](Sample& s) {
         s.image.change<media::State>(s.image.state_at(), [](media::State& state) { state.records.root = 0; state.records.levels = 1; });
     }},
    {"one chunk stands at two indices", Kind::block_shared,
     [](Sample& s) {
         s.image.change<media::TableIndex>(s.image.inode_index_at(1), [](media::TableIndex& index) {
             index.entries[20] = index.entries[1];
             index.header.used_bytes += 8;
         });
     }},
    {"a chunk in which nothing is in use", Kind::table_empty,
     [](Sample& s) {
         s.image.change<media::ChunkHeader>(s.image.record_chunk_at(0), [](media::ChunkHeader& chunk) { chunk.used = 1; });
     }},
    {"an index block without an entry", Kind::table_empty,
     [](Sample& s) {
         s.image.change<media::TableIndex>(s.image.inode_index_at(1), [](media::TableIndex& index) {
             std::fill(std::begin(index.entries), std::end(index.entries), 0);
             index.header.used_bytes = 0;
         });
     }},
    {"a slot in use without an inode", Kind::inode_damaged,
     [](Sample& s) {
         s.image.at<media::Inode>(s.image.inode_at(s.linked)) = {};
     }, [](const Sample& s) { return s.linked; }},
    {"a slot with an inode is not in use", Kind::entry_dangling,
     [](Sample& s) {
         s.image.change<media::ChunkHeader>(s.image.chunk_at(s.file / 16), [&](media::ChunkHeader& chunk) {
             chunk.used = static_cast<media::le16>(chunk.used & ~(1u << s.file % 16));
         });
     }, [](const Sample&) { return HandImage::kRoot; }},
    {"an orphan is not pending", Kind::chunk_pending,
     [](Sample& s) {
         s.image.change<media::ChunkHeader>(s.image.chunk_at(s.orphan / 16), [&](media::ChunkHeader& chunk) {
             chunk.pending = static_cast<media::le16>(chunk.pending & ~(1u << s.orphan % 16));
         });
     }, [](const Sample& s) { return s.orphan; }},
    {"a file that is being cut is not pending", Kind::chunk_pending,
     [](Sample& s) {
         s.image.change<media::ChunkHeader>(s.image.chunk_at(s.cut / 16), [&](media::ChunkHeader& chunk) {
             chunk.pending = static_cast<media::le16>(chunk.pending & ~(1u << s.cut % 16));
         });
     }, [](const Sample& s) { return s.cut; }},
    {"a record is pending", Kind::chunk_pending,
     [](Sample& s) {
         s.image.change<media::ChunkHeader>(s.image.record_chunk_at(0), [](media::ChunkHeader& chunk) { chunk.pending = 2; });
     }},
    {"two records have one id", Kind::record_id,
     [](Sample& s) { change_record(s, s.map_record, [](media::Record& record) { record.id = 2; }); }},
    {"a record has id 0", Kind::record_id,
     [](Sample& s) { change_record(s, s.map_record, [](media::Record& record) { record.id = 0; }); }},
    {"a pin that is counted 0 times", Kind::record_field,
     [](Sample& s) { change_record(s, s.pin_record, [](media::Record& record) { record.count = 0; }); }},
    {"a pin of a directory", Kind::record_field,
     [](Sample& s) { change_record(s, s.pin_record, [&](media::Record& record) { record.ino = s.directory; record.ino_generation = s.image.inode(s.directory).generation; }); }},
    {"a hold that leaves the region", Kind::block_outside,
     [](Sample& s) { change_record(s, s.hold_record, [](media::Record& record) { record.start_block = 1022; }); }},
    {"an unused slot of finished requests is not zero", Kind::finished_request,
     [](Sample& s) { s.image.at<media::FinishedRequest>(s.image.finished_at() + 64).request = 1; }},
    };
    return cases;
}
// clang-format on

TEST_CASE("check: faults of bitmaps, owners and totals are found", "[check][corruption]") {
    run(space_cases());
}
TEST_CASE("check: faults of tables and records are found", "[check][corruption]") {
    run(table_cases());
}

TEST_CASE("check: both owners of a shared block are named", "[check][corruption]") {
    Sample sample;
    auto& orphan = sample.image.at<media::Inode>(sample.image.inode_at(sample.orphan));
    const std::uint64_t block = inline_extent(orphan, 0).start_block + 1;
    change_inode(sample, sample.file,
                 [&](media::Inode& inode) { inline_extent(inode, 0).start_block = block; });
    const auto report = check(sample.image.region());
    REQUIRE(report);
    for (const Finding& finding : report->findings) {
        if (finding.kind != Kind::block_shared) continue;
        CHECK(finding.offset == block * kBlockBytes);
        CHECK(finding.text.find("the data of inode " + std::to_string(sample.file) + " ") !=
              std::string::npos);
        CHECK(finding.text.find("the data of inode " + std::to_string(sample.orphan)) !=
              std::string::npos);
        return;
    }
    FAIL(report->text());
}

TEST_CASE("check: sealed logs that write one unit are found", "[check][corruption]") {
    Sample sample;
    HandImage& image = sample.image;
    const auto bytes_at = [&](std::uint64_t offset, std::size_t bytes) {
        const auto memory = image.memory().subspan(offset, bytes);
        return HandImage::Write{offset, {memory.begin(), memory.end()}};
    };
    const std::uint64_t leaf = image.node_at(sample.directory, 1);
    const std::uint64_t slot = image.inode_at(sample.file);
    const std::uint64_t lane_state = image.lane_at(1) + media::kLaneStateOffset;
    SECTION("different bytes of one block") {
        image.seal_log(0, 1, {bytes_at(leaf, 8)});
        image.seal_log(1, 2, {bytes_at(leaf + 4000, 96)});
    }
    SECTION("different bytes of one slot") {
        image.seal_log(0, 1, {bytes_at(slot + 8, 8)});
        image.seal_log(1, 2, {bytes_at(slot + 128, 8)});
    }
    SECTION("a lane's state") {
        image.seal_log(0, 1, {bytes_at(lane_state, 16)});
        image.seal_log(1, 2, {bytes_at(lane_state + 64, 16)});
    }
    SECTION("one inside of another's many blocks") {
        image.seal_log(0, 1, {bytes_at(image.group_at(0), 8), bytes_at(leaf - 8192, 16384)});
        image.seal_log(1, 2, {bytes_at(image.state_at(), 8), bytes_at(leaf, 8)});
    }
    SECTION("the same sequence number") {
        image.seal_log(0, 1, {bytes_at(slot, 8)});
        image.seal_log(1, 1, {bytes_at(leaf, 8)});
    }
    const auto report = check(image.region());
    REQUIRE(report);
    INFO(report->text());
    CHECK(report->has(Kind::logs_overlap));
    CHECK(report->findings.size() == 1);
}

TEST_CASE("check: group blocks of a zone that the region does not fill must be zero",
          "[check][corruption]") {
    HandImage image({.bytes = 65 * (std::uint64_t{1} << 20)});
    image.write();
    image.at<media::u8>(image.group_at(7) + 4095) = 1;
    const auto report = check(image.region());
    REQUIRE(report);
    CHECK(report->findings.size() == 1);
    CHECK(report->has(Kind::group_unused));
}

}  // namespace

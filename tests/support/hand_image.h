// SPDX-License-Identifier: Apache-2.0
//
// A region written by hand from a model in memory: a second statement of the format, which knows
// neither the code that writes regions nor the one that judges them. Tests damage what it made.
//
// Invariants
//   - `write` lays the whole model out anew; before it the memory is zero.
//   - Nodes are filled as far as the shape says, so that few records make deep trees.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fs/checksum.h"
#include "fs/format/group.h"
#include "fs/format/inode.h"
#include "fs/format/lane.h"
#include "fs/format/record.h"
#include "fs/format/state.h"
#include "fs/format/superblock.h"
#include "fs/format/table.h"
#include "fs/format/tree.h"
#include "fs/pmem/region.h"

namespace pinfs::test {

struct HandShape {
    std::uint64_t bytes = std::uint64_t{4} << 20;
    unsigned name_hash_bits = media::kNameHashBits;
    std::size_t leaf_bytes_max = media::kPayloadBytes;  ///< of a tree
    std::size_t fan_out_max = media::kTreeFanOut;
    unsigned table_levels_min = 0;  ///< of the inode table
    bool mounted = false;
};

class HandImage {
public:
    static constexpr std::uint64_t kRoot = 1;

    /// An empty file system: a root directory.
    explicit HandImage(const HandShape& shape);
    ~HandImage();

    // The model. Numbers of inodes rise; map, blocks, link count, parent, and the size of
    // directories and links are filled in by `write`, the rest stands in `inode` as it will be on
    // media.
    std::uint64_t add(std::uint64_t parent, std::string_view name, std::uint32_t mode);
    std::uint64_t add_unnamed(std::uint32_t mode);  ///< link count 0
    void link(std::uint64_t parent, std::string_view name, std::uint64_t ino);
    void set_next_ino(std::uint64_t ino) { next_ino_ = ino; }
    media::Inode& inode(std::uint64_t ino) { return nodes_.at(ino).inode; }
    /// Data blocks, one after the other in the region; returns the first.
    std::uint64_t extend(std::uint64_t ino, std::uint64_t file_block, std::uint32_t blocks,
                         bool unwritten = false);
    void set_target(std::uint64_t ino, std::string_view target);
    void set_attribute(std::uint64_t ino, std::string_view name, std::string_view value);
    /// A record of the inode's generation, with id and generation set; a hold owns new blocks.
    media::Record& add_record(media::RecordKind kind, std::uint64_t ino, std::uint64_t file_block,
                              std::uint64_t blocks);
    media::FinishedRequest& finished(std::size_t slot) { return finished_[slot]; }

    void write();

    // What was written, and where: region offsets.
    struct TreeNode {
        std::uint64_t offset;
        unsigned level;
    };
    std::uint64_t inode_at(std::uint64_t ino) const {
        return chunk_at(ino / media::kChunkSlots) + ino % media::kChunkSlots * media::kSlotBytes;
    }
    std::uint64_t chunk_at(std::uint64_t chunk) const { return inode_chunks_.at(chunk); }
    std::uint64_t inode_index_at(unsigned level) const { return inode_indexes_.at(level); }
    std::uint64_t record_at(std::uint64_t number) const {
        return record_chunks_.at(number / media::kChunkSlots) +
               number % media::kChunkSlots * media::kSlotBytes;
    }
    std::uint64_t record_chunk_at(std::uint64_t chunk) const { return record_chunks_.at(chunk); }
    const std::vector<TreeNode>& tree_of(std::uint64_t ino) const { return nodes_.at(ino).tree; }
    /// The n-th node of `level`, from the left.
    std::uint64_t node_at(std::uint64_t ino, unsigned level, std::size_t n = 0) const;
    std::uint64_t attributes_at(std::uint64_t ino, std::size_t n) const {
        return nodes_.at(ino).attribute_blocks.at(n);
    }
    std::uint64_t group_at(std::uint64_t index) const {
        return media::group_block_of(index, zone_groups_) * media::kBlockBytes;
    }
    std::uint64_t state_at() const { return media::kBlockBytes; }
    std::uint64_t finished_at() const { return finished_offset_; }
    std::uint64_t lane_at(std::uint64_t lane) const { return lanes_offset_ + lane * lane_bytes_; }
    std::uint64_t free_block() const;  ///< one that nobody owns

    // The memory.
    std::span<std::byte> memory() const { return memory_; }
    pmem::Region& region() { return *region_; }
    template <class T>
    T& at(std::uint64_t offset) const {
        return *reinterpret_cast<T*>(memory_.data() + offset);
    }
    template <class T>
    T copy_at(std::uint64_t offset) const {  ///< for what is not aligned
        T value;
        std::memcpy(&value, memory_.data() + offset, sizeof value);
        return value;
    }
    std::uint32_t seed() const { return seed_; }
    /// Sets the checksum of a unit.
    void seal(std::uint64_t offset, std::size_t bytes);
    template <class T>
    void seal(std::uint64_t offset) {
        seal(offset, sizeof(T));
    }
    void seal_superblock(std::uint64_t offset);
    /// Changes a unit and seals it again.
    template <class T, class Change>
    void change(std::uint64_t offset, Change change) {
        change(at<T>(offset));
        seal<T>(offset);
    }
    /// Leaves a sealed log in `lane` that writes these bytes.
    struct Write {
        std::uint64_t offset;
        std::vector<std::byte> bytes;
    };
    void seal_log(std::uint64_t lane, std::uint64_t sequence, const std::vector<Write>& writes);
    /// Seals what stands in the lane's log, as long as its header says.
    void seal_lane(std::uint64_t lane);

    std::uint64_t key_of(std::string_view name, unsigned collision = 0) const;

private:
    struct Node {
        media::Inode inode{};
        std::map<std::uint64_t, std::string> entries;  // by key: a DirectoryEntry and the name
        std::vector<media::Extent> extents;
        std::string target;
        std::string attributes;
        std::vector<TreeNode> tree;
        std::vector<std::uint64_t> attribute_blocks;
    };
    struct Item {  // of a tree
        std::uint64_t key;
        std::string bytes;
    };

    std::uint64_t allocate(std::uint64_t count = 1);
    void mark(std::uint64_t begin, std::uint64_t count);
    media::BlockHeader header(media::BlockKind kind, std::uint64_t offset, unsigned level,
                              std::uint32_t used_bytes, std::uint64_t owner,
                              std::uint64_t generation) const;
    void write_attributes(Node& node);
    void write_map(Node& node);
    void write_tree(Node& node, media::BlockKind kind, const std::vector<Item>& items);
    template <class Slot>
    media::TableRoot write_table(std::uint64_t table, const std::map<std::uint64_t, Slot>& slots,
                                 unsigned levels_min,
                                 std::map<std::uint64_t, std::uint64_t>& chunks);
    void write_groups_and_lanes();
    void write_superblocks();

    HandShape shape_;
    std::uint64_t zone_groups_;
    std::uint64_t blocks_;
    std::uint64_t groups_;
    std::uint64_t finished_offset_;
    std::uint64_t lanes_offset_;
    std::uint32_t lane_count_;
    std::uint32_t lane_bytes_;
    std::uint32_t seed_;
    std::span<std::byte> memory_;
    std::unique_ptr<pmem::Region> region_;

    std::vector<bool> used_;
    std::uint64_t next_block_ = 2;
    std::uint64_t next_ino_ = 1;
    std::map<std::uint64_t, Node> nodes_;
    std::map<std::uint64_t, media::Record> records_;
    std::map<std::size_t, media::FinishedRequest> finished_;
    std::map<std::uint64_t, std::uint64_t> inode_chunks_;
    std::map<std::uint64_t, std::uint64_t> record_chunks_;
    std::map<unsigned, std::uint64_t> inode_indexes_;  // the first block of each level
};

}  // namespace pinfs::test

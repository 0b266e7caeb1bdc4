// SPDX-License-Identifier: Apache-2.0
#define XXH_INLINE_ALL
#include "tests/support/hand_image.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstdlib>
#include <new>

namespace pinfs::test {
namespace {

using media::kBlockBytes;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kCopyBlock = media::kSuperCopyOffset / kBlockBytes;
constexpr std::uint64_t kGenerationLimit = 0x1'0000'1000;

template <class T>
std::string bytes_of(const T& value) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
}

bool pending(const media::Inode& inode) {
    return inode.nlink == 0 || (inode.flags & media::kInodeCutting) != 0;
}
bool pending(const media::Record&) { return false; }

}  // namespace

HandImage::HandImage(const HandShape& shape) : shape_(shape) {
    blocks_ = shape.bytes / kBlockBytes;
    groups_ = (blocks_ + media::kGroupBlocks - 1) / media::kGroupBlocks;
    zone_groups_ = shape.bytes < 64 * kMiB ? 1 : 16;
    finished_offset_ = (2 + zone_groups_) * kBlockBytes;
    lane_count_ = shape.bytes < 16 * kMiB ? 2 : shape.bytes < 256 * kMiB ? 4 : 32;
    lane_bytes_ = shape.bytes < 16 * kMiB ? 32 * 1024 : 64 * 1024;
    lanes_offset_ =
        shape.bytes < 256 * kMiB ? finished_offset_ + kBlockBytes : (kCopyBlock + 1) * kBlockBytes;
    void* const memory = mmap(nullptr, shape.bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = {static_cast<std::byte*>(memory), shape.bytes};
    region_ = std::make_unique<pmem::Region>(memory_, pmem::Capabilities{}, nullptr);
    media::u8 uuid[16];
    for (std::size_t i = 0; i < sizeof uuid; ++i) uuid[i] = static_cast<media::u8>(i + 1);
    seed_ = crc32c(0xffffffff, std::as_bytes(std::span(uuid)));

    used_.resize(blocks_);
    mark(0, 2);
    mark(kCopyBlock, 1);
    mark(finished_offset_ / kBlockBytes, 1);
    mark(lanes_offset_ / kBlockBytes, lane_count_ * lane_bytes_ / kBlockBytes);
    for (std::uint64_t group = 0;
         group < (groups_ + zone_groups_ - 1) / zone_groups_ * zone_groups_; ++group)
        if (group_at(group) / kBlockBytes < blocks_) mark(group_at(group) / kBlockBytes, 1);

    add_unnamed(S_IFDIR | 0755);
    inode(kRoot).parent = kRoot;
    inode(kRoot).nlink = 2;
}

HandImage::~HandImage() {
    region_.reset();
    munmap(memory_.data(), memory_.size());
}

void HandImage::mark(std::uint64_t begin, std::uint64_t count) {
    for (std::uint64_t block = begin; block < begin + count; ++block) used_[block] = true;
}

std::uint64_t HandImage::allocate(std::uint64_t count) {
    for (std::uint64_t begin = next_block_;; ++begin) {
        assert(begin + count <= blocks_);
        std::uint64_t length = 0;
        while (length < count && !used_[begin + length]) ++length;
        if (length < count) continue;
        mark(begin, count);
        next_block_ = begin + count;
        return begin;
    }
}

std::uint64_t HandImage::free_block() const {
    for (std::uint64_t block = blocks_ - 1;; --block)
        if (!used_[block]) return block;
}

std::uint64_t HandImage::key_of(std::string_view name, unsigned collision) const {
    const std::uint64_t hash = XXH3_64bits_withSeed(name.data(), name.size(), 0x5eed);
    const std::uint64_t upper = std::min((hash >> (64 - shape_.name_hash_bits)) + 1,
                                         (std::uint64_t{1} << media::kNameHashBits) - 1);
    return upper << media::kNameCollisionBits | collision;
}

std::uint64_t HandImage::add_unnamed(std::uint32_t mode) {
    const std::uint64_t ino = next_ino_++;
    if (next_ino_ % media::kChunkSlots == 0) ++next_ino_;
    media::Inode& inode = nodes_[ino].inode;
    inode.magic = media::kInodeMagic;
    inode.ino = ino;
    inode.generation = ino % 3 == 0 ? 0x1'0000'0001 : ino;  // both sides of 32 bits
    inode.mode = mode;
    inode.atime = -1;
    inode.mtime = std::int64_t{1} << 33;
    inode.btime_ns = 999'999'999;
    return ino;
}

std::uint64_t HandImage::add(std::uint64_t parent, std::string_view name, std::uint32_t mode) {
    const std::uint64_t ino = add_unnamed(mode);
    link(parent, name, ino);
    if (S_ISDIR(mode)) {
        inode(ino).nlink = 2;
        inode(ino).parent = parent;
        ++inode(parent).nlink;
    }
    return ino;
}

void HandImage::link(std::uint64_t parent, std::string_view name, std::uint64_t ino) {
    media::Inode& target = inode(ino);
    auto& entries = nodes_.at(parent).entries;
    unsigned collision = 0;
    while (entries.contains(key_of(name, collision))) ++collision;
    media::DirectoryEntry entry{};
    entry.key = key_of(name, collision);
    entry.ino = ino;
    entry.type = static_cast<media::u8>((target.mode & S_IFMT) >> 12);
    entry.name_bytes = static_cast<media::u8>(name.size());
    entries[entry.key] = bytes_of(entry).append(name);
    ++target.nlink;
}

std::uint64_t HandImage::extend(std::uint64_t ino, std::uint64_t file_block, std::uint32_t blocks,
                                bool unwritten) {
    const std::uint64_t start = allocate(blocks);
    for (std::uint64_t block = start; !unwritten && block < start + blocks; ++block)
        std::memset(memory_.data() + block * kBlockBytes, static_cast<int>(block % 255 + 1),
                    kBlockBytes);
    nodes_.at(ino).extents.push_back({file_block, start, blocks, media::kSegmentRegion,
                                      unwritten ? media::kExtentUnwritten : media::le16{0}});
    return start;
}

void HandImage::set_target(std::uint64_t ino, std::string_view target) {
    nodes_.at(ino).target = target;
    inode(ino).size = target.size();
    if (target.size() <= media::kInlineBytes) return;
    const std::uint64_t start = extend(ino, 0, 1);
    std::memset(memory_.data() + start * kBlockBytes, 0, kBlockBytes);
    std::memcpy(memory_.data() + start * kBlockBytes, target.data(), target.size());
}

void HandImage::set_attribute(std::uint64_t ino, std::string_view name, std::string_view value) {
    media::AttributeEntry entry{};
    entry.name_bytes = static_cast<media::le16>(name.size());
    entry.value_bytes = static_cast<media::le32>(value.size());
    nodes_.at(ino).attributes.append(bytes_of(entry)).append(name).append(value);
}

media::Record& HandImage::add_record(media::RecordKind kind, std::uint64_t ino,
                                     std::uint64_t file_block, std::uint64_t blocks) {
    std::uint64_t number = records_.empty() ? 1 : records_.rbegin()->first + 1;
    if (number % media::kChunkSlots == 0) ++number;
    media::Record& record = records_[number];
    record.magic = media::kRecordMagic;
    record.kind = static_cast<media::le16>(kind);
    record.count = 1;
    record.id = number;
    record.generation = 5;
    record.ino = ino;
    record.ino_generation = inode(ino).generation;
    record.file_block = file_block;
    record.blocks = blocks;
    record.descriptor = 0xffffffff;
    if (kind == media::RecordKind::hold) record.start_block = allocate(blocks);
    return record;
}

void HandImage::seal(std::uint64_t offset, std::size_t bytes) {
    const std::uint32_t sum = unit_checksum(seed_, memory_.subspan(offset, bytes));
    std::memcpy(memory_.data() + offset + 4, &sum, sizeof sum);
}

void HandImage::seal_superblock(std::uint64_t offset) {
    at<media::Superblock>(offset).crc32c =
        unit_checksum(0xffffffff, memory_.subspan(offset, sizeof(media::Superblock)));
}

media::BlockHeader HandImage::header(media::BlockKind kind, std::uint64_t offset, unsigned level,
                                     std::uint32_t used_bytes, std::uint64_t owner,
                                     std::uint64_t generation) const {
    media::BlockHeader header{};
    header.magic = media::kBlockMagic;
    header.kind = static_cast<media::le16>(kind);
    header.level = static_cast<media::le16>(level);
    header.used_bytes = used_bytes;
    header.own_offset = offset;
    header.owner = owner;
    header.generation = generation;
    return header;
}

void HandImage::write_attributes(Node& node) {
    const std::string_view all = node.attributes;
    std::vector<std::string_view> pieces;
    for (std::size_t at = 0; at < all.size(); at += media::kPayloadBytes)
        pieces.push_back(all.substr(at, media::kPayloadBytes));
    for (std::size_t i = 0; i < pieces.size(); ++i)
        node.attribute_blocks.push_back(allocate() * kBlockBytes);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        const std::uint64_t offset = node.attribute_blocks[i];
        auto& block_header = at<media::BlockHeader>(offset);
        block_header = header(media::BlockKind::attributes, offset, 0,
                              static_cast<std::uint32_t>(pieces[i].size()), node.inode.ino,
                              node.inode.generation);
        block_header.next = i + 1 < pieces.size() ? node.attribute_blocks[i + 1] : 0;
        std::memcpy(memory_.data() + offset + sizeof block_header, pieces[i].data(),
                    pieces[i].size());
        seal(offset, kBlockBytes);
    }
    node.inode.attributes = pieces.empty() ? 0 : node.attribute_blocks[0];
    node.inode.attributes_bytes = static_cast<std::uint32_t>(all.size());
}

void HandImage::write_tree(Node& node, media::BlockKind kind, const std::vector<Item>& items) {
    std::string all;
    for (const Item& item : items) all += item.bytes;
    if (all.size() <= media::kInlineBytes) {
        node.inode.map_level = 0;
        node.inode.map_bytes = static_cast<std::uint32_t>(all.size());
        std::memcpy(node.inode.inline_map, all.data(), all.size());
        return;
    }
    std::vector<Item> below = items;
    unsigned level = 0;
    do {
        ++level;
        std::vector<Item> nodes;
        const std::size_t bytes_max =
            level == 1 ? shape_.leaf_bytes_max : shape_.fan_out_max * sizeof(media::TreeIndexEntry);
        for (std::size_t i = 0; i < below.size();) {
            const std::uint64_t offset = allocate() * kBlockBytes;
            std::string payload;
            const std::uint64_t key = below[i].key;
            while (i < below.size() && payload.size() + below[i].bytes.size() <= bytes_max)
                payload += below[i++].bytes;
            at<media::BlockHeader>(offset) =
                header(kind, offset, level, static_cast<std::uint32_t>(payload.size()),
                       node.inode.ino, node.inode.generation);
            std::memcpy(memory_.data() + offset + sizeof(media::BlockHeader), payload.data(),
                        payload.size());
            seal(offset, kBlockBytes);
            node.tree.push_back({offset, level});
            // The lowest key of a tree may be lower than its first record's.
            const std::uint64_t bound = nodes.empty() ? key - key / 2 : key;
            nodes.push_back({bound, bytes_of(media::TreeIndexEntry{bound, offset})});
        }
        below = std::move(nodes);
    } while (below.size() > 1);
    node.inode.map_level = static_cast<media::le16>(level);
    node.inode.map_bytes = sizeof(media::le64);
    std::memcpy(node.inode.inline_map, &node.tree.back().offset, sizeof(media::le64));
}

std::uint64_t HandImage::node_at(std::uint64_t ino, unsigned level, std::size_t n) const {
    for (const TreeNode& node : tree_of(ino))
        if (node.level == level && n-- == 0) return node.offset;
    assert(false);
    return 0;
}

void HandImage::write_map(Node& node) {
    std::vector<Item> items;
    if (S_ISDIR(node.inode.mode)) {
        node.inode.size = 0;
        for (const auto& [key, bytes] : node.entries) {
            items.push_back({key, bytes});
            node.inode.size += bytes.size();
        }
        write_tree(node, media::BlockKind::directory_tree, items);
    } else if (S_ISLNK(node.inode.mode) && node.target.size() <= media::kInlineBytes) {
        node.inode.map_bytes = static_cast<std::uint32_t>(node.target.size());
        std::memcpy(node.inode.inline_map, node.target.data(), node.target.size());
    } else {
        for (const media::Extent& extent : node.extents)
            items.push_back({extent.file_block, bytes_of(extent)});
        write_tree(node, media::BlockKind::extent_tree, items);
    }
}

template <class Slot>
media::TableRoot HandImage::write_table(std::uint64_t table,
                                        const std::map<std::uint64_t, Slot>& slots,
                                        unsigned levels_min,
                                        std::map<std::uint64_t, std::uint64_t>& chunks) {
    media::TableRoot root{};
    if (slots.empty()) return root;
    std::map<std::uint64_t, std::uint64_t> below;  // index -> entry
    for (const auto& [number, slot] : slots) {
        const std::uint64_t index = number / media::kChunkSlots;
        if (!chunks.contains(index)) {
            chunks[index] = allocate() * kBlockBytes;
            auto& chunk = at<media::ChunkHeader>(chunks[index]);
            chunk = {};
            chunk.magic = media::kChunkMagic;
            chunk.own_offset = chunks[index];
            chunk.table = table;
            chunk.chunk = index;
            chunk.used = 1;
        }
        auto& chunk = at<media::ChunkHeader>(chunks[index]);
        const auto bit = static_cast<media::le16>(1u << number % media::kChunkSlots);
        chunk.used |= bit;
        if (pending(slot)) chunk.pending |= bit;
        const std::uint64_t offset =
            chunks[index] + number % media::kChunkSlots * media::kSlotBytes;
        at<Slot>(offset) = slot;
        seal<Slot>(offset);
    }
    for (const auto& [index, offset] : chunks) {
        const auto& chunk = at<media::ChunkHeader>(offset);
        seal<media::ChunkHeader>(offset);
        below[index] = offset | (chunk.used != 0xffff ? media::kTableHasFree : 0) |
                       (chunk.pending != 0 ? media::kTableHasPending : 0);
    }
    root.window_chunks = chunks.rbegin()->first + 1;
    while (below.rbegin()->first != 0 || root.levels < levels_min) {
        ++root.levels;
        std::map<std::uint64_t, std::uint64_t> above;
        std::map<std::uint64_t, std::uint64_t> offsets;
        for (const auto& [index, entry] : below) {
            const std::uint64_t block = index / media::kTableFanOut;
            if (!offsets.contains(block)) offsets[block] = allocate() * kBlockBytes;
            at<media::TableIndex>(offsets[block]).entries[index % media::kTableFanOut] = entry;
        }
        for (const auto& [block, offset] : offsets) {
            auto& index = at<media::TableIndex>(offset);
            std::uint32_t used = 0;
            std::uint64_t bits = 0;
            for (const std::uint64_t entry : index.entries) {
                if (entry != 0) used += sizeof entry;
                bits |= entry == 0 ? media::kTableHasFree : entry & media::kTableFlags;
            }
            index.header =
                header(media::BlockKind::table_index, offset, root.levels, used, table, 0);
            seal(offset, kBlockBytes);
            above[block] = offset | bits;
        }
        if (table == media::kTableInodes) inode_indexes_[root.levels] = offsets.begin()->second;
        below = std::move(above);
    }
    root.root = below.begin()->second;
    return root;
}

void HandImage::write() {
    for (auto& [ino, node] : nodes_) {
        write_attributes(node);
        write_map(node);
        node.inode.blocks = node.tree.size() + node.attribute_blocks.size();
        for (const media::Extent& extent : node.extents) node.inode.blocks += extent.blocks;
    }
    std::map<std::uint64_t, media::Inode> inodes;
    for (const auto& [ino, node] : nodes_) inodes[ino] = node.inode;
    auto& state = at<media::State>(state_at());
    state.header = header(media::BlockKind::state, state_at(), 0, 0, 0, 0);
    state.mounted = shape_.mounted ? 1 : 0;
    state.generation_limit = kGenerationLimit;
    state.record_id_limit = 100;
    state.inodes = write_table(media::kTableInodes, inodes, shape_.table_levels_min, inode_chunks_);
    state.records = write_table(media::kTableRecords, records_, 0, record_chunks_);
    seal<media::State>(state_at());
    for (auto& [slot, request] : finished_) {
        request.magic = media::kFinishedMagic;
        const std::uint64_t offset = finished_offset_ + slot * sizeof request;
        at<media::FinishedRequest>(offset) = request;
        seal<media::FinishedRequest>(offset);
    }
    write_groups_and_lanes();
    write_superblocks();
}

void HandImage::write_groups_and_lanes() {
    std::uint64_t free_blocks = 0;
    for (std::uint64_t index = 0; index < groups_; ++index) {
        auto& group = at<media::Group>(group_at(index));
        group.header = header(media::BlockKind::group, group_at(index), 0, 0, index, 0);
        for (std::uint64_t bit = 0; bit < media::kGroupBlocks; ++bit) {
            const std::uint64_t block = index * media::kGroupBlocks + bit;
            if (block >= blocks_ || used_[block]) {
                group.bitmap[bit / 8] |= static_cast<media::u8>(1u << bit % 8);
            } else {
                ++group.run_free[bit / media::kRunBlocks];
                ++group.free_blocks;
            }
        }
        free_blocks += group.free_blocks;
        seal<media::Group>(group_at(index));
    }
    // Shares may be "negative": sums are modulo 2^64.
    for (std::uint64_t lane = 0; lane < lane_count_; ++lane) {
        const std::uint64_t offset = lane_at(lane) + media::kLaneStateOffset;
        auto& state = at<media::LaneState>(offset);
        state.magic = media::kLaneStateMagic;
        state.lane = lane;
        state.free_blocks = lane == 0   ? free_blocks + 1000
                            : lane == 1 ? std::uint64_t{0} - 1000
                                        : 0;
        state.inodes = lane == 0 ? nodes_.size() + 7 : lane == 1 ? std::uint64_t{0} - 7 : 0;
        seal<media::LaneState>(offset);
    }
}

void HandImage::write_superblocks() {
    for (const std::uint64_t offset : {std::uint64_t{0}, media::kSuperCopyOffset}) {
        auto& super = at<media::Superblock>(offset);
        super.magic = media::kSuperMagic;
        super.own_offset = offset;
        for (std::size_t i = 0; i < sizeof super.uuid; ++i)
            super.uuid[i] = static_cast<media::u8>(i + 1);
        std::memcpy(super.label, "by hand", 7);
        super.region_bytes = shape_.bytes;
        super.block_bytes = kBlockBytes;
        super.slot_bytes = media::kSlotBytes;
        super.group_blocks = media::kGroupBlocks;
        super.zone_groups = static_cast<std::uint32_t>(zone_groups_);
        super.map_unit_bytes = kBlockBytes;
        super.state_offset = state_at();
        super.finished_offset = finished_offset_;
        super.lanes_offset = lanes_offset_;
        super.lane_count = lane_count_;
        super.lane_bytes = lane_bytes_;
        super.name_hash_seed = 0x5eed;
        super.name_hash_bits = shape_.name_hash_bits;
        super.checksum_seed = seed_;
        super.made_seconds = 1'700'000'000;
        seal_superblock(offset);
    }
}

void HandImage::seal_log(std::uint64_t lane, std::uint64_t sequence,
                         const std::vector<Write>& writes) {
    std::string log;
    for (const Write& write : writes) {
        log += bytes_of(
            media::LogRecord{write.offset, static_cast<std::uint32_t>(write.bytes.size()), 0});
        log.append(reinterpret_cast<const char*>(write.bytes.data()), write.bytes.size());
        log.resize((log.size() + 7) / 8 * 8);
    }
    media::LogHeader log_header{};
    log_header.magic = media::kLogMagic;
    log_header.lane = static_cast<std::uint32_t>(lane);
    log_header.sequence = sequence;
    log_header.log_bytes = static_cast<std::uint32_t>(sizeof log_header + log.size());
    log_header.record_count = static_cast<std::uint32_t>(writes.size());
    log = bytes_of(log_header) + log;
    assert(log.size() <= lane_bytes_ - media::kLogOffset);
    std::memcpy(memory_.data() + lane_at(lane) + media::kLogOffset, log.data(), log.size());
    seal_lane(lane);
}

void HandImage::seal_lane(std::uint64_t lane) {
    const std::uint64_t offset = lane_at(lane) + media::kLogOffset;
    const std::uint32_t bytes = at<media::LogHeader>(offset).log_bytes;
    at<media::Seal>(lane_at(lane)) = {crc32c(seed_, memory_.subspan(offset, bytes)), bytes};
}

}  // namespace pinfs::test

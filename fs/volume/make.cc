// SPDX-License-Identifier: Apache-2.0
//
// A new, empty file system. All of it is written in place, without the journal; what makes it real
// are the superblocks:
//   P1  both old superblocks zeroed
//   P2  everything else
//   P3  the new superblock and its copy
// A fence stands after each. Cut before P3 nothing is mountable; from then on either superblock
// stands for all of it.
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "fs/checksum.h"
#include "fs/format/group.h"
#include "fs/format/inode.h"
#include "fs/format/lane.h"
#include "fs/format/state.h"
#include "fs/format/superblock.h"
#include "fs/format/table.h"
#include "fs/format/tree.h"
#include "fs/volume/volume.h"

namespace pinfs {
namespace {

using namespace unit_literals;

constexpr std::uint32_t kSuperChecksumSeed = 0xffffffff;
constexpr std::uint64_t kGenerationFirst = 1;  // the root directory's
constexpr std::uint64_t kRecordIdFirst = 1;
constexpr std::uint64_t kSuperCopyBlock = media::kSuperCopyOffset / kBlockBytes;

/// Where things stand in a region of a given length (FORMAT.md, "Where things stand").
struct Layout {
    std::uint64_t blocks;  // of the region
    std::uint64_t groups;
    std::uint64_t zone_groups;
    std::uint64_t finished_block;
    std::uint64_t lanes_block;
    std::uint32_t lane_count;
    std::uint32_t lane_bytes;
    std::uint64_t chunk_block;  // the inode table's first chunk: the lowest block that is not fixed

    [[nodiscard]] std::uint64_t lanes_end() const {
        return lanes_block + lane_count * (lane_bytes / kBlockBytes);
    }
    [[nodiscard]] std::uint64_t zone_blocks() const { return zone_groups * media::kGroupBlocks; }
};

Layout layout_of(std::uint64_t bytes) {
    Layout layout{};
    layout.blocks = bytes / kBlockBytes;
    layout.groups = (layout.blocks + media::kGroupBlocks - 1) / media::kGroupBlocks;
    layout.zone_groups = bytes < 64_MiB ? 1 : 16;
    layout.finished_block = 2 + layout.zone_groups;
    const std::uint64_t next = layout.finished_block + 1;
    if (bytes < 16_MiB) {
        layout.lane_count = 2;
        layout.lane_bytes = 32_KiB;
    } else {
        layout.lane_count = bytes < 256_MiB ? 4 : 32;
        layout.lane_bytes = 64_KiB;
    }
    layout.lanes_block = bytes < 256_MiB ? next : kSuperCopyBlock + 1;
    layout.chunk_block = bytes < 256_MiB ? layout.lanes_end() : next;
    return layout;
}

template <class Unit>
std::span<std::byte> bytes_of(Unit& unit) {
    return std::as_writable_bytes(std::span(&unit, 1));
}

/// Fills in a unit's checksum and gives its bytes.
template <class Unit>
std::span<const std::byte> sealed(std::uint32_t seed, Unit& unit) {
    const std::uint32_t sum = unit_checksum(seed, bytes_of(unit));
    std::memcpy(bytes_of(unit).data() + 4, &sum, sizeof(sum));
    return bytes_of(unit);
}

media::BlockHeader header_of(media::BlockKind kind, std::uint64_t block, std::uint64_t owner) {
    media::BlockHeader header{};
    header.magic = media::kBlockMagic;
    header.kind = static_cast<media::le16>(kind);
    header.own_offset = block * kBlockBytes;
    header.owner = owner;
    return header;
}

/// A file system in the making.
class Maker {
public:
    Maker(pmem::Region& region, const MakeOptions& options, std::uint64_t bytes)
        : region_(region),
          options_(options),
          bytes_(bytes),
          layout_(layout_of(bytes)),
          seed_(crc32c(0xffffffff, std::as_bytes(std::span(options.uuid)))) {}

    Expected<void> make() {
        TRY(region_.zero(0, kBlockBytes));  // P1
        TRY(region_.zero(media::kSuperCopyOffset, kBlockBytes));
        region_.fence();  // P1 | P2
        TRY(write_groups());
        TRY(write_lanes());
        TRY(region_.zero(layout_.finished_block * kBlockBytes, kBlockBytes));
        TRY(write_root_directory());
        TRY(write_state());
        region_.fence();  // P2 | P3
        TRY(write_superblock(media::kSuperCopyOffset));
        TRY(write_superblock(0));
        region_.fence();  // P3 | done
        return {};
    }

private:
    /// Marks the group's blocks among [begin, end) of the region as in use.
    void mark(media::Group& group, std::uint64_t index, std::uint64_t begin,
              std::uint64_t end) const {
        const std::uint64_t first = index * media::kGroupBlocks;
        begin = std::max(begin, first);
        end = std::min(end, first + media::kGroupBlocks);
        for (std::uint64_t block = begin; block < end; ++block) {
            const std::uint64_t bit = block - first;
            group.bitmap[bit / 8] |= static_cast<media::u8>(1u << (bit % 8));
        }
    }

    [[nodiscard]] media::Group group(std::uint64_t index) const {
        const std::uint64_t block = media::group_block_of(index, layout_.zone_groups);
        media::Group group{};
        group.header = header_of(media::BlockKind::group, block, index);
        if (index % layout_.zone_groups == 0)
            mark(group, index, block, block + layout_.zone_groups);
        if (index == 0) {
            mark(group, index, 0, 2);
            mark(group, index, layout_.finished_block, layout_.finished_block + 1);
            mark(group, index, layout_.lanes_block, layout_.lanes_end());
            mark(group, index, layout_.chunk_block, layout_.chunk_block + 1);
            mark(group, index, kSuperCopyBlock, kSuperCopyBlock + 1);
        }
        mark(group, index, layout_.blocks, layout_.groups * media::kGroupBlocks);

        constexpr std::size_t kRunBytes = media::kRunBlocks / 8;
        for (std::size_t run = 0; run < media::kGroupRuns; ++run) {
            unsigned used = 0;
            for (std::size_t i = 0; i < kRunBytes; ++i)
                used += static_cast<unsigned>(std::popcount(group.bitmap[run * kRunBytes + i]));
            group.run_free[run] = static_cast<media::le16>(media::kRunBlocks - used);
            group.free_blocks += group.run_free[run];
        }
        return group;
    }

    /// Zone by zone: its group blocks stand together.
    Expected<void> write_groups() {
        std::vector<media::Group> zone(layout_.zone_groups);
        // All groups but the first of a zone and those at the region's ends are alike.
        const media::Group plain = plain_group();
        for (std::uint64_t begin = 0; begin < layout_.groups; begin += layout_.zone_groups) {
            for (std::uint64_t i = 0; i < layout_.zone_groups; ++i) {
                const std::uint64_t index = begin + i;
                zone[i] = media::Group{};
                if (index >= layout_.groups) continue;
                if (i != 0 && index + 1 != layout_.groups) {
                    zone[i] = plain;
                    zone[i].header =
                        header_of(media::BlockKind::group,
                                  media::group_block_of(index, layout_.zone_groups), index);
                } else {
                    zone[i] = group(index);
                }
                free_blocks_ += zone[i].free_blocks;
                sealed(seed_, zone[i]);
            }
            const std::uint64_t block = media::group_block_of(begin, layout_.zone_groups);
            const std::uint64_t count = std::min(layout_.zone_groups, layout_.blocks - block);
            TRY(region_.copy_in(block * kBlockBytes, std::as_bytes(std::span(zone).first(count))));
        }
        return {};
    }

    [[nodiscard]] static media::Group plain_group() {
        media::Group group{};
        group.free_blocks = media::kGroupBlocks;
        std::ranges::fill(group.run_free, static_cast<media::le16>(media::kRunBlocks));
        return group;
    }

    /// Lane 0 has all totals.
    Expected<void> write_lanes() {
        for (std::uint32_t lane = 0; lane < layout_.lane_count; ++lane) {
            const std::uint64_t offset =
                layout_.lanes_block * kBlockBytes + std::uint64_t{lane} * layout_.lane_bytes;
            TRY(region_.zero(offset, media::kLogOffset));
            media::LaneState state{};
            state.magic = media::kLaneStateMagic;
            state.lane = lane;
            if (lane == 0) {
                state.free_blocks = free_blocks_;
                state.inodes = 1;
            }
            TRY(region_.store_flush(offset + media::kLaneStateOffset, sealed(seed_, state)));
        }
        return {};
    }

    Expected<void> write_root_directory() {
        const std::uint64_t offset = layout_.chunk_block * kBlockBytes;
        media::ChunkHeader chunk{};
        chunk.magic = media::kChunkMagic;
        chunk.own_offset = offset;
        chunk.table = media::kTableInodes;
        chunk.chunk = 0;
        chunk.used = 1u << 0 | 1u << 1;

        media::Inode root{};
        root.magic = media::kInodeMagic;
        root.ino = kRootIno.value;
        root.generation = kGenerationFirst;
        root.mode = S_IFDIR | 0755;
        root.nlink = 2;
        root.uid = options_.root_uid;
        root.gid = options_.root_gid;
        root.flags = options_.dax ? media::kInodeDax : 0;
        root.atime = root.mtime = root.ctime = root.btime = options_.now.seconds;
        root.atime_ns = root.mtime_ns = root.ctime_ns = root.btime_ns = options_.now.nanoseconds;
        root.parent = kRootIno.value;
        root.segment = media::kSegmentRegion;

        std::array<std::byte, kBlockBytes> block{};
        std::ranges::copy(sealed(seed_, chunk), block.begin());
        std::ranges::copy(sealed(seed_, root), block.begin() + media::kSlotBytes);
        return region_.store_flush(offset, block);
    }

    Expected<void> write_state() {
        media::State state{};
        state.header = header_of(media::BlockKind::state, 1, 0);
        state.generation_limit = kGenerationFirst + 1;
        state.record_id_limit = kRecordIdFirst;
        state.inodes.root = layout_.chunk_block * kBlockBytes | media::kTableHasFree;
        state.inodes.window_chunks = 1;
        return region_.store_flush(kBlockBytes, sealed(seed_, state));
    }

    Expected<void> write_superblock(std::uint64_t offset) {
        media::Superblock super{};
        super.magic = media::kSuperMagic;
        super.own_offset = offset;
        std::ranges::copy(options_.uuid, super.uuid);
        std::memcpy(super.label, options_.label.data(), options_.label.size());
        super.region_bytes = bytes_;
        super.block_bytes = kBlockBytes;
        super.slot_bytes = media::kSlotBytes;
        super.group_blocks = media::kGroupBlocks;
        super.zone_groups = static_cast<media::le32>(layout_.zone_groups);
        super.map_unit_bytes = options_.map_unit_bytes;
        super.state_offset = kBlockBytes;
        super.finished_offset = layout_.finished_block * kBlockBytes;
        super.lanes_offset = layout_.lanes_block * kBlockBytes;
        super.lane_count = layout_.lane_count;
        super.lane_bytes = layout_.lane_bytes;
        super.name_hash_seed = options_.name_hash_seed;
        super.name_hash_bits = options_.name_hash_bits;
        super.checksum_seed = seed_;
        super.made_seconds = options_.now.seconds;
        return region_.store_flush(offset, sealed(kSuperChecksumSeed, super));
    }

    pmem::Region& region_;
    const MakeOptions& options_;
    const std::uint64_t bytes_;
    const Layout layout_;
    const std::uint32_t seed_;       // of all checksums but the superblock's
    std::uint64_t free_blocks_ = 0;  // of the region, once the groups are written
};

}  // namespace

Expected<void> make_file_system(pmem::Region& region, const MakeOptions& options) {
    const std::uint64_t bytes = round_down(region.bytes(), kBlockBytes);
    if (bytes < media::kRegionBytesMin) return fail(Cause::region_too_small);
    const bool map_unit_known =
        options.map_unit_bytes == kBlockBytes || options.map_unit_bytes == kRunBlocks * kBlockBytes;
    if (bytes > media::kRegionBytesMax || !map_unit_known ||
        options.label.size() > sizeof(media::Superblock::label) || options.name_hash_bits == 0 ||
        options.name_hash_bits > media::kNameHashBits || options.now.nanoseconds >= 1'000'000'000)
        return fail(Cause::invalid_argument);
    return Maker(region, options, bytes).make();
}

}  // namespace pinfs

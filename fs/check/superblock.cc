// SPDX-License-Identifier: Apache-2.0
#include "fs/check/superblock.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "fs/format/group.h"
#include "fs/format/lane.h"
#include "fs/format/state.h"
#include "fs/format/tree.h"

namespace pinfs::checking {
namespace {

using media::kBlockBytes;
using media::Superblock;

// FORMAT.md, "Where things stand". They bound what replay keeps in memory.
constexpr std::uint64_t kLanesMax = 1024;
constexpr std::uint64_t kLaneBytesMin = std::uint64_t{16} << 10;
constexpr std::uint64_t kLaneBytesMax = std::uint64_t{1} << 20;

struct SuperBlock {
    Superblock superblock;
    std::array<media::u8, kBlockBytes - sizeof(Superblock)> rest;
};
static_assert(sizeof(SuperBlock) == kBlockBytes);

enum class Worth : std::uint8_t { other, damaged, impossible, usable };

bool all_zero(std::span<const media::u8> bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](media::u8 byte) { return byte == 0; });
}

// The fixed areas, in blocks, that the superblock places.
struct Area {
    const char* name;
    std::uint64_t begin;
    std::uint64_t end;
};

bool meets(const Area& a, const Area& b) { return a.begin < b.end && b.begin < a.end; }

// Whether `area` meets the group blocks of any zone.
bool meets_group_blocks(const Area& area, const Superblock& superblock) {
    const std::uint64_t zone_blocks = std::uint64_t{superblock.zone_groups} * media::kGroupBlocks;
    for (std::uint64_t zone = area.begin / zone_blocks; zone * zone_blocks < area.end; ++zone) {
        const std::uint64_t begin =
            media::group_block_of(zone * superblock.zone_groups, superblock.zone_groups);
        if (meets(area, {"", begin, begin + superblock.zone_groups})) return true;
    }
    return false;
}

// Every size, place and count. Reports what cannot be; false if there is any.
bool geometry_is_possible(const Superblock& super, std::uint64_t at, Findings& findings) {
    bool possible = true;
    const auto require = [&](bool holds, const char* field, std::uint64_t value) {
        if (holds) return;
        possible = false;
        findings.add(FindingKind::superblock_geometry, at, 0, "the superblock's %s cannot be %lu",
                     field, value);
    };
    require(super.block_bytes == kBlockBytes, "block size", super.block_bytes);
    require(super.slot_bytes == media::kSlotBytes, "slot size", super.slot_bytes);
    require(super.group_blocks == media::kGroupBlocks, "group size", super.group_blocks);
    require(super.zone_groups == 1 || super.zone_groups == 16, "number of groups of a zone",
            super.zone_groups);
    require(super.region_bytes % kBlockBytes == 0 && super.region_bytes >= media::kRegionBytesMin &&
                super.region_bytes <= media::kRegionBytesMax,
            "region size", super.region_bytes);
    require(super.map_unit_bytes == kBlockBytes || super.map_unit_bytes == std::uint64_t{2} << 20,
            "map unit", super.map_unit_bytes);
    require(super.name_hash_bits >= 1 && super.name_hash_bits <= media::kNameHashBits,
            "number of name hash bits", super.name_hash_bits);
    require(super.state_offset == kBlockBytes, "place of the state block", super.state_offset);
    require(super.finished_offset % kBlockBytes == 0 && super.finished_offset < super.region_bytes,
            "place of the finished requests", super.finished_offset);
    require(super.lane_count >= 1 && super.lane_count <= kLanesMax, "number of lanes",
            super.lane_count);
    require(super.lane_bytes % kBlockBytes == 0 && super.lane_bytes >= kLaneBytesMin &&
                super.lane_bytes <= kLaneBytesMax,
            "lane size", super.lane_bytes);
    const std::uint64_t lanes_bytes = std::uint64_t{super.lane_count} * super.lane_bytes;
    require(super.lanes_offset % kBlockBytes == 0 && super.lanes_offset < super.region_bytes &&
                lanes_bytes <= super.region_bytes - super.lanes_offset,
            "place of the lanes", super.lanes_offset);
    if (!possible) return false;

    const std::uint64_t copy = media::kSuperCopyOffset / kBlockBytes;
    const std::uint64_t finished = super.finished_offset / kBlockBytes;
    const std::uint64_t lanes = super.lanes_offset / kBlockBytes;
    const std::array<Area, 5> areas{{{"superblock", 0, 1},
                                     {"state block", 1, 2},
                                     {"superblock's copy", copy, copy + 1},
                                     {"table of finished requests", finished, finished + 1},
                                     {"journal", lanes, lanes + lanes_bytes / kBlockBytes}}};
    for (std::size_t i = 0; i < areas.size(); ++i) {
        for (std::size_t j = i + 1; j < areas.size(); ++j) {
            if (!meets(areas[i], areas[j])) continue;
            possible = false;
            findings.add(FindingKind::superblock_geometry, at, 0, "the %s lies over the %s",
                         areas[j].name, areas[i].name);
        }
        if (!meets_group_blocks(areas[i], super)) continue;
        possible = false;
        findings.add(FindingKind::superblock_geometry, at, 0, "the %s lies over group blocks",
                     areas[i].name);
    }
    return possible;
}

Worth judge_one(const SuperBlock& block, std::uint64_t at, Findings& findings) {
    const bool primary = at == 0;
    const char* const name = primary ? "superblock" : "superblock's copy";
    const FindingKind damaged =
        primary ? FindingKind::superblock_damaged : FindingKind::superblock_copy_damaged;
    const Superblock& super = block.superblock;
    if (super.magic != media::kSuperMagic) {
        findings.add(damaged, at, 0, "no %s stands there: the magic is 0x%08x", name, super.magic);
        return Worth::other;
    }
    if (super.crc32c != unit_checksum(0xffffffff, std::as_bytes(std::span(&super, 1)))) {
        findings.add(damaged, at, 0, "the checksum of the %s does not match", name);
        return Worth::damaged;
    }
    if (super.own_offset != at) {
        findings.add(damaged, at, 0, "the %s says that it stands at %lu", name, super.own_offset);
        return Worth::damaged;
    }
    if (!all_zero(super.reserved) || !all_zero(block.rest))
        findings.add(FindingKind::superblock_reserved, at, 0,
                     "reserved bytes of the %s or behind it are not zero", name);
    const auto* const label_end = std::find(std::begin(super.label), std::end(super.label), 0);
    if (!all_zero({label_end, std::end(super.label)}))
        findings.add(FindingKind::superblock_reserved, at, 0,
                     "the bytes behind the label in the %s are not zero", name);
    // A later version may have other limits: its features are judged before its geometry.
    if ((super.incompatible & ~media::kIncompatibleKnown) != 0 ||
        (super.read_only & ~media::kReadOnlyKnown) != 0)
        return Worth::usable;
    return geometry_is_possible(super, at, findings) ? Worth::usable : Worth::impossible;
}

}  // namespace

Expected<std::optional<Superblock>> judge_superblocks(const Image& image,
                                                      std::uint64_t region_bytes) {
    SuperBlock primary{};
    SuperBlock copy{};
    const bool primary_read = image.read_into(0, primary);
    const bool copy_read = image.read_into(media::kSuperCopyOffset, copy);
    if (primary_read && copy_read && primary.superblock.magic != media::kSuperMagic &&
        copy.superblock.magic != media::kSuperMagic)
        return fail(Cause::no_superblock);

    const Worth primary_worth =
        primary_read ? judge_one(primary, 0, image.findings()) : Worth::damaged;
    const Worth copy_worth =
        copy_read ? judge_one(copy, media::kSuperCopyOffset, image.findings()) : Worth::damaged;

    const auto whole = [](Worth worth) {
        return worth >= Worth::impossible;
    };
    if (whole(primary_worth) && whole(copy_worth)) {
        Superblock same = copy.superblock;
        same.own_offset = primary.superblock.own_offset;
        same.crc32c = primary.superblock.crc32c;
        if (std::memcmp(&same, &primary.superblock, sizeof same) != 0)
            image.findings().add(FindingKind::superblock_copy_differs, media::kSuperCopyOffset, 0,
                                 "the superblock's copy is not what the superblock is");
    }

    const SuperBlock* chosen = nullptr;
    if (primary_worth == Worth::usable)
        chosen = &primary;
    else if (copy_worth == Worth::usable)
        chosen = &copy;
    if (chosen == nullptr) return std::optional<Superblock>{};
    const std::uint64_t at = chosen->superblock.own_offset;
    if ((chosen->superblock.incompatible & ~media::kIncompatibleKnown) != 0 ||
        (chosen->superblock.read_only & ~media::kReadOnlyKnown) != 0)
        return fail(Cause::feature_unknown, at);
    if (chosen->superblock.region_bytes > region_bytes)
        return fail(Cause::region_truncated, region_bytes);
    return std::optional{chosen->superblock};
}

}  // namespace pinfs::checking

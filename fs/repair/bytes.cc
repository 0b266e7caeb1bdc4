// SPDX-License-Identifier: Apache-2.0
//
// Units of which one byte is wrong (of 4 KiB: one bit). A checksum tells which: it changes for each
// in a way of its own. So nothing is lost, and what the unit says is proven. A unit that was
// overwritten looks like that once in 60,000 times; then it must also have the right magic and
// place.
#include <bit>

#include "fs/repair/work.h"

namespace pinfs::repairing {
namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78;  // CRC32C, reflected

// Bytes of the units that a finding of this kind may be about; 0: none with a checksum.
std::size_t unit_bytes_of(FindingKind kind) {
    switch (kind) {
        case FindingKind::state_damaged:
        case FindingKind::group_damaged:
        case FindingKind::table_node_damaged:
        case FindingKind::attributes_damaged:
        case FindingKind::tree_node_damaged:
            return kBlockBytes;
        case FindingKind::lane_state_damaged:
        case FindingKind::chunk_damaged:
        case FindingKind::inode_damaged:
        case FindingKind::record_damaged:
            return media::kSlotBytes;
        case FindingKind::finished_request:
            return sizeof(media::FinishedRequest);
        default:
            return 0;
    }
}

// Of the finding's unit as it must be: what damage cannot have made by chance.
bool is_in_its_place(const Finding& finding, std::span<const std::byte> unit) {
    media::BlockHeader block{};
    std::memcpy(&block, unit.data(), std::min(sizeof block, unit.size()));
    switch (finding.kind) {
        case FindingKind::lane_state_damaged:
            return block.magic == media::kLaneStateMagic;
        case FindingKind::chunk_damaged: {
            media::ChunkHeader chunk;
            std::memcpy(&chunk, unit.data(), sizeof chunk);
            return chunk.magic == media::kChunkMagic && chunk.own_offset == finding.offset;
        }
        case FindingKind::inode_damaged: {
            media::Inode inode;
            std::memcpy(&inode, unit.data(), sizeof inode);
            return inode.magic == media::kInodeMagic && inode.ino == finding.ino;
        }
        case FindingKind::record_damaged:
            return block.magic == media::kRecordMagic;
        case FindingKind::finished_request:
            return block.magic == media::kFinishedMagic;
        default:
            return block.magic == media::kBlockMagic && block.own_offset == finding.offset;
    }
}

}  // namespace

std::optional<WrongByte> wrong_byte(std::uint32_t seed, std::span<const std::byte> unit) {
    constexpr std::size_t kSumAt = 4;
    constexpr std::size_t kCoveredFrom = 8;
    std::uint32_t stored;
    std::memcpy(&stored, unit.data() + kSumAt, sizeof stored);
    const std::uint32_t difference = stored ^ unit_checksum(seed, unit);
    const auto is_one = [&](std::uint32_t bits) {
        return bits <= 0xff && (unit.size() < kBlockBytes || std::has_single_bit(bits));
    };
    if (difference == 0) return std::nullopt;
    for (std::size_t i = 0; i < sizeof stored; ++i) {
        const std::uint32_t bits = std::rotr(difference, static_cast<int>(8 * i));
        if (is_one(bits)) return WrongByte{kSumAt + i, static_cast<std::byte>(bits)};
    }
    // What the sum's register must have differed by before each byte, from the one that is summed
    // last: bytes [8, size), then [0, 4). A byte is added to its lowest bits.
    std::uint32_t before = difference;
    const auto is_in = [&](std::size_t byte) -> std::optional<WrongByte> {
        for (int bit = 0; bit < 8; ++bit)
            before = before >> 31 != 0 ? (before ^ kPolynomial) << 1 | 1 : before << 1;
        if (!is_one(before)) return std::nullopt;
        return WrongByte{byte, static_cast<std::byte>(before)};
    };
    for (std::size_t byte = kSumAt; byte-- > 0;)
        if (const auto found = is_in(byte)) return found;
    for (std::size_t byte = unit.size(); byte-- > kCoveredFrom;)
        if (const auto found = is_in(byte)) return found;
    return std::nullopt;
}

std::vector<WrongUnit> find_wrong_bytes(const Work& work) {
    std::vector<WrongUnit> found;
    std::set<std::uint64_t> offsets;
    for (const Finding& finding : work.findings()) {
        WrongUnit wrong{finding, {}};
        wrong.unit.resize(unit_bytes_of(finding.kind));
        if (wrong.unit.empty() || !work.region.read(finding.offset, wrong.unit)) continue;
        const auto byte = wrong_byte(work.super().checksum_seed, wrong.unit);
        if (!byte) continue;
        wrong.unit[byte->at] ^= byte->bits;
        if (is_in_its_place(finding, wrong.unit) && offsets.insert(finding.offset).second)
            found.push_back(std::move(wrong));
    }
    return found;
}

Expected<void> set_bytes_right(Work& work, std::span<const WrongUnit> units) {
    for (const auto& [finding, unit] : units) {
        TRY(work.writer.stage(finding.offset, unit));
        work.tell(
            finding.offset, finding.ino,
            "one byte of what stands there was wrong, as its checksum tells, and was set right");
    }
    return work.writer.commit();
}

}  // namespace pinfs::repairing

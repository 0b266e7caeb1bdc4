// SPDX-License-Identifier: Apache-2.0
//
// Reading the superblock: the first copy that is whole, checked against the region it is on. And
// changing what it says of the file system's identity.
#include <algorithm>
#include <array>
#include <cstring>

#include "fs/checksum.h"
#include "fs/format/group.h"
#include "fs/format/lane.h"
#include "fs/volume/core.h"

namespace pinfs {

namespace {

constexpr std::uint32_t kSuperSeed = 0xffffffff;

media::Superblock copy_at(std::uint64_t offset, media::Superblock super) {
    super.own_offset = offset;
    super.crc32c = unit_checksum(kSuperSeed, std::as_bytes(std::span{&super, 1}));
    return super;
}

Expected<void> store_copy(pmem::Region& region, std::uint64_t offset,
                          const media::Superblock& super) {
    const media::Superblock copy = copy_at(offset, super);
    return region.store_flush(offset, std::as_bytes(std::span{&copy, 1}));
}

enum class Copy : std::uint8_t { good, missing, damaged };

Expected<Copy> read_copy(pmem::Region& region, std::uint64_t offset, media::Superblock& out) {
    if (offset + sizeof out > region.bytes()) return Copy::missing;
    TRY(region.read(offset, std::as_writable_bytes(std::span{&out, 1})));
    if (out.magic != media::kSuperMagic) return Copy::missing;
    if (out.crc32c != unit_checksum(kSuperSeed, std::as_bytes(std::span{&out, 1})) ||
        out.own_offset != offset)
        return Copy::damaged;
    return Copy::good;
}

/// Every field that is used as a place or a length, so that no later code has to doubt them.
Expected<void> check_geometry(const media::Superblock& super, std::uint64_t region_bytes) {
    const std::uint64_t at = super.own_offset;
    const auto is_place = [&](std::uint64_t offset, std::uint64_t bytes) {
        return offset % kBlockBytes == 0 && offset >= kBlockBytes && bytes <= super.region_bytes &&
               offset <= super.region_bytes - bytes;
    };
    if (super.incompatible & ~media::kIncompatibleKnown) return fail(Cause::feature_unknown, at);
    if (super.block_bytes != kBlockBytes || super.slot_bytes != media::kSlotBytes ||
        super.group_blocks != media::kGroupBlocks ||
        (super.zone_groups != 1 && super.zone_groups != 16) ||
        super.region_bytes % kBlockBytes != 0 || super.region_bytes < media::kRegionBytesMin ||
        super.region_bytes > media::kRegionBytesMax)
        return fail(Cause::media_corrupt, at);
    if (super.region_bytes > region_bytes) return fail(Cause::region_truncated, at);
    const std::uint64_t lane_bytes = std::uint64_t{super.lane_count} * super.lane_bytes;
    if (super.lane_count == 0 || super.lane_count > 1024 || super.lane_bytes % kBlockBytes != 0 ||
        super.lane_bytes < 4 * kBlockBytes || super.lane_bytes > (1u << 20) ||
        !is_place(super.lanes_offset, lane_bytes) || !is_place(super.state_offset, kBlockBytes) ||
        !is_place(super.finished_offset, kBlockBytes))
        return fail(Cause::media_corrupt, at);
    if (super.name_hash_bits < 1 || super.name_hash_bits > media::kNameHashBits ||
        (super.map_unit_bytes != kBlockBytes && super.map_unit_bytes != kRunBlocks * kBlockBytes))
        return fail(Cause::media_corrupt, at);
    return {};
}

/// Whether a first block without our magic is the rest of one that was ours: the uuid is still
/// there, or the block is all zeros and the state block behind it is as we write it.
bool was_ours(pmem::Region& region, const media::Superblock& first,
              const media::Superblock& second) {
    if (std::memcmp(first.uuid, second.uuid, sizeof first.uuid) == 0) return true;
    std::array<std::byte, kBlockBytes> block{};
    if (!region.read(0, block) ||
        std::ranges::any_of(block, [](std::byte byte) { return byte != std::byte{0}; }))
        return false;
    return journal::Units{region, second.checksum_seed}
        .read_block(second.state_offset,
                    {.kind = media::BlockKind::state, .owner = 0, .generation = 0}, block)
        .has_value();
}

}  // namespace

Expected<media::Superblock> read_superblock(pmem::Region& region, bool repair) {
    media::Superblock first;
    media::Superblock second;
    // A copy that does not load is damaged; the other one may serve.
    const auto look = [&](std::uint64_t offset, media::Superblock& out) {
        const auto found = read_copy(region, offset, out);
        return found ? *found : Copy::damaged;
    };
    Copy first_is = look(0, first);
    const Copy second_is = look(media::kSuperCopyOffset, second);
    // Whatever else stands at the start now is somebody else's: the copy must not bring us back.
    if (first_is == Copy::missing && second_is == Copy::good) {
        if (!was_ours(region, first, second)) return fail(Cause::no_superblock);
        first_is = Copy::damaged;
    }
    if (first_is != Copy::good && second_is != Copy::good) {
        // Two copies without so much as a magic: not ours.
        if (first_is == Copy::missing && second_is == Copy::missing)
            return fail(Cause::no_superblock);
        return fail(Cause::bad_checksum, first_is == Copy::damaged ? 0 : media::kSuperCopyOffset);
    }
    const media::Superblock& super = first_is == Copy::good ? first : second;
    TRY(check_geometry(super, region.bytes()));
    // Two whole ones differ where a change of identity was cut short.
    const bool both_good = first_is == Copy::good && second_is == Copy::good;
    const media::Superblock wanted = copy_at(media::kSuperCopyOffset, super);
    const bool agree = both_good && std::memcmp(&wanted, &second, sizeof second) == 0;
    // Fenced with the first commit of the mount; until then the next mount does it again.
    if (!agree && repair)
        TRY(store_copy(region, first_is == Copy::good ? media::kSuperCopyOffset : 0, super));
    return super;
}

Expected<void> verify_superblock(pmem::Region& region, std::uint64_t offset) {
    media::Superblock super;
    const Copy copy = TRY(read_copy(region, offset, super));
    if (copy != Copy::good) return fail(Cause::bad_checksum, offset);
    return {};
}

///   P1  the first superblock: from here on the new identity holds
///   P2  its copy
/// A fence stands after each. Cut inside P1, the copy still has the old identity; between P1 and P2
/// the next mount brings the copy up to date.
Expected<void> change_identity(pmem::Region& region, const IdentityChange& change) {
    media::Superblock super = TRY(read_superblock(region, /*repair=*/true));
    region.fence();  // a copy that was damaged is whole before the other one changes
    if (change.uuid) std::ranges::copy(*change.uuid, super.uuid);
    if (change.label) {
        if (change.label->size() > sizeof super.label) return fail(Cause::invalid_argument);
        std::ranges::fill(super.label, media::u8{0});
        std::ranges::copy(*change.label, super.label);
    }
    TRY(store_copy(region, 0, super));  // P1
    region.fence();
    TRY(store_copy(region, media::kSuperCopyOffset, super));  // P2
    region.fence();
    return {};
}

}  // namespace pinfs

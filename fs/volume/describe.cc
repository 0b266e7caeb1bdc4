// SPDX-License-Identifier: Apache-2.0
#include "fs/volume/describe.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <span>
#include <thread>

#include "fs/checksum.h"
#include "fs/format/group.h"
#include "fs/format/lane.h"
#include "fs/format/state.h"
#include "fs/format/superblock.h"
#include "fs/volume/core.h"

namespace pinfs {
namespace {

/// One checksummed unit. A daemon may be storing it, so a wrong sum is looked at again for a while.
template <class Unit>
Expected<Unit> read_unit(const pmem::Region& region, std::uint64_t offset, std::uint32_t seed,
                         std::uint32_t magic) {
    constexpr int kAttempts = 50;
    Unit unit;
    const auto bytes = std::as_writable_bytes(std::span{&unit, 1});
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        if (attempt > 0) std::this_thread::sleep_for(std::chrono::milliseconds{1});
        TRY(region.read(offset, bytes));
        std::uint32_t head[2];  // every unit begins with {magic, crc32c}
        std::memcpy(head, bytes.data(), sizeof(head));
        if (head[0] != magic) return fail(Cause::bad_magic, offset);
        if (head[1] == unit_checksum(seed, bytes)) return unit;
    }
    return fail(Cause::bad_checksum, offset);
}

std::string text_of(std::span<const media::u8> field) {
    const auto end = std::find(field.begin(), field.end(), 0);
    return {field.begin(), end};
}

template <std::size_t kCount>
std::array<std::uint8_t, kCount> array_of(const media::u8 (&field)[kCount]) {
    std::array<std::uint8_t, kCount> array;
    std::copy_n(field, kCount, array.begin());
    return array;
}

Description description_of(const media::Superblock& superblock) {
    Description description;
    description.uuid = array_of(superblock.uuid);
    description.label = text_of(superblock.label);
    description.region_bytes = superblock.region_bytes;
    description.block_bytes = superblock.block_bytes;
    description.map_unit_bytes = superblock.map_unit_bytes;
    description.blocks = superblock.region_bytes / media::kBlockBytes;
    description.groups = (description.blocks + media::kGroupBlocks - 1) / media::kGroupBlocks;
    description.lanes = superblock.lane_count;
    description.lane_bytes = superblock.lane_bytes;
    description.incompatible = superblock.incompatible;
    description.read_only = superblock.read_only;
    description.compatible = superblock.compatible;
    description.made_seconds = superblock.made_seconds;
    description.from_copy = superblock.own_offset != 0;
    return description;
}

Expected<void> add_state(const pmem::Region& region, const media::Superblock& superblock,
                         Description& description) {
    const auto state = TRY(read_unit<media::State>(region, superblock.state_offset,
                                                   superblock.checksum_seed, media::kBlockMagic));
    description.mounted = state.mounted != 0;
    description.mount_count = state.mount_count;
    description.mount_seconds = state.mount_seconds;
    description.unmount_seconds = state.unmount_seconds;
    description.machine_id = array_of(state.machine_id);
    description.boot_id = array_of(state.boot_id);
    description.host_name = text_of(state.host_name);
    description.mount_pid = state.mount_pid;
    for (const media::BadRange& bad : state.bad)
        if (bad.blocks != 0) description.bad_blocks.push_back({bad.begin, bad.blocks});
    description.bad_unlisted = state.bad_unlisted != 0;
    return {};
}

Expected<void> add_lanes(const pmem::Region& region, const media::Superblock& superblock,
                         Description& description) {
    for (std::uint64_t lane = 0; lane < superblock.lane_count; ++lane) {
        const std::uint64_t at = superblock.lanes_offset + lane * superblock.lane_bytes;
        media::Seal seal;
        TRY(region.read(at + media::kSealOffset, std::as_writable_bytes(std::span{&seal, 1})));
        if (seal.log_bytes != 0) ++description.lanes_to_replay;
        const auto totals =
            TRY(read_unit<media::LaneState>(region, at + media::kLaneStateOffset,
                                            superblock.checksum_seed, media::kLaneStateMagic));
        description.blocks_free += totals.free_blocks;  // modulo 2^64, see FORMAT.md
        description.inodes += totals.inodes;
    }
    return {};
}

Expected<void> add_free_runs(const pmem::Region& region, const media::Superblock& superblock,
                             Description& description) {
    for (std::uint64_t index = 0; index < description.groups; ++index) {
        const std::uint64_t at =
            media::group_block_of(index, superblock.zone_groups) * media::kBlockBytes;
        const auto group =
            TRY(read_unit<media::Group>(region, at, superblock.checksum_seed, media::kBlockMagic));
        for (const media::le16 free : group.run_free)
            if (free == media::kRunBlocks) description.free_run_blocks += free;
    }
    return {};
}

}  // namespace

Expected<Description> describe(pmem::Region& region) {
    Description description = TRY(describe_state(region));
    const media::Superblock superblock = TRY(read_superblock(region, /*repair=*/false));
    TRY(add_free_runs(region, superblock, description));
    return description;
}

Expected<Description> describe_state(pmem::Region& region) {
    const media::Superblock superblock = TRY(read_superblock(region, /*repair=*/false));
    Description description = description_of(superblock);
    TRY(add_state(region, superblock, description));
    TRY(add_lanes(region, superblock, description));
    return description;
}

Expected<Description> describe_identity(pmem::Region& region) {
    return description_of(TRY(read_superblock(region, /*repair=*/false)));
}

std::string uuid_text(const std::array<std::uint8_t, 16>& uuid) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (std::size_t i = 0; i < uuid.size(); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
        text += kDigits[uuid[i] >> 4];
        text += kDigits[uuid[i] & 15];
    }
    return text;
}

}  // namespace pinfs

// SPDX-License-Identifier: Apache-2.0
#include "fs/check/state.h"

#include <algorithm>
#include <array>

#include "fs/format/lane.h"

namespace pinfs::checking {
namespace {

constexpr std::uint32_t kErrnoMax = 4095;

bool low_bits_are_zero(std::uint64_t generation) { return (generation & 0xffffffff) == 0; }

/// In order, inside the region, none touching the next, and zeros behind them.
void judge_bad_blocks(const Image& image, const media::State& state) {
    const auto wrong = [&](std::size_t entry) {
        image.findings().add(FindingKind::state_bad_blocks, image.superblock().state_offset, 0,
                             "entry %zu of %u bad blocks in the state block is %u from block %lu",
                             entry, unsigned{state.bad_ranges}, unsigned{state.bad[entry].blocks},
                             std::uint64_t{state.bad[entry].begin});
    };
    if (state.bad_ranges > media::kBadRangesMax || state.bad_unlisted > 1)
        image.findings().add(FindingKind::state_bad_blocks, image.superblock().state_offset, 0,
                             "the state block counts %u bad ranges, and %u",
                             unsigned{state.bad_ranges}, unsigned{state.bad_unlisted});
    std::uint64_t end = 0;
    for (std::size_t i = 0; i < media::kBadRangesMax; ++i) {
        const media::BadRange& bad = state.bad[i];
        if (i >= state.bad_ranges) {
            if (bad.begin != 0 || bad.blocks != 0) return wrong(i);
            continue;
        }
        const bool is_after = i == 0 || bad.begin > end;
        if (!is_after || bad.blocks == 0 || bad.begin >= image.blocks() ||
            bad.blocks > image.blocks() - bad.begin)
            return wrong(i);
        end = bad.begin + bad.blocks;
    }
}

}  // namespace

std::optional<media::State> judge_state(const Image& image) {
    const std::uint64_t offset = image.superblock().state_offset;
    media::State state;
    if (!image.read_block({media::BlockKind::state, offset, 0, 0, 0, FindingKind::state_damaged, 0,
                           "state block"},
                          state))
        return std::nullopt;
    const auto wrong = [&](const char* field, std::uint64_t value) {
        image.findings().add(FindingKind::state_field, offset, 0, "%s in the state block is %lu",
                             field, value);
    };
    if (state.mounted > 1) wrong("mounted", state.mounted);
    if (state.generation_limit == 0) wrong("generation_limit", state.generation_limit);
    judge_bad_blocks(image, state);
    return state;
}

void judge_finished_requests(const Image& image, std::uint64_t generation_limit) {
    const std::uint64_t offset = image.superblock().finished_offset;
    std::array<media::FinishedRequest, media::kFinishedSlots> slots;
    if (!image.read_into(offset, slots)) return;
    for (std::size_t i = 0; i < slots.size(); ++i) {
        const media::FinishedRequest& slot = slots[i];
        const auto wrong = [&](const char* what) {
            image.findings().add(FindingKind::finished_request, offset + i * sizeof slot, 0,
                                 "slot %zu of the finished requests %s", i, what);
        };
        if (slot.magic == 0) {
            const auto bytes = std::as_bytes(std::span(&slot, 1));
            if (std::any_of(bytes.begin(), bytes.end(),
                            [](std::byte b) { return b != std::byte{0}; }))
                wrong("is unused but not zero");
            continue;
        }
        if (slot.magic != media::kFinishedMagic)
            wrong("has another magic");
        else if (!image.sum_matches(slot))
            wrong("has a checksum that does not match");
        else if (slot.error_number > kErrnoMax)
            wrong("has an error number that is none");
        else if (slot.ino == 0
                     ? slot.generation != 0
                     : slot.generation >= generation_limit || low_bits_are_zero(slot.generation))
            wrong("has a generation that its inode cannot have");
    }
}

LaneTotals judge_lane_states(const Image& image) {
    const media::Superblock& super = image.superblock();
    LaneTotals totals;
    for (std::uint32_t lane = 0; lane < super.lane_count; ++lane) {
        const std::uint64_t offset =
            super.lanes_offset + std::uint64_t{lane} * super.lane_bytes + media::kLaneStateOffset;
        media::LaneState state;
        if (!image.read_into(offset, state)) {
            totals.known = false;
            continue;
        }
        const char* wrong = nullptr;
        if (state.magic != media::kLaneStateMagic)
            wrong = "has another magic";
        else if (!image.sum_matches(state))
            wrong = "has a checksum that does not match";
        else if (state.lane != lane)
            wrong = "is another lane's";
        if (wrong != nullptr) {
            image.findings().add(FindingKind::lane_state_damaged, offset, 0,
                                 "the state of lane %u %s", lane, wrong);
            totals.known = false;
            continue;
        }
        totals.free_blocks += state.free_blocks;
        totals.inodes += state.inodes;
    }
    return totals;
}

}  // namespace pinfs::checking

// SPDX-License-Identifier: Apache-2.0
#include "fs/check/state.h"

#include <algorithm>
#include <array>

#include "fs/format/lane.h"

namespace pinfs::checking {
namespace {

constexpr std::uint32_t kErrnoMax = 4095;

bool low_bits_are_zero(std::uint64_t generation) { return (generation & 0xffffffff) == 0; }

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
    if (state.bad_blocks != 0) wrong("bad_blocks", state.bad_blocks);
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

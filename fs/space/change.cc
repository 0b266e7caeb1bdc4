// SPDX-License-Identifier: Apache-2.0
#include "fs/space/change.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <mutex>
#include <set>

#include "fs/memory_reserve.h"

namespace pinfs::space {

namespace {

/// Log bytes a group block may cost: bitmap, summary and header records, when all of it changes.
constexpr std::size_t kGroupLogBytesMax = media::kGroupBlocks / 8 + 256;
/// And when a few scattered bits change.
constexpr std::size_t kRunLogBytes = 64;
constexpr std::uint64_t kWordBits = 64;

template <class Visit>
void for_each_group(BlockRun run, const Visit& visit) {
    for (std::uint64_t at = run.begin; at < run.end();) {
        const std::uint64_t group = at / media::kGroupBlocks;
        const std::uint64_t stop = std::min(run.end(), (group + 1) * media::kGroupBlocks);
        visit(group, BlockRun{at, stop - at});
        at = stop;
    }
}

}  // namespace

Change::~Change() {
    for (const BlockRun run : aside_) allocator_.release(run);
    if (committed_) return;
    for (const BlockRun run : allocated_) allocator_.release(run);
}

Expected<std::vector<BlockRun>> Change::allocate(Request request) {
    request.reserve = reserve_;
    std::vector<BlockRun> runs;
    TRY(allocator_.reserve(request, runs));
    try {
        allocated_.insert(allocated_.end(), runs.begin(), runs.end());
    } catch (...) {
        for (const BlockRun run : runs) allocator_.release(run);
        throw;
    }
    return runs;
}

Expected<void> Change::set_aside(std::uint64_t blocks) {
    return allocator_.reserve({.blocks = blocks, .reserve = reserve_}, aside_);
}

Expected<std::uint64_t> Change::allocate_block(std::uint64_t goal) {
    if (!aside_.empty()) {
        BlockRun& run = aside_.back();
        const std::uint64_t block = run.begin;
        allocated_.push_back({block, 1});
        run = {run.begin + 1, run.count - 1};
        if (run.count == 0) aside_.pop_back();
        return block * kBlockBytes;
    }
    const auto runs = TRY(allocate({.blocks = 1, .goal = goal, .aligned = false}));
    return runs.front().begin * kBlockBytes;
}

void Change::free(BlockRun run) {
    assert(run.count > 0);
    freed_.push_back(run);
}

void Change::free_block(std::uint64_t offset) {
    transaction_.drop(offset);
    const std::uint64_t block = offset / kBlockBytes;
    // A block that this very change allocated was never in use: its reservation just ends.
    for (auto it = allocated_.begin(); it != allocated_.end(); ++it)
        if (*it == BlockRun{block, 1}) {
            allocated_.erase(it);
            allocator_.release({block, 1});
            return;
        }
    free({block, 1});
}

bool Change::has_room(std::size_t spare_bytes) const {
    std::size_t bytes = spare_bytes + transaction_.log_bytes_max();
    for (const auto* runs : {&allocated_, &freed_})
        for (const BlockRun run : *runs)
            for_each_group(run, [&](std::uint64_t, BlockRun piece) {
                bytes += std::min(kGroupLogBytesMax, piece.count / 8 + kRunLogBytes * 3);
            });
    return bytes <= journal_.log_bytes_max();
}

Expected<void> Change::mark(std::uint64_t group, bool to_used, const std::vector<BlockRun>& runs) {
    const std::uint64_t offset = allocator_.group_offset(group);
    const auto bytes = TRY(transaction_.edit_block(
        offset, {.kind = media::BlockKind::group, .owner = group, .generation = 0}));
    auto& block = *reinterpret_cast<media::Group*>(bytes.data());
    for (const BlockRun run : runs) {
        Expected<void> marked;
        for_each_group(run, [&](std::uint64_t of, BlockRun piece) {
            if (of != group) return;
            // By words: a file's surplus of blocks is given back at each release.
            for (std::uint64_t at = piece.begin; at < piece.end();) {
                const std::uint64_t bit = at % media::kGroupBlocks;
                const std::uint64_t count =
                    std::min<std::uint64_t>(kWordBits - bit % kWordBits, piece.end() - at);
                const std::uint64_t mask = UINT64_MAX >> (kWordBits - count) << bit % kWordBits;
                media::u8* const place = &block.bitmap[bit / kWordBits * sizeof(std::uint64_t)];
                std::uint64_t word = 0;
                std::memcpy(&word, place, sizeof word);
                if (((to_used ? word : ~word) & mask) != 0) {
                    marked = fail(Cause::media_corrupt, offset);
                    return;
                }
                word ^= mask;
                std::memcpy(place, &word, sizeof word);
                const std::uint64_t more_free = to_used ? 0 - count : count;
                auto& in_run = block.run_free[bit / media::kRunBlocks];
                in_run = static_cast<std::uint16_t>(in_run + more_free);
                block.free_blocks = static_cast<std::uint32_t>(block.free_blocks + more_free);
                at += count;
            }
        });
        TRY(std::move(marked));
    }
    return {};
}

Expected<void> Change::commit() {
    assert(!committed_);
    for (const BlockRun run : freed_)
        if (run.begin == 0 || run.begin >= allocator_.region_blocks() ||
            run.count > allocator_.region_blocks() - run.begin)
            return fail(Cause::media_corrupt, run.begin * kBlockBytes);
    std::set<std::uint64_t> groups;
    std::uint64_t free_added = 0;
    for (const BlockRun run : allocated_) {
        for_each_group(run, [&](std::uint64_t group, BlockRun) { groups.insert(group); });
        free_added -= run.count;
    }
    for (const BlockRun run : freed_) {
        for_each_group(run, [&](std::uint64_t group, BlockRun) { groups.insert(group); });
        free_added += run.count;
    }
    {
        std::vector<std::unique_lock<RankedMutex<LockRank::group>>> locks;
        for (const std::uint64_t group : groups) locks.emplace_back(allocator_.group_lock(group));
        for (const std::uint64_t group : groups) {
            TRY(allocator_.load(group));
            TRY(mark(group, true, allocated_));
            TRY(mark(group, false, freed_));
        }
        TRY(journal_.commit(transaction_, {.free_blocks = free_added, .inodes = inodes_added_}));
        committed_ = true;
        const MustFinish actions;
        for (const auto& action : actions_) action();
    }
    for (const BlockRun run : freed_) {
        units_.forget(run);
        allocator_.release(run);
    }
    return {};
}

}  // namespace pinfs::space

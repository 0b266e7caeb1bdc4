// SPDX-License-Identifier: Apache-2.0
#include "fs/space/allocator.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <mutex>

namespace pinfs::space {

namespace {

constexpr std::uint64_t kWordBits = 64;
constexpr std::uint64_t kRunWords = media::kRunBlocks / kWordBits;
constexpr std::uint64_t kReserveMin = 8;
constexpr std::uint64_t kReserveMax = 4096;
/// Groups in which a broken run is looked for before a whole one is broken; of a group with so many
/// whole ones, one of its own is.
constexpr std::uint64_t kLooksMax = 64;
constexpr std::uint64_t kStretchMin = 64;  // blocks of a piece, where several are taken for one
constexpr std::ptrdiff_t kWholeRunsMany = media::kGroupRuns / 2;

/// Threads start their search in different groups, so that their files do not mix.
std::uint64_t thread_slot() {
    static std::atomic<std::uint64_t> next{0};
    thread_local const std::uint64_t slot = next.fetch_add(1, std::memory_order_relaxed);
    return slot;
}

void append(std::vector<BlockRun>& runs, BlockRun run) {
    if (!runs.empty() && runs.back().end() == run.begin)
        runs.back().count += run.count;
    else
        runs.push_back(run);
}

}  // namespace

/// Busy bits of one group, with what makes looking fast.
struct Allocator::Group {
    RankedMutex<LockRank::group> mutex;
    bool loaded = false;
    std::atomic<std::uint32_t> free{media::kGroupBlocks};  // a hint while not locked
    std::array<std::uint16_t, media::kGroupRuns> run_free{};
    std::array<std::uint64_t, media::kGroupBlocks / kWordBits> busy{};

    [[nodiscard]] bool is_busy(std::uint64_t bit) const {
        return (busy[bit / kWordBits] >> (bit % kWordBits) & 1) != 0;
    }
    /// First free bit at or after `from` and below `end`; `end` if there is none.
    [[nodiscard]] std::uint64_t first_free(std::uint64_t from, std::uint64_t end) const {
        while (from < end) {
            const std::uint64_t word = ~busy[from / kWordBits] >> (from % kWordBits);
            if (word != 0)
                return std::min(end, from + static_cast<std::uint64_t>(std::countr_zero(word)));
            from = (from / kWordBits + 1) * kWordBits;
        }
        return end;
    }
    /// First busy bit at or after `from` and below `end`; `end` if there is none.
    [[nodiscard]] std::uint64_t first_busy(std::uint64_t from, std::uint64_t end) const {
        while (from < end) {
            const std::uint64_t word = busy[from / kWordBits] >> (from % kWordBits);
            if (word != 0)
                return std::min(end, from + static_cast<std::uint64_t>(std::countr_zero(word)));
            from = (from / kWordBits + 1) * kWordBits;
        }
        return end;
    }
    /// Marks [begin, end) busy or free, bits that all are the other way now.
    void mark(std::uint64_t begin, std::uint64_t end, bool to_busy) {
        for (std::uint64_t bit = begin; bit < end;) {
            const std::uint64_t stop = std::min(end, (bit / kWordBits + 1) * kWordBits);
            const std::uint64_t count = stop - bit;
            const std::uint64_t mask =
                (count == kWordBits ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1)
                << (bit % kWordBits);
            auto& word = busy[bit / kWordBits];
            assert((word & mask) == (to_busy ? 0 : mask));
            word = to_busy ? word | mask : word & ~mask;
            auto& in_run = run_free[bit / media::kRunBlocks];
            in_run = static_cast<std::uint16_t>(to_busy ? in_run - count : in_run + count);
            bit = stop;
        }
        const auto count = static_cast<std::uint32_t>(end - begin);
        if (to_busy)
            free.fetch_sub(count, std::memory_order_relaxed);
        else
            free.fetch_add(count, std::memory_order_relaxed);
    }
};

Allocator::Allocator(const journal::Units& units, std::uint64_t region_blocks,
                     std::uint64_t zone_groups)
    : units_{units},
      region_blocks_{region_blocks},
      zone_groups_{zone_groups},
      group_count_{(region_blocks + media::kGroupBlocks - 1) / media::kGroupBlocks},
      reserve_blocks_{std::max(kReserveMin, std::min(region_blocks / 200, kReserveMax))},
      groups_(group_count_) {}

Allocator::~Allocator() {
    for (auto& group : groups_) delete group.load();
}

Allocator::Group& Allocator::group_at(std::uint64_t index) {
    assert(index < group_count_);
    Group* group = groups_[index].load(std::memory_order_acquire);
    if (group != nullptr) return *group;
    auto made = std::make_unique<Group>();
    if (groups_[index].compare_exchange_strong(group, made.get(), std::memory_order_acq_rel))
        return *made.release();
    return *group;
}

RankedMutex<LockRank::group>& Allocator::group_lock(std::uint64_t group) {
    return group_at(group).mutex;
}

Expected<void> Allocator::load(std::uint64_t group) { return load(group_at(group), group); }

Expected<media::Group> Allocator::read(std::uint64_t index) const {
    const std::uint64_t offset = group_offset(index);
    media::Group block;
    TRY(units_.read_block(offset,
                          {.kind = media::BlockKind::group, .owner = index, .generation = 0},
                          std::as_writable_bytes(std::span{&block, 1})));
    std::array<std::uint64_t, media::kGroupBlocks / kWordBits> bits{};
    std::memcpy(bits.data(), block.bitmap, sizeof block.bitmap);
    std::uint32_t free = 0;
    for (std::size_t run = 0; run < media::kGroupRuns; ++run) {
        std::uint64_t busy = 0;
        for (std::size_t word = 0; word < kRunWords; ++word)
            busy += static_cast<std::uint64_t>(std::popcount(bits[run * kRunWords + word]));
        if (block.run_free[run] != media::kRunBlocks - busy)
            return fail(Cause::media_corrupt, offset);
        free += block.run_free[run];
    }
    if (free != block.free_blocks) return fail(Cause::media_corrupt, offset);
    return block;
}

Expected<void> Allocator::load(Group& group, std::uint64_t index) {
    if (group.loaded) return {};
    const media::Group block = TRY(read(index));
    std::memcpy(group.busy.data(), block.bitmap, sizeof block.bitmap);
    std::ranges::copy(block.run_free, group.run_free.begin());
    group.free.store(block.free_blocks, std::memory_order_relaxed);
    group.loaded = true;
    return {};
}

Expected<void> Allocator::verify(std::uint64_t group) {
    const std::scoped_lock lock{group_lock(group)};
    TRY(read(group));
    return {};
}

/// Visits every group once, from `first_group` on and round, until nothing more is wanted.
template <class Take>
Expected<void> Allocator::sweep(std::uint64_t first_group, std::uint64_t& wanted,
                                const Take& take) {
    for (std::uint64_t i = 0; i < group_count_ && wanted > 0; ++i) {
        const std::uint64_t index = (first_group + i) % group_count_;
        Group& group = group_at(index);
        if (group.free.load(std::memory_order_relaxed) == 0) continue;
        const std::scoped_lock lock{group.mutex};
        TRY(load(group, index));
        take(group, index * media::kGroupBlocks);
    }
    return {};
}

Expected<void> Allocator::take_blocks(const Request& request, std::vector<BlockRun>& runs) {
    std::uint64_t wanted = request.blocks;
    std::uint64_t goal = request.goal;
    const auto grab = [&](Group& group, std::uint64_t base, std::uint64_t begin,
                          std::uint64_t end) {
        append(runs, {base + begin, end - begin});  // first: it may throw
        group.mark(begin, end, true);
        wanted -= end - begin;
        goal = base + end;
    };
    // As many as are free from the goal on, in its group.
    const auto go_on = [&](std::uint64_t most) -> Expected<void> {
        if (goal == 0 || goal >= region_blocks_ || most == 0) return {};
        const std::uint64_t index = goal / media::kGroupBlocks;
        Group& group = group_at(index);
        const std::scoped_lock lock{group.mutex};
        TRY(load(group, index));
        const std::uint64_t begin = goal % media::kGroupBlocks;
        const std::uint64_t end =
            group.first_busy(begin, std::min<std::uint64_t>(begin + most, media::kGroupBlocks));
        if (end > begin) grab(group, index * media::kGroupBlocks, begin, end);
        return {};
    };
    // `count` in one piece, less than a run, out of runs that are broken already, or of whole ones;
    // true if there was one.
    const auto piece_in = [&](Group& group, std::uint64_t base, std::uint64_t count, bool broken) {
        for (std::size_t run = 0; run < media::kGroupRuns; ++run) {
            const std::uint64_t free = group.run_free[run];
            if (free < count || (free < media::kRunBlocks) != broken) continue;
            const std::uint64_t end = (run + 1) * media::kRunBlocks;
            for (std::uint64_t at = group.first_free(run * media::kRunBlocks, end); at < end;) {
                const std::uint64_t stop = group.first_busy(at, std::min(at + count, end));
                if (stop - at == count) {
                    grab(group, base, at, stop);
                    return true;
                }
                at = group.first_free(stop, end);
            }
        }
        return false;
    };
    const std::uint64_t first_group = request.goal != 0 && request.goal < region_blocks_
                                          ? request.goal / media::kGroupBlocks
                                          : thread_slot() % group_count_;
    // Free stretches of at least `least` blocks, of broken runs or of any.
    const auto stretches_in = [&](Group& group, std::uint64_t base, std::uint64_t least,
                                  bool broken, std::uint64_t& count) {
        for (std::size_t run = 0; run < media::kGroupRuns && count > 0; ++run) {
            const std::uint64_t free = group.run_free[run];
            if (free < std::min(least, count) || (broken && free == media::kRunBlocks)) continue;
            const std::uint64_t end = (run + 1) * media::kRunBlocks;
            for (std::uint64_t at = group.first_free(run * media::kRunBlocks, end);
                 at < end && count > 0;) {
                const std::uint64_t stop = group.first_busy(at, std::min(at + count, end));
                if (stop - at >= std::min(least, count)) {
                    grab(group, base, at, stop);
                    count -= stop - at;
                }
                at = group.first_free(stop, end);
            }
        }
    };
    // Before one of the last whole runs is broken: others that are, and several pieces.
    const auto take_broken = [&](std::uint64_t& count) -> Expected<void> {
        for (const bool in_one : {true, false}) {
            std::uint64_t looks = kLooksMax;
            TRY(sweep(first_group, looks, [&](Group& group, std::uint64_t base) {
                // Threads keep to their groups, as long as those have whole runs enough.
                const bool own = looks == kLooksMax;
                if (!in_one)
                    stretches_in(group, base, kStretchMin, /*broken=*/true, count);
                else if (piece_in(group, base, count, true) ||
                         (own &&
                          std::ranges::count(group.run_free, media::kRunBlocks) >= kWholeRunsMany &&
                          piece_in(group, base, count, false)))
                    count = 0;
                looks = count == 0 ? 0 : looks - 1;
            }));
            if (count <= kStretchMin) return {};
        }
        return {};
    };
    // In one piece if there is one, else in the largest there are, roughly.
    const auto take = [&](std::uint64_t count) -> Expected<void> {
        if (count < media::kRunBlocks) {
            TRY(take_broken(count));
            TRY(sweep(first_group, count, [&](Group& group, std::uint64_t base) {
                if (piece_in(group, base, count, true) || piece_in(group, base, count, false))
                    count = 0;
            }));
        }
        for (const std::uint64_t least : {256, 64, 16, 1})
            TRY(sweep(first_group, count, [&](Group& group, std::uint64_t base) {
                stretches_in(group, base, least, /*broken=*/false, count);
            }));
        return {};
    };
    const auto to_boundary = [&] {
        const std::uint64_t next = request.file_block + (request.blocks - wanted);
        return round_up(next, media::kRunBlocks) - next;
    };

    if (!request.aligned || goal % media::kRunBlocks == request.file_block % media::kRunBlocks)
        TRY(go_on(wanted));
    else
        TRY(go_on(std::min(wanted, to_boundary())));
    if (request.aligned && wanted >= to_boundary() + media::kRunBlocks) {
        if (const std::uint64_t head = to_boundary(); head > 0) TRY(take(head));
        // Whole free runs only, neighbours in one piece; a tail shorter than a run comes below.
        std::uint64_t in_runs = round_down(wanted, media::kRunBlocks);
        TRY(sweep(first_group, in_runs, [&](Group& group, std::uint64_t base) {
            for (std::size_t run = 0; run < media::kGroupRuns && in_runs > 0; ++run) {
                if (group.run_free[run] != media::kRunBlocks) continue;
                const std::uint64_t begin = run * media::kRunBlocks;
                grab(group, base, begin, begin + media::kRunBlocks);
                in_runs -= media::kRunBlocks;
            }
        }));
        TRY(go_on(wanted));
    }
    if (wanted > 0) TRY(take(wanted));
    return wanted == 0 ? Expected<void>{} : fail(Cause::no_space);
}

/// Blocks that were counted, and those that were taken of them: they go back unless kept.
struct Allocator::Reservation {
    Reservation(Allocator& of, std::uint64_t counted) : allocator{of}, blocks{counted} {}
    ~Reservation() {
        if (kept) return;
        std::uint64_t in_runs = 0;
        for (const BlockRun run : taken) in_runs += run.count;
        allocator.free_blocks_.fetch_add(blocks - in_runs);
        for (const BlockRun run : taken) allocator.release(run);
    }
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;

    Allocator& allocator;
    const std::uint64_t blocks;
    std::vector<BlockRun> taken;
    bool kept = false;
};

Expected<void> Allocator::reserve(const Request& request, std::vector<BlockRun>& runs) {
    const std::uint64_t kept = request.reserve == Reserve::keep   ? reserve_blocks_
                               : request.reserve == Reserve::half ? reserve_blocks_ / 2
                                                                  : 0;
    std::uint64_t free = free_blocks();
    do {
        if (free < request.blocks || free - request.blocks < kept) return fail(Cause::no_space);
    } while (!free_blocks_.compare_exchange_weak(free, free - request.blocks));

    Reservation reservation{*this, request.blocks};
    // The count says yes and the bitmaps no only where blocks are just moving, or media is wrong.
    TRY(take_blocks(request, reservation.taken));
    runs.reserve(runs.size() + reservation.taken.size());
    for (const BlockRun run : reservation.taken) append(runs, run);
    reservation.kept = true;
    return {};
}

Expected<bool> Allocator::reserve_exactly(std::uint64_t block) {
    if (block >= region_blocks_) return false;
    Group& group = group_at(block / media::kGroupBlocks);
    const std::uint64_t bit = block % media::kGroupBlocks;
    const std::scoped_lock lock{group.mutex};
    TRY(load(group, block / media::kGroupBlocks));
    if (group.first_busy(bit, bit + 1) == bit) return false;
    // Free blocks that are promised to somebody else already are taken by count first.
    for (std::uint64_t free = free_blocks(); !free_blocks_.compare_exchange_weak(free, free - 1);)
        if (free == 0) return false;
    group.mark(bit, bit + 1, true);
    return true;
}

void Allocator::release(BlockRun run) {
    for (std::uint64_t at = run.begin; at < run.end();) {
        const std::uint64_t index = at / media::kGroupBlocks;
        const std::uint64_t base = index * media::kGroupBlocks;
        const std::uint64_t stop = std::min(run.end(), base + media::kGroupBlocks);
        Group& group = group_at(index);
        const std::scoped_lock lock{group.mutex};
        assert(group.loaded);
        group.mark(at - base, stop - base, false);
        at = stop;
    }
    free_blocks_.fetch_add(run.count);
}

Expected<std::uint64_t> Allocator::free_in_whole_runs() {
    std::uint64_t blocks = 0;
    for (std::uint64_t index = 0; index < group_count_; ++index) {
        Group& group = group_at(index);
        const std::scoped_lock lock{group.mutex};
        TRY(load(group, index));
        for (const std::uint16_t free : group.run_free)
            if (free == media::kRunBlocks) blocks += free;
    }
    return blocks;
}

}  // namespace pinfs::space

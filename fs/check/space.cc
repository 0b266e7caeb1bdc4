// SPDX-License-Identifier: Apache-2.0
#include "fs/check/space.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "fs/format/group.h"

namespace pinfs::checking {
namespace {

constexpr std::size_t kGroupWords = media::kGroupBlocks / 64;
constexpr std::size_t kRunWords = media::kRunBlocks / 64;
using Bits = std::array<std::uint64_t, kGroupWords>;

// Gathers blocks of one fault, in rising order, and reports a run of them as one finding.
class Runs {
public:
    Runs(const Image& image, FindingKind kind, const char* fault)
        : image_(image), kind_(kind), fault_(fault) {}

    void add(std::uint64_t first_block, std::uint64_t word) {
        for (; word != 0; word &= word - 1) {
            const std::uint64_t block =
                first_block + static_cast<std::uint64_t>(std::countr_zero(word));
            if (run_.count == 0 || run_.end() != block) {
                flush();
                run_ = {block, 0};
            }
            ++run_.count;
        }
    }
    void flush() {
        if (run_.count == 0) return;
        image_.findings().add(kind_, run_.begin * kBlockBytes, 0, "%lu %s %s", run_.count,
                              run_.count == 1 ? "block is" : "blocks from there on are", fault_);
        run_ = {};
    }

private:
    const Image& image_;
    FindingKind kind_;
    const char* fault_;
    BlockRun run_;
};

// 1 for each block of the group that the region does not reach.
std::uint64_t beyond_end(std::uint64_t word_begin, std::uint64_t blocks) {
    if (word_begin + 64 <= blocks) return 0;
    if (word_begin >= blocks) return ~std::uint64_t{0};
    return ~std::uint64_t{0} << (blocks - word_begin);
}

// The group's counts against its own bitmap.
void judge_counts(const Image& image, const media::Group& group, const Bits& bits) {
    const std::uint64_t offset = group.header.own_offset;
    std::uint64_t free_blocks = 0;
    for (std::size_t run = 0; run < media::kGroupRuns; ++run) {
        std::uint64_t free = 0;
        for (std::size_t word = run * kRunWords; word < (run + 1) * kRunWords; ++word)
            free += static_cast<std::uint64_t>(std::popcount(~bits[word]));
        if (free != group.run_free[run])
            image.findings().add(FindingKind::group_run_free, offset, 0,
                                 "group %lu counts %u free blocks in its run %zu, the bitmap %lu",
                                 group.header.owner, group.run_free[run], run, free);
        free_blocks += free;
    }
    if (free_blocks != group.free_blocks)
        image.findings().add(FindingKind::group_free, offset, 0,
                             "group %lu counts %u free blocks, its bitmap %lu", group.header.owner,
                             group.free_blocks, free_blocks);
}

// Group blocks for which the region has no group.
void judge_unused_groups(const Image& image) {
    const std::uint64_t zone_groups = image.superblock().zone_groups;
    const std::uint64_t groups = image.groups();
    const std::uint64_t end = (groups + zone_groups - 1) / zone_groups * zone_groups;
    for (std::uint64_t index = groups; index < end; ++index) {
        const std::uint64_t block = media::group_block_of(index, zone_groups);
        if (block >= image.blocks()) return;
        std::array<std::uint64_t, kBlockBytes / 8> words;
        if (image.read_into(block * kBlockBytes, words) &&
            std::any_of(words.begin(), words.end(), [](std::uint64_t word) { return word != 0; }))
            image.findings().add(FindingKind::group_unused, block * kBlockBytes, 0,
                                 "the block of group %lu, which the region does not have, is not "
                                 "zero",
                                 index);
    }
}

}  // namespace

Space judge_groups(const Image& image, const Claims* claims) {
    Space space;
    Runs lost(image, FindingKind::block_lost, "in use in the bitmap, but nobody owns them");
    Runs free_but_owned(image, FindingKind::block_not_allocated,
                        "free in the bitmap, but owned, or beyond the end of the region");
    media::Group group;
    Bits bits;
    for (std::uint64_t index = 0; index < image.groups(); ++index) {
        const std::uint64_t offset =
            media::group_block_of(index, image.superblock().zone_groups) * kBlockBytes;
        const std::uint64_t first_block = index * media::kGroupBlocks;
        const std::uint64_t* const claimed =
            claims == nullptr ? nullptr : claims->words() + index * kGroupWords;
        if (claimed != nullptr)
            for (std::size_t word = 0; word < kGroupWords; ++word)
                space.claimed += static_cast<std::uint64_t>(std::popcount(claimed[word]));
        if (!image.holds_block(offset) ||
            !image.read_block({media::BlockKind::group, offset, index, 0, 0,
                               FindingKind::group_damaged, 0, "group block"},
                              group)) {
            space.known = false;
            continue;
        }
        std::memcpy(bits.data(), group.bitmap, sizeof group.bitmap);
        space.free_blocks += group.free_blocks;
        judge_counts(image, group, bits);
        for (std::size_t word = 0; word < kGroupWords; ++word) {
            const std::uint64_t begin = first_block + word * 64;
            const std::uint64_t beyond = beyond_end(begin, image.blocks());
            const std::uint64_t owned =
                claimed != nullptr ? claimed[word] | beyond : bits[word] | beyond;
            if (owned == bits[word]) [[likely]]
                continue;
            lost.add(begin, bits[word] & ~owned);
            free_but_owned.add(begin, owned & ~bits[word]);
        }
    }
    lost.flush();
    free_but_owned.flush();
    judge_unused_groups(image);
    return space;
}

}  // namespace pinfs::checking

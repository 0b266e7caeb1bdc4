// SPDX-License-Identifier: Apache-2.0
#include "fs/check/claims.h"

#include <algorithm>
#include <bit>
#include <new>

#include "fs/format/group.h"

namespace pinfs::checking {

std::string name_of(const Owner& owner) {
    const std::string id = std::to_string(owner.id);
    switch (owner.kind) {
        case OwnerKind::superblock:
            return "a superblock";
        case OwnerKind::state:
            return "the state block";
        case OwnerKind::finished:
            return "the table of finished requests";
        case OwnerKind::lane:
            return "lane " + id + " of the journal";
        case OwnerKind::group:
            return "the block of group " + id;
        case OwnerKind::inode_table:
            return "the index of the inode table";
        case OwnerKind::inode_chunk:
            return "chunk " + id + " of the inode table";
        case OwnerKind::record_table:
            return "the index of the record table";
        case OwnerKind::record_chunk:
            return "chunk " + id + " of the record table";
        case OwnerKind::tree:
            return "the tree of inode " + id;
        case OwnerKind::attributes:
            return "the extended attributes of inode " + id;
        case OwnerKind::data:
            return "the data of inode " + id;
        case OwnerKind::hold:
            return "hold " + id;
    }
    return "something unknown";
}

Claims::Claims(std::uint64_t blocks, std::size_t shared_max)
    : allowance_(2 * blocks), shared_max_(shared_max) {
    // Whole groups, so that a group's bits can be compared at once. Zeroed by calloc: pages of a
    // large region that are not touched take no memory.
    const std::uint64_t groups = (blocks + media::kGroupBlocks - 1) / media::kGroupBlocks;
    words_.reset(static_cast<std::uint64_t*>(
        std::calloc(groups * (media::kGroupBlocks / 64), sizeof(std::uint64_t))));
    if (words_ == nullptr) throw std::bad_alloc();
}

bool Claims::take(std::uint64_t begin, std::uint64_t count, Owner owner) {
    if (count > allowance_) return false;
    allowance_ -= count;
    const std::uint64_t end = begin + count;
    if (!watched_.empty()) note_watched(begin, end, owner);
    bool fresh = true;
    for (std::uint64_t block = begin; block < end;) {
        const std::uint64_t bit = block % 64;
        const std::uint64_t length = std::min<std::uint64_t>(64 - bit, end - block);
        const std::uint64_t mask =
            (length == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << length) - 1) << bit;
        std::uint64_t& word = words_[block / 64];
        if ((word & mask) != 0) [[unlikely]] {
            fresh = false;
            note_shared(block - bit, word & mask);
        }
        word |= mask;
        block += length;
    }
    return fresh;
}

// `bits` are those of the 64 blocks from `begin` on that are shared.
void Claims::note_shared(std::uint64_t begin, std::uint64_t bits) {
    while (bits != 0) {
        const auto first = static_cast<unsigned>(std::countr_zero(bits));
        const auto count = static_cast<unsigned>(std::countr_one(bits >> first));
        const BlockRun run{begin + first, count};
        if (!shared_.empty() && shared_.back().end() == run.begin)
            shared_.back().count += run.count;
        else if (shared_.size() < shared_max_)
            shared_.push_back(run);
        else
            return;
        if (first + count == 64) return;
        bits &= ~std::uint64_t{0} << (first + count);
    }
}

void Claims::watch(std::vector<BlockRun> runs, std::size_t owners_max) {
    owners_max_ = owners_max;
    // Three claims to one place leave it twice; overlapping runs become one.
    std::sort(runs.begin(), runs.end());
    for (const BlockRun& run : runs) {
        if (!watched_.empty() && run.begin < watched_.back().run.end()) {
            BlockRun& last = watched_.back().run;
            last.count = std::max(last.end(), run.end()) - last.begin;
        } else {
            watched_.push_back({run, {}, 0});
        }
    }
}

void Claims::note_watched(std::uint64_t begin, std::uint64_t end, const Owner& owner) {
    auto watched = std::lower_bound(
        watched_.begin(), watched_.end(), begin,
        [](const Watched& candidate, std::uint64_t block) { return candidate.run.end() <= block; });
    for (; watched != watched_.end() && watched->run.begin < end; ++watched) {
        if (watched->owners.size() < owners_max_)
            watched->owners.push_back(owner);
        else
            ++watched->more;
    }
}

}  // namespace pinfs::checking

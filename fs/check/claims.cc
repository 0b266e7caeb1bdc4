// SPDX-License-Identifier: Apache-2.0
#include "fs/check/claims.h"

#include <algorithm>
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

Claims::Claims(std::uint64_t blocks) {
    // Whole groups, so that a group's bits can be compared at once. Zeroed by calloc: pages of a
    // large region that are not touched take no memory.
    const std::uint64_t groups = (blocks + media::kGroupBlocks - 1) / media::kGroupBlocks;
    words_.reset(static_cast<std::uint64_t*>(
        std::calloc(groups * (media::kGroupBlocks / 64), sizeof(std::uint64_t))));
    if (words_ == nullptr) throw std::bad_alloc();
}

bool Claims::take(std::uint64_t begin, std::uint64_t count, Owner owner) {
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
            for (std::uint64_t i = 0; i < length; ++i)
                if ((word >> (bit + i) & 1) != 0) note_shared(block + i);
        }
        word |= mask;
        block += length;
    }
    return fresh;
}

void Claims::note_shared(std::uint64_t block) {
    if (!shared_.empty() && shared_.back().end() == block) {
        ++shared_.back().count;
        return;
    }
    if (shared_.size() < kSharedMax) shared_.push_back({block, 1});
}

void Claims::watch(std::vector<BlockRun> runs) {
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
        if (watched->owners.size() < kOwnersMax)
            watched->owners.push_back(owner);
        else
            ++watched->more;
    }
}

}  // namespace pinfs::checking

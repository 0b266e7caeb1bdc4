// SPDX-License-Identifier: Apache-2.0
//
// The layers below a volume, one by one, over an empty file system in memory.
#pragma once

#include <cstring>

#include "fs/inode/table.h"
#include "fs/journal/journal.h"
#include "fs/space/allocator.h"
#include "fs/space/change.h"
#include "fs/volume/core.h"
#include "tests/support/mounted.h"

namespace pinfs::test {

class Layers {
public:
    explicit Layers(std::uint64_t bytes)
        : memory_{bytes}, region_{memory_.bytes(), capabilities(), nullptr} {
        make_empty(region_, memory_.bytes(), {.bytes = bytes});
        super_ = must(read_superblock(region_, false));
        units_.emplace(region_, super_.checksum_seed);
        open();
    }

    /// As after a crash: memory of the layers is gone, media is replayed.
    journal::Replay open() {
        table_.reset();
        allocator_.reset();
        journal_.emplace(
            *units_, journal::Geometry{super_.lanes_offset, super_.lane_count, super_.lane_bytes});
        const auto replay = must(journal_->replay(false));
        const auto totals = must(journal_->load_totals());
        allocator_.emplace(*units_, super_.region_bytes / kBlockBytes, super_.zone_groups);
        allocator_->set_free_blocks(totals.free_blocks);
        table_.emplace(*units_, media::kTableInodes, super_.state_offset,
                       offsetof(media::State, inodes), table_mutex_);
        must(table_->load());
        table_->set_used(totals.inodes);
        return replay;
    }

    space::Change change(space::Reserve reserve = space::Reserve::keep) {
        return {*journal_, *units_, *allocator_, reserve};
    }

    [[nodiscard]] std::span<std::byte> memory() const { return memory_.bytes(); }
    pmem::Region& region() { return region_; }
    const media::Superblock& super() const { return super_; }
    journal::Units& units() { return *units_; }
    journal::Journal& journal() { return *journal_; }
    space::Allocator& allocator() { return *allocator_; }
    inode::Table& table() { return *table_; }

private:
    static pmem::Capabilities capabilities() {
        pmem::Capabilities found;
        found.kind = pmem::Kind::tmpfs;
        found.flush = pmem::Flush::none;
        return found;
    }

    Memory memory_;
    pmem::Region region_;
    media::Superblock super_{};
    std::optional<journal::Units> units_;
    std::optional<journal::Journal> journal_;
    std::optional<space::Allocator> allocator_;
    RankedMutex<LockRank::inode_chunk> table_mutex_;
    std::optional<inode::Table> table_;
};

}  // namespace pinfs::test

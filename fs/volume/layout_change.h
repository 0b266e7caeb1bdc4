// SPDX-License-Identifier: Apache-2.0
//
// Taking blocks away from a file that others may have mapped (SPEC 2.5, 3.8): what a map, or
// something whose owner is gone, may reach becomes a hold, in the same change; maps show old blocks
// from then on and their owners are told. Whether the blocks may be taken was decided before
// (Core::admit_layout_change).
//
// One per step: begun with the inode locked and the range held exclusively, before the lock of the
// tables, which it takes; gone after the change is committed.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "fs/volume/core.h"

namespace pinfs {

class Volume::Core::LayoutChange final : public inode::TakeAway {
public:
    /// The tables are locked if somebody may reach blocks of the file, and `with_tables` otherwise
    /// too.
    LayoutChange(Core& core, InodeState& state, const media::Inode& inode,
                 bool with_tables = false);
    /// Wakes whom it told.
    ~LayoutChange() override;
    LayoutChange(const LayoutChange&) = delete;
    LayoutChange& operator=(const LayoutChange&) = delete;

    /// Before the change is begun. Errors: as those of a commit.
    Expected<void> prepare();
    /// For Extents::remove_some.
    [[nodiscard]] const inode::TakeAway* away() const { return file_ == nullptr ? nullptr : this; }
    /// Whether a pin or an exclusive lease meets file blocks [begin, end).
    [[nodiscard]] bool is_forbidden(std::uint64_t begin_block, std::uint64_t end_block) const {
        return file_ != nullptr &&
               !file_->admit_change(begin_block * kBlockBytes, end_block * kBlockBytes);
    }
    /// Leases on file blocks [begin, end) are told when `change` is committed.
    void tell(Change& change, std::uint64_t begin_block, std::uint64_t end_block);

    /// Ends records of the file that nobody owns any more, as many as `change` has room for; true
    /// if there were any. All its blocks went before.
    Expected<bool> take_gone(Change& change, std::size_t spare_bytes);

    [[nodiscard]] std::uint64_t begin_of_last(std::uint64_t begin,
                                              std::uint64_t end) const override;
    Expected<void> take(Change& change, std::uint64_t file_block, BlockRun run) const override;

private:
    struct Piece {
        std::uint64_t begin = 0;  // file blocks
        std::uint64_t end = 0;
        std::vector<std::uint64_t> maps;
        const pin::Reference* first = nullptr;  // for whom it is held
        bool needs_proof = false;
        bool may_be_mapped = false;
    };
    /// The parts of file blocks [begin, end) that somebody may reach; nullopt if they are many.
    [[nodiscard]] std::optional<std::vector<Piece>> reached(std::uint64_t begin,
                                                            std::uint64_t end) const;
    void blocks_went(std::uint64_t begin_block, std::uint64_t end_block) const;

    Core& core_;
    InodeState& state_;
    const std::uint64_t ino_generation_;
    std::optional<PinsLock> pins_;
    pin::FilePins* file_ = nullptr;
    std::optional<TableLock> table_;
};

}  // namespace pinfs

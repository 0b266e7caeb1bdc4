// SPDX-License-Identifier: Apache-2.0
//
// What stands in units with a wrong checksum: extents that may be right, and inodes.
#pragma once

#include <optional>
#include <vector>

#include "fs/repair/content.h"

namespace pinfs::repairing {

/// Extents of which nothing says whose they are but units that are wrong themselves. Each is
/// offered; then one is believed if its blocks are in use, are nobody's who can prove it, and were
/// offered once.
class DoubtfulExtents {
public:
    explicit DoubtfulExtents(Work& work) : work_(work) {}

    /// Blocks of extents that are proven, though the survey did not reach them.
    void prove(const media::Extent& extent);
    void prove_block(std::uint64_t block) { proven_[block] = true; }
    void offer(const media::Extent& extent);
    [[nodiscard]] bool is_believed(const media::Extent& extent) const;

private:
    [[nodiscard]] bool is_inside(const media::Extent& extent) const;
    [[nodiscard]] bool may_be(const media::Extent& extent) const;

    Work& work_;
    std::vector<bool> proven_ = std::vector<bool>(work_.survey.image.blocks());
    std::vector<bool> offered_ = std::vector<bool>(work_.survey.image.blocks());
    std::vector<bool> contested_ = std::vector<bool>(work_.survey.image.blocks());
};

/// Inodes with a wrong checksum: what they say is kept as far as it can be and nobody else proves
/// the contrary; they are root's alone from then on, for who may see them is not proven either.
class DoubtfulInodes {
public:
    explicit DoubtfulInodes(Work& work) : work_(work) {}

    /// `inode` is what stands in the slot of `ino`. False: it is none. Its checksum is still to be
    /// set.
    bool mend(media::Inode& inode, std::uint64_t ino);

private:
    [[nodiscard]] bool may_be(const media::Inode& inode, std::uint64_t ino) const;
    void look_around();
    void look_at_chunk(std::uint64_t offset, bool is_known, std::vector<media::Inode>& doubtful);
    void keep_extents(media::Inode& inode);
    void keep_entries(media::Inode& inode);
    void keep_size(media::Inode& inode);

    Work& work_;
    std::optional<DoubtfulExtents> extents_;  // once it was looked around
    LostLeaves lost_leaves_;
};

}  // namespace pinfs::repairing

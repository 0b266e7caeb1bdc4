// SPDX-License-Identifier: Apache-2.0
//
// What the region holds once its journal is applied: reads go to the region and then through an
// overlay of the sealed logs' bytes. Hides the overlay, bounds, checksums and media errors.
//
// Invariants
//   - Nothing is stored in the region; the overlay's memory is that of the sealed logs.
//   - Every offset that media names is tested by `holds_block` before it is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fs/check/findings.h"
#include "fs/checksum.h"
#include "fs/format/superblock.h"
#include "fs/pmem/region.h"

namespace pinfs::checking {

/// What the header of a metadata block must say.
struct BlockWanted {
    media::BlockKind kind;
    std::uint64_t offset = 0;
    std::uint64_t owner = 0;
    std::uint64_t generation = 0;
    unsigned level = 0;
    FindingKind finding;    ///< reported where it does not
    std::uint64_t ino = 0;  ///< for the report
    const char* what;       ///< for the report, e.g. "tree node"
};

class Image {
public:
    Image(const pmem::Region& region, Findings& findings) : region_(region), findings_(findings) {}
    /// The same, leaving its findings elsewhere.
    Image(const Image& other, Findings& findings)
        : region_(other.region_),
          findings_(findings),
          superblock_(other.superblock_),
          blocks_(other.blocks_),
          overlay_(other.overlay_) {}

    /// To be called once, before anything but `read` and `findings` is used.
    void set_superblock(const media::Superblock& superblock) {
        superblock_ = superblock;
        blocks_ = superblock.region_bytes / media::kBlockBytes;
    }
    [[nodiscard]] const media::Superblock& superblock() const { return superblock_; }
    [[nodiscard]] std::uint64_t blocks() const { return blocks_; }
    [[nodiscard]] std::uint64_t groups() const {
        return (blocks_ + superblock_.group_blocks - 1) / superblock_.group_blocks;
    }
    [[nodiscard]] Findings& findings() const { return findings_; }

    /// A block-aligned offset of a block inside the region, other than block 0.
    [[nodiscard]] bool holds_block(std::uint64_t offset) const {
        return offset != 0 && offset % media::kBlockBytes == 0 &&
               offset / media::kBlockBytes < blocks_;
    }

    /// Copies out what stands at `offset`, inside the region; false after a finding (`unreadable`).
    bool read(std::uint64_t offset, std::span<std::byte> out, std::uint64_t ino = 0) const;
    template <class T>
    bool read_into(std::uint64_t offset, T& out, std::uint64_t ino = 0) const {
        return read(offset, std::as_writable_bytes(std::span(&out, 1)), ino);
    }
    /// As read_into, without the overlay.
    template <class T>
    bool read_unreplayed(std::uint64_t offset, T& out) const {
        return read_media(offset, std::as_writable_bytes(std::span(&out, 1)), 0);
    }

    /// The checksum of a unit is right.
    template <class T>
    [[nodiscard]] bool sum_matches(const T& unit) const {
        const auto bytes = std::as_bytes(std::span(&unit, 1));
        std::uint32_t sum;
        __builtin_memcpy(&sum, bytes.data() + 4, sizeof sum);
        return sum == unit_checksum(superblock_.checksum_seed, bytes);
    }

    /// Reads a metadata block, beginning with a BlockHeader, and compares its header with what is
    /// wanted (all but used_bytes; `next` unless it is an attributes block). False after a finding.
    template <class Block>
    bool read_block(const BlockWanted& wanted, Block& block) const {
        static_assert(sizeof(Block) == media::kBlockBytes);
        return read_into(wanted.offset, block, wanted.ino) &&
               header_is(wanted, block.header, sum_matches(block));
    }

    /// Lays `bytes`, which must outlive the image, over what stands at `offset`, over what was laid
    /// there before. `seal_overlay` must follow before the next read.
    void lay_over(std::uint64_t offset, std::span<const std::byte> bytes);
    void seal_overlay();

private:
    // A part of a record within one block.
    struct Patch {
        std::uint64_t block;
        std::uint32_t order;
        std::uint16_t begin;
        std::uint16_t bytes;
        const std::byte* data;
    };

    bool read_media(std::uint64_t offset, std::span<std::byte> out, std::uint64_t ino) const;
    bool header_is(const BlockWanted& wanted, const media::BlockHeader& header,
                   bool sum_matches) const;

    const pmem::Region& region_;
    Findings& findings_;
    media::Superblock superblock_{};
    std::uint64_t blocks_ = 0;
    std::vector<Patch> overlay_;  // sorted by block, then order
};

}  // namespace pinfs::checking

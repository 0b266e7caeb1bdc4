// SPDX-License-Identifier: Apache-2.0
//
// Damage at random places of an image made by hand: single values, bits, blocks over others; with
// right checksums or without.
#pragma once

#include <algorithm>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "fs/format/table.h"
#include "fs/format/unit.h"
#include "tests/support/hand_image.h"

namespace pinfs::test {

using Random = std::mt19937_64;

inline std::uint64_t below(Random& random, std::uint64_t limit) { return random() % limit; }

/// Values that break sums and limits more often than others do.
inline std::uint64_t odd_value(Random& random) {
    switch (below(random, 6)) {
        case 0:
            return 0;
        case 1:
            return ~std::uint64_t{0} - below(random, 3);
        case 2:
            return std::uint64_t{1} << below(random, 64);
        case 3:
            return below(random, 1024) * media::kBlockBytes;
        case 4:
            return below(random, 300);
        default:
            return random();
    }
}

/// Sets the checksum of every unit in the block, whatever unit it may be.
inline void seal_block(HandImage& image, std::uint64_t offset) {
    media::le32 magic = image.at<media::le32>(offset);
    if (magic == media::kBlockMagic) image.seal(offset, media::kBlockBytes);
    if (magic == media::kSuperMagic) image.seal_superblock(offset);
    for (std::uint64_t at = offset; at < offset + media::kBlockBytes; at += media::kSlotBytes) {
        magic = image.at<media::le32>(at);
        if (magic == media::kChunkMagic || magic == media::kInodeMagic ||
            magic == media::kRecordMagic || magic == media::kLaneStateMagic)
            image.seal(at, media::kSlotBytes);
    }
}

/// What one checksum covers.
struct Unit {
    std::uint64_t offset;
    std::uint64_t bytes;
    std::uint64_t ino;  ///< whose it is; 0: nobody's
};

/// All of metadata that is in use, but the superblocks and the journal.
inline std::vector<Unit> units_of(std::span<const std::byte> memory) {
    std::vector<Unit> units;
    for (std::uint64_t at = 0; at < memory.size(); at += kBlockBytes) {
        media::BlockHeader header;
        std::memcpy(&header, memory.data() + at, sizeof header);
        if (header.magic == media::kBlockMagic && header.own_offset == at) {
            const bool is_of_inode = header.kind >= static_cast<int>(media::BlockKind::extent_tree);
            units.push_back({at, kBlockBytes, is_of_inode ? header.owner : 0});
        }
        media::ChunkHeader chunk;
        std::memcpy(&chunk, memory.data() + at, sizeof chunk);
        if (chunk.magic != media::kChunkMagic || chunk.own_offset != at) continue;
        for (std::uint64_t slot = 0; slot < media::kChunkSlots; ++slot)
            if ((chunk.used >> slot & 1) != 0)
                units.push_back({at + slot * media::kSlotBytes, media::kSlotBytes,
                                 slot == 0 ? 0 : chunk.chunk * media::kChunkSlots + slot});
    }
    return units;
}

class RandomDamage {
public:
    /// Blocks that are not one byte again and again (nothing, or a file's data) are what is
    /// damaged.
    explicit RandomDamage(std::span<const std::byte> pristine) {
        for (std::uint64_t at = 0; at < pristine.size(); at += media::kBlockBytes)
            if (std::ranges::any_of(pristine.subspan(at, media::kBlockBytes),
                                    [&](std::byte byte) { return byte != pristine[at]; }))
                blocks_.push_back(at);
    }

    /// Up to `places_max` places; returns the blocks.
    std::vector<std::uint64_t> apply(HandImage& image, Random& random, std::uint64_t places_max,
                                     bool seal) const {
        std::vector<std::uint64_t> changed;
        for (std::uint64_t left = 1 + below(random, places_max); left > 0; --left) {
            const std::uint64_t block = blocks_[below(random, blocks_.size())];
            changed.push_back(block);
            const std::uint64_t at = block + below(random, media::kBlockBytes / 8) * 8;
            switch (below(random, 4)) {
                case 0:
                    image.at<std::uint64_t>(at) = odd_value(random);
                    break;
                case 1:
                    image.at<std::uint32_t>(at + 4 * below(random, 2)) =
                        static_cast<std::uint32_t>(odd_value(random));
                    break;
                case 2:
                    image.at<std::uint8_t>(at) ^= static_cast<std::uint8_t>(1u << below(random, 8));
                    break;
                default:  // one block over another
                    std::memcpy(image.memory().data() + block,
                                image.memory().data() + blocks_[below(random, blocks_.size())],
                                media::kBlockBytes);
            }
            if (seal) seal_block(image, block);
        }
        return changed;
    }

private:
    std::vector<std::uint64_t> blocks_;
};

}  // namespace pinfs::test

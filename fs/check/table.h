// SPDX-License-Identifier: Apache-2.0
//
// The walk of a table of slots (inodes, or records): index blocks, their bits, and chunk headers.
// Hides the index; who walks sees chunks in rising order.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "fs/check/claims.h"
#include "fs/check/image.h"
#include "fs/format/state.h"
#include "fs/format/table.h"

namespace pinfs::checking {

/// A chunk as it stands in its block.
struct Chunk {
    media::ChunkHeader header;
    std::array<std::array<media::u8, media::kSlotBytes>, media::kChunkSlots - 1> slots;  // 1..15
};
static_assert(sizeof(Chunk) == media::kBlockBytes);

class TableWalk {
public:
    /// Called for each chunk that was claimed and read; with `header_whole` false nothing in the
    /// header may be trusted.
    using Sink = std::function<void(const Chunk& chunk, std::uint64_t offset, std::uint64_t index,
                                    bool header_whole)>;

    /// `table` is media::kTableInodes or kTableRecords.
    TableWalk(const Image& image, Claims& claims, std::uint64_t table)
        : image_(image), claims_(claims), table_(table) {}

    /// True if everything below the root was read.
    bool walk(const media::TableRoot& root, const Sink& sink);

private:
    // What an entry's bits must say; unknown where something below could not be read.
    struct Below {
        bool known = false;
        bool has_free = false;
        bool has_pending = false;
    };
    void entry(std::uint64_t value, unsigned level, std::uint64_t first_chunk, std::uint64_t at,
               const Sink& sink, Below& parent);
    Below index_block(std::uint64_t offset, unsigned level, std::uint64_t first_chunk,
                      const Sink& sink);
    Below chunk(std::uint64_t offset, std::uint64_t index, const Sink& sink);
    [[nodiscard]] const char* name() const;

    const Image& image_;
    Claims& claims_;
    std::uint64_t table_;
    std::uint64_t window_chunks_ = 0;
    bool complete_ = true;
    std::array<media::TableIndex, media::kTableLevelsMax> blocks_;  // one a level
    Chunk chunk_;
};

}  // namespace pinfs::checking

// SPDX-License-Identifier: Apache-2.0
//
// What the walk remembers of each inode until names have been counted: 48 bytes a slot, chunk by
// chunk in rising order. Hides how a number is found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fs/format/table.h"

namespace pinfs::checking {

struct InodeNote {
    enum class State : std::uint8_t { unused, used, damaged };

    std::uint64_t generation = 0;
    std::uint64_t parent = 0;          // directories: as the inode says
    std::uint64_t named_in = 0;        // the (first) directory with an entry for it
    std::uint32_t nlink = 0;           // as the inode says
    std::uint32_t entries = 0;         // entries found for it
    std::uint32_t subdirectories = 0;  // entries of directories found in it
    std::uint8_t type = 0;             // mode >> 12
    State state = State::unused;
    bool names_known = false;  // a directory whose entries were all read
    std::uint8_t mark = 0;     // of the search for loops
};

class Inodes {
public:
    struct Chunk {
        std::uint64_t index;
        std::uint64_t offset;  // region offset
    };

    /// Adds a chunk, of higher index than all before. Its notes are `unused`.
    void add(std::uint64_t index, std::uint64_t offset) {
        chunks_.push_back({index, offset});
        notes_.resize(notes_.size() + media::kChunkSlots);
    }

    /// Null if no chunk holds `ino`.
    [[nodiscard]] InodeNote* find(std::uint64_t ino) {
        const std::uint64_t index = ino / media::kChunkSlots;
        // Chunks are rarely given back: a chunk mostly stands at its index.
        std::size_t at = index < chunks_.size() ? static_cast<std::size_t>(index) : chunks_.size();
        if (at == chunks_.size() || chunks_[at].index != index) at = search(index);
        if (at == chunks_.size()) return nullptr;
        return &notes_[at * media::kChunkSlots + ino % media::kChunkSlots];
    }

    [[nodiscard]] const std::vector<Chunk>& chunks() const { return chunks_; }
    [[nodiscard]] std::size_t slots() const { return notes_.size(); }
    [[nodiscard]] InodeNote& note(std::size_t i) { return notes_[i]; }
    [[nodiscard]] std::uint64_t ino(std::size_t i) const {
        return chunks_[i / media::kChunkSlots].index * media::kChunkSlots + i % media::kChunkSlots;
    }
    [[nodiscard]] std::uint64_t offset(std::size_t i) const {
        return chunks_[i / media::kChunkSlots].offset + i % media::kChunkSlots * media::kSlotBytes;
    }

private:
    // Position of chunk `index`, or chunks_.size().
    [[nodiscard]] std::size_t search(std::uint64_t index) const;

    std::vector<Chunk> chunks_;
    std::vector<InodeNote> notes_;
};

}  // namespace pinfs::checking

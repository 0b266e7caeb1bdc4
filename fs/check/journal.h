// SPDX-License-Identifier: Apache-2.0
//
// The judge's own reading of the journal: every seal, every sealed log, and the overlay that a
// mount's replay would leave. Hides the layout of lanes and logs.
//
// Invariant: a log is laid over the image as a whole, after its sum and all its records were found
// right, or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fs/check/image.h"

namespace pinfs::checking {

class Journal {
public:
    /// Reads all seals and lays the logs of those that are whole over `image`, which must not
    /// outlive the journal's memory.
    explicit Journal(Image& image);

    struct Record {
        std::uint64_t offset;
        std::span<const std::byte> bytes;
    };
    struct Log {
        std::uint32_t lane;
        std::uint64_t sequence;
        std::vector<std::byte> bytes;
        std::vector<Record> records;
    };

    [[nodiscard]] std::uint64_t sealed() const { return sealed_; }
    /// Whole ones, in the order of their sequence.
    [[nodiscard]] const std::vector<Log>& logs() const { return logs_; }

private:
    // The size of the units in the block that was looked at last; 0: none was.
    struct BlockUnit {
        std::uint64_t block = 0;
        std::uint64_t bytes = 0;
    };

    void read_lane(std::uint32_t lane);
    bool parse(Log& log, std::uint64_t lane_offset);
    bool may_write(std::uint64_t offset, std::uint64_t bytes) const;
    void report_overlaps();
    std::uint64_t unit_bytes_at(std::uint64_t block, BlockUnit& known) const;

    Image& image_;
    std::uint64_t sealed_ = 0;
    std::vector<Log> logs_;
};

}  // namespace pinfs::checking

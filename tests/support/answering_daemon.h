// SPDX-License-Identifier: Apache-2.0
//
// A daemon as libpinfs sees it, without a mount: the library's ioctl(2) comes here (the linker's
// --wrap=ioctl), is answered as a daemon should, and then whoever tests changes the answer.
//
// One file of a thousand blocks: 400 of them in one piece, of the others none beside the next in
// the region; the bytes are there, in memory, and nobody writes them. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "lib/context.h"
#include "lib/pinfs/protocol.h"

namespace pinfs::test {

class AnsweringDaemon {
public:
    static constexpr std::uint64_t kBlock = 4096;
    static constexpr std::uint64_t kFileBlocks = 1000;
    static constexpr std::uint64_t kRegionBlocks = 2 * kFileBlocks + 2;
    static constexpr std::uint64_t kPieceBegin = 400;  ///< the blocks in one piece
    static constexpr std::uint64_t kPieceEnd = 800;

    /// What ioctl(2) returns; if it is -1, with this error.
    struct Outcome {
        int result = 0;
        int error = 0;
    };
    /// Sees every answer, and what came of it, before the library does.
    using Change = std::function<void(unsigned request, std::span<std::byte>, Outcome&)>;

    AnsweringDaemon();
    ~AnsweringDaemon();
    AnsweringDaemon(const AnsweringDaemon&) = delete;
    AnsweringDaemon& operator=(const AnsweringDaemon&) = delete;

    Change change;
    std::size_t extents_per_page = SIZE_MAX;  ///< at most
    std::vector<pinfs_ioc_event> events;      ///< that wait

    [[nodiscard]] int file() const { return file_; }
    /// Where a block of the file lies.
    static std::uint64_t place_of(std::uint64_t block) {
        const std::uint64_t beside =
            block >= kPieceBegin && block < kPieceEnd ? block - kPieceBegin : 0;
        return (2 * (block - beside) + 2 + beside) * kBlock;
    }

    /// As pinfs_context_open() does, where there is a mount.
    int open_context(pinfs_context** out);

    // What it believes to be there.
    [[nodiscard]] std::size_t maps() const { return maps_.size(); }
    [[nodiscard]] std::size_t pins() const { return pins_.size(); }
    [[nodiscard]] std::size_t requests(unsigned request) const;
    /// Extents that it looked at to answer.
    [[nodiscard]] std::size_t looked_at() const { return looked_at_; }

    /// Sees that no map is left, as when a guard is closed.
    void end_guards() { maps_.clear(); }

    int ioctl(unsigned long command, void* buffer);

private:
    struct Range {
        std::uint64_t begin, end;
    };
    Outcome answer(unsigned request, std::span<std::byte> buffer);
    /// Behind `behind` bytes of the buffer: extents of the blocks in a range, from a number on.
    template <class Head>
    void put_extents(std::span<std::byte> buffer, Head& head, Range range, std::uint64_t first);

    int context_file_;
    int file_;
    std::map<std::uint64_t, Range> maps_;
    std::map<std::uint64_t, Range> pins_;
    std::uint64_t next_id_ = 2;
    std::map<unsigned, std::size_t> requests_;
    std::size_t looked_at_ = 0;
};

}  // namespace pinfs::test

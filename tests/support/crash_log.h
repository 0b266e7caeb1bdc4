// SPDX-License-Identifier: Apache-2.0
//
// What a recorded region did, in one order over all threads: the input of the crash model
// (crash_images.h).
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

namespace pinfs::test {

/// A place in the code under test that flushes or fences. Stable while the program runs.
struct Site {
    std::string file;  ///< from the project's root
    std::uint32_t line = 0;
    std::uint32_t column = 0;
    bool is_fence = false;
    auto operator<=>(const Site&) const = default;
    [[nodiscard]] std::string text() const;
};

Site site_of(const std::source_location& where, bool is_fence);

/// A store, split at the borders of 64-byte lines.
struct StoredPiece {
    std::uint64_t line = 0;  ///< region offset / 64
    std::uint8_t begin = 0;  ///< bytes [begin, end) of the line were stored
    std::uint8_t end = 0;
    std::uint8_t words = 0;  ///< bit w: this store changed a byte of [8 w, 8 w + 8)
    std::size_t data = 0;    ///< where its bytes begin in CrashLog::data
};

struct Event {
    enum class Kind : std::uint8_t { store, flush, fence, mark };
    Kind kind = Kind::store;
    std::uint32_t thread = 0;
    std::uint32_t site = 0;   ///< flush, fence: index into CrashLog::sites
    std::uint64_t first = 0;  ///< store: index of its first piece; flush: first line; mark: number
    std::uint64_t count = 0;  ///< store: pieces; flush: lines
};

inline constexpr std::uint64_t kLineBytes = 64;
inline constexpr std::uint64_t kWordBytes = 8;

struct CrashLog {
    std::vector<Event> events;
    std::vector<StoredPiece> pieces;
    std::vector<std::byte> data;
    std::vector<Site> sites;

    void clear() {
        events.clear();
        pieces.clear();
        data.clear();
    }
};

}  // namespace pinfs::test

// SPDX-License-Identifier: Apache-2.0
//
// One operation of the exerciser: what it does to which of two files, as a value that can be
// written down, read back and done again, and the generator that draws such values from a seed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace pinfs::fsx {

// clang-format off
//    kind            name
#define PINFS_FSX_KINDS(X) \
    X(read,           "read") \
    X(write,          "write") \
    X(append,         "append") \
    X(direct_read,    "direct-read") \
    X(direct_write,   "direct-write") \
    X(map_read,       "map-read") \
    X(map_write,      "map-write") \
    X(map_write_sync, "map-write-sync") \
    X(truncate,       "truncate") \
    X(punch,          "punch") \
    X(zero,           "zero") \
    X(zero_keep,      "zero-keep") \
    X(allocate,       "allocate") \
    X(allocate_keep,  "allocate-keep") \
    X(copy_inside,    "copy-inside") \
    X(copy_across,    "copy-across") \
    X(seek,           "seek") \
    X(sync,           "sync") \
    X(drop_cache,     "drop-cache") \
    X(reopen,         "reopen")
// clang-format on

enum class Kind : std::uint8_t {
#define X(kind, name) kind,
    PINFS_FSX_KINDS(X)
#undef X
};
inline constexpr std::array kKindNames{
#define X(kind, name) std::string_view{name},
    PINFS_FSX_KINDS(X)
#undef X
};
inline constexpr std::size_t kKinds = kKindNames.size();

std::optional<Kind> kind_named(std::string_view name);

/// What direct I/O is aligned to, in memory and in the file.
inline constexpr std::uint64_t kDirectAlignBytes = 512;

/// Of file `file`, the range [offset, offset + length). A truncation's new size is `offset`; a
/// copy goes to `target`, in the same or in the other file. What is written follows from `number`.
struct Operation {
    std::uint64_t number = 0;
    Kind kind = Kind::read;
    std::uint32_t file = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::uint64_t target = 0;
};

/// "17 write 0 4096 100 0": the members in their order, in decimal.
std::string text_of(const Operation& operation);
std::optional<Operation> parse_operation(const std::string& line);

/// Draws operations that make sense for files of the given sizes and keep them within `size_max`
/// bytes. The same seed, limit and kinds give the same operations.
class Generator {
public:
    /// `kinds` must hold Kind::write: all others may find nothing to do.
    Generator(std::uint64_t seed, std::uint64_t size_max, std::vector<Kind> kinds);

    Operation next(const std::array<std::uint64_t, 2>& sizes);

private:
    [[nodiscard]] std::uint64_t below(std::uint64_t bound) { return random_() % bound; }
    std::uint64_t length();
    std::uint64_t offset_for(std::uint64_t length, std::uint64_t size);
    bool draw(Operation& operation, const std::array<std::uint64_t, 2>& sizes);

    std::mt19937_64 random_;
    std::uint64_t size_max_;
    std::vector<Kind> kinds_;
    std::uint64_t number_ = 0;
};

}  // namespace pinfs::fsx

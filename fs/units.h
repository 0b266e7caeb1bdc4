// SPDX-License-Identifier: Apache-2.0
//
// Units. A region is addressed in bytes (`*_offset`) or in blocks of 4 KiB (`*_block`, Block); a
// file in bytes (`offset_bytes`) or in blocks (`file_block`). Ranges are half-open.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace pinfs {

inline constexpr std::uint64_t kBlockBytes = 4096;
inline constexpr std::uint64_t kRunBlocks = 512;  ///< blocks of one 2 MiB run (a huge page)
inline constexpr std::uint64_t kFileBytesMax = std::uint64_t{1} << 44;  ///< 16 TiB
inline constexpr std::size_t kNameBytesMax = 255;

/// Inode number: unique among living inodes, the kernel's nodeid. 0 is none, 1 the root.
struct Ino {
    std::uint64_t value = 0;
    auto operator<=>(const Ino&) const = default;
    explicit operator bool() const { return value != 0; }
};
inline constexpr Ino kRootIno{1};

/// A run of region blocks [begin, begin + count).
struct BlockRun {
    std::uint64_t begin = 0;
    std::uint64_t count = 0;
    [[nodiscard]] std::uint64_t end() const { return begin + count; }
    auto operator<=>(const BlockRun&) const = default;
};

inline constexpr std::uint64_t round_down(std::uint64_t value, std::uint64_t unit) {
    return value / unit * unit;
}
inline constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}
inline constexpr std::uint64_t blocks_of(std::uint64_t bytes) {
    return (bytes + kBlockBytes - 1) / kBlockBytes;
}

namespace unit_literals {
constexpr std::uint64_t operator""_KiB(unsigned long long n) { return n << 10; }
constexpr std::uint64_t operator""_MiB(unsigned long long n) { return n << 20; }
constexpr std::uint64_t operator""_GiB(unsigned long long n) { return n << 30; }
constexpr std::uint64_t operator""_TiB(unsigned long long n) { return n << 40; }
}  // namespace unit_literals

}  // namespace pinfs

template <>
struct std::hash<pinfs::Ino> {
    std::size_t operator()(pinfs::Ino ino) const noexcept {
        return static_cast<std::size_t>(ino.value * 0x9E3779B97F4A7C15u);
    }
};

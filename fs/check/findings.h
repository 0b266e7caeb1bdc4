// SPDX-License-Identifier: Apache-2.0
//
// Where every part of the judge leaves what it found. Hides the limit and the form of a sentence:
// "inode 17, region offset 8192: ..." or "region offset 8192: ...".
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fs/check/check.h"

namespace pinfs::checking {

class Findings {
public:
    /// Keeps the first `max` findings and counts the rest. With `max` 0 it only counts.
    Findings(CheckReport& report, std::size_t max) : report_(report), max_(max) {}

    /// `format` and what follows as printf; the place is put before it.
    [[gnu::format(printf, 5, 6)]] void add(FindingKind kind, std::uint64_t offset,
                                           std::uint64_t ino, const char* format, ...);

private:
    CheckReport& report_;
    std::size_t max_;
};

/// `format` and what follows, with the place before it.
std::string sentence_at(std::uint64_t offset, std::uint64_t ino, const char* format,
                        std::va_list arguments);

/// A name as it may be printed: control characters and backslash as octal escapes, as in all
/// reports (SPEC 4.1).
std::string printable(std::string_view name);

}  // namespace pinfs::checking

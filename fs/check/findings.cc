// SPDX-License-Identifier: Apache-2.0
#include "fs/check/findings.h"

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>

namespace pinfs {

std::string_view name_of(FindingKind kind) {
    switch (kind) {
#define X(name, text)       \
    case FindingKind::name: \
        return #name;
        PINFS_FINDINGS(X)
#undef X
    }
    return "unknown";
}

bool CheckReport::has(FindingKind kind) const {
    return std::any_of(findings.begin(), findings.end(),
                       [kind](const Finding& finding) { return finding.kind == kind; });
}

std::string CheckReport::text() const {
    std::string text;
    for (const Finding& finding : findings)
        text.append(name_of(finding.kind)).append(": ").append(finding.text).append("\n");
    if (findings_dropped != 0)
        text.append("and ").append(std::to_string(findings_dropped)).append(" more\n");
    return text;
}

}  // namespace pinfs

namespace pinfs::checking {

void Findings::add(FindingKind kind, std::uint64_t offset, std::uint64_t ino, const char* format,
                   ...) {
    if (report_.findings.size() >= max_) {
        ++report_.findings_dropped;
        return;
    }
    std::va_list arguments;
    va_start(arguments, format);
    std::string text = sentence_at(offset, ino, format, arguments);
    va_end(arguments);
    report_.findings.push_back({kind, offset, ino, std::move(text)});
}

std::string sentence_at(std::uint64_t offset, std::uint64_t ino, const char* format,
                        std::va_list arguments) {
    // A name of 255 bytes, all escaped, and the longest sentence fit.
    std::array<char, 1536> sentence{};
    std::vsnprintf(sentence.data(), sentence.size(), format, arguments);
    std::string text;
    if (ino != 0) text.append("inode ").append(std::to_string(ino)).append(", ");
    return text.append("region offset ")
        .append(std::to_string(offset))
        .append(": ")
        .append(sentence.data());
}

std::string printable(std::string_view name) {
    std::string text;
    for (const char c : name) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte != 0x7f && byte != '\\') {
            text.push_back(c);
            continue;
        }
        text.push_back('\\');
        for (const int shift : {6, 3, 0})
            text.push_back(static_cast<char>('0' + ((byte >> shift) & 7)));
    }
    return text;
}

}  // namespace pinfs::checking

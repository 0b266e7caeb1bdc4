// SPDX-License-Identifier: Apache-2.0
#include "cmd/arguments.h"

#include <grp.h>
#include <sys/random.h>

#include <cctype>
#include <charconv>
#include <cstdio>
#include <limits>
#include <stdexcept>

namespace pinfs::cmd {
namespace {

constexpr std::string_view kUnits = "KMGT";

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view word) {
    std::uint64_t number = 0;
    const char* const end = word.data() + word.size();
    const auto [rest, error] = std::from_chars(word.data(), end, number);
    if (error != std::errc()) return std::nullopt;
    std::string_view unit(rest, static_cast<std::size_t>(end - rest));
    if (unit.empty()) return number;
    const std::size_t power =
        kUnits.find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit.front()))));
    unit.remove_prefix(1);
    if (power == std::string_view::npos || (!unit.empty() && unit != "iB")) return std::nullopt;
    const auto shift = static_cast<unsigned>(10 * (power + 1));
    if (number > std::numeric_limits<std::uint64_t>::max() >> shift) return std::nullopt;
    return number << shift;
}

std::string size_text(std::uint64_t bytes) {
    for (std::size_t power = kUnits.size(); power > 0; --power) {
        const std::uint64_t unit = std::uint64_t{1} << (10 * power);
        if (bytes < unit) continue;
        char text[64];
        std::snprintf(text, sizeof(text), "%.2f",
                      static_cast<double>(bytes) / static_cast<double>(unit));
        std::string number = text;
        while (number.back() == '0') number.pop_back();
        if (number.back() == '.') number.pop_back();
        return number + " " + kUnits[power - 1] + "iB";
    }
    return std::to_string(bytes) + " bytes";
}

std::optional<std::array<std::uint8_t, 16>> parse_uuid(std::string_view word) {
    std::array<std::uint8_t, 16> uuid{};
    if (word.size() != 36) return std::nullopt;
    std::size_t digits = 0;
    for (std::size_t i = 0; i < word.size(); ++i) {
        const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash) {
            if (word[i] != '-') return std::nullopt;
            continue;
        }
        unsigned digit = 0;
        if (std::from_chars(&word[i], &word[i] + 1, digit, 16).ec != std::errc())
            return std::nullopt;
        uuid[digits / 2] = static_cast<std::uint8_t>(uuid[digits / 2] << 4 | digit);
        ++digits;
    }
    return uuid;
}

std::array<std::uint8_t, 16> random_uuid() {
    std::array<std::uint8_t, 16> uuid{};
    if (getrandom(uuid.data(), uuid.size(), 0) != static_cast<ssize_t>(uuid.size()))
        throw std::runtime_error("no random numbers");
    uuid[6] = static_cast<std::uint8_t>((uuid[6] & 0x0f) | 0x40);
    uuid[8] = static_cast<std::uint8_t>((uuid[8] & 0x3f) | 0x80);
    return uuid;
}

std::optional<std::uint32_t> parse_group(const std::string& word) {
    if (const group* const entry = getgrnam(word.c_str()); entry != nullptr) return entry->gr_gid;
    std::uint32_t id = 0;
    const auto [rest, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    // The last number means "no change" to chown(2).
    if (error != std::errc() || rest != word.data() + word.size() ||
        id == std::numeric_limits<std::uint32_t>::max())
        return std::nullopt;
    return id;
}

}  // namespace pinfs::cmd

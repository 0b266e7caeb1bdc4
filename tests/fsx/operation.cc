// SPDX-License-Identifier: Apache-2.0
#include "tests/fsx/operation.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "fs/units.h"

namespace pinfs::fsx {
namespace {

constexpr std::uint64_t kLengthMax = 64 * 1024;

}  // namespace

std::optional<Kind> kind_named(std::string_view name) {
    const auto* const found = std::ranges::find(kKindNames, name);
    if (found == kKindNames.end()) return std::nullopt;
    return static_cast<Kind>(found - kKindNames.begin());
}

std::string text_of(const Operation& operation) {
    std::ostringstream text;
    text << operation.number << ' ' << kKindNames[static_cast<std::size_t>(operation.kind)] << ' '
         << operation.file << ' ' << operation.offset << ' ' << operation.length << ' '
         << operation.target;
    return text.str();
}

std::optional<Operation> parse_operation(const std::string& line) {
    std::istringstream words{line};
    Operation operation;
    std::string name;
    words >> operation.number >> name >> operation.file >> operation.offset >> operation.length >>
        operation.target;
    const auto kind = kind_named(name);
    if (!words || !kind || operation.file > 1) return std::nullopt;
    operation.kind = *kind;
    return operation;
}

Generator::Generator(std::uint64_t seed, std::uint64_t size_max, std::vector<Kind> kinds)
    : random_(seed), size_max_(size_max), kinds_(std::move(kinds)) {}

Operation Generator::next(const std::array<std::uint64_t, 2>& sizes) {
    Operation operation;
    while (!draw(operation, sizes)) {
    }
    operation.number = ++number_;
    return operation;
}

/// At least 1: some bytes, some blocks, or anything.
std::uint64_t Generator::length() {
    const std::uint64_t most = std::min(kLengthMax, size_max_ / 4);
    switch (below(4)) {
        case 0:
            return 1 + below(std::min<std::uint64_t>(most, 64));
        case 1:
            return std::min(most, (1 + below(8)) * kBlockBytes);
        default:
            return 1 + below(most);
    }
}

/// Anywhere, at a block, around the end of the file.
std::uint64_t Generator::offset_for(std::uint64_t length, std::uint64_t size) {
    const std::uint64_t last = size_max_ - length;
    const std::uint64_t anywhere = below(last + 1);
    switch (below(4)) {
        case 0:
            return round_down(anywhere, kBlockBytes);
        case 1:
            return std::min(last, size - std::min(size, below(2 * kBlockBytes)));
        default:
            return anywhere;
    }
}

/// False where what came up has nothing to work on.
bool Generator::draw(Operation& operation, const std::array<std::uint64_t, 2>& sizes) {
    operation = {};
    operation.kind = kinds_[below(kinds_.size())];
    operation.file = static_cast<std::uint32_t>(below(2));
    const std::uint64_t size = sizes[operation.file];
    operation.length = length();
    operation.offset = offset_for(operation.length, size);
    switch (operation.kind) {
        case Kind::append:
            operation.offset = size;
            return size + operation.length <= size_max_;
        case Kind::direct_read:
        case Kind::direct_write:
            operation.length = round_up(operation.length, kDirectAlignBytes);
            operation.offset = round_down(operation.offset, kDirectAlignBytes);
            return operation.offset + operation.length <= size_max_;
        case Kind::map_read:
        case Kind::map_write:
        case Kind::map_write_sync:
            if (operation.offset >= size) return false;
            operation.length = std::min(operation.length, size - operation.offset);
            return true;
        case Kind::truncate:
            // Long files are the rule: most cuts are short, or none.
            if (below(4) != 0) operation.offset = size_max_ - below(size_max_ / 4);
            operation.length = 0;
            return true;
        case Kind::copy_inside:
        case Kind::copy_across:
            if (operation.offset >= size) return false;
            operation.length = std::min(operation.length, size - operation.offset);
            operation.target = offset_for(operation.length, sizes[1 - operation.file]);
            return operation.kind == Kind::copy_across ||
                   operation.target + operation.length <= operation.offset ||
                   operation.offset + operation.length <= operation.target;
        case Kind::seek:
        case Kind::sync:
        case Kind::drop_cache:
        case Kind::reopen:
            operation.length = 0;
            return true;
        default:
            return true;
    }
}

}  // namespace pinfs::fsx

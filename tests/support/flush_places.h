// SPDX-License-Identifier: Apache-2.0
//
// Where the sources flush or fence, found by their text: what a mutation run must have reached.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <string>
#include <utility>

namespace pinfs::test {

/// A file below the project's root, and a line of it.
using Place = std::pair<std::string, std::uint32_t>;

/// Every call below `folder` of what flushes or fences, but in fs/pmem itself.
inline std::set<Place> places_that_flush(const std::string& folder) {
    const std::filesystem::path root{PINFS_SOURCE_DIR};
    const std::regex call{
        R"(\bregion(_|\(\))?(\.|->)(fence|flush|copy_in|zero|store_flush|store8_flush)\()"};
    std::set<Place> places;
    for (const auto& entry : std::filesystem::recursive_directory_iterator{root / folder}) {
        const std::string file = std::filesystem::relative(entry.path(), root).string();
        if (file.starts_with("fs/pmem/") || !(file.ends_with(".cc") || file.ends_with(".h")))
            continue;
        std::ifstream source{entry.path()};
        std::string line;
        for (std::uint32_t number = 1; std::getline(source, line); ++number)
            if (std::regex_search(line, call)) places.emplace(file, number);
    }
    return places;
}

}  // namespace pinfs::test

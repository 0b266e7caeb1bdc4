// SPDX-License-Identifier: Apache-2.0
#include "cmd/extents.h"

#include <sys/stat.h>
#include <sys/xattr.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <expected>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "fs/units.h"

namespace pinfs::cmd {
namespace {

/// In blocks.
struct Extent {
    std::uint64_t file = 0;
    std::uint64_t region = 0;
    std::uint64_t count = 0;
    bool unwritten = false;
};

/// All extents, read in parts (fs/fuse/virtual_attributes.h); an errno.
std::expected<std::vector<Extent>, int> extents_of(const std::string& path) {
    std::vector<Extent> extents;
    std::vector<char> value(65536);
    for (std::uint64_t next = 0;;) {
        const std::string name = "user.pinfs.extents." + std::to_string(next);
        const ssize_t count = getxattr(path.c_str(), name.c_str(), value.data(), value.size());
        if (count < 0) return std::unexpected(errno);
        std::istringstream lines{std::string(value.data(), static_cast<std::size_t>(count))};
        Extent extent;
        bool any = false;
        for (std::string state; lines >> extent.file >> extent.region >> extent.count >> state;) {
            extent.unwritten = state == "unwritten";
            extents.push_back(extent);
            next = extent.file + extent.count;
            any = true;
        }
        if (!any || next >= kFileBytesMax / kBlockBytes) return extents;
    }
}

void print(const std::string& path, std::uint64_t size, const std::vector<Extent>& extents) {
    const std::uint64_t blocks = (size + kBlockBytes - 1) / kBlockBytes;
    std::cout << "File size of " << path << " is " << size << " (" << blocks << " block"
              << (blocks == 1 ? "" : "s") << " of " << kBlockBytes << " bytes)\n";
    if (!extents.empty())
        std::cout << " ext:       file offset:           region offset:     length: flags:\n";
    std::array<char, 160> line{};
    for (std::size_t i = 0; i < extents.size(); ++i) {
        const Extent& extent = extents[i];
        std::string flags = extent.unwritten ? "unwritten" : "";
        if (extent.file + extent.count >= blocks) flags += flags.empty() ? "eof" : ",eof";
        std::snprintf(line.data(), line.size(), "%4zu: %8ju..%8ju: %10ju..%10ju: %10ju: %s\n", i,
                      std::uintmax_t{extent.file}, std::uintmax_t{extent.file + extent.count - 1},
                      std::uintmax_t{extent.region},
                      std::uintmax_t{extent.region + extent.count - 1},
                      std::uintmax_t{extent.count}, flags.c_str());
        std::cout << line.data();
    }
    std::cout << path << ": " << extents.size() << " extent" << (extents.size() == 1 ? "" : "s")
              << " found\n";
}

nlohmann::ordered_json json_of(const std::string& path, std::uint64_t size,
                               const std::vector<Extent>& extents) {
    auto list = nlohmann::ordered_json::array();
    for (const Extent& extent : extents)
        list.push_back({{"file_offset", extent.file * kBlockBytes},
                        {"region_offset", extent.region * kBlockBytes},
                        {"bytes", extent.count * kBlockBytes},
                        {"unwritten", extent.unwritten}});
    return {{"path", path}, {"size_bytes", size}, {"extents", std::move(list)}};
}

}  // namespace

int show_extents(const std::string& program, const std::vector<std::string>& paths, bool json) {
    int status = kSuccess;
    auto all = nlohmann::ordered_json::array();
    for (const std::string& path : paths) {
        struct stat st {};
        if (stat(path.c_str(), &st) != 0) {
            status = complain(program, kFailure, path + ": " + strerror(errno));
            continue;
        }
        const auto extents = extents_of(path);
        if (!extents) {
            const bool foreign = extents.error() == ENODATA || extents.error() == EOPNOTSUPP;
            status = complain(program, kFailure,
                              foreign ? path + " is no regular file on a pinfs"
                                      : path + ": " + strerror(extents.error()));
            continue;
        }
        const auto size = static_cast<std::uint64_t>(st.st_size);
        if (json)
            all.push_back(json_of(path, size, *extents));
        else
            print(path, size, *extents);
    }
    if (json) std::cout << all.dump(2) << '\n';
    return status;
}

}  // namespace pinfs::cmd

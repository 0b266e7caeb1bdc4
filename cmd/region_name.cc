// SPDX-License-Identifier: Apache-2.0
#include "cmd/region_name.h"

#include <blkid.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <functional>

#include "fs/pmem/region.h"
#include "fs/volume/describe.h"

namespace pinfs::cmd {
namespace {

/// With what is unsafe in a link's name as \\xNN, as udev's rule has it.
std::string encoded(const std::string& label) {
    std::array<char, 4 * 64 + 1> text{};
    return blkid_encode_string(label.c_str(), text.data(), text.size()) == 0 ? text.data() : label;
}

/// The device DAX nodes whose region is the one; without the lock, as others may want to mount.
std::expected<std::string, std::string> find_device(
    const std::string& word, const std::function<bool(const Description&)>& is_it) {
    std::string found;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator{"/sys/bus/dax/devices", error}) {
        const std::string node = "/dev/" + entry.path().filename().string();
        const auto region = pmem::Region::open(node, {.read_only = true, .exclusive = false});
        if (!region) continue;  // no node, or not for us
        const auto about = describe_identity(**region);
        if (!about || !is_it(*about)) continue;
        if (!found.empty())
            return std::unexpected(word + " is said of two regions: " + found + " and " + node);
        found = node;
    }
    return found;
}

}  // namespace

std::expected<std::string, std::string> region_path(const std::string& word) {
    const bool by_label = word.starts_with("LABEL=");
    if (!by_label && !word.starts_with("UUID=")) return word;
    const std::string name = word.substr(word.find('=') + 1);
    std::string link = (by_label ? "/dev/pinfs/by-label/" : "/dev/pinfs/by-uuid/") + name;
    if (access(link.c_str(), F_OK) == 0) return link;
    auto found = find_device(word, [&](const Description& about) {
        if (!by_label) return uuid_text(about.uuid) == name;
        return !name.empty() && (about.label == name || encoded(about.label) == name);
    });
    return found && found->empty() ? link : found;
}

}  // namespace pinfs::cmd

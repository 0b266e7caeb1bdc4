// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/mount_table.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "fs/fuse/mountpoint.h"

namespace pinfs::fuse {
namespace {

/// The kernel writes space, tab, newline and backslash as three octal digits.
std::string unescaped(const std::string& text) {
    const auto is_octal = [](char letter) {
        return letter >= '0' && letter <= '7';
    };
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) &&
            is_octal(text[i + 2]) && is_octal(text[i + 3])) {
            plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                       (text[i + 3] - '0'));
            i += 3;
        } else {
            plain += text[i];
        }
    }
    return plain;
}

/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAG...] - TYPE SOURCE SUPER-OPTIONS`
std::optional<MountEntry> entry_of(const std::string& line) {
    std::istringstream words{line};
    std::string id, parent, device, root, mountpoint, options, word;
    words >> id >> parent >> device >> root >> mountpoint >> options;
    while (words >> word && word != "-") {
    }
    MountEntry entry;
    std::string source, more;
    if (!(words >> entry.type >> source)) return std::nullopt;
    words >> more;
    unsigned major_number = 0;
    unsigned minor_number = 0;
    if (sscanf(device.c_str(), "%u:%u", &major_number, &minor_number) != 2) return std::nullopt;
    entry.device = makedev(major_number, minor_number);
    entry.mountpoint = unescaped(mountpoint);
    entry.options = more.empty() ? options : options + "," + more;
    entry.source = unescaped(source);
    entry.read_only = more == "ro" || more.starts_with("ro,");
    return entry;
}

std::optional<MountEntry> last_where(const auto& wanted) {
    const std::vector<MountEntry> table = mount_table();
    const auto found = std::find_if(table.rbegin(), table.rend(), wanted);
    return found == table.rend() ? std::nullopt : std::optional{*found};
}

}  // namespace

std::vector<MountEntry> mount_table(const std::string& pid) {
    std::vector<MountEntry> table;
    std::ifstream file{"/proc/" + pid + "/mountinfo"};
    for (std::string line; std::getline(file, line);)
        if (auto entry = entry_of(line)) table.push_back(std::move(*entry));
    return table;
}

std::optional<MountEntry> mount_at(const std::string& mountpoint) {
    return last_where([&](const MountEntry& entry) { return entry.mountpoint == mountpoint; });
}

std::optional<MountEntry> mount_of_region(const std::string& path) {
    return last_where(
        [&](const MountEntry& entry) { return entry.type == kMountType && entry.source == path; });
}

}  // namespace pinfs::fuse

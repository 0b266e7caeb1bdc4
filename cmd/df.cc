// SPDX-License-Identifier: Apache-2.0
#include "cmd/df.h"

#include <sys/statvfs.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cmd/arguments.h"
#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/mounts.h"
#include "cmd/table.h"

namespace pinfs::cmd {
namespace {

struct Usage {
    fuse::MountEntry mount;
    std::uint64_t bytes = 0;
    std::uint64_t free = 0;
    std::uint64_t available = 0;
    std::uint64_t inodes = 0;
    std::uint64_t inodes_free = 0;

    [[nodiscard]] std::uint64_t used() const { return bytes - free; }
    /// Of what users may fill, rounded up, as df does it.
    [[nodiscard]] std::uint64_t percent() const {
        const std::uint64_t usable = used() + available;
        return usable == 0 ? 0 : (used() * 100 + usable - 1) / usable;
    }
};

nlohmann::ordered_json json_of(const std::vector<Usage>& usages) {
    auto json = nlohmann::ordered_json::array();
    for (const Usage& usage : usages)
        json.push_back({{"region", usage.mount.source},
                        {"mounted_on", usage.mount.mountpoint},
                        {"read_only", usage.mount.read_only},
                        {"bytes", usage.bytes},
                        {"used_bytes", usage.used()},
                        {"available_bytes", usage.available},
                        {"inodes_used", usage.inodes - usage.inodes_free},
                        {"inodes_available", usage.inodes_free}});
    return json;
}

void print(const std::vector<Usage>& usages) {
    std::vector<std::vector<std::string>> rows;
    for (const Usage& usage : usages)
        rows.push_back({usage.mount.source, size_text(usage.bytes), size_text(usage.used()),
                        size_text(usage.available), std::to_string(usage.percent()) + "%",
                        std::to_string(usage.inodes - usage.inodes_free), usage.mount.mountpoint});
    print_table({"Region", "Size", "Used", "Avail", "Use%", "Inodes", "Mounted on"}, rows,
                {1, 2, 3, 4, 5});
}

}  // namespace

int show_usage(const std::string& program, const std::vector<std::string>& targets, bool json) {
    int status = kSuccess;
    const std::vector<fuse::MountEntry> mounts = mounts_of_pinfs();
    std::vector<fuse::MountEntry> wanted;
    if (targets.empty()) wanted = mounts;
    for (const std::string& target : targets) {
        if (auto entry = mount_for(target, mounts))
            wanted.push_back(std::move(*entry));
        else
            status = complain(program, kFailure, target + " is on no mounted pinfs");
    }
    std::vector<Usage> usages;
    for (const fuse::MountEntry& entry : wanted) {
        struct statvfs room {};
        if (statvfs(entry.mountpoint.c_str(), &room) != 0) {
            status = complain(program, kFailure, entry.mountpoint + ": " + strerror(errno));
            continue;
        }
        usages.push_back({.mount = entry,
                          .bytes = room.f_blocks * room.f_frsize,
                          .free = room.f_bfree * room.f_frsize,
                          .available = room.f_bavail * room.f_frsize,
                          .inodes = room.f_files,
                          .inodes_free = room.f_ffree});
    }
    if (json)
        std::cout << json_of(usages).dump(2) << '\n';
    else if (!usages.empty())
        print(usages);
    return status;
}

}  // namespace pinfs::cmd

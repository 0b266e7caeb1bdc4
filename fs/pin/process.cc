// SPDX-License-Identifier: Apache-2.0
#include "fs/pin/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cctype>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

namespace pinfs::pin {

namespace {

struct Stat {
    char state = 0;
    std::uint64_t start_ticks = 0;
};

std::optional<Stat> stat_of(std::uint32_t pid) {
    std::ifstream file{"/proc/" + std::to_string(pid) + "/stat"};
    std::string line;
    if (!std::getline(file, line)) return std::nullopt;
    // The command, field 2, may have spaces and parentheses of its own.
    const std::size_t end = line.rfind(')');
    if (end == std::string::npos) return std::nullopt;
    std::istringstream fields{line.substr(end + 1)};
    Stat stat;
    fields >> stat.state;
    std::string skipped;
    for (int field = 4; field < 22; ++field) fields >> skipped;
    if (!(fields >> stat.start_ticks)) return std::nullopt;
    return stat;
}

struct Counters {
    std::uint64_t acquired = 0;
    std::uint64_t released = 0;
    bool operator==(const Counters&) const = default;
};

/// Brought up to date by writing to stat_refresh: every core counts for itself first.
std::optional<Counters> pin_counters() {
    const int refresh = open("/proc/sys/vm/stat_refresh", O_WRONLY | O_CLOEXEC);
    if (refresh < 0) return std::nullopt;
    const bool done = write(refresh, "1", 1) == 1;
    close(refresh);
    if (!done) return std::nullopt;
    std::ifstream file{"/proc/vmstat"};
    Counters counters;
    int found = 0;
    std::string name;
    std::uint64_t value = 0;
    while (file >> name >> value) {
        if (name == "nr_foll_pin_acquired") {
            counters.acquired = value;
            ++found;
        } else if (name == "nr_foll_pin_released") {
            counters.released = value;
            ++found;
        }
    }
    return found == 2 ? std::optional{counters} : std::nullopt;
}

void add_mapped(RangeSet& ranges, const std::string& pid, dev_t device, ino_t inode) {
    std::ifstream file{"/proc/" + pid + "/maps"};
    for (std::string line; std::getline(file, line);) {
        std::uint64_t from = 0;
        std::uint64_t to = 0;
        std::uint64_t offset = 0;
        unsigned major_number = 0;
        unsigned minor_number = 0;
        std::uint64_t number = 0;
        if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %*4s %" SCNx64 " %x:%x %" SCNu64,
                        &from, &to, &offset, &major_number, &minor_number, &number) != 6)
            continue;
        if (number == inode && makedev(major_number, minor_number) == device)
            ranges.add(offset, offset + (to - from));
    }
}

}  // namespace

std::optional<std::uint64_t> start_ticks_of(std::uint32_t pid) {
    const auto stat = stat_of(pid);
    return stat ? std::optional{stat->start_ticks} : std::nullopt;
}

bool is_alive(const Process& process) {
    if (process.pid == 0) return false;
    const auto stat = stat_of(process.pid);
    return stat && stat->start_ticks == process.start_ticks && stat->state != 'Z' &&
           stat->state != 'X';
}

bool is_being_killed(std::uint32_t pid) {
    constexpr std::uint64_t kSigKill = std::uint64_t{1} << (SIGKILL - 1);
    std::ifstream file{"/proc/" + std::to_string(pid) + "/status"};
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("SigPnd:") || line.starts_with("ShdPnd:"))
            if ((std::strtoull(line.c_str() + 7, nullptr, 16) & kSigKill) != 0) return true;
    return false;
}

RangeSet mapped_elsewhere(dev_t device, ino_t inode) {
    RangeSet ranges;
    const std::unique_ptr<DIR, int (*)(DIR*)> proc{opendir("/proc"), closedir};
    if (!proc) {  // nothing is known: all of it may be
        ranges.add(0, UINT64_MAX);
        return ranges;
    }
    // The number that /proc has for us: it may be that of another pid namespace.
    char self[16] = {};
    if (readlink("/proc/self", self, sizeof(self) - 1) < 0) self[0] = 0;
    while (const dirent* const entry = readdir(proc.get())) {
        const std::string name = entry->d_name;
        if (std::isdigit(static_cast<unsigned char>(name[0])) != 0 && name != self)
            add_mapped(ranges, name, device, inode);
    }
    return ranges;
}

/// A pin that was there before the first look is counted as acquired in both. If it were still
/// held, equal counters would need a release that was counted without its acquisition: one that
/// began between the looks, which the second counts as well, and so differs from the first.
bool is_nothing_pinned() {
    const auto first = pin_counters();
    if (!first || first->acquired != first->released) return false;
    return pin_counters() == first;
}

}  // namespace pinfs::pin

// SPDX-License-Identifier: Apache-2.0
#include "cmd/mount_options.h"

#include <sys/mount.h>

#include <algorithm>
#include <array>
#include <vector>

namespace pinfs::cmd {
namespace {

struct Flag {
    std::string_view name;
    unsigned long bit;
    bool set;
};
constexpr std::array kFlags{
    Flag{"ro", MS_RDONLY, true},
    Flag{"rw", MS_RDONLY, false},
    Flag{"nosuid", MS_NOSUID, true},
    Flag{"suid", MS_NOSUID, false},
    Flag{"nodev", MS_NODEV, true},
    Flag{"dev", MS_NODEV, false},
    Flag{"noexec", MS_NOEXEC, true},
    Flag{"exec", MS_NOEXEC, false},
    Flag{"sync", MS_SYNCHRONOUS, true},
    Flag{"async", MS_SYNCHRONOUS, false},
    Flag{"dirsync", MS_DIRSYNC, true},
    Flag{"nodiratime", MS_NODIRATIME, true},
    Flag{"noatime", MS_NOATIME, true},
    Flag{"atime", MS_NOATIME, false},
    Flag{"diratime", MS_NODIRATIME, false},
};

/// What mount(8) and fstab say to each other, and to a helper now and then.
constexpr std::array<std::string_view, 17> kForMountItself{
    "defaults", "auto",   "noauto",   "user",       "users",     "nouser",
    "owner",    "group",  "nofail",   "_netdev",    "_rnetdev",  "loud",
    "silent",   "nomand", "relatime", "norelatime", "nolazytime"};
constexpr std::array<std::string_view, 6> kForMountItselfWithValue{
    "x-", "X-", "comment=", "user=", "uhelper=", "helper="};

constexpr std::array<std::string_view, 4> kForTheKernel{
    "context=", "fscontext=", "defcontext=", "rootcontext="};

struct Refused {
    std::string_view name;
    std::string_view why;
};
constexpr std::array kRefused{
    Refused{"durability=posix", "is reserved: this version knows durability=sync alone"},
    Refused{"remount", "is not available in this version: unmount and mount again"},
    Refused{"strictatime", "is not available: access times are not kept on reading"},
    Refused{"lazytime", "is not needed: times of overwrites are lazy in any case"},
};

/// At commas that stand outside double quotes, as in context="...".
std::vector<std::string_view> split(std::string_view list) {
    std::vector<std::string_view> words;
    std::size_t begin = 0;
    bool quoted = false;
    for (std::size_t i = 0; i <= list.size(); ++i) {
        if (i < list.size() && list[i] == '"') quoted = !quoted;
        if (i < list.size() && (list[i] != ',' || quoted)) continue;
        if (i > begin) words.push_back(list.substr(begin, i - begin));
        begin = i + 1;
    }
    return words;
}

bool is_for_mount_itself(std::string_view word) {
    return std::ranges::find(kForMountItself, word) != kForMountItself.end() ||
           std::ranges::any_of(kForMountItselfWithValue,
                               [&](std::string_view start) { return word.starts_with(start); });
}

bool apply_own(std::string_view word, ParsedOptions& parsed) {
    if (word == "dax=inode" || word == "dax") {
        parsed.dax = word == "dax" ? DaxMode::always : DaxMode::inode;
    } else if (word == "dax=always") {
        parsed.dax = DaxMode::always;
    } else if (word == "dax=never") {
        parsed.dax = DaxMode::never;
    } else if (word == "allow_other") {
        parsed.allow_other = true;
    } else if (word == "allow_root") {
        parsed.allow_root = true;
    } else if (word == "kernel_mmap=on" || word == "kernel_mmap=off") {
        parsed.kernel_mmap = word == "kernel_mmap=on";
    } else if (word == "io_uring") {
        parsed.io_uring = true;
    } else {
        return word == "default_permissions" || word == "durability=sync";  // always so
    }
    return true;
}

bool apply_flag(std::string_view word, ParsedOptions& parsed) {
    const auto* flag =
        std::ranges::find_if(kFlags, [&](const Flag& known) { return known.name == word; });
    if (flag == kFlags.end()) return false;
    if (flag->set)
        parsed.flags |= flag->bit;
    else
        parsed.flags &= ~flag->bit;
    return true;
}

bool apply_for_the_kernel(std::string_view word, ParsedOptions& parsed) {
    if (std::ranges::none_of(kForTheKernel,
                             [&](std::string_view start) { return word.starts_with(start); }))
        return false;
    if (!parsed.kernel_options.empty()) parsed.kernel_options += ',';
    parsed.kernel_options += word;
    return true;
}

}  // namespace

std::expected<void, std::string> parse_options(std::string_view list, bool sloppy,
                                               ParsedOptions& parsed) {
    for (const std::string_view word : split(list)) {
        for (const Refused& refused : kRefused)
            if (word == refused.name)
                return std::unexpected("option '" + std::string{word} + "' " +
                                       std::string{refused.why});
        if (is_for_mount_itself(word) || apply_flag(word, parsed) || apply_own(word, parsed) ||
            apply_for_the_kernel(word, parsed) || sloppy)
            continue;
        const bool has_value = word.starts_with("dax=") || word.starts_with("kernel_mmap=") ||
                               word.starts_with("durability=");
        if (!has_value) return std::unexpected("unknown option '" + std::string{word} + "'");
        return std::unexpected("option '" + std::string{word} +
                               "' has a value that is not one of: dax=inode, always, never; "
                               "kernel_mmap=on, off; durability=sync");
    }
    if (parsed.allow_other && parsed.allow_root)
        return std::unexpected("options 'allow_other' and 'allow_root' exclude each other");
    return {};
}

}  // namespace pinfs::cmd

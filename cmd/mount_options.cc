// SPDX-License-Identifier: Apache-2.0
#include "cmd/mount_options.h"

#include <sys/mount.h>

#include <algorithm>
#include <array>
#include <vector>

#include "cmd/arguments.h"

namespace pinfs::cmd {
namespace {

constexpr unsigned long kNoSymbolicLinks = 256;  // MS_NOSYMFOLLOW, which glibc 2.36 has not

/// A word of mount(8): the bits it sets and those it clears.
struct Flag {
    std::string_view name;
    unsigned long set;
    unsigned long cleared;
};
constexpr unsigned long kAtimePolicy = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;
constexpr std::array kFlags{
    Flag{"ro", MS_RDONLY, 0},
    Flag{"rw", 0, MS_RDONLY},
    Flag{"nosuid", MS_NOSUID, 0},
    Flag{"suid", 0, MS_NOSUID},
    Flag{"nodev", MS_NODEV, 0},
    Flag{"dev", 0, MS_NODEV},
    Flag{"noexec", MS_NOEXEC, 0},
    Flag{"exec", 0, MS_NOEXEC},
    Flag{"sync", MS_SYNCHRONOUS, 0},
    Flag{"async", 0, MS_SYNCHRONOUS},
    Flag{"dirsync", MS_DIRSYNC, 0},
    Flag{"noatime", MS_NOATIME, kAtimePolicy},
    Flag{"atime", 0, MS_NOATIME},
    Flag{"relatime", MS_RELATIME, kAtimePolicy},
    Flag{"norelatime", 0, MS_RELATIME},
    Flag{"strictatime", MS_STRICTATIME, kAtimePolicy},
    Flag{"nostrictatime", 0, MS_STRICTATIME},
    Flag{"nodiratime", MS_NODIRATIME, 0},
    Flag{"diratime", 0, MS_NODIRATIME},
    Flag{"nosymfollow", kNoSymbolicLinks, 0},
    Flag{"symfollow", 0, kNoSymbolicLinks},
};

/// What mount(8) and fstab say to each other, and to a helper now and then. (Times of overwrites
/// are lazy whether lazytime is asked for or not: SPEC 6.1.)
constexpr std::array<std::string_view, 20> kForMountItself{"defaults",
                                                           "auto",
                                                           "noauto",
                                                           "user",
                                                           "users",
                                                           "nouser",
                                                           "owner",
                                                           "group",
                                                           "_netdev",
                                                           "_rnetdev",
                                                           "loud",
                                                           "silent",
                                                           "mand",
                                                           "nomand",
                                                           "iversion",
                                                           "noiversion",
                                                           "lazytime",
                                                           "nolazytime",
                                                           "default_permissions",
                                                           "durability=sync"};
constexpr std::array<std::string_view, 6> kForMountItselfWithValue{
    "x-", "X-", "comment=", "user=", "uhelper=", "helper="};

/// What the kernel shows of a mount, and mount(8) hands back for a remount.
constexpr std::array<std::string_view, 4> kShownByTheKernel{
    "user_id=", "group_id=", "max_read=", "blksize="};
constexpr std::array<std::string_view, 4> kForTheKernel{
    "context=", "fscontext=", "defcontext=", "rootcontext="};

struct Refused {
    std::string_view name;
    std::string_view why;
};
constexpr std::array kRefused{
    Refused{"durability=posix", "is reserved: this version knows durability=sync alone"},
};

bool starts_with_any(std::string_view word, const auto& starts) {
    return std::ranges::any_of(starts,
                               [&](std::string_view start) { return word.starts_with(start); });
}

bool is_for_mount_itself(std::string_view word) {
    return std::ranges::find(kForMountItself, word) != kForMountItself.end() ||
           starts_with_any(word, kForMountItselfWithValue);
}

bool set_number(std::string_view value, std::uint64_t& number) {
    const auto parsed = parse_size(value);
    if (parsed) number = *parsed;
    return parsed.has_value();
}

/// An option with a value of any kind. `set` is false if that is no value of the option.
struct Valued {
    std::string_view name;  ///< up to the value
    std::string_view wants;
    bool (*set)(std::string_view value, ParsedOptions& parsed);
};
constexpr std::string_view kNumber = "a number, as 4096, 16K or 1M";
constexpr std::string_view kSize = "a size, as 4096, 512M or 2G";
constexpr std::array kValued{
    Valued{"user_records=", kNumber,
           [](std::string_view value, ParsedOptions& parsed) {
               return set_number(value, parsed.limits.user_records);
           }},
    Valued{"user_bytes=", kSize,
           [](std::string_view value, ParsedOptions& parsed) {
               return set_number(value, parsed.limits.user_bytes);
           }},
    Valued{"region_records=", kNumber,
           [](std::string_view value, ParsedOptions& parsed) {
               return set_number(value, parsed.limits.region_records);
           }},
    Valued{"region_bytes=", kSize,
           [](std::string_view value, ParsedOptions& parsed) {
               return set_number(value, parsed.limits.region_bytes);
           }},
    Valued{"user_contexts=", kNumber,
           [](std::string_view value, ParsedOptions& parsed) {
               return set_number(value, parsed.limits.user_contexts);
           }},
    Valued{"release_grace=", "a number of seconds",
           [](std::string_view value, ParsedOptions& parsed) {
               return set_number(value, parsed.release_grace_seconds);
           }},
    Valued{"inject=unpin_delay=", "a number of milliseconds",
           [](std::string_view value, ParsedOptions& parsed) {
               return set_number(value, parsed.unpin_delay_ms);
           }},
    Valued{"report_gid=", "a group, by name or number",
           [](std::string_view value, ParsedOptions& parsed) {
               parsed.report_gid = parse_group(std::string{value});
               return parsed.report_gid.has_value();
           }},
    Valued{"region_path=", "an absolute path",
           [](std::string_view value, ParsedOptions& parsed) {
               parsed.region_path = value;
               return value.starts_with('/');
           }},
    Valued{"trace=", "an absolute path",
           [](std::string_view value, ParsedOptions& parsed) {
               parsed.trace = true;
               parsed.trace_to.file = value;
               return value.starts_with('/') && !value.ends_with('/');
           }},
    Valued{"trace_size=", "a size of 64K or more, as 1M or 2G",
           [](std::string_view value, ParsedOptions& parsed) {
               return set_number(value, parsed.trace_to.file_bytes) &&
                      parsed.trace_to.file_bytes >= std::uint64_t{64} << 10;
           }},
};

/// Null if `word` is none of them.
const Valued* find_valued(std::string_view word) {
    const auto* valued = std::ranges::find_if(
        kValued, [&](const Valued& known) { return word.starts_with(known.name); });
    return valued == kValued.end() ? nullptr : valued;
}

bool apply_valued(std::string_view word, ParsedOptions& parsed) {
    const Valued* const valued = find_valued(word);
    if (valued == nullptr || !valued->set(word.substr(valued->name.size()), parsed)) return false;
    parsed.own.emplace_back(word);
    return true;
}

bool apply_own(std::string_view word, ParsedOptions& parsed) {
    if (word == "dax") word = "dax=always";
    if (word == "dax=inode") {
        parsed.dax = DaxMode::inode;
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
    } else if (word == "confine=on" || word == "confine=off") {
        parsed.confine = word == "confine=on";
    } else if (word == "io_uring") {
        parsed.io_uring = true;
    } else if (word == "supervise") {
        parsed.supervise = true;
    } else if (word == "trace") {
        parsed.trace = true;
    } else if (word == "takeover") {
        parsed.takeover = true;
    } else {
        return false;
    }
    parsed.own.emplace_back(word);
    return true;
}

bool apply_place(std::string_view word, ParsedOptions& parsed) {
    constexpr std::string_view kSource = "source=";
    if (word == "remount") parsed.remount = true;
    if (word == "nofail") parsed.nofail = true;
    if (word.starts_with(kSource)) parsed.source = word.substr(kSource.size());
    return word == "remount" || word == "nofail" ||
           (word.starts_with(kSource) && !parsed.source.empty());
}

bool apply_flag(std::string_view word, ParsedOptions& parsed) {
    const auto* flag =
        std::ranges::find_if(kFlags, [&](const Flag& known) { return known.name == word; });
    if (flag == kFlags.end()) return false;
    parsed.flags &= ~flag->cleared;
    parsed.flags |= flag->set;
    return true;
}

bool apply_for_the_kernel(std::string_view word, ParsedOptions& parsed) {
    if (!starts_with_any(word, kForTheKernel)) return false;
    if (!parsed.kernel_options.empty()) parsed.kernel_options += ',';
    parsed.kernel_options += word;
    return true;
}

const char* name_of(DaxMode mode) {
    switch (mode) {
        case DaxMode::inode:
            return "inode";
        case DaxMode::always:
            return "always";
        case DaxMode::never:
            return "never";
    }
    return "?";
}

}  // namespace

std::vector<std::string_view> split_options(std::string_view list) {
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

std::expected<void, std::string> parse_options(std::string_view list, bool sloppy,
                                               ParsedOptions& parsed) {
    const auto words = split_options(list);
    const bool remount = parsed.remount || std::ranges::find(words, "remount") != words.end();
    for (const std::string_view word : words) {
        for (const Refused& refused : kRefused)
            if (word == refused.name)
                return std::unexpected("option '" + std::string{word} + "' " +
                                       std::string{refused.why});
        if (is_for_mount_itself(word) || apply_flag(word, parsed) || apply_own(word, parsed) ||
            apply_valued(word, parsed) || apply_place(word, parsed) ||
            apply_for_the_kernel(word, parsed) || sloppy ||
            (remount && starts_with_any(word, kShownByTheKernel)))
            continue;
        if (const Valued* const valued = find_valued(word))
            return std::unexpected("option '" + std::string{word} + "' wants " +
                                   std::string{valued->wants});
        const bool has_value = word.starts_with("dax=") || word.starts_with("kernel_mmap=") ||
                               word.starts_with("confine=") || word.starts_with("durability=");
        if (!has_value) return std::unexpected("unknown option '" + std::string{word} + "'");
        return std::unexpected("option '" + std::string{word} +
                               "' has a value that is not one of: dax=inode, always, never; "
                               "kernel_mmap=on, off; confine=on, off; durability=sync");
    }
    if (parsed.allow_other && parsed.allow_root && !remount)
        return std::unexpected("options 'allow_other' and 'allow_root' exclude each other");
    return {};
}

std::string described(const ParsedOptions& options) {
    std::string text = std::string{"dax="} + name_of(options.dax) +
                       ",kernel_mmap=" + (options.kernel_mmap ? "on" : "off") +
                       ",durability=sync,confine=" + (options.confine ? "on" : "off");
    if (options.allow_other) text += ",allow_other";
    if (options.allow_root) text += ",allow_root";
    if (options.io_uring) text += ",io_uring";
    if (options.supervise) text += ",supervise";
    if (options.takeover) text += ",takeover";
    if (options.trace && options.trace_to.file.empty()) text += ",trace";
    // As they were given, the last of each: a remount compares words.
    for (const Valued& valued : kValued) {
        const auto given =
            std::find_if(options.own.rbegin(), options.own.rend(),
                         [&](const std::string& word) { return word.starts_with(valued.name); });
        if (given != options.own.rend()) text += "," + *given;
    }
    return text;
}

}  // namespace pinfs::cmd

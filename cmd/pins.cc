// SPDX-License-Identifier: Apache-2.0
#include "cmd/pins.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <expected>
#include <iostream>
#include <memory>
#include <thread>
#include <vector>

#include "cmd/arguments.h"
#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/mounts.h"
#include "cmd/owner_processes.h"
#include "cmd/pinned.h"
#include "cmd/table.h"

namespace pinfs::cmd {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// Which mounts, and what of them.
struct Scope {
    std::vector<fuse::MountEntry> mounts;
    std::uint64_t inode = 0;  ///< of a file; 0: any
    std::string below;        ///< a directory in the mount, with a slash at its end; empty: all
};

std::expected<Scope, std::string> scope_of(const std::string& path) {
    Scope scope;
    scope.mounts = mounts_of_pinfs();
    if (path.empty()) return scope;
    const auto entry = mount_for(path, scope.mounts);
    if (!entry) return std::unexpected(path + " is on no mounted pinfs");
    scope.mounts = {*entry};
    struct stat st {};
    if (stat(path.c_str(), &st) != 0) return std::unexpected(path + ": " + strerror(errno));
    if (st.st_dev != entry->device) return scope;  // the region itself
    if (!S_ISDIR(st.st_mode)) {
        scope.inode = st.st_ino;
        return scope;
    }
    const std::unique_ptr<char, void (*)(void*)> resolved{realpath(path.c_str(), nullptr), free};
    const std::string place = resolved ? resolved.get() : path;
    const std::size_t root = entry->mountpoint == "/" ? 0 : entry->mountpoint.size();
    if (place.size() > root && place.starts_with(entry->mountpoint))
        scope.below = place.substr(root) + "/";
    return scope;
}

bool is_wanted(const Pinned& item, const Scope& scope, const PinsCommand& command) {
    return (!command.holds || item.kind == "hold") && (!command.pid || item.pid == *command.pid) &&
           (scope.inode == 0 || item.inode == scope.inode) && item.file.starts_with(scope.below);
}

/// Goes on after a mount that fails, with its complaint; `status` tells.
std::vector<Pinned> collect(const PinsCommand& command, const Scope& scope, int& status) {
    std::vector<Pinned> wanted;
    for (const fuse::MountEntry& entry : scope.mounts) {
        auto items = pinned_of(entry.mountpoint);
        if (!items) status = complain(command.program, kFailure, items.error());
        if (!items) continue;
        for (Pinned& item : *items)
            if (is_wanted(item, scope, command)) wanted.push_back(std::move(item));
    }
    return wanted;
}

std::string length_text(const Pinned& item) {
    return item.length_bytes == 0 ? "to the end" : size_text(item.length_bytes);
}

void print_pins(const std::vector<Pinned>& items) {
    std::vector<std::vector<std::string>> rows;
    for (const Pinned& item : items)
        rows.push_back({std::to_string(item.id), kind_text(item), item.state,
                        std::to_string(item.offset_bytes), length_text(item), owner_text(item),
                        age_text(item.age_seconds), file_text(item)});
    print_table({"Id", "Kind", "State", "Offset", "Length", "Owner", "Age", "File"}, rows,
                {0, 3, 4, 6});
}

void print_holds(const std::vector<Pinned>& items) {
    std::vector<std::vector<std::string>> rows;
    for (const Pinned& item : items)
        rows.push_back({std::to_string(item.id), item.state,
                        std::to_string(item.region_offset_bytes), length_text(item),
                        owner_text(item), age_text(item.age_seconds), file_text(item)});
    print_table({"Id", "State", "Region offset", "Length", "Last owner", "Age", "Last file"}, rows,
                {0, 2, 3, 5});
}

/// For people: how to end what was shown.
void print_advice(const std::vector<Pinned>& items) {
    const auto any = [&](const auto& is) {
        return std::ranges::any_of(items, is);
    };
    if (any([](const Pinned& item) { return item.kind != "hold" && item.kind != "orphan"; }))
        std::cout << "Its owner ends it, or pinfs pins --revoke ID [--kill].\n";
    if (any([](const Pinned& item) { return item.kind == "orphan"; }))
        std::cout << "An orphan goes when nobody has it open, mapped or pinned any more.\n";
    if (any([](const Pinned& item) { return item.state == "held"; }))
        std::cout << "A hold ends when it is proven that no device reaches its blocks, at the next "
                     "boot, or by pinfs holds --release ID.\n";
    if (any([](const Pinned& item) { return item.state == "cut"; }))
        std::cout << "What was cut is free when the maps that still show it are gone.\n";
}

nlohmann::ordered_json json_of(const std::vector<Pinned>& items) {
    auto list = nlohmann::ordered_json::array();
    for (const Pinned& item : items) {
        nlohmann::ordered_json one{{"mount", item.mountpoint}};
        one.update(item.all);
        const std::string end = how_to_end(item);
        one["end_by"] = end.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(end);
        list.push_back(std::move(one));
    }
    return list;
}

int show(const PinsCommand& command, const Scope& scope) {
    int status = kSuccess;
    const std::vector<Pinned> items = collect(command, scope, status);
    if (command.json)
        std::cout << json_of(items).dump(2) << '\n';
    else if (items.empty())
        return status;
    else if (command.holds)
        print_holds(items);
    else
        print_pins(items);
    if (!command.json && isatty(STDOUT_FILENO) != 0) print_advice(items);
    return status;
}

// --- Ending one ---------------------------------------------------------------------------------

/// The item with the id that is asked for. Or a sentence; an empty one if it was said already.
std::expected<Pinned, std::string> find(const PinsCommand& command, const Scope& scope) {
    int status = kSuccess;
    std::vector<Pinned> found = collect(command, scope, status);
    std::erase_if(found, [&](const Pinned& item) {
        return item.id != *command.end || item.kind == "orphan" ||
               (item.kind == "hold") != command.holds;
    });
    const std::string what =
        (command.holds ? "hold " : "lease, map or pin ") + std::to_string(*command.end);
    if (found.empty())
        return std::unexpected(status == kSuccess ? "there is no " + what : std::string{});
    if (found.size() > 1)
        return std::unexpected("several mounts have a " + what + ": name one of them");
    return std::move(found.front());
}

bool is_there(const Pinned& item) {
    const auto items = pinned_of(item.mountpoint);
    return items && std::ranges::any_of(*items, [&](const Pinned& other) {
               return other.id == item.id && other.kind == item.kind;
           });
}

bool is_gone_within(const Pinned& item, milliseconds patience) {
    const auto end = steady_clock::now() + patience;
    while (is_there(item)) {
        if (steady_clock::now() > end) return false;
        std::this_thread::sleep_for(20ms);
    }
    return true;
}

int end_it(const PinsCommand& command, const Pinned& item) {
    const auto failed = [&](const std::string& why) {
        return complain(command.program, kFailure, why);
    };
    std::optional<OwnerProcesses> owners;
    if (command.kill) {
        auto found = OwnerProcesses::of(item);
        if (!found) return failed(found.error());
        owners.emplace(std::move(*found));
    }
    const auto grace = milliseconds{static_cast<std::int64_t>(command.grace_seconds * 1000)};
    if (const auto why =
            revoke(item.mountpoint, item.id, static_cast<std::uint64_t>(grace.count()));
        !why.empty())
        return failed(sentence_of(item) + ": " + why);
    if (owners) {
        if (const auto why = owners->signal(SIGTERM); !why.empty()) return failed(why);
        if (!owners->wait(grace))
            if (const auto why = owners->signal(SIGKILL); !why.empty()) return failed(why);
        if (!owners->wait(10s)) return failed("process " + owners->text() + " does not end");
    }
    if (!is_gone_within(item, grace + 10s))
        return failed(sentence_of(item) + " is still there: pinfs pins shows it");
    std::cout << sentence_of(item) << " is ended";
    if (owners) std::cout << ", and so is process " << owners->text();
    std::cout << '\n';
    return kSuccess;
}

bool is_agreed() {
    std::cout << "Go on? [y/N] " << std::flush;
    std::string answer;
    return std::getline(std::cin, answer) && (answer == "y" || answer == "Y" || answer == "yes");
}

int release(const PinsCommand& command, const Pinned& item) {
    const std::string risk = "a device or program that still reaches the " +
                             size_text(item.length_bytes) + " of " + sentence_of(item) +
                             " will then read, or overwrite, whatever file gets them next";
    if (!command.yes) {
        if (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0)
            return complain(command.program, kFailure, risk + "; --yes takes the risk");
        std::cout << "Beware: " << risk << ".\n";
        if (!is_agreed()) return kFailure;
    }
    if (const auto why = release_hold(item.mountpoint, item.id); !why.empty())
        return complain(command.program, kFailure, sentence_of(item) + ": " + why);
    std::cout << sentence_of(item) << " is released: " << risk << '\n';
    return kSuccess;
}

}  // namespace

int pins(const PinsCommand& command) {
    if (!(command.grace_seconds >= 0 && command.grace_seconds <= 1e6))
        return complain(command.program, kUsage, "a grace is 0 to 1000000 seconds");
    const auto scope = scope_of(command.path);
    if (!scope) return complain(command.program, kFailure, scope.error());
    if (!command.end) return show(command, *scope);
    const auto item = find(command, *scope);
    if (!item && item.error().empty()) return kFailure;
    if (!item) return complain(command.program, kFailure, item.error());
    return command.holds ? release(command, *item) : end_it(command, *item);
}

}  // namespace pinfs::cmd

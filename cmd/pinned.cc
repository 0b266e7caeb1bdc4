// SPDX-License-Identifier: Apache-2.0
#include "cmd/pinned.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cmd/context_request.h"
#include "lib/pinfs/protocol.h"

namespace pinfs::cmd {
namespace {

Pinned parsed(const std::string& mountpoint, nlohmann::ordered_json item) {
    Pinned one;
    const auto get = [&](const char* key, auto& value) {
        const auto found = item.find(key);
        if (found != item.end() && !found->is_null()) found->get_to(value);
    };
    get("kind", one.kind);
    get("state", one.state);
    get("id", one.id);
    get("file", one.file);
    get("deleted", one.deleted);
    get("inode", one.inode);
    get("offset_bytes", one.offset_bytes);
    get("length_bytes", one.length_bytes);
    get("region_offset_bytes", one.region_offset_bytes);
    get("owner", one.owner);
    get("pid", one.pid);
    get("start_ticks", one.start_ticks);
    get("pid_namespace", one.pid_namespace);
    get("command", one.command);
    get("lease", one.lease);
    get("shared", one.shared);
    get("writable", one.writable);
    get("age_seconds", one.age_seconds);
    one.mountpoint = mountpoint;
    one.all = std::move(item);
    return one;
}

/// Empty, or why it failed.
template <class Request>
std::string ask(const std::string& mountpoint, int number, const Request& request) {
    alignas(std::uint64_t) std::array<std::byte, PINFS_IOC_BYTES_MIN> buffer{};
    std::memcpy(buffer.data(), &request, sizeof(request));
    return ask_context(mountpoint, number, buffer);
}

}  // namespace

std::expected<std::string, std::string> read_virtual_file(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    std::string text;
    std::array<char, 65536> piece{};
    ssize_t count = file < 0 ? -1 : 1;
    while (file >= 0 && (count = read(file, piece.data(), piece.size())) > 0)
        text.append(piece.data(), static_cast<std::size_t>(count));
    const int number = errno;
    if (file >= 0) close(file);
    if (count < 0) return std::unexpected(path + ": " + strerror(number));
    return text;
}

std::expected<std::vector<Pinned>, std::string> pinned_of(const std::string& mountpoint) {
    const std::string path = mountpoint + "/.pinfs/pins.json";
    const auto text = read_virtual_file(path);
    if (!text) return std::unexpected(text.error());
    try {
        auto report = nlohmann::ordered_json::parse(*text);
        if (report.at("version") != 1)
            return std::unexpected(path + " is of a version that this program does not know");
        std::vector<Pinned> items;
        for (auto& item : report.at("items")) items.push_back(parsed(mountpoint, std::move(item)));
        return items;
    } catch (const nlohmann::json::exception& wrong) {
        return std::unexpected(path + " is no report: " + wrong.what());
    }
}

bool is_in_use(const Pinned& item) {
    return (item.kind == "map" || item.kind == "pin") && item.state != "held" &&
           item.state != "cut";
}

std::string kind_text(const Pinned& item) {
    if (item.kind == "lease") return item.lease + " lease";
    return item.kind == "pin" && item.shared ? "shared pin" : item.kind;
}

std::string owner_text(const Pinned& item) {
    if (item.pid <= 0) return "-";
    return std::to_string(item.pid) + " (" + printable(item.command) + ")";
}

std::string file_text(const Pinned& item) {
    const std::string path = item.mountpoint == "/" ? item.file : item.mountpoint + item.file;
    return printable(path) + (item.deleted ? " (deleted)" : "");
}

std::string sentence_of(const Pinned& item) {
    std::string sentence = kind_text(item) + " " + std::to_string(item.id);
    if (item.pid > 0) sentence += " of process " + owner_text(item);
    return sentence + " on " + file_text(item);
}

std::string users_of(const std::string& mountpoint, bool writers_only) {
    constexpr std::size_t kNamed = 3;
    const auto items = pinned_of(mountpoint);
    if (!items) return {};
    std::string text;
    std::size_t count = 0;
    for (const Pinned& item : *items) {
        if (!is_in_use(item) || (writers_only && !item.writable)) continue;
        if (++count <= kNamed) text += (text.empty() ? "" : ", ") + sentence_of(item);
    }
    if (count > kNamed) text += " and " + std::to_string(count - kNamed) + " more";
    return text;
}

std::string how_to_end(const Pinned& item) {
    if (item.kind == "orphan") return {};
    return (item.kind == "hold" ? "pinfs holds --release " : "pinfs pins --revoke ") +
           std::to_string(item.id) + " " + item.mountpoint;
}

std::string printable(const std::string& text) {
    std::string shown;
    for (const char letter : text) {
        const auto code = static_cast<unsigned char>(letter);
        if (code >= 0x20 && code != 0x7f && letter != '\\') {
            shown += letter;
            continue;
        }
        std::array<char, 8> escape{};
        std::snprintf(escape.data(), escape.size(), "\\%03o", static_cast<unsigned>(code));
        shown += escape.data();
    }
    return shown;
}

std::string age_text(std::int64_t seconds) {
    if (seconds < 120) return std::to_string(seconds) + " s";
    if (seconds < 7200) return std::to_string(seconds / 60) + " min";
    if (seconds < 48 * 3600) return std::to_string(seconds / 3600) + " h";
    return std::to_string(seconds / (24 * 3600)) + " d";
}

std::string revoke(const std::string& mountpoint, std::uint64_t id, std::uint64_t grace_ms) {
    return ask(mountpoint, PINFS_IOC_REVOKE,
               pinfs_ioc_revoke{.id = id, .grace_ms = grace_ms, .reserved = {}});
}

std::string release_hold(const std::string& mountpoint, std::uint64_t id) {
    return ask(mountpoint, PINFS_IOC_RELEASE_HOLD,
               pinfs_ioc_pin_name{.id = id, .generation = 0, .reserved = {}});
}

}  // namespace pinfs::cmd

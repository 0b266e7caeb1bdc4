// SPDX-License-Identifier: Apache-2.0
//
// What a mount says of leases, maps, pins, holds and orphans in MOUNT/.pinfs/pins.json (SPEC 4.2),
// as far as this user may see it, and the ioctls by which an administrator ends them.
#pragma once

#include <cstdint>
#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fs/fuse/mount_table.h"

namespace pinfs::cmd {

struct Pinned {
    std::string mountpoint;
    std::string kind;   ///< "lease", "map", "pin", "hold", "orphan"
    std::string state;  ///< "live", "recovered", "revoking", "held", "cut"
    std::uint64_t id = 0;
    std::string file;  ///< in the mount, begins with '/'
    bool deleted = false;
    std::uint64_t inode = 0;
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;  ///< of a lease 0: to the end of the address space
    std::uint64_t region_offset_bytes = 0;
    std::string owner;  ///< "context", "process", "none"
    std::int64_t pid = 0;
    std::uint64_t start_ticks = 0;
    std::uint64_t pid_namespace = 0;
    std::string command;
    std::string lease;  ///< "layout", "exclusive", "shared"
    bool shared = false;
    bool writable = false;  ///< through the map, or by the device
    std::int64_t age_seconds = 0;
    nlohmann::ordered_json all;  ///< the report's own words
};

/// One consistent moment of the mount; in the report's order. Or a sentence.
std::expected<std::vector<Pinned>, std::string> pinned_of(const std::string& mountpoint);

/// A file of MOUNT/.pinfs, whole. Or a sentence.
std::expected<std::string, std::string> read_virtual_file(const std::string& path);

/// Whether a program still maps or has pinned it.
bool is_in_use(const Pinned& item);
/// "exclusive lease", "map", "shared pin" ...
std::string kind_text(const Pinned& item);
/// "4711 (server)"; "-" if nobody's or of a process that cannot be seen.
std::string owner_text(const Pinned& item);
/// Path in the file tree, and what became of it.
std::string file_text(const Pinned& item);
/// "pin 17 of process 4711 (server) on /mnt/f".
std::string sentence_of(const Pinned& item);
/// Who maps or has pinned what, a few of them by name (SPEC 5.3); empty if nobody does, or the
/// mount does not answer.
std::string users_of(const std::string& mountpoint, bool writers_only);
/// What is to be done so that it ends: the command, or empty.
std::string how_to_end(const Pinned& item);

/// Letters that would steer a terminal, and backslashes, as octal escapes.
std::string printable(const std::string& text);
/// "12 s", "5 min", "3 h", "2 d".
std::string age_text(std::int64_t seconds);

// Each returns an empty text, or a sentence why it was not done.
/// Ends a lease, map or pin after the grace; its owner is told at once.
std::string revoke(const std::string& mountpoint, std::uint64_t id, std::uint64_t grace_ms);
/// Ends a hold without proof that no device reaches its blocks.
std::string release_hold(const std::string& mountpoint, std::uint64_t id);

}  // namespace pinfs::cmd

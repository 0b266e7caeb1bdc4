// SPDX-License-Identifier: Apache-2.0
//
// The nodes that are in no region: reports, and the file that makes contexts (SPEC 4, DESIGN 6).
//
//   .file_pins              who pins what, as text             .pinfs/metrics  for Prometheus
//   .pinfs/context          one open file is one context       .pinfs/region   what it can do
//   .pinfs/pins.json        leases, maps, pins, holds, orphans .pinfs/log      the last lines
//   .pinfs/pid/PID/file_pins  the body of .file_pins for one process
//
// Their numbers have bit 63 and no inode of a volume has; routing.h decides by it, once for each
// request. The two names of the root directory are not listed, and belong to nobody else: an entry
// of such a name, in a region that an older version made, is hidden.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "fs/fuse/connection.h"

namespace pinfs::fuse {

enum class VirtualKind : std::uint8_t {
    file_pins = 1,
    directory,  ///< .pinfs
    context,
    pins_json,
    region,
    metrics,
    processes,     ///< .pinfs/pid
    process,       ///< .pinfs/pid/PID
    process_pins,  ///< .pinfs/pid/PID/file_pins
    log,
};

struct VirtualNode {
    VirtualKind kind;
    std::uint32_t pid = 0;  ///< of process and process_pins
};

inline constexpr fuse_ino_t kVirtualBit = fuse_ino_t{1} << 63;

constexpr bool is_virtual(fuse_ino_t ino) { return (ino & kVirtualBit) != 0; }
constexpr fuse_ino_t number_of(const VirtualNode& node) {
    return kVirtualBit | static_cast<fuse_ino_t>(node.kind) << 32 | node.pid;
}
/// Of a virtual number.
constexpr VirtualNode node_of(fuse_ino_t ino) {
    return {static_cast<VirtualKind>(ino >> 32 & 0xff), static_cast<std::uint32_t>(ino)};
}
constexpr bool is_directory(VirtualKind kind) {
    return kind == VirtualKind::directory || kind == VirtualKind::processes ||
           kind == VirtualKind::process;
}
/// A process comes and goes: what is said of it is not kept by the kernel.
constexpr bool is_of_process(VirtualKind kind) {
    return kind == VirtualKind::process || kind == VirtualKind::process_pins;
}

/// Whether `name` in directory `parent` is virtual; of the root's the two, of a virtual
/// directory's all.
bool is_virtual_name(fuse_ino_t parent, std::string_view name);
/// What `name` stands for, which is_virtual_name; "." and ".." excepted. Whether a process lives is
/// not asked.
std::optional<VirtualNode> find_virtual(fuse_ino_t parent, std::string_view name);

struct VirtualEntry {
    std::string_view name;
    VirtualKind kind;
};
/// What a directory always has; of .pinfs/pid nothing.
std::vector<VirtualEntry> fixed_entries(VirtualKind directory);

/// The handlers, for routing.
void add_virtual_operations(fuse_lowlevel_ops& operations);

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/virtual_nodes.h"

#include <array>
#include <charconv>

namespace pinfs::fuse {
namespace {

struct Name {
    VirtualKind parent;
    std::string_view name;
    VirtualKind kind;
};
constexpr std::array kNames{
    Name{VirtualKind::directory, "context", VirtualKind::context},
    Name{VirtualKind::directory, "log", VirtualKind::log},
    Name{VirtualKind::directory, "metrics", VirtualKind::metrics},
    Name{VirtualKind::directory, "pid", VirtualKind::processes},
    Name{VirtualKind::directory, "pins.json", VirtualKind::pins_json},
    Name{VirtualKind::directory, "region", VirtualKind::region},
    Name{VirtualKind::process, "file_pins", VirtualKind::process_pins},
};

std::optional<VirtualNode> of_root(std::string_view name) {
    if (name == ".file_pins") return VirtualNode{VirtualKind::file_pins};
    if (name == ".pinfs") return VirtualNode{VirtualKind::directory};
    return std::nullopt;
}

/// Decimal, as /proc has it.
std::optional<VirtualNode> process_named(std::string_view name) {
    std::uint32_t pid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error != std::errc() || end != name.data() + name.size() || pid == 0 || name[0] == '0')
        return std::nullopt;
    return VirtualNode{VirtualKind::process, pid};
}

}  // namespace

bool is_virtual_name(fuse_ino_t parent, std::string_view name) {
    return is_virtual(parent) || (parent == FUSE_ROOT_ID && of_root(name));
}

std::optional<VirtualNode> find_virtual(fuse_ino_t parent, std::string_view name) {
    if (!is_virtual(parent)) return of_root(name);
    const VirtualNode directory = node_of(parent);
    if (directory.kind == VirtualKind::processes) return process_named(name);
    for (const Name& entry : kNames)
        if (entry.parent == directory.kind && entry.name == name)
            return VirtualNode{entry.kind, directory.pid};
    return std::nullopt;
}

std::vector<VirtualEntry> fixed_entries(VirtualKind directory) {
    std::vector<VirtualEntry> entries;
    for (const Name& entry : kNames)
        if (entry.parent == directory) entries.push_back({entry.name, entry.kind});
    return entries;
}

}  // namespace pinfs::fuse

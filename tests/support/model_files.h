// SPDX-License-Identifier: Apache-2.0
//
// A file system in a few maps: what a real one must look like after the same operations. It knows
// names, link counts, attributes and contents, and which errno an operation must fail with; it
// knows no blocks, so ENOSPC is for the caller to understand (then nothing is applied here).
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "tests/support/operation.h"

namespace pinfs::test {

class ModelFiles {
public:
    ModelFiles();

    /// 0, or the errno it must fail with; then nothing changed.
    int apply(const Operation& operation);
    [[nodiscard]] Snapshot snapshot() const;

    /// Of what changes bytes: file blocks that must change whole: those that no write has reached
    /// before, or that are zeroed or punched whole.
    [[nodiscard]] std::set<std::uint64_t> whole_blocks(const Operation& operation) const;
    /// Where a write, append or copy begins.
    [[nodiscard]] std::uint64_t offset_of(const Operation& write) const;
    /// Content of an open file, by its number; as FileState has it.
    [[nodiscard]] FileState opened(std::uint32_t handle) const;
    [[nodiscard]] bool is_open(std::uint32_t handle) const { return open_.contains(handle); }

private:
    struct Node {
        std::uint32_t mode = 0;
        std::uint32_t nlink = 1;
        bool unnamed = false;  // never had a name
        bool reached = false;  // ever mapped or pinned: its times advance by themselves
        std::uint32_t uid = 1000;
        std::uint32_t gid = 100;
        std::uint32_t device_major = 0;
        std::uint32_t device_minor = 0;
        std::uint64_t size = 0;
        std::optional<Time> atime, mtime;
        std::string target;
        std::map<std::string, Bytes> attributes;
        std::map<std::uint64_t, Bytes> blocks;  // whole ones, zeros where not written
        std::map<std::string, std::shared_ptr<Node>> children;
    };
    using NodePointer = std::shared_ptr<Node>;
    struct Place {
        NodePointer directory;
        std::string name;
        NodePointer node;  // null: no such name
    };

    [[nodiscard]] int find(const std::string& path, NodePointer& out) const;
    [[nodiscard]] int find_place(const std::string& path, Place& out) const;
    [[nodiscard]] static bool is_below(const NodePointer& node, const NodePointer& top);
    static FileState state_of(const Node& node);
    static bool has_room(const Node& node, const std::string& name, std::size_t value_bytes);
    static void inherit(Node& node, const Node& directory);
    int make(const Operation& operation, std::uint32_t mode);
    int make_unnamed(const Operation& operation);
    int link(const Operation& operation);
    int rename(const Operation& operation);
    int remove(const Operation& operation);
    int write(const Operation& operation);
    /// The block at which a punch or zeroing of whole blocks ends.
    static std::uint64_t end_of_zeroed(const Operation& operation, const Node& node);
    int write_at(Node& node, std::uint64_t offset, Bytes bytes);
    int copy(const Operation& operation);
    int truncate(const Operation& operation);
    int change_range(const Operation& operation);
    int change(const Operation& operation);
    int set_attribute(const Operation& operation);
    int set_list(const Operation& operation);
    int lease(const Operation& operation);
    int drop_lease(const Operation& operation);
    int reach(const Operation& operation);
    int reload(const Operation& operation);
    /// Whether a pin or an exclusive lease keeps file bytes [begin, end), rounded outward to
    /// blocks, where they lie (SPEC 3.6).
    [[nodiscard]] bool keeps(const NodePointer& node, std::uint64_t begin, std::uint64_t end) const;

    struct Reached {
        NodePointer node;
        std::uint64_t begin_block = 0;
        std::uint64_t end_block = 0;
        bool pins = false;
    };
    NodePointer root_;
    std::map<std::uint32_t, NodePointer> open_;
    std::map<std::uint32_t, NodePointer> exclusive_;  // leases, by holder
    std::map<std::uint32_t, Reached> reached_;
};

}  // namespace pinfs::test

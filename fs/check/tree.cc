// SPDX-License-Identifier: Apache-2.0
#include "fs/check/tree.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace pinfs::checking {
namespace {

constexpr std::uint64_t kNoBound = std::numeric_limits<std::uint64_t>::max();

}  // namespace

Owned TreeWalk::run() {
    const media::Inode& inode = subject_.inode;
    const auto wrong = [&](const char* what) {
        walk_.findings().add(FindingKind::inode_map, subject_.offset, inode.ino,
                             "map_level is %u and map_bytes %u: %s", inode.map_level,
                             inode.map_bytes, what);
        return Owned{0, false};
    };
    if (inode.map_level == 0) {
        if (inode.map_bytes > media::kInlineBytes) return wrong("more than is inline");
    } else if (inode.map_level > media::kTreeLevelsMax) {
        return wrong("too many levels");
    } else if (inode.map_bytes != sizeof(media::le64)) {
        return wrong("a root has 8 bytes");
    }
    const media::u8* const end = std::end(inode.inline_map);
    if (std::any_of(inode.inline_map + inode.map_bytes, end, [](auto byte) { return byte != 0; }))
        walk_.findings().add(FindingKind::inode_map, subject_.offset, inode.ino,
                             "inline_map is not zero behind its %u bytes", inode.map_bytes);

    if (inode.map_level == 0) {
        if (inode.map_bytes != 0)
            sink_.leaf({{inode.inline_map, inode.map_bytes}, subject_.offset, 0, kNoBound});
    } else {
        std::uint64_t root;
        std::memcpy(&root, inode.inline_map, sizeof root);
        node(root, inode.map_level, 0, kNoBound);
    }
    return owned_;
}

void TreeWalk::node(std::uint64_t offset, unsigned level, std::uint64_t lower,
                    std::uint64_t upper) {
    const media::Inode& inode = subject_.inode;
    Findings& findings = walk_.findings();
    if (!walk_.image.holds_block(offset)) {
        findings.add(
            FindingKind::block_outside, subject_.offset, inode.ino,
            "a tree node of level %u is said to stand at %lu, which is no place of a block", level,
            offset);
        owned_.complete = false;
        return;
    }
    const bool fresh =
        walk_.claims.take(offset / media::kBlockBytes, 1, {OwnerKind::tree, inode.ino});
    ++owned_.blocks;
    Node& node = nodes_[level - 1];
    if (!fresh || !walk_.image.read_block({kind_, offset, inode.ino, inode.generation, level,
                                           FindingKind::tree_node_damaged, inode.ino, "tree node"},
                                          node)) {
        owned_.complete = false;
        return;
    }
    if (node.header.used_bytes > media::kPayloadBytes) {
        findings.add(FindingKind::tree_node_damaged, offset, inode.ino,
                     "a tree node has %u bytes in use of %zu", node.header.used_bytes,
                     media::kPayloadBytes);
        owned_.complete = false;
        return;
    }
    if (node.header.used_bytes == 0) {
        findings.add(FindingKind::tree_node_empty, offset, inode.ino,
                     "a tree node of level %u has nothing in it", level);
        return;
    }
    if (level > 1)
        index(node, level, lower, upper);
    else
        sink_.leaf({{node.payload.data(), node.header.used_bytes}, offset, lower, upper});
}

void TreeWalk::index(const Node& node, unsigned level, std::uint64_t lower, std::uint64_t upper) {
    const std::uint64_t offset = node.header.own_offset;
    const std::uint64_t ino = subject_.inode.ino;
    Findings& findings = walk_.findings();
    const std::uint32_t used_bytes = node.header.used_bytes;
    if (used_bytes % sizeof(media::TreeIndexEntry) != 0)
        findings.add(FindingKind::tree_node_damaged, offset, ino,
                     "%u bytes are no whole number of index entries", used_bytes);
    const std::size_t count = used_bytes / sizeof(media::TreeIndexEntry);
    const auto entry_at = [&](std::size_t i) {
        media::TreeIndexEntry entry;
        std::memcpy(&entry, node.payload.data() + i * sizeof entry, sizeof entry);
        return entry;
    };
    for (std::size_t i = 0; i < count; ++i) {
        const media::TreeIndexEntry entry = entry_at(i);
        const std::uint64_t next = i + 1 < count ? entry_at(i + 1).key : upper;
        std::uint64_t child_lower = entry.key;
        std::uint64_t child_upper = next;
        if (entry.key < lower || entry.key >= upper)
            findings.add(FindingKind::tree_bounds, offset, ino,
                         "index entry %zu has key %lu, outside of its node's [%lu, %lu)", i,
                         entry.key, lower, upper);
        if (entry.key >= next) {
            if (i + 1 < count)
                findings.add(FindingKind::tree_order, offset, ino,
                             "index entry %zu has key %lu, the next one %lu", i, entry.key, next);
            // No range to hold the child's keys against.
            child_lower = 0;
            child_upper = kNoBound;
        }
        this->node(entry.child, level - 1, child_lower, child_upper);
    }
}

}  // namespace pinfs::checking

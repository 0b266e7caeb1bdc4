// SPDX-License-Identifier: Apache-2.0
//
// The walk of an inode's B+tree down to its leaves, or to what is inline in their place. Hides
// nodes, index entries and their bounds; who walks sees leaves from left to right.
//
// Invariant: recursion is as deep as the inode's map_level, at most kTreeLevelsMax; each level has
// one buffer.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "fs/check/walk.h"
#include "fs/format/tree.h"

namespace pinfs::checking {

class TreeWalk {
public:
    struct Leaf {
        std::span<const media::u8> payload;
        std::uint64_t offset;  // region offset of the leaf, or of the inode
        std::uint64_t lower;   // keys belong in [lower, upper)
        std::uint64_t upper;
    };
    class Sink {
    public:
        virtual void leaf(const Leaf& leaf) = 0;

    protected:
        ~Sink() = default;
    };

    TreeWalk(Walk& walk, const Subject& subject, media::BlockKind kind, Sink& sink)
        : walk_(walk), subject_(subject), kind_(kind), sink_(sink) {}

    /// Blocks are the tree's nodes.
    Owned run();

private:
    struct Node {
        media::BlockHeader header;
        std::array<media::u8, media::kPayloadBytes> payload;
    };

    void node(std::uint64_t offset, unsigned level, std::uint64_t lower, std::uint64_t upper);
    void index(const Node& node, unsigned level, std::uint64_t lower, std::uint64_t upper);

    Walk& walk_;
    const Subject& subject_;
    media::BlockKind kind_;
    Sink& sink_;
    Owned owned_;
    std::array<Node, media::kTreeLevelsMax> nodes_;
};

}  // namespace pinfs::checking

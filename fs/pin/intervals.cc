// SPDX-License-Identifier: Apache-2.0
#include "fs/pin/intervals.h"

#include <algorithm>

namespace pinfs::pin {

void IntervalTree::renew(Interval* node) {
    node->latest_end = node->end;
    for (const Interval* child : {node->left, node->right})
        if (child != nullptr) node->latest_end = std::max(node->latest_end, child->latest_end);
}

/// `with` takes the place of `old` below `below`, or at the root.
void IntervalTree::replace(Interval* below, Interval* old, Interval* with) {
    if (below == nullptr)
        root_ = with;
    else if (below->left == old)
        below->left = with;
    else
        below->right = with;
    if (with != nullptr) with->parent = below;
}

/// `node` and its parent change places; the order stays.
void IntervalTree::rotate_up(Interval* node) {
    Interval* const above = node->parent;
    replace(above->parent, above, node);
    Interval*& inner = above->left == node ? above->left : above->right;
    Interval*& outer = above->left == node ? node->right : node->left;
    inner = outer;
    if (inner != nullptr) inner->parent = above;
    outer = above;
    above->parent = node;
    renew(above);
    renew(node);
}

void IntervalTree::insert(Interval& node) {
    assert(node.begin < node.end);
    random_ ^= random_ << 13;  // xorshift32
    random_ ^= random_ >> 17;
    random_ ^= random_ << 5;
    node.left = node.right = nullptr;
    node.priority = random_;
    node.latest_end = node.end;
    Interval* above = nullptr;
    for (Interval* at = root_; at != nullptr; at = node.begin < at->begin ? at->left : at->right) {
        at->latest_end = std::max(at->latest_end, node.end);
        above = at;
    }
    node.parent = above;
    if (above == nullptr)
        root_ = &node;
    else if (node.begin < above->begin)
        above->left = &node;
    else
        above->right = &node;
    while (node.parent != nullptr && node.parent->priority < node.priority) rotate_up(&node);
    ++size_;
}

void IntervalTree::erase(Interval& node) {
    while (node.left != nullptr && node.right != nullptr)
        rotate_up(node.left->priority > node.right->priority ? node.left : node.right);
    replace(node.parent, &node, node.left != nullptr ? node.left : node.right);
    for (Interval* above = node.parent; above != nullptr; above = above->parent) renew(above);
    node.parent = node.left = node.right = nullptr;
    --size_;
}

Interval* IntervalTree::first_below(Interval* node, std::uint64_t from, std::uint64_t to) {
    while (node != nullptr && node->latest_end > from) {
        if (node->left != nullptr && node->left->latest_end > from) {
            // Something to the left ends late enough. Beginning before everything here, it meets
            // the range, or else nothing does.
            node = node->left;
            continue;
        }
        if (node->begin >= to) return nullptr;
        if (node->end > from) return node;
        node = node->right;
    }
    return nullptr;
}

Interval* IntervalTree::first(std::uint64_t from, std::uint64_t to) const {
    return from < to ? first_below(root_, from, to) : nullptr;
}

Interval* IntervalTree::next(const Interval& node, std::uint64_t from, std::uint64_t to) {
    if (Interval* found = first_below(node.right, from, to)) return found;
    const Interval* at = &node;
    for (Interval* above = at->parent; above != nullptr; at = above, above = above->parent) {
        if (above->left != at) continue;
        if (above->begin >= to) return nullptr;
        if (above->end > from) return above;
        if (Interval* found = first_below(above->right, from, to)) return found;
    }
    return nullptr;
}

}  // namespace pinfs::pin

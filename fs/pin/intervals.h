// SPDX-License-Identifier: Apache-2.0
//
// A set of ranges that may overlap and repeat, and who meets a given range: a treap by begin whose
// nodes know the latest end below them. Every operation costs O(log n) for n ranges, and a visit
// O(log n) more for each range it finds. Nodes belong to the caller and stay where they are.
//
// Not thread-safe.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>

namespace pinfs::pin {

/// [begin, end) of something that is counted, not empty. Part of a node; unchanged while in a set.
struct Interval {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;

    [[nodiscard]] bool meets(std::uint64_t from, std::uint64_t to) const {
        return begin < to && from < end;
    }

private:
    friend class IntervalTree;
    Interval* parent = nullptr;
    Interval* left = nullptr;
    Interval* right = nullptr;
    std::uint64_t latest_end = 0;  // of this and all below
    std::uint32_t priority = 0;
};

/// The tree itself, for Intervals.
class IntervalTree {
public:
    IntervalTree() = default;
    IntervalTree(const IntervalTree&) = delete;
    IntervalTree& operator=(const IntervalTree&) = delete;

    void insert(Interval& node);
    void erase(Interval& node);
    /// The first, by begin and then by insertion, that meets [from, to); nullptr if none does.
    [[nodiscard]] Interval* first(std::uint64_t from, std::uint64_t to) const;
    /// The one that follows `node` among those.
    [[nodiscard]] static Interval* next(const Interval& node, std::uint64_t from, std::uint64_t to);
    [[nodiscard]] std::size_t size() const { return size_; }

private:
    static void renew(Interval* node);
    void replace(Interval* below, Interval* old, Interval* with);
    void rotate_up(Interval* node);
    static Interval* first_below(Interval* node, std::uint64_t from, std::uint64_t to);

    Interval* root_ = nullptr;
    std::size_t size_ = 0;
    std::uint32_t random_ = 0x9e3779b9;
};

/// A set of Nodes, which are Intervals.
template <class Node>
class Intervals {
public:
    void insert(Node& node) { tree_.insert(node); }
    void erase(Node& node) { tree_.erase(node); }
    [[nodiscard]] Node* first(std::uint64_t from, std::uint64_t to) const {
        return static_cast<Node*>(tree_.first(from, to));
    }
    [[nodiscard]] Node* next(const Node& node, std::uint64_t from, std::uint64_t to) const {
        return static_cast<Node*>(IntervalTree::next(node, from, to));
    }
    /// Calls `visit` for all that meet [from, to), in order, until it returns false; it must not
    /// change the set. False if it was stopped.
    template <class Visit>
    bool for_each(std::uint64_t from, std::uint64_t to, const Visit& visit) const {
        for (Node* node = first(from, to); node != nullptr; node = next(*node, from, to))
            if (!visit(*node)) return false;
        return true;
    }
    [[nodiscard]] std::size_t size() const { return tree_.size(); }
    [[nodiscard]] bool empty() const { return tree_.size() == 0; }

private:
    IntervalTree tree_;
};

}  // namespace pinfs::pin

// SPDX-License-Identifier: Apache-2.0
//
// A set of numbers kept as ranges that neither overlap nor touch. O(log n) for n ranges, and O(1)
// more for each range that a call swallows or visits.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>

namespace pinfs::pin {

class RangeSet {
public:
    /// Adds [begin, end).
    void add(std::uint64_t begin, std::uint64_t end) {
        if (begin >= end) return;
        auto at = ranges_.upper_bound(begin);
        if (at != ranges_.begin() && std::prev(at)->second >= begin) {
            --at;
            begin = at->first;
        }
        while (at != ranges_.end() && at->first <= end) {
            end = std::max(end, at->second);
            at = ranges_.erase(at);
        }
        ranges_.emplace(begin, end);
    }
    /// Takes [begin, end) out.
    void remove(std::uint64_t begin, std::uint64_t end) {
        auto at = ranges_.lower_bound(begin);
        if (at != ranges_.begin() && std::prev(at)->second > begin) --at;
        while (at != ranges_.end() && at->first < end) {
            const auto [first, last] = *at;
            at = ranges_.erase(at);
            if (first < begin) ranges_.emplace(first, begin);
            if (last > end) ranges_.emplace(end, last);
        }
    }
    /// Calls `visit(begin, end)` for each part of [begin, end) that is not in the set, in order.
    template <class Visit>
    void for_each_gap(std::uint64_t begin, std::uint64_t end, const Visit& visit) const {
        auto at = ranges_.upper_bound(begin);
        if (at != ranges_.begin() && std::prev(at)->second > begin) --at;
        for (; begin < end && at != ranges_.end() && at->first < end; ++at) {
            if (at->first > begin) visit(begin, at->first);
            begin = std::max(begin, at->second);
        }
        if (begin < end) visit(begin, end);
    }
    /// Calls `visit(begin, end)` for each range, in order.
    template <class Visit>
    void for_each(const Visit& visit) const {
        for (const auto& [begin, end] : ranges_) visit(begin, end);
    }
    [[nodiscard]] bool covers(std::uint64_t begin, std::uint64_t end) const {
        bool all = true;
        for_each_gap(begin, end, [&](std::uint64_t, std::uint64_t) { all = false; });
        return all;
    }
    /// Whether any of [begin, end) is in the set.
    [[nodiscard]] bool meets(std::uint64_t begin, std::uint64_t end) const {
        auto at = ranges_.upper_bound(begin);
        if (at != ranges_.begin() && std::prev(at)->second > begin) return begin < end;
        return at != ranges_.end() && at->first < end;
    }
    [[nodiscard]] bool empty() const { return ranges_.empty(); }
    [[nodiscard]] std::size_t size() const { return ranges_.size(); }

private:
    std::map<std::uint64_t, std::uint64_t> ranges_;  // end by begin
};

}  // namespace pinfs::pin

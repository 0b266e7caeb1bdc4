// SPDX-License-Identifier: Apache-2.0
//
// Memory that fails in blocks, for a region in memory of a test.
#pragma once

#include <cstdint>
#include <mutex>
#include <set>
#include <source_location>

#include "fs/pmem/region.h"

namespace pinfs::test {

/// Blocks that cannot be loaded; a store of a whole one mends it, unless it is dead.
class FailingBlocks final : public pmem::Observer {
public:
    bool before_load(std::uint64_t offset, std::uint64_t bytes) override {
        const std::scoped_lock lock{mutex_};
        const auto first = bad_.lower_bound(offset / kBlockBytes);
        return first == bad_.end() || *first * kBlockBytes >= offset + bytes;
    }
    bool before_store(std::uint64_t offset, std::uint64_t bytes) override {
        const std::scoped_lock lock{mutex_};
        for (auto at = bad_.lower_bound(offset / kBlockBytes);
             at != bad_.end() && *at * kBlockBytes < offset + bytes;) {
            const bool whole =
                *at * kBlockBytes >= offset && (*at + 1) * kBlockBytes <= offset + bytes;
            if (dead_ || !whole) return false;
            at = bad_.erase(at);
        }
        return true;
    }
    void stored(std::uint64_t, std::uint64_t) override {}
    void flushed(std::uint64_t, std::uint64_t, const std::source_location&) override {}
    void fenced(const std::source_location&) override {}

    void fail(std::uint64_t block) {
        const std::scoped_lock lock{mutex_};
        bad_.insert(block);
    }
    void kill() { dead_ = true; }
    void revive() { dead_ = false; }

private:
    std::mutex mutex_;
    std::set<std::uint64_t> bad_;
    bool dead_ = false;
};

}  // namespace pinfs::test

// SPDX-License-Identifier: Apache-2.0
#include "fs/pmem/bad_blocks.h"

#include <libpmem2.h>

#include <algorithm>

namespace pinfs::pmem {

namespace {

/// The bad places of a file or device, while `this` lives.
class DeviceList {
public:
    explicit DeviceList(int fd) {
        if (pmem2_source_from_fd(&source_, fd) != 0) return;
        if (pmem2_badblock_context_new(&context_, source_) != 0) context_ = nullptr;
    }
    ~DeviceList() {
        if (context_ != nullptr) pmem2_badblock_context_delete(&context_);
        if (source_ != nullptr) pmem2_source_delete(&source_);
    }
    DeviceList(const DeviceList&) = delete;
    DeviceList& operator=(const DeviceList&) = delete;

    bool next(pmem2_badblock& found) {
        return context_ != nullptr && pmem2_badblock_next(context_, &found) == 0;
    }
    bool clear(const pmem2_badblock& which) { return pmem2_badblock_clear(context_, &which) == 0; }

private:
    pmem2_source* source_ = nullptr;
    pmem2_badblock_context* context_ = nullptr;
};

}  // namespace

void BadBlocks::add(BlockRun run) {
    const std::scoped_lock lock{mutex_};
    bool changed = false;
    for (std::uint64_t block = run.begin; block < run.end() && blocks_.size() < kMax; ++block)
        changed = blocks_.insert(block).second || changed;
    count_.store(blocks_.size(), std::memory_order_relaxed);
    if (changed) version_.fetch_add(1, std::memory_order_relaxed);
}

void BadBlocks::remove_inside(std::uint64_t offset, std::uint64_t bytes) {
    const std::scoped_lock lock{mutex_};
    const auto first = blocks_.lower_bound((offset + kBlockBytes - 1) / kBlockBytes);
    const auto last = blocks_.lower_bound((offset + bytes) / kBlockBytes);
    if (first == blocks_.end() || (last != blocks_.end() && *last <= *first)) return;
    blocks_.erase(first, last);
    count_.store(blocks_.size(), std::memory_order_relaxed);
    version_.fetch_add(1, std::memory_order_relaxed);
}

std::vector<BlockRun> BadBlocks::runs() const {
    const std::scoped_lock lock{mutex_};
    std::vector<BlockRun> runs;
    for (const std::uint64_t block : blocks_) {
        if (!runs.empty() && runs.back().end() == block)
            ++runs.back().count;
        else
            runs.push_back({block, 1});
    }
    return runs;
}

std::vector<BlockRun> bad_blocks_of_device(int fd) {
    std::vector<BlockRun> runs;
    DeviceList list{fd};
    for (pmem2_badblock found{}; list.next(found);) {
        const std::uint64_t begin = found.offset / kBlockBytes;
        const std::uint64_t end = (found.offset + found.length + kBlockBytes - 1) / kBlockBytes;
        runs.push_back({begin, end - begin});
    }
    return runs;
}

bool clear_on_device(int fd, std::uint64_t offset, std::uint64_t bytes) {
    bool cleared = false;
    DeviceList list{fd};
    for (pmem2_badblock found{}; list.next(found);) {
        const std::uint64_t begin = std::max<std::uint64_t>(found.offset, offset);
        const std::uint64_t end =
            std::min<std::uint64_t>(found.offset + found.length, offset + bytes);
        // Not what lies beside: others would read zeros there instead of an error.
        if (begin < end) cleared = list.clear({.offset = begin, .length = end - begin}) || cleared;
    }
    return cleared;
}

}  // namespace pinfs::pmem

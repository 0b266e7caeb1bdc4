// SPDX-License-Identifier: Apache-2.0
//
// Leases, maps and pins of the model.
#include <algorithm>
#include <cerrno>

#include "tests/support/model_files.h"

namespace pinfs::test {

bool ModelFiles::keeps(const NodePointer& node, std::uint64_t begin, std::uint64_t end) const {
    const auto is_leased = [&](const auto& lease) {
        return lease.second == node;
    };
    const auto is_pinned = [&](const auto& entry) {
        const Reached& reached = entry.second;
        return reached.pins && reached.node == node && reached.begin_block * kBlockBytes < end &&
               begin / kBlockBytes < reached.end_block;
    };
    return std::ranges::any_of(exclusive_, is_leased) || std::ranges::any_of(reached_, is_pinned);
}

int ModelFiles::lease(const Operation& operation) {
    NodePointer node;
    if (const int error = find(operation.path, node); error != 0) return error;
    if (operation.seed != 1) {
        exclusive_.erase(operation.number);
        return 0;
    }
    for (const auto& [holder, of] : exclusive_)
        if (of == node && holder != operation.number) return EAGAIN;
    exclusive_[operation.number] = node;
    return 0;
}

int ModelFiles::drop_lease(const Operation& operation) {
    NodePointer node;
    if (const int error = find(operation.path, node); error != 0) return error;
    exclusive_.erase(operation.number);
    return 0;
}

int ModelFiles::reach(const Operation& operation) {
    NodePointer node;
    if (const int error = find(operation.path, node); error != 0) return error;
    const bool pins = operation.what == Do::pin;
    if (pins && std::ranges::any_of(exclusive_, [&](const auto& lease) {
            return lease.second == node && lease.first != operation.number;
        }))
        return EAGAIN;
    const std::uint64_t end = operation.offset + operation.length;
    if (end > (pins ? node->size : blocks_of(node->size) * kBlockBytes)) return EINVAL;
    const Reached reached{node, operation.offset / kBlockBytes, blocks_of(end), pins};
    reached_[operation.number] = reached;
    node->reached = true;
    // No holes are left, and a write there is one in place.
    for (std::uint64_t block = reached.begin_block; block < reached.end_block; ++block)
        node->blocks.try_emplace(block, Bytes(kBlockBytes));
    return 0;
}

int ModelFiles::reload(const Operation& operation) {
    const auto found = reached_.find(operation.number);
    if (found == reached_.end()) return ENOENT;
    const Reached& map = found->second;
    for (std::uint64_t block = map.begin_block;
         block < std::min(map.end_block, blocks_of(map.node->size)); ++block)
        map.node->blocks.try_emplace(block, Bytes(kBlockBytes));
    return 0;
}

}  // namespace pinfs::test

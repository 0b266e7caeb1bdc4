// SPDX-License-Identifier: Apache-2.0
//
// An input, taken apart from its start on; zeros when there is no more.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace pinfs::fuzz {

class Input {
public:
    explicit Input(std::span<const std::uint8_t> bytes) : left_{bytes} {}

    [[nodiscard]] bool empty() const { return left_.empty(); }
    template <class Value>
    Value take() {
        Value value{};
        const auto bytes = take_bytes(sizeof value);
        std::memcpy(&value, bytes.data(), bytes.size());
        return value;
    }
    /// Up to so many.
    std::span<const std::uint8_t> take_bytes(std::size_t bytes) {
        const auto taken = left_.first(std::min(bytes, left_.size()));
        left_ = left_.subspan(taken.size());
        return taken;
    }

private:
    std::span<const std::uint8_t> left_;
};

}  // namespace pinfs::fuzz

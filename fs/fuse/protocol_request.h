// SPDX-License-Identifier: Apache-2.0
//
// One ioctl of lib/pinfs/protocol.h: its buffer in, its buffer or its failure out. What is not
// right with a buffer is found here, once for all requests: too short, reserved fields in use.
//
// A failure is told twice: by errno, and by one sentence in the buffer, which the kernel hands out
// together with the negative result.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fs/fuse/edge.h"
#include "lib/pinfs/protocol.h"

namespace pinfs::fuse {

/// Whether an ioctl is one of the protocol, known or not.
bool is_protocol_request(unsigned command);

/// As libfuse hands it over.
struct IoctlBuffer {
    const void* in;
    std::size_t in_size;
    std::size_t out_size;
};

class ProtocolRequest {
public:
    ProtocolRequest(fuse_req_t req, unsigned command, const IoctlBuffer& buffer);

    fuse_req* const req;
    const unsigned number;  ///< one of pinfs_ioc, or unknown

    /// The struct in the buffer; its reserved fields, and those that are for answers, are ignored
    /// or checked by the caller. Errors: buffer_too_small.
    template <class Struct>
    Expected<Struct> get() const {
        if (size_ < PINFS_IOC_BYTES_MIN || size_ < sizeof(Struct))
            return fail(Cause::buffer_too_small);
        Struct value;
        std::memcpy(&value, buffer_.data(), sizeof(value));
        return value;
    }
    /// The struct of the answer.
    template <class Struct>
    void put(const Struct& value) {
        std::memcpy(buffer_.data(), &value, sizeof(value));
    }
    /// Extents from number `first` on, as many as fit behind a Struct; how many.
    template <class Struct>
    std::uint32_t put_extents(std::span<const Extent> extents, std::uint64_t first) {
        return put_extents(sizeof(Struct), extents, first);
    }

    /// Items of another kind, as many as fit behind a Struct; how many.
    template <class Struct, class Item>
    std::uint32_t put_behind(std::span<const Item> items) {
        const std::size_t count = std::min(items.size(), (size_ - sizeof(Struct)) / sizeof(Item));
        if (count != 0)
            std::memcpy(buffer_.data() + sizeof(Struct), items.data(), count * sizeof(Item));
        return static_cast<std::uint32_t>(count);
    }

    /// What a failure's sentence says: the range that was asked for, and the file.
    void about(Ino ino, std::uint64_t offset_bytes, std::uint64_t length_bytes) {
        ino_ = ino;
        range_ = {offset_bytes, length_bytes == 0 ? UINT64_MAX : offset_bytes + length_bytes};
    }

    void reply(const Expected<void>& result) noexcept;

private:
    std::uint32_t put_extents(std::size_t behind, std::span<const Extent> extents,
                              std::uint64_t first);
    [[nodiscard]] std::string sentence_of_failure(const Error& error) const;

    std::array<std::byte, PINFS_IOC_BYTES_MAX + 1> buffer_;  // only `size_` bytes are set
    std::size_t size_ = 0;
    Ino ino_;
    std::optional<std::pair<std::uint64_t, std::uint64_t>> range_;  // to UINT64_MAX: the end
};

/// Errors: reserved_not_zero.
template <class Value, std::size_t kCount>
Expected<void> require_zeros(const Value (&values)[kCount]) {
    for (const Value value : values)
        if (value != 0) return fail(Cause::reserved_not_zero);
    return {};
}
inline Expected<void> require_zero(std::uint64_t value) {
    if (value != 0) return fail(Cause::reserved_not_zero);
    return {};
}

/// A range as C has it. Errors: invalid_argument, if it ends beyond the address space.
Expected<void> require_range(std::uint64_t offset_bytes, std::uint64_t length_bytes);

inline Token token_of(const std::uint8_t (&bytes)[16]) {
    Token token;
    std::memcpy(token.data(), bytes, token.size());
    return token;
}

/// A layout's generation as the protocol has it, where 0 is that of nobody who asks for the first
/// time.
constexpr std::uint64_t shown_generation(std::uint64_t generation) { return generation + 1; }
/// One page of a file's layout: as `words` asks for it. Errors: layout_moved.
Expected<void> put_layout(ProtocolRequest& request, pinfs_ioc_layout words,
                          const LayoutAnswer& layout);
/// One page of extents, behind `words`.
void put_extents_page(ProtocolRequest& request, pinfs_ioc_layout words,
                      std::span<const Extent> extents);

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
//
// POSIX access lists: what a list says about mode bits, and mode bits about a list. An access list
// and the mode of its inode always agree; one that says no more than the mode is not stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fs/error.h"
#include "fs/format/access_list.h"

namespace pinfs::inode {

class AccessList {
public:
    /// Errors: invalid_argument if `bytes` is no valid list.
    static Expected<AccessList> parse(std::span<const std::byte> bytes);
    [[nodiscard]] std::vector<std::byte> bytes() const;

    /// The nine permission bits it stands for.
    [[nodiscard]] std::uint32_t permissions() const;
    /// Whether a mode says all of it.
    [[nodiscard]] bool is_mode() const;
    /// After chmod: the bits of the group are those of the mask, if there is one.
    void follow(std::uint32_t permissions);
    /// From a directory's default list, that of a new inode which is to have at most `permissions`.
    void limit(std::uint32_t permissions);

private:
    /// The entry that mode bits shifted by 6, 3 or 0 stand for.
    template <class Self>
    static auto& entry_of(Self& list, unsigned shift);
    std::vector<media::AccessEntry> entries_;
};

}  // namespace pinfs::inode

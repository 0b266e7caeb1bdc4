// SPDX-License-Identifier: Apache-2.0
//
// Requests to the daemon: a struct of lib/pinfs/protocol.h in a buffer of the size it goes with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lib/answers.h"
#include "lib/pinfs/pinfs.h"
#include "lib/pinfs/protocol.h"

namespace pinfs::client {

/// The ioctl `request` with `buffer`. 0, or -errno with the daemon's sentence, or one of our own
/// where it was the kernel that refused. The buffer's content is lost after a failure.
int ask(int fd, unsigned request, void* buffer, std::size_t bytes);

template <class Head>
struct Request {
    Head head{};
    std::byte rest[sizeof(Head) < PINFS_IOC_BYTES_MIN ? PINFS_IOC_BYTES_MIN - sizeof(Head) : 8]{};

    int ask(int fd, unsigned request) { return client::ask(fd, request, this, sizeof(*this)); }
};

/// With room for extents behind the struct: a page in all.
template <class Head>
struct PagedRequest {
    Head head{};
    pinfs_ioc_extent extents[(4096 - sizeof(Head)) / sizeof(pinfs_ioc_extent)]{};

    int ask(int fd, unsigned request) { return client::ask(fd, request, this, sizeof(*this)); }
};

/// The answer of LAYOUT, RELOAD or PIN_EXTENTS, of several pages if need be.
struct Layout {
    std::uint64_t generation = 0;
    std::uint64_t total = 0;       ///< extents of the range
    std::uint64_t size_bytes = 0;  ///< of the file
    std::vector<pinfs_ioc_extent> extents;
};

/// Asks for the extents from number `wanted.first` on, `limit` at most, all in `place`; goes on
/// behind those that `layout` has. Where the layout moves between two pages it starts anew; -EAGAIN
/// if that goes on.
int ask_layout(int fd, unsigned request, const pinfs_ioc_layout& wanted, const Place& place,
               std::size_t limit, Layout& layout);

/// As programs see it.
inline pinfs_extent public_extent(const pinfs_ioc_extent& extent) {
    return {extent.file_offset_bytes, extent.region_offset_bytes, extent.length_bytes, 0, 0};
}

}  // namespace pinfs::client

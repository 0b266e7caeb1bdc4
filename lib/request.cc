// SPDX-License-Identifier: Apache-2.0
#include "lib/request.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "lib/failure.h"

namespace pinfs::client {

namespace {

// Where the kernel or another file system refused, and so nobody wrote a sentence.
int refused(int error, int fd) {
    switch (error) {
        case EBADF:
            return fail(error, "Descriptor %d is not open.", fd);
        case EIO:
            return fail(error, "The file system was shut down or has failed.");
        case ENOSYS:
        case ENOTTY:
        case EINVAL:
            return fail(error == EINVAL ? EINVAL : ENOTTY,
                        "Descriptor %d is no file of a pinfs mount that can do this.", fd);
        case ENOTCONN:
        case ECONNABORTED:
            return fail(ENOTCONN, "The mount is gone: its daemon has ended.");
        default:
            return fail(error, "The daemon could not be asked: %s.", strerrordesc_np(error));
    }
}

}  // namespace

int ask(int fd, unsigned request, void* buffer, std::size_t bytes) {
    // A daemon that refuses writes a sentence; a kernel that does leaves the request there.
    pinfs_ioc_failure before{};
    std::memcpy(&before, buffer, sizeof(before));
    if (ioctl(fd, PINFS_IOC(request, bytes), buffer) == 0) return 0;
    const int error = errno;
    pinfs_ioc_failure failure{};
    std::memcpy(&failure, buffer, sizeof(failure));
    const bool answered = std::memcmp(&before, &failure, sizeof(failure)) != 0 &&
                          failure.error == static_cast<std::uint32_t>(error) &&
                          failure.message[0] != '\0';
    if (!answered) return refused(error, fd);
    failure.message[sizeof(failure.message) - 1] = '\0';
    return fail(error, "%s", failure.message);
}

int ask_layout(int fd, unsigned request, const pinfs_ioc_layout& wanted, std::size_t limit,
               Layout& layout) {
    constexpr int kAttemptsMax = 100;
    for (int attempt = 0; attempt < kAttemptsMax;) {
        PagedRequest<pinfs_ioc_layout> page;
        page.head = wanted;
        page.head.first = wanted.first + layout.extents.size();
        // A pin's own generation is part of its name, and its layout does not move.
        if (!layout.extents.empty() && request != PINFS_IOC_PIN_EXTENTS)
            page.head.generation = layout.generation;
        if (const int result = page.ask(fd, request); result != 0) {
            if (result != -ESTALE || layout.extents.empty()) return result;
            layout.extents.clear();
            attempt++;
            continue;
        }
        layout.generation = page.head.generation;
        layout.total = page.head.total;
        layout.size_bytes = page.head.size_bytes;
        const std::size_t room = limit - layout.extents.size();
        const std::size_t count = std::min<std::size_t>(page.head.count, std::size(page.extents));
        layout.extents.insert(layout.extents.end(), page.extents,
                              page.extents + std::min(count, room));
        const bool complete = wanted.first + layout.extents.size() >= layout.total;
        if (complete || count == 0 || layout.extents.size() == limit) return 0;
    }
    return fail(EAGAIN, "The layout of the file changes all the time.");
}

}  // namespace pinfs::client

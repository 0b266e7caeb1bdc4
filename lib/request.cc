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

/// Whether a page goes on where the last one ended. A hole that is filled between the two moves the
/// numbers of extents, which is no change of the layout.
bool follows(const PagedRequest<pinfs_ioc_layout>& page, const Place& place, const Layout& layout) {
    if (layout.extents.empty()) return true;
    if (page.head.total != layout.total) return false;
    const pinfs_ioc_extent& last = layout.extents.back();
    const std::uint64_t end = last.file_offset_bytes + last.length_bytes;
    return place.without_holes ? page.extents[0].file_offset_bytes == end
                               : page.extents[0].file_offset_bytes >= end;
}

}  // namespace

int ask(int fd, unsigned request, void* buffer, std::size_t bytes) {
    // A daemon that refuses writes a sentence; a kernel that does leaves the request there.
    pinfs_ioc_failure before{};
    std::memcpy(&before, buffer, sizeof(before));
    const int result = ioctl(fd, PINFS_IOC(request, bytes), buffer);
    if (result == 0) return 0;
    if (result != -1) return senseless(request, "result %d", result);
    const int error = errno;
    if (strerrorname_np(error) == nullptr) return senseless(request, "error %d", error);
    pinfs_ioc_failure failure{};
    std::memcpy(&failure, buffer, sizeof(failure));
    const bool answered = std::memcmp(&before, &failure, sizeof(failure)) != 0 &&
                          failure.error == static_cast<std::uint32_t>(error) &&
                          failure.message[0] != '\0';
    if (!answered) return refused(error, fd);
    failure.message[sizeof(failure.message) - 1] = '\0';
    // It goes to terminals and logs: one line, and nothing that they obey.
    for (char* at = failure.message; *at != '\0'; ++at)
        if (static_cast<unsigned char>(*at) < ' ' || *at == '\x7f') *at = '?';
    return fail(error, "%s", failure.message);
}

int ask_layout(int fd, unsigned request, const pinfs_ioc_layout& wanted, const Place& place,
               std::size_t limit, Layout& layout) {
    constexpr int kAttemptsMax = 100;
    const bool is_pin = request == PINFS_IOC_PIN_EXTENTS;
    for (int attempt = 0; attempt < kAttemptsMax;) {
        PagedRequest<pinfs_ioc_layout> page;
        page.head = wanted;
        page.head.first = wanted.first + layout.extents.size();
        // A pin's own generation is part of its name.
        if (!layout.extents.empty() && !is_pin) page.head.generation = layout.generation;
        const pinfs_ioc_layout asked = page.head;
        const int result = page.ask(fd, request);
        if (result != 0 && (result != -ESTALE || layout.extents.empty())) return result;
        if (result == 0) {
            if (const int wrong = check_layout(request, place, asked, page.head, page.extents);
                wrong != 0)
                return wrong;
        }
        if (result != 0 || !follows(page, place, layout)) {
            if (is_pin) return senseless(request, "the layout of a pin has changed");
            layout.extents.clear();
            attempt++;
            continue;
        }
        layout.generation = page.head.generation;
        layout.total = page.head.total;
        layout.size_bytes = page.head.size_bytes;
        const std::size_t room = limit - layout.extents.size();
        layout.extents.insert(layout.extents.end(), page.extents,
                              page.extents + std::min<std::size_t>(page.head.count, room));
        const bool complete = wanted.first + layout.extents.size() >= layout.total;
        if (complete || layout.extents.size() == limit) return 0;
    }
    return fail(EAGAIN, "The layout of the file changes all the time.");
}

}  // namespace pinfs::client

// SPDX-License-Identifier: Apache-2.0
#include "lib/request.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

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

std::uint64_t end_of(const pinfs_ioc_extent& extent) {
    return extent.file_offset_bytes + extent.length_bytes;
}

/// What a part's end cut in two is one again.
void append(std::vector<pinfs_ioc_extent>& extents, std::span<const pinfs_ioc_extent> more) {
    if (!extents.empty() && !more.empty()) {
        pinfs_ioc_extent& last = extents.back();
        const pinfs_ioc_extent& next = more.front();
        if (end_of(last) == next.file_offset_bytes &&
            last.region_offset_bytes + last.length_bytes == next.region_offset_bytes) {
            last.length_bytes += next.length_bytes;
            more = more.subspan(1);
        }
    }
    extents.insert(extents.end(), more.begin(), more.end());
}

/// As ask_layout(). -ESTALE where the layout moved between two pages.
int ask_pages(int fd, unsigned request, const pinfs_ioc_layout& wanted, const Place& place,
              std::size_t limit, Layout& layout) {
    const bool is_pin = request == PINFS_IOC_PIN_EXTENTS;
    std::vector<pinfs_ioc_extent>& extents = layout.extents;
    Place whole = place;
    Place part = place;
    std::uint64_t at = place.begin;  // behind what is known
    // The first page is of the whole range, whose extents it counts; another one is of a part twice
    // as long as what the last one told of. So what the daemon looks through stays near to what it
    // tells of.
    const auto go_on = [&](std::uint64_t from, std::uint64_t to) {
        at = to;
        if (at < whole.end) part = part_of(whole, at, 2 * (to - from));
    };
    if (!extents.empty()) go_on(extents.front().file_offset_bytes, end_of(extents.back()));
    while (at < whole.end) {
        PagedRequest<pinfs_ioc_layout> page;
        page.head = wanted;
        const bool is_first = extents.empty();
        if (!is_first) {
            page.head.first = 0;
            page.head.offset_bytes = part.begin;
            page.head.length_bytes = part.end - part.begin;
            // A pin's own generation is part of its name.
            if (!is_pin) page.head.generation = layout.generation;
        }
        const pinfs_ioc_layout asked = page.head;
        if (const int result = page.ask(fd, request); result != 0) return result;
        if (const int wrong = check_layout(request, part, asked, page.head, page.extents);
            wrong != 0)
            return wrong;
        const std::span<const pinfs_ioc_extent> found{page.extents, page.head.count};
        if (is_pin && !is_first && !found.empty() && found[0].file_offset_bytes != at)
            return senseless(request, "a pin has a hole");
        layout.generation = page.head.generation;
        layout.size_bytes = page.head.size_bytes;
        if (is_first) layout.total = page.head.total;
        // Nothing is behind the end of the file.
        if (request == PINFS_IOC_LAYOUT) whole.end = part_of(place, 0, layout.size_bytes).end;
        append(extents, found);
        if (extents.size() > place.region_bytes / place.block_bytes)
            return senseless(request, "more extents than the region has blocks");
        const bool is_more_here = asked.first + page.head.count < page.head.total;
        if (is_more_here) {
            if (extents.size() >= limit) break;
            go_on(found[0].file_offset_bytes, end_of(found.back()));
        } else {
            // The last one may be longer than the part: it is known by the one that follows.
            if (extents.size() > limit) break;
            const bool is_end = is_pin && (extents.empty() || end_of(extents.back()) < part.end);
            go_on(part.begin, is_end ? whole.end : part.end);
        }
    }
    const std::uint64_t count = wanted.first + extents.size();
    if (is_pin && at >= whole.end && !extents.empty() && count != layout.total)
        return senseless(request, "%llu extents of a pin that has %llu",
                         static_cast<unsigned long long>(count),
                         static_cast<unsigned long long>(layout.total));
    layout.total = at >= whole.end ? count : std::max(layout.total, count);
    if (extents.size() > limit) extents.resize(limit);
    return 0;
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
    for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
        const int result = ask_pages(fd, request, wanted, place, limit, layout);
        if (result != -ESTALE || layout.extents.empty()) return result;
        layout.extents.clear();
    }
    return fail(EAGAIN, "The layout of the file changes all the time.");
}

}  // namespace pinfs::client

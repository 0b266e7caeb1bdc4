// SPDX-License-Identifier: Apache-2.0
//
// Leases, layouts and DAX mode: what is asked on a descriptor of the file.
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "lib/context.h"
#include "lib/failure.h"
#include "lib/pinfs/pinfs.h"
#include "lib/request.h"

using namespace pinfs::client;

namespace {

/// The request about a range of an open file, for this context.
Request<pinfs_ioc_lease> lease_request(const pinfs_context& context, std::uint64_t offset_bytes,
                                       std::uint64_t length_bytes) {
    Request<pinfs_ioc_lease> request;
    std::copy(std::begin(context.token), std::end(context.token), request.head.token);
    request.head.offset_bytes = offset_bytes;
    request.head.length_bytes = length_bytes;
    return request;
}

int ask_lease(pinfs_context* context, int fd, pinfs_ioc nr, pinfs_lease* lease) {
    pinfs_lease out{};
    if (const int result = check(context); result != 0) return result;
    if (const int result = take(lease, out); result != 0) return result;
    const std::uint32_t known = PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE | PINFS_LEASE_SHARED;
    if (nr == PINFS_IOC_LEASE_SET && (out.flags & ~known) != 0)
        return fail(EINVAL, "Leases have no flag 0x%x.", out.flags & ~known);
    Request request = lease_request(*context, out.offset_bytes, out.length_bytes);
    if (nr == PINFS_IOC_LEASE_SET) {
        request.head.flags = out.flags;
        request.head.user_data = out.user_data;
    }
    const pinfs_ioc_lease asked = request.head;
    if (const int result = request.ask(fd, nr); result != 0) return result;
    if (const int result = check_lease(nr, context->region, asked, request.head); result != 0)
        return result;
    out.flags = request.head.flags;
    out.offset_bytes = request.head.offset_bytes;
    out.length_bytes = request.head.length_bytes;
    out.user_data = request.head.user_data;
    out.id = request.head.id;
    out.holders = request.head.holders;
    give(out, lease);
    return 0;
}

int extended_flags(int fd, fsxattr& flags) {
    if (ioctl(fd, FS_IOC_FSGETXATTR, &flags) == 0) return 0;
    if (errno == EBADF) return fail(EBADF, "Descriptor %d is not open.", fd);
    return fail(errno, "The file of descriptor %d has no DAX flag: %s.", fd,
                strerrordesc_np(errno));
}

int set_dax(int fd, bool on) {
    fsxattr flags{};
    if (const int result = extended_flags(fd, flags); result != 0) return result;
    const std::uint32_t before = flags.fsx_xflags;
    if (on)
        flags.fsx_xflags |= FS_XFLAG_DAX;
    else
        flags.fsx_xflags &= ~static_cast<std::uint32_t>(FS_XFLAG_DAX);
    if (flags.fsx_xflags == before || ioctl(fd, FS_IOC_FSSETXATTR, &flags) == 0) return 0;
    return fail(errno, "The DAX flag cannot be changed: %s.", strerrordesc_np(errno));
}

int get_dax(int fd) {
    struct stat status {};
    if (fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
        fsxattr flags{};
        if (const int result = extended_flags(fd, flags); result != 0) return result;
        return (flags.fsx_xflags & FS_XFLAG_DAX) != 0 ? PINFS_DAX_FLAG : 0;
    }
    Request<pinfs_ioc_dax> request;
    if (const int result = request.ask(fd, PINFS_IOC_DAX_ACTIVE); result != 0) return result;
    return static_cast<int>(request.head.state & (PINFS_DAX_FLAG | PINFS_DAX_ACTIVE));
}

ssize_t file_layout(pinfs_context* context, int fd, std::uint64_t offset_bytes,
                    std::uint64_t length_bytes, pinfs_extent* extents, std::size_t capacity,
                    std::uint64_t* generation) {
    if (const int result = check(context); result != 0) return result;
    if (extents == nullptr && capacity > 0) return fail(EINVAL, "A pointer is null.");
    pinfs_ioc_layout wanted{};
    wanted.offset_bytes = offset_bytes;
    wanted.length_bytes = length_bytes;
    Layout layout;
    const Place place = blocks_of(context->region, offset_bytes, length_bytes);
    if (const int result = ask_layout(fd, PINFS_IOC_LAYOUT, wanted, place, capacity, layout);
        result != 0)
        return result;
    std::transform(layout.extents.begin(), layout.extents.end(), extents, public_extent);
    if (generation != nullptr) *generation = layout.generation;
    return static_cast<ssize_t>(layout.total);
}

}  // namespace

int pinfs_lease_set(struct pinfs_context* ctx, int fd, struct pinfs_lease* lease) {
    return entry([&] { return ask_lease(ctx, fd, PINFS_IOC_LEASE_SET, lease); });
}

int pinfs_lease_get(struct pinfs_context* ctx, int fd, struct pinfs_lease* lease) {
    return entry([&] { return ask_lease(ctx, fd, PINFS_IOC_LEASE_GET, lease); });
}

int pinfs_lease_drop(struct pinfs_context* ctx, int fd, uint64_t offset_bytes,
                     uint64_t length_bytes) {
    return entry([&] {
        if (const int result = check(ctx); result != 0) return result;
        return lease_request(*ctx, offset_bytes, length_bytes).ask(fd, PINFS_IOC_LEASE_DROP);
    });
}

ssize_t pinfs_layout(struct pinfs_context* ctx, int fd, uint64_t offset_bytes,
                     uint64_t length_bytes, struct pinfs_extent* extents, size_t capacity,
                     uint64_t* generation) {
    return entry([&] {
        return file_layout(ctx, fd, offset_bytes, length_bytes, extents, capacity, generation);
    });
}

int pinfs_dax_set(int fd, int on) {
    return entry([&] { return set_dax(fd, on != 0); });
}

int pinfs_dax_get(int fd) {
    return entry([&] { return get_dax(fd); });
}

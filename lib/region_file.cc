// SPDX-License-Identifier: Apache-2.0
//
// The region is opened by path, and the path may mean another file here than it does to the daemon:
// it counts only if device, inode and the uuid in the superblock are those of the mount (SPEC 5.2).
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "lib/context.h"
#include "lib/failure.h"

namespace pinfs::client {

namespace {

// Where the first block of a region has its magic and its uuid: fs/format/superblock.h.
constexpr std::size_t kMagicOffset = 0;
constexpr std::size_t kUuidOffset = 40;
constexpr std::array<char, 4> kMagic{'P', 'I', 'N', 'S'};
using Head = std::array<char, 64>;

// Devices cannot be read, only mapped.
int read_head(int fd, bool is_device, std::uint64_t unit_bytes, Head& head) {
    if (!is_device)
        return pread(fd, head.data(), head.size(), 0) == static_cast<ssize_t>(head.size()) ? 0
                                                                                           : EIO;
    void* const mapped = mmap(nullptr, unit_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) return errno;
    std::memcpy(head.data(), mapped, head.size());
    munmap(mapped, unit_bytes);
    return 0;
}

/// Whether what this link of the device's in sysfs names ends with `end`.
bool links_to(dev_t device, const char* link, std::string_view end) {
    char name[64];
    std::snprintf(name, sizeof(name), "/sys/dev/char/%u:%u/%s", major(device), minor(device), link);
    char target[PATH_MAX];
    const ssize_t length = readlink(name, target, sizeof(target));
    return length > 0 && std::string_view(target, static_cast<std::size_t>(length)).ends_with(end);
}

/// A device that went to another driver while the mount has it open still opens, but kernels (6.12)
/// do not survive it that somebody maps it.
bool lost_its_driver(dev_t device) {
    return links_to(device, "subsystem", "/bus/dax") && !links_to(device, "driver", "/device_dax");
}

int cannot_open(const pinfs_context& context, const char* path, bool from_environment) {
    const int error = errno;
    if (error == EACCES || error == EPERM || error == EROFS)
        return fail(EACCES, "The region %s does not open for this user: %s.", path,
                    strerrordesc_np(error));
    const char* const where = from_environment         ? " (PINFS_REGION)"
                              : context.region.path[0] ? "; PINFS_REGION may name it here"
                                                       : "";
    return fail(error, "The region %s does not open: %s%s.", path, strerrordesc_np(error), where);
}

}  // namespace

int open_region(pinfs_context& context, bool writable) {
    if (context.region_file.is_open() && (context.region_writable || !writable)) return 0;
    const char* const named = secure_getenv("PINFS_REGION");
    const char* const path = named != nullptr ? named : context.region.path;
    OpenFile file{open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK)};
    const bool opened_to_write = file.get() >= 0;
    if (!opened_to_write && !writable && (errno == EACCES || errno == EROFS))
        file = OpenFile{open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    struct stat status {};
    if (file.get() < 0 || fstat(file.get(), &status) != 0)
        return cannot_open(context, path, named != nullptr);

    const bool is_device = S_ISCHR(status.st_mode);
    const std::uint64_t device = is_device ? status.st_rdev : status.st_dev;
    const std::uint64_t inode = S_ISREG(status.st_mode) ? status.st_ino : 0;
    if (device != context.region.device || inode != context.region.inode)
        return fail(ENODEV,
                    "%s is another file than the region of the mount: device %u:%u inode %llu, not "
                    "%u:%u inode %llu.",
                    path, major(device), minor(device), static_cast<unsigned long long>(inode),
                    major(context.region.device), minor(context.region.device),
                    static_cast<unsigned long long>(context.region.inode));
    if (is_device && lost_its_driver(device))
        return fail(ENODEV, "The device of the region %s has another driver now, or none.", path);
    Head head{};
    if (const int error = read_head(file.get(), is_device, context.region.map_align_bytes, head);
        error != 0)
        return fail(error, "The region %s cannot be read: %s.", path, strerrordesc_np(error));
    if (std::memcmp(&head[kMagicOffset], kMagic.data(), kMagic.size()) != 0 ||
        std::memcmp(&head[kUuidOffset], context.region.uuid, sizeof(context.region.uuid)) != 0)
        return fail(ENODEV, "The region %s has another uuid than the mount.", path);
    context.region_file = std::move(file);
    context.region_writable = opened_to_write;
    return 0;
}

Memory memory_of(const pinfs_context& context) {
    return {context.region_file.get(), context.region.map_sync != 0, context.region.map_align_bytes,
            context.region.huge_bytes};
}

}  // namespace pinfs::client

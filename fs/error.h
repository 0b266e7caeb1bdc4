// SPDX-License-Identifier: Apache-2.0
//
// Failures as values. Every failure site names one Cause; a Cause has one errno and one sentence.
// Media and environment fail this way; a programmer's mistake is an assert; only allocation throws.
#pragma once

#include <cerrno>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace pinfs {

// clang-format off
//    cause                    errno         sentence
#define PINFS_CAUSES(X) \
    X(not_found,               ENOENT,       "no such entry") \
    X(exists,                  EEXIST,       "the name exists already") \
    X(not_a_directory,         ENOTDIR,      "not a directory") \
    X(is_a_directory,          EISDIR,       "is a directory") \
    X(directory_not_empty,     ENOTEMPTY,    "the directory is not empty") \
    X(name_too_long,           ENAMETOOLONG, "the name is longer than 255 bytes") \
    X(name_collisions,         ENOSPC,       "too many names of this directory share one hash") \
    X(too_many_links,          EMLINK,       "too many links to one inode") \
    X(not_permitted,           EPERM,        "operation not permitted") \
    X(immutable,               EPERM,        "the inode is immutable") \
    X(append_only,             EPERM,        "the inode is append-only") \
    X(across_projects,         EXDEV,        "the directory is of another project") \
    X(directories_only,        EACCES,       "only a directory has a default access list") \
    X(invalid_argument,        EINVAL,       "invalid argument") \
    X(would_be_ancestor,       EINVAL,       "a directory cannot move below itself") \
    X(file_too_large,          EFBIG,        "beyond the largest file size, 16 TiB") \
    X(no_space,                ENOSPC,       "no free blocks left in the region") \
    X(no_whole_run,            ENOSPC,       "no whole run of 2 MiB is free, which a map or pin on this region needs") \
    X(no_inodes,               ENOSPC,       "no inode numbers left") \
    X(stale_inode,             ESTALE,       "the inode is gone") \
    X(no_data,                 ENXIO,        "no data or hole beyond this offset") \
    X(no_attribute,            ENODATA,      "no such extended attribute") \
    X(attribute_exists,        EEXIST,       "the extended attribute exists already") \
    X(attribute_too_small,     ERANGE,       "the buffer is too small for the value") \
    X(attributes_too_large,    ENOSPC,       "the extended attributes of one inode exceed 256 KiB") \
    X(extents_too_many,        E2BIG,        "the list of extents exceeds 64 KiB: read it in parts") \
    X(attribute_value_large,   E2BIG,        "an extended attribute value is at most 64 KiB") \
    X(not_supported,           EOPNOTSUPP,   "not supported") \
    X(not_an_ioctl,            ENOTTY,       "not an ioctl of this file system") \
    X(lease_conflict,          EAGAIN,       "another open file has an exclusive lease on a part of this range") \
    X(no_lease,                EPERM,        "a direct map needs a lease on all of its range, through the same open file") \
    X(no_exclusive_lease,      EPERM,        "a pin needs an exclusive lease on all of its range, through the same open file") \
    X(range_pinned,            EBUSY,        "a part of this range is pinned") \
    X(unknown_map_unit,        EOPNOTSUPP,   "this region is mapped in units that are neither 4 KiB nor 2 MiB: nothing of it can be mapped or pinned") \
    X(unit_in_use,             EBUSY,        "a part of a map unit that would have to move is mapped or pinned") \
    X(range_leased,            EBUSY,        "a part of this range is leased exclusively") \
    X(not_leasable,            EOPNOTSUPP,   "the file is not in DAX mode, or is open since before it was: pinfs dax on, then open it anew") \
    X(region_not_pinnable,     EOPNOTSUPP,   "the kernel lets no device pin pages of this kind of region: device DAX, tmpfs and hugetlbfs can be pinned") \
    X(not_leaser,              EACCES,       "an exclusive lease is for the owner of the file or CAP_LEASE") \
    X(pins_outlive_lease,      EBUSY,        "pins of another owner that outlived their lease lie in this range") \
    X(beyond_end,              EINVAL,       "the range ends beyond the end of the file: extend it first") \
    X(unaligned,               EINVAL,       "the offset is no multiple of the region's map unit") \
    X(holes_in_range,          ENXIO,        "the range has holes or unwritten blocks") \
    X(no_such_record,          ENOENT,       "no such lease, map, pin or hold of this owner") \
    X(no_such_context,         EBADF,        "no such context: open .pinfs/context anew") \
    X(layout_moved,            ESTALE,       "the layout of the file changed meanwhile") \
    X(outside_namespace,       EPERM,        "the process is of another pid namespace and cannot own a pin: let a context own it") \
    X(not_adoptable,           EPERM,        "a recovered pin is adopted by its owner or with its secret") \
    X(region_is_held,          EBUSY,        "maps, pins or holds of this boot are on record in the region") \
    X(other_machine,           EBUSY,        "the region was last mounted by another machine: mount option takeover, if that one is gone") \
    X(limit_user_records,      ENOMEM,       "too many leases, maps, pins and holds of one user: mount option user_records=") \
    X(limit_user_bytes,        ENOMEM,       "too many bytes mapped, pinned or held for one user: mount option user_bytes=") \
    X(limit_region_records,    ENOMEM,       "too many leases, maps, pins and holds: mount option region_records=") \
    X(limit_region_bytes,      ENOMEM,       "too many bytes mapped, pinned or held: mount option region_bytes=") \
    X(limit_user_contexts,     ENOMEM,       "too many open .pinfs/context files of one user: mount option user_contexts=") \
    X(too_many_reports,        EMFILE,       "too many open reports of one user") \
    X(virtual_node,            EPERM,        "what pinfs itself provides cannot be made, changed or removed") \
    X(report_is_read_only,     EACCES,       "a report cannot be written") \
    X(version_mismatch,        EPROTO,       "the library speaks another version of the protocol than the daemon") \
    X(buffer_too_small,        EINVAL,       "the buffer is too small for this request") \
    X(reserved_not_zero,       EINVAL,       "a reserved field is not zero, or a flag is not known") \
    X(not_a_context,           EINVAL,       "this open file is no context: it said no HELLO, or is a guard") \
    X(is_a_context_already,    EINVAL,       "this open file is a context or a guard already") \
    X(not_a_regular_file,      EINVAL,       "only regular files have leases, maps and pins") \
    X(not_open_for_reading,    EACCES,       "the file was not opened for reading through this descriptor") \
    X(not_open_for_writing,    EACCES,       "the file was not opened for writing through this descriptor") \
    X(no_event,                EAGAIN,       "no event waits") \
    X(no_such_descriptor,      EBADF,        "the descriptor that is to name the pin is not open") \
    X(not_an_administrator,    EPERM,        "that is for root and for the owner of the mount") \
    X(name_is_busy,            EBUSY,        "in use") \
    X(read_only,               EROFS,        "the file system is mounted read-only") \
    X(needs_replay,            EROFS,        "was not unmounted cleanly and cannot be replayed: it is read-only") \
    X(shut_down,               EIO,          "the file system was shut down") \
    X(media_error,             EIO,          "the region raised a media error") \
    X(media_corrupt,           EUCLEAN,      "metadata is damaged") \
    X(bad_checksum,            EUCLEAN,      "a metadata checksum does not match") \
    X(bad_magic,               EUCLEAN,      "metadata of another kind, owner or place") \
    X(no_superblock,           EINVAL,       "no pinfs superblock") \
    X(feature_unknown,         EINVAL,       "an incompatible feature this version does not know") \
    X(region_too_small,        EINVAL,       "the region is smaller than 1 MiB") \
    X(region_truncated,        EINVAL,       "the region is shorter than its superblock says") \
    X(change_too_large,        EIO,          "a change does not fit the journal") \
    X(region_in_use,           EBUSY,        "the region is in use") \
    X(region_not_mappable,     ENODEV,       "the region cannot be mapped") \
    X(device_not_bound,        ENXIO,        "the device has another driver, or none: daxctl reconfigure-device -m devdax gives it back") \
    X(no_thread,               EAGAIN,       "no further thread could be started") \
    X(out_of_memory,           ENOMEM,       "out of memory") \
    X(system,                  EIO,          "a system call failed")
// clang-format on

enum class Cause : std::uint16_t {
#define X(name, number, sentence) name,
    PINFS_CAUSES(X)
#undef X
};

/// The errno a program sees for `cause`.
constexpr int errno_of(Cause cause) {
    switch (cause) {
#define X(name, number, sentence) \
    case Cause::name:             \
        return number;
        PINFS_CAUSES(X)
#undef X
    }
    return EIO;
}

/// One sentence, without a full stop.
constexpr std::string_view sentence_of(Cause cause) {
    switch (cause) {
#define X(name, number, sentence) \
    case Cause::name:             \
        return sentence;
        PINFS_CAUSES(X)
#undef X
    }
    return "unknown cause";
}

/// What failed and where. `offset` is a region offset in bytes, `ino` an inode; 0 where it says
/// nothing. `system_errno` is set with Cause::system and wins over the cause's own.
struct Error {
    Cause cause;
    int system_errno = 0;
    std::uint64_t offset = 0;
    std::uint64_t ino = 0;
    std::uint64_t in_the_way = 0;  ///< id of the lease, map or pin that refused

    [[nodiscard]] int number() const { return system_errno != 0 ? system_errno : errno_of(cause); }
    /// e.g. "a metadata checksum does not match at region offset 8192 (inode 17)".
    [[nodiscard]] std::string message() const;
};

template <class T>
using Expected = std::expected<T, Error>;

inline std::unexpected<Error> fail(Cause cause, std::uint64_t offset = 0, std::uint64_t ino = 0) {
    return std::unexpected(Error{cause, 0, offset, ino, 0});
}
inline std::unexpected<Error> fail_errno(int number) {
    return std::unexpected(Error{Cause::system, number, 0, 0, 0});
}

/// The value of an Expected, or return of its error from the calling function.
#define TRY(...) PINFS_TRY_NAMED(PINFS_JOIN(try_result_, __COUNTER__), __VA_ARGS__)
#define PINFS_JOIN(left, right) PINFS_JOIN_EXPANDED(left, right)
#define PINFS_JOIN_EXPANDED(left, right) left##right
#define PINFS_TRY_NAMED(result, ...)                           \
    ({                                                         \
        auto&& result = (__VA_ARGS__);                         \
        if (!result.has_value()) [[unlikely]]                  \
            return std::unexpected(std::move(result).error()); \
        *std::move(result);                                    \
    })

}  // namespace pinfs

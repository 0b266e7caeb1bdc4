// SPDX-License-Identifier: Apache-2.0
//
// What all handlers share: the way from a request to the volume, and the way back. A handler
// decodes, makes one call or few on the Volume, and replies; it decides nothing about the file
// system.
//
// Invariants
//   - Every handler is noexcept: what is thrown below becomes ENOMEM or EIO of that one request.
//   - A request is answered exactly once, and no lock is held meanwhile: a reply may make the
//     kernel send a forget, and a reply's thread is a thread that serves.
//   - An inode that a reply names holds one reference of the kernel; a reply that does not reach
//     the kernel gives it back.
//
// Timeouts. Names, negative names and attributes are valid for a day, since nothing changes them
// but requests of this kernel. What a request changes beside its own answer, the kernel itself
// counts as stale: size, blocks and times of a file that is written, of a directory whose entries
// change. Two things it does not know: a write that clears setuid (no caching of attributes while a
// file has such bits), and what ioctls and releases change (Invalidator).
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fs/fuse/connection.h"
#include "fs/fuse/context_files.h"
#include "fs/fuse/invalidator.h"
#include "fs/fuse/kernel_features.h"
#include "fs/fuse/open_reports.h"
#include "fs/fuse/processes.h"
#include "fs/fuse/report_maker.h"
#include "fs/fuse/requests.h"
#include "fs/volume/volume.h"

namespace pinfs::fuse {

class Ledger;

Time time_now();

/// What handlers know of the mount.
struct EdgeOptions {
    bool kernel_mmap = true;  ///< SPEC 1.3: MAP_SHARED of DAX files through the page cache
    std::string described;    ///< options of the mount, for user.pinfs.options
    std::string mountpoint;
    std::string region_path;                  ///< where clients open the region
    std::optional<std::uint32_t> report_gid;  ///< the group that sees everything in reports
    std::uint64_t user_contexts = 0;          ///< open files of .pinfs/context
    std::string supervisor;  ///< where the supervisor of the mount listens; empty: there is none
};

/// User data of a libfuse session.
struct Edge {
    Edge(Volume& of, EdgeOptions with, Ledger* of_mount = nullptr, Trace* trace = nullptr)
        : volume(of),
          options(std::move(with)),
          ledger(of_mount),
          contexts(of, options.user_contexts, of_mount),
          observed(trace) {}

    Volume& volume;
    const EdgeOptions options;
    Ledger* const ledger;             ///< of a supervised mount; else nullptr
    const Time started = time_now();  ///< shown as the times of virtual nodes
    KernelFuse kernel;
    Invalidator invalidator;
    ContextFiles contexts;
    OpenReports reports;
    ReportMaker report_maker;
    ProcessesOfThreads processes;
    std::atomic<std::uint64_t> next_handle{1};
    Observed observed;
};

/// The handle of an open file description: a number, and what an ioctl must know of it, which the
/// kernel does not tell. Unique for the life of the mount.
std::uint64_t new_handle(Edge& edge, int open_flags, bool dax = false);
struct HandleKind {
    bool reads;
    bool writes;
    bool dax;  ///< DAX mode is in force
};
HandleKind kind_of_handle(std::uint64_t handle);

inline Edge& edge_of(fuse_req_t req) { return *static_cast<Edge*>(fuse_req_userdata(req)); }
inline Volume& volume_of(fuse_req_t req) { return edge_of(req).volume; }

/// Runs a call on the volume; what it throws becomes an error.
template <class Call>
std::invoke_result_t<Call> guarded(Call&& call) noexcept {
    try {
        return std::forward<Call>(call)();
    } catch (const std::bad_alloc&) {
        return fail(Cause::out_of_memory);
    } catch (...) {
        return fail(Cause::system);
    }
}

/// Replies with bytes that were read, or the number of those that were written.
void reply_bytes(fuse_req_t req, const void* bytes, std::size_t count) noexcept;
void reply_count(fuse_req_t req, std::size_t count) noexcept;
/// Replies with the errno. Damaged metadata and media errors are logged, with the place.
void reply_error(fuse_req_t req, const Error& error, const char* operation,
                 fuse_ino_t ino) noexcept;
/// As reply_error, of an operation that would change where [begin, end) lies (UINT64_MAX: the
/// file's end): if a pin or a lease refused, the log says whose.
void reply_refusal(fuse_req_t req, const Error& error, const char* operation, fuse_ino_t ino,
                   std::uint64_t begin, std::uint64_t end = UINT64_MAX) noexcept;
/// Replies with success or the error of a call that returns nothing.
void reply_done(fuse_req_t req, const Expected<void>& result, const char* operation,
                fuse_ino_t ino) noexcept;
/// Hands an entry, and its reference, to the kernel.
void reply_entry(fuse_req_t req, const Entry& entry) noexcept;
void reply_attributes(fuse_req_t req, const Attributes& attributes) noexcept;

struct stat stat_of(const Attributes& attributes);
fuse_entry_param entry_param_of(const Attributes& attributes);
double attribute_timeout_of(const Attributes& attributes);

/// What failed, where, and who stood in the way, in printable characters.
std::string sentence_of_refusal(Edge& edge, const Error& error, Ino ino, std::uint64_t begin,
                                std::uint64_t end);
/// A line of the log for EBUSY (SPEC 4.6), unless many were written just now.
void log_refusal(Edge& edge, const char* operation, const Error& error, Ino ino,
                 std::uint64_t begin, std::uint64_t end);

/// Owner of what the request makes.
Caller caller_of(fuse_req_t req);

/// Whether a write or a truncation takes setuid and setgid away. libfuse before 3.18.3 does not
/// hand the kernel's flag on; there every user but root is taken to lack CAP_FSETID.
template <class FileInfo>
bool kills_privileges(fuse_req_t req, const FileInfo& file) {
    if constexpr (requires { file.kill_suidgid; })
        return file.kill_suidgid != 0;
    else
        return fuse_req_ctx(req)->uid != 0;
}

/// The functions of all subjects, for libfuse.
void add_name_operations(fuse_lowlevel_ops& operations);
void add_attribute_operations(fuse_lowlevel_ops& operations);
void add_extended_attribute_operations(fuse_lowlevel_ops& operations);
void add_content_operations(fuse_lowlevel_ops& operations);
void add_directory_operations(fuse_lowlevel_ops& operations);
void add_ioctl_operations(fuse_lowlevel_ops& operations);

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/routing.h"

#include <chrono>

#include "fs/fuse/edge.h"
#include "fs/fuse/virtual_nodes.h"
#include "fs/waits.h"

namespace pinfs::fuse {
namespace {

using Operations = fuse_lowlevel_ops;

const Operations kReal = [] {
    Operations operations{};
    add_name_operations(operations);
    add_attribute_operations(operations);
    add_extended_attribute_operations(operations);
    add_content_operations(operations);
    add_directory_operations(operations);
    add_ioctl_operations(operations);
    return operations;
}();

const Operations kVirtual = [] {
    Operations operations{};
    add_virtual_operations(operations);
    return operations;
}();

void refuse(fuse_req_t req, Operation operation, fuse_ino_t ino) noexcept {
    reply_error(req, Error{Cause::virtual_node}, name_of(operation), ino);
}

/// Which bytes a request is about, for the trace.
struct Bytes {
    std::uint64_t offset = TracedRequest::kNone;
    std::uint64_t size = TracedRequest::kNone;
};
template <class... Words>
Bytes bytes_of(Words...) {
    return {};
}
Bytes bytes_of(std::size_t size, off_t offset, fuse_file_info*) {
    return {static_cast<std::uint64_t>(offset), size};
}
Bytes bytes_of(const char*, std::size_t size, off_t offset, fuse_file_info* file) {
    return bytes_of(size, offset, file);
}
Bytes bytes_of(int, off_t offset, off_t length, fuse_file_info* file) {
    return bytes_of(static_cast<std::size_t>(length), offset, file);
}
Bytes bytes_of(off_t offset, int, fuse_file_info*) {
    return {.offset = static_cast<std::uint64_t>(offset)};
}
/// The size that a file is given.
Bytes bytes_of(struct stat* st, int set, fuse_file_info*) {
    if ((set & FUSE_SET_ATTR_SIZE) == 0) return {};
    return {.size = static_cast<std::uint64_t>(st->st_size)};
}

template <class... Words>
Request begun(fuse_req_t req, Operation operation, fuse_ino_t ino, Words... words) noexcept {
    const Observed& observed = edge_of(req).observed;
    Request request{.operation = operation, .begin_ticks = observed.clock.now(), .traced = {}};
    if (observed.trace == nullptr) return request;
    const Bytes bytes = bytes_of(words...);
    const fuse_ctx* const caller = fuse_req_ctx(req);
    request.traced = {.ino = ino,
                      .offset = bytes.offset,
                      .size = bytes.size,
                      .pid = caller->pid,
                      .uid = caller->uid,
                      .came = std::chrono::system_clock::now(),
                      .waited_before_ns = waited_by_this_thread_ns()};
    return request;
}

template <auto kMember, class... Rest>
void route(Operation operation, bool to_virtual, fuse_req_t req, fuse_ino_t ino,
           Rest... rest) noexcept {
    const RequestInHand in_hand{edge_of(req).observed, begun(req, operation, ino, rest...)};
    const auto handler = (to_virtual ? kVirtual : kReal).*kMember;
    if (handler == nullptr) return refuse(req, operation, ino);
    handler(req, ino, rest...);
}

/// By the node a request is about.
template <Operation kOperation, auto kMember>
struct ByNode;
template <Operation kOperation, class... Rest,
          void (*Operations::*kMember)(fuse_req_t, fuse_ino_t, Rest...)>
struct ByNode<kOperation, kMember> {
    static void call(fuse_req_t req, fuse_ino_t ino, Rest... rest) noexcept {
        route<kMember>(kOperation, is_virtual(ino), req, ino, rest...);
    }
};

/// By a directory and a name in it.
template <Operation kOperation, auto kMember>
struct ByName;
template <Operation kOperation, class... Rest,
          void (*Operations::*kMember)(fuse_req_t, fuse_ino_t, const char*, Rest...)>
struct ByName<kOperation, kMember> {
    static void call(fuse_req_t req, fuse_ino_t parent, const char* name, Rest... rest) noexcept {
        route<kMember>(kOperation, is_virtual_name(parent, name), req, parent, name, rest...);
    }
};

// --- Those that name two nodes, or none first --------------------------------------------------

void on_symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) noexcept {
    const RequestInHand in_hand{edge_of(req).observed, begun(req, Operation::symlink, parent)};
    if (is_virtual_name(parent, name)) return refuse(req, Operation::symlink, parent);
    kReal.symlink(req, target, parent, name);
}

void on_rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
               const char* new_name, unsigned flags) noexcept {
    const RequestInHand in_hand{edge_of(req).observed, begun(req, Operation::rename, parent)};
    if (is_virtual_name(parent, name) || is_virtual_name(new_parent, new_name))
        return refuse(req, Operation::rename, parent);
    kReal.rename(req, parent, name, new_parent, new_name, flags);
}

void on_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char* name) noexcept {
    const RequestInHand in_hand{edge_of(req).observed, begun(req, Operation::link, ino)};
    if (is_virtual(ino) || is_virtual_name(parent, name))
        return refuse(req, Operation::link, parent);
    kReal.link(req, ino, parent, name);
}

void on_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset,
                        fuse_file_info* from_file, fuse_ino_t to, off_t to_offset,
                        fuse_file_info* to_file, std::size_t length, int flags) noexcept {
    const RequestInHand in_hand{edge_of(req).observed, begun(req, Operation::copy_file_range, to,
                                                             length, to_offset, to_file)};
    // The kernel then reads and writes.
    if (is_virtual(from) || is_virtual(to))
        return reply_error(req, Error{Cause::not_supported}, "copy_file_range", to);
    kReal.copy_file_range(req, from, from_offset, from_file, to, to_offset, to_file, length, flags);
}

void on_statfs(fuse_req_t req, fuse_ino_t ino) noexcept {
    const RequestInHand in_hand{edge_of(req).observed, begun(req, Operation::statfs, ino)};
    kReal.statfs(req, ino);
}

void on_forget(fuse_req_t req, fuse_ino_t ino, std::uint64_t lookups) noexcept {
    const RequestInHand in_hand{edge_of(req).observed, begun(req, Operation::forget, ino)};
    if (is_virtual(ino)) return fuse_reply_none(req);
    kReal.forget(req, ino, lookups);
}

void on_forget_multi(fuse_req_t req, std::size_t number, fuse_forget_data* forgets) noexcept {
    const RequestInHand in_hand{edge_of(req).observed, begun(req, Operation::forget_multi, 0)};
    std::size_t kept = 0;
    for (std::size_t i = 0; i < number; ++i)
        if (!is_virtual(forgets[i].ino)) forgets[kept++] = forgets[i];
    kReal.forget_multi(req, kept, forgets);
}

}  // namespace

fuse_lowlevel_ops routed_operations() {
    Operations operations{};
#define BY(How, name) operations.name = How<Operation::name, &Operations::name>::call
    BY(ByName, lookup);
    BY(ByNode, getattr);
    BY(ByNode, setattr);
    BY(ByNode, readlink);
    BY(ByName, mknod);
    BY(ByName, mkdir);
    BY(ByName, unlink);
    BY(ByName, rmdir);
    BY(ByNode, open);
    BY(ByNode, read);
    BY(ByNode, write);
    BY(ByNode, flush);
    BY(ByNode, release);
    BY(ByNode, fsync);
    BY(ByNode, opendir);
    BY(ByNode, readdir);
    BY(ByNode, readdirplus);
    BY(ByNode, releasedir);
    BY(ByNode, fsyncdir);
    BY(ByNode, setxattr);
    BY(ByNode, getxattr);
    BY(ByNode, listxattr);
    BY(ByNode, removexattr);
    BY(ByName, create);
    BY(ByNode, tmpfile);
    BY(ByNode, ioctl);
    BY(ByNode, poll);
    BY(ByNode, fallocate);
    BY(ByNode, lseek);
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
    BY(ByNode, statx);
#endif
#undef BY
    operations.statfs = on_statfs;
    operations.symlink = on_symlink;
    operations.rename = on_rename;
    operations.link = on_link;
    operations.copy_file_range = on_copy_file_range;
    operations.forget = on_forget;
    operations.forget_multi = on_forget_multi;
    return operations;
}

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
//
// How a connection is set up: what libfuse and the kernel are told about it, and how many threads
// serve it. Knows no volume: the null server (tests/null_server), beside which pinfs is measured,
// has its connection from here too, so that the two differ in nothing but the work.
#pragma once

#define FUSE_USE_VERSION 317
#include <fuse_lowlevel.h>

namespace pinfs::fuse {

/// Names, negative names and attributes are valid for a day; edge.h says why they may be.
inline constexpr double kEntryTimeoutSeconds = 24 * 3600;

/// Asks the kernel for what a file system of its own memory can use; for an init handler. With
/// `kernel_mmap` files that are open for direct I/O can be mapped shared (SPEC 1.3).
void set_features(fuse_conn_info& connection, bool kernel_mmap);

/// How an open file is handled: `dax` for direct I/O with writers in parallel, else cached from
/// one open to the next.
void set_open_flags(fuse_file_info& file, bool dax);

struct SessionArguments {
    bool allow_root = false;
    bool io_uring = false;  ///< requests come through io_uring
};
/// Null if libfuse makes none.
fuse_session* make_session(const fuse_lowlevel_ops& operations, void* user,
                           const SessionArguments& arguments);

/// Serves a mounted session, with several threads, until it ends; 0 or a negative errno. With
/// `threads` other than 0, so many, and `clone` says whether each has a descriptor of its own.
int serve_requests(fuse_session* session, unsigned threads = 0, bool clone = false);

}  // namespace pinfs::fuse

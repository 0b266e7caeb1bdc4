// SPDX-License-Identifier: Apache-2.0
//
// What a request does not say of its caller: capabilities and groups, from /proc.
//
// The kernel checks permissions itself, and for most operations that is all. What it leaves to us
// is asked here. A caller whose standing cannot be seen has none: one outside of our pid namespace
// (the request's pid is 0), one in another user namespace (its capabilities mean nothing here), or
// one that /proc hides. A caller waits in the kernel until it is answered, killed or not, so its
// number is not another's meanwhile.
//
// Costs some system calls: for what happens rarely.
#pragma once

#include <sys/types.h>

struct fuse_req;

namespace pinfs::fuse {

/// Whether the caller has `capability` (CAP_*), in force, in our user namespace. Throws bad_alloc.
bool has_capability(fuse_req* req, int capability);

/// Whether `gid` is the caller's group or one of its supplementary ones. Throws bad_alloc.
bool is_in_group(fuse_req* req, gid_t gid);

}  // namespace pinfs::fuse

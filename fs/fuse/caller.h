// SPDX-License-Identifier: Apache-2.0
//
// What a request does not say of its caller: its process, capabilities and groups, from /proc.
//
// The kernel checks permissions itself, and for most operations that is all. What it leaves to us
// is asked here. A caller whose standing cannot be seen has none: one outside of our pid namespace
// (the request's pid is 0), one in another user namespace (its capabilities mean nothing here), or
// one that /proc hides. A caller waits in the kernel until it is answered, killed or not, so its
// number is not another's meanwhile.
//
// Costs some system calls: for what happens rarely. All throw bad_alloc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "fs/error.h"
#include "fs/pin/owner.h"
#include "fs/units.h"

struct fuse_req;

namespace pinfs::fuse {

/// Whether the caller has `capability` (CAP_*), in force, in our user namespace.
bool has_capability(fuse_req* req, int capability);

/// Takes setuid away before `ino` is changed by who may not keep it. With HANDLE_KILLPRIV_V2 the
/// kernel leaves that to us, but says so of writes and truncations only.
Expected<void> kill_privileges(fuse_req* req, Ino ino);

/// Whether `gid` is the caller's group or one of its supplementary ones.
bool is_in_group(fuse_req* req, gid_t gid);

/// Root, or the user who mounted.
bool administers(fuse_req* req);

/// Whose records the caller may see in reports (SPEC 4.5): nullopt for all, else one user's.
std::optional<std::uint32_t> only_user_seen_by(fuse_req* req);

/// The caller as owner of records of `context`; of its process' own if that is 0. The process has
/// number 0 if it cannot be seen. Cheap for threads that asked before.
pin::Owner owner_of(fuse_req* req, std::uint64_t context);

}  // namespace pinfs::fuse

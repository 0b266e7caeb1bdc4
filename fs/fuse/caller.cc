// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/caller.h"

#include <linux/capability.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sstream>
#include <string>

#include "fs/fuse/edge.h"
#include "fs/fuse/processes.h"

namespace pinfs::fuse {
namespace {

bool is_in_our_user_namespace(pid_t pid) {
    struct stat ours {};
    struct stat theirs {};
    return stat("/proc/self/ns/user", &ours) == 0 &&
           stat(("/proc/" + std::to_string(pid) + "/ns/user").c_str(), &theirs) == 0 &&
           ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

}  // namespace

bool has_capability(fuse_req* req, int capability) {
    const pid_t pid = fuse_req_ctx(req)->pid;
    std::istringstream field{status_field(pid, "CapEff")};
    std::uint64_t effective = 0;
    if (!(field >> std::hex >> effective)) return false;
    return (effective >> capability & 1) != 0 && is_in_our_user_namespace(pid);
}

Expected<void> kill_privileges(fuse_req* req, Ino ino) {
    Volume& volume = volume_of(req);
    const Attributes attributes = TRY(volume.attributes(ino));
    if ((attributes.mode & (S_ISUID | S_ISGID)) == 0 || has_capability(req, CAP_FSETID)) return {};
    AttributeChange change;
    change.kill_privileges = true;
    TRY(volume.change_attributes(ino, change));
    return {};
}

bool is_in_group(fuse_req* req, gid_t gid) {
    const fuse_ctx* context = fuse_req_ctx(req);
    if (context->gid == gid) return true;
    std::istringstream groups{status_field(context->pid, "Groups")};
    for (gid_t group = 0; groups >> group;)
        if (group == gid) return true;
    return false;
}

bool administers(fuse_req* req) {
    // Of a mount by root the owner is who has the capability: a container's root may be uid 0 too.
    const uid_t owner = geteuid();
    return (owner != 0 && fuse_req_ctx(req)->uid == owner) || has_capability(req, CAP_SYS_ADMIN);
}

std::optional<std::uint32_t> only_user_seen_by(fuse_req* req) {
    const uid_t uid = fuse_req_ctx(req)->uid;
    if (uid == 0 || uid == geteuid()) return std::nullopt;
    const auto& gid = edge_of(req).options.report_gid;
    if (gid && is_in_group(req, *gid)) return std::nullopt;
    return uid;
}

pin::Owner owner_of(fuse_req* req, std::uint64_t context) {
    const fuse_ctx* caller = fuse_req_ctx(req);
    KnownProcess known = edge_of(req).processes.find(caller->pid);
    return {.context = context,
            .process = known.process,
            .uid = caller->uid,
            .command = std::move(known.command)};
}

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/caller.h"

#include <sys/stat.h>

#include <fstream>
#include <sstream>
#include <string>

#include "fs/fuse/edge.h"

namespace pinfs::fuse {
namespace {

std::string process_path(pid_t pid, const char* name) {
    return "/proc/" + std::to_string(pid) + "/" + name;
}

/// What follows "`field`:" in the status of thread `pid`; empty if it cannot be seen.
std::string status_field(pid_t pid, const std::string& field) {
    if (pid == 0) return {};
    std::ifstream status{process_path(pid, "status")};
    for (std::string line; std::getline(status, line);)
        if (line.starts_with(field + ":")) return line.substr(field.size() + 1);
    return {};
}

bool is_in_our_user_namespace(pid_t pid) {
    struct stat ours {};
    struct stat theirs {};
    return stat("/proc/self/ns/user", &ours) == 0 &&
           stat(process_path(pid, "ns/user").c_str(), &theirs) == 0 &&
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

bool is_in_group(fuse_req* req, gid_t gid) {
    const fuse_ctx* context = fuse_req_ctx(req);
    if (context->gid == gid) return true;
    std::istringstream groups{status_field(context->pid, "Groups")};
    for (gid_t group = 0; groups >> group;)
        if (group == gid) return true;
    return false;
}

}  // namespace pinfs::fuse

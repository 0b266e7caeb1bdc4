// SPDX-License-Identifier: Apache-2.0
//
// The process that mounts and unmounts for the daemon, so that the daemon itself need not be able
// to: mount(2) wants CAP_SYS_ADMIN, fusermount3 a process that may gain privileges. It is forked
// from the daemon, has neither the region nor the connection, does what it is asked for one mount,
// and ends with the daemon.
//
// Who asks for an unmount waits for this process, not for an answer of its own mount: a thread of
// the daemon that did could not be killed, and would keep open the connection whose end it awaits.
#pragma once

#include <sys/types.h>

#include <expected>
#include <memory>
#include <string>

#include "fs/fuse/mountpoint.h"

namespace pinfs::fuse {

class Mounter {
public:
    /// Starts the process. The caller has no other thread yet, nothing open that the process should
    /// not share memory with, and the ending signals are blocked: they are for the daemon alone.
    static std::expected<std::unique_ptr<Mounter>, std::string> start(const MountRequest& request);
    ~Mounter();
    Mounter(const Mounter&) = delete;
    Mounter& operator=(const Mounter&) = delete;

    /// A descriptor of the connection, close-on-exec; or one sentence.
    std::expected<int, std::string> attach();
    /// As fuse::detach. With Detach::when_idle pages that programs dirtied are written back first.
    /// EPIPE if the process is gone. One thread at a time.
    int detach(Detach how);

private:
    Mounter(int socket, pid_t process) : socket_(socket), process_(process) {}

    int socket_;
    pid_t process_;
};

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
//
// A pinfs for the life of one command: made on tmpfs, mounted, and gone afterwards, whatever
// happens to the command, to us, or to the daemon.
#pragma once

#include <string>
#include <vector>

namespace pinfs::cmd {

struct SandboxCommand {
    std::string program;
    std::string size = "256M";
    std::vector<std::string> options;  ///< of the mount; one per -o
    std::vector<std::string> words;    ///< the command, with PINFS_MOUNT in its environment
};

/// The command's exit status, or one of cmd/run_command.h.
int sandbox(const SandboxCommand& command);

}  // namespace pinfs::cmd

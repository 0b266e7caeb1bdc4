// SPDX-License-Identifier: Apache-2.0
//
// pinfs lease and pinfs pin: a lease or a pin as long as a command runs. Our process has it, not
// the command: descriptors are close-on-exec.
#pragma once

#include <string>
#include <vector>

namespace pinfs::cmd {

struct HoldingCommand {
    std::string program;
    std::string file;
    std::string range;               ///< "OFF:LEN"; empty: all of the file
    std::vector<std::string> words;  ///< the command
    bool pin = false;                ///< else a lease
    bool device_reads_only = false;  ///< pin
    bool exclusive = false;          ///< lease
    bool shared = false;             ///< lease
    std::string on_event = "ack";    ///< lease: ack, or a signal for the command
};

/// The command's exit status, or one of cmd/run_command.h.
int hold_while_running(const HoldingCommand& command);

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
//
// Where log lines go: to the terminal in the foreground, else to the system log. The last ones are
// kept in memory too, for MOUNT/.pinfs/log.
#pragma once

namespace pinfs::cmd {

void log_to_terminal(bool verbose);
void log_to_system(bool verbose);

}  // namespace pinfs::cmd

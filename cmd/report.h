// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace pinfs::cmd {

struct ReportCommand {
    std::string program;
    std::string target;  ///< a mount point, or a region
    std::string output;  ///< the archive; empty: a name of its own, here
    bool names = false;  ///< names of users' files too
};

/// Writes what a report of a bug needs into one archive, and its name on stdout: nothing of what is
/// in files, and without `names` nothing of what they are called. Does not wait for a mount that
/// does not answer. Returns an exit status.
int make_report(const ReportCommand& command);

}  // namespace pinfs::cmd

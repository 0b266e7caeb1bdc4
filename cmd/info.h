// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace pinfs::cmd {

struct InfoCommand {
    std::string program;
    std::string target;  ///< a region, or where one is mounted
    bool json = false;
    bool udev = false;  ///< ID_FS_... lines alone
};

/// Prints what there is to know about a region. Returns an exit status.
int show_info(const InfoCommand& command);

}  // namespace pinfs::cmd

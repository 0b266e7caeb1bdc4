// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace pinfs::cmd {

struct UpgradeCommand {
    std::string program;
    std::string mountpoint;
};

/// Has a supervised mount go on with the program that is installed now; an exit status.
int upgrade(const UpgradeCommand& command);

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
//
// The DAX flag of files and directories (SPEC 1.2).
#pragma once

#include <string>
#include <vector>

namespace pinfs::cmd {

struct DaxCommand {
    std::string program;
    enum class Do { show, on, off } what = Do::show;
    std::vector<std::string> paths;
    bool recursive = false;  ///< all below directories too; not into other file systems
    bool json = false;
};

/// Shows or changes the flag. Goes on after a path that fails. Returns an exit status.
int dax(const DaxCommand& command);

}  // namespace pinfs::cmd

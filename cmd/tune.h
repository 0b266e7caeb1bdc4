// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

namespace pinfs::cmd {

struct TuneCommand {
    std::string program;
    std::string region;
    std::optional<std::string> label;  ///< empty: none
    std::optional<std::string> uuid;   ///< "random", or one
    bool json = false;
};

/// Changes label and uuid of a region that is not mounted. Returns an exit status.
int tune(const TuneCommand& command);

}  // namespace pinfs::cmd

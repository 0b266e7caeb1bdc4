// SPDX-License-Identifier: Apache-2.0
//
// pinfs pins and pinfs holds: who keeps what from being given away, and how to end it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace pinfs::cmd {

struct PinsCommand {
    std::string program;
    bool holds = false;  ///< these alone
    std::string path;    ///< a mount point, a region, a file, a directory; empty: all mounts
    std::optional<std::int64_t> pid;
    bool json = false;

    std::optional<std::uint64_t> end;  ///< ends the lease, map, pin or hold with this id
    double grace_seconds = 10;         ///< until it is taken from its owner
    bool kill = false;                 ///< the owner too
    bool yes = false;                  ///< do not ask
};

/// Returns an exit status.
int pins(const PinsCommand& command);

}  // namespace pinfs::cmd

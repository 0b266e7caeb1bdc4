// SPDX-License-Identifier: Apache-2.0
//
// Who leases, maps and pins answer to (SPEC 3.3).
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>

namespace pinfs::pin {

/// A process as it can be told from all others, also after it ended and its number came back.
struct Process {
    std::uint32_t pid = 0;            ///< as our pid namespace has it; 0: not visible from it
    std::uint64_t start_ticks = 0;    ///< field 22 of /proc/PID/stat
    std::uint64_t pid_namespace = 0;  ///< inode of its pid namespace
    auto operator<=>(const Process&) const = default;
};

/// Who knows it may adopt the pin.
using Secret = std::array<std::uint8_t, 16>;

/// A context, or, where `context` is 0, a process.
struct Owner {
    std::uint64_t context = 0;
    Process process;  ///< who asked; of a context only for reports
    std::uint32_t uid = 0;
    std::string command;  ///< comm of the process

    /// Whether both are the same context, or the same process.
    [[nodiscard]] bool is(const Owner& other) const {
        return context != 0 || other.context != 0 ? context == other.context
                                                  : process == other.process;
    }
};

}  // namespace pinfs::pin

// SPDX-License-Identifier: Apache-2.0
//
// Another program that one of ours runs and stands for: it gets our signals, and we end as it did.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace pinfs::cmd {

// As env(1) and timeout(1) end where it is not the program's own status.
inline constexpr int kRunnerFailed = 125;
inline constexpr int kNotExecutable = 126;
inline constexpr int kNoSuchProgram = 127;

struct CommandToRun {
    std::string program;             ///< ours; begins the sentences on stderr
    std::vector<std::string> words;  ///< at least one
    std::vector<std::pair<std::string, std::string>> environment;  ///< beside our own
    int watched = -1;                     ///< a descriptor that is polled meanwhile
    std::function<void(pid_t)> readable;  ///< called when it is readable, with the program's pid
};

/// Runs it to its end; its exit status, 128 + n after signal n. What would end us is passed on to
/// it, but for what a terminal sent to both; should we end all the same, it gets SIGTERM. Those
/// signals stay blocked afterwards: what the caller has to clean up is short, and must be done.
int run_command(const CommandToRun& command);

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
//
// What another program prints, if it does so in time: asked of a mount whose daemon hangs, nobody
// answers, and who waits for it cannot even be killed.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace pinfs::cmd {

struct Output {
    std::string text;     ///< of stdout and stderr
    bool in_time = true;  ///< else it is left alone, with the text so far
    int status = -1;      ///< exit status; 127: it is not there; -1: a signal ended it, or the time
};

/// Runs `words`; the program is looked up beside ours, then in PATH, then where root's programs
/// are.
Output output_of(const std::vector<std::string>& words, std::chrono::milliseconds time);

}  // namespace pinfs::cmd

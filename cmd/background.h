// SPDX-License-Identifier: Apache-2.0
//
// A daemon whose starter waits until it works: the command ends with success when the mount
// answers, or with the reason why it does not.
#pragma once

#include <functional>
#include <string>
#include <utility>

namespace pinfs::cmd {

/// By which a daemon tells how its start went; one of the two, once. With a starter that waits the
/// word goes to it, else to the terminal.
class Start {
public:
    explicit Start(std::string program, int descriptor = -1)
        : program_(std::move(program)), descriptor_(descriptor) {}
    /// One that tells another of a failure.
    using Failed = std::function<void(int status, const std::string& sentence)>;
    Start(std::string program, Failed failed)
        : program_(std::move(program)), descriptor_(-1), failed_(std::move(failed)) {}
    Start(const Start&) = delete;
    Start& operator=(const Start&) = delete;

    /// It works. In the background the terminal is let go.
    void succeeded();
    /// It does not, for this reason: one sentence. Returns `status`.
    int failed(int status, const std::string& sentence);

private:
    std::string program_;
    int descriptor_;  // where a starter listens; -1: none
    Failed failed_;
};

/// Runs `daemon` in a session of its own and returns its start's exit status; in the daemon itself,
/// when it ends, what `daemon` returned. The starter asks `confirm` too, after the daemon's word of
/// success: a sentence if it did not come to that. Call before any thread is started.
int in_background(const std::string& program, const std::function<int(Start&)>& daemon,
                  const std::function<std::string()>& confirm);

/// Prints `program: sentence` on stderr and returns `status`.
int complain(const std::string& program, int status, const std::string& sentence);

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
//
// The processes behind a lease, map or pin, so that an administrator can end them. Each is held by
// a pidfd, so that another one that got its number later is never hit.
#pragma once

#include <chrono>
#include <expected>
#include <string>
#include <vector>

#include "cmd/pinned.h"

namespace pinfs::cmd {

class OwnerProcesses {
public:
    /// The owner, and who shares its context's open file, as far as it can be told: where the owner
    /// has one context of this mount, kcmp(2) tells. Or a sentence.
    static std::expected<OwnerProcesses, std::string> of(const Pinned& item);
    OwnerProcesses(OwnerProcesses&& other) noexcept;
    ~OwnerProcesses();
    OwnerProcesses(const OwnerProcesses&) = delete;
    OwnerProcesses& operator=(const OwnerProcesses&) = delete;

    /// "4711, 4712".
    [[nodiscard]] std::string text() const;
    /// Empty, or a sentence.
    [[nodiscard]] std::string signal(int number) const;
    /// True if all have ended before the time is over.
    [[nodiscard]] bool wait(std::chrono::milliseconds patience) const;

private:
    struct Process {
        int pid = 0;
        int pidfd = -1;
    };
    OwnerProcesses() = default;
    void add_sharers(const Pinned& item, int owner);

    std::vector<Process> processes_;
};

}  // namespace pinfs::cmd

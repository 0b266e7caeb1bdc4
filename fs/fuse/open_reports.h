// SPDX-License-Identifier: Apache-2.0
//
// Reports that are open: each is the text as it was when it was opened (SPEC 4.1), read by offset.
//
// A report of a million records is some hundred megabytes, so what one user may have open is
// bounded, in number and in bytes; others are not concerned. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "fs/error.h"

namespace pinfs::fuse {

class OpenReports {
public:
    /// A place for a report that is about to be made. Errors: too_many_reports.
    Expected<void> reserve(std::uint64_t handle, std::uint32_t uid);
    /// The text of a reserved place.
    void fill(std::uint64_t handle, std::string text);
    void release(std::uint64_t handle);
    /// Null if there is none.
    [[nodiscard]] std::shared_ptr<const std::string> find(std::uint64_t handle) const;

private:
    static constexpr std::uint64_t kUserReportsMax = 256;
    /// Who has so much open opens no further one.
    static constexpr std::uint64_t kUserBytesMax = std::uint64_t{256} << 20;

    struct Report {
        std::uint32_t uid = 0;
        std::shared_ptr<const std::string> text;
    };
    struct Sum {
        std::uint64_t reports = 0;
        std::uint64_t bytes = 0;
    };

    mutable std::mutex mutex_;
    std::unordered_map<std::uint64_t, Report> reports_;  // by handle
    std::unordered_map<std::uint32_t, Sum> users_;
};

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
//
// Recordings of what happens around a mount: mkfs, repair of a superblock, recovery.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "tests/support/recording.h"

namespace pinfs::test {

/// mkfs over a file system that is there, with its files, or over junk: a crash leaves the old one
/// whole, no superblock, or the new one.
class RecordedMake : public Recording {
public:
    explicit RecordedMake(bool over_file_system);
    std::string judge(CrashImage& image, Depth depth) override;

protected:
    std::string judge_state(const Snapshot& found, std::uint64_t completed) const override;

private:
    const bool over_file_system_;
    Snapshot old_;
    Snapshot new_;
};

/// A mount that rewrites one of the two superblocks from the other.
class RecordedRepair : public Recording {
public:
    explicit RecordedRepair(bool first_copy);
    std::string judge(CrashImage& image, Depth depth) override;

protected:
    std::string judge_state(const Snapshot& found, std::uint64_t) const override {
        return difference(found, expected_);
    }

private:
    Snapshot expected_;
};

/// A change of uuid and label, of a region whose superblocks are whole, or one of them is not: a
/// crash leaves the old identity or the new one.
class RecordedIdentity : public Recording {
public:
    enum class Damaged : std::uint8_t { none, first, second };
    explicit RecordedIdentity(Damaged damaged);
    std::string judge(CrashImage& image, Depth depth) override;

protected:
    std::string judge_state(const Snapshot& found, std::uint64_t) const override {
        return difference(found, expected_);
    }

private:
    Snapshot expected_;
    std::array<std::uint8_t, 16> old_uuid_{};
    std::string old_label_;
};

/// Mount, pending work and unmount of what a crash left, e.g. with sealed lanes.
class RecordedRecovery : public Recording {
public:
    RecordedRecovery(const std::string& name, const CrashImage& image);

protected:
    std::string judge_state(const Snapshot& found, std::uint64_t) const override {
        return difference(found, recovered_);
    }

private:
    Snapshot recovered_;
};

/// Recoveries of up to `most` images of `recording` that have `lanes` sealed lanes.
std::vector<std::unique_ptr<Recording>> recoveries_of(Recording& recording, std::size_t most,
                                                      std::uint64_t lanes);

}  // namespace pinfs::test

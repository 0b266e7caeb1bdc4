// SPDX-License-Identifier: Apache-2.0
//
// Makes a damaged region whole again, as far as what can be read of it allows: everything that the
// judge (fs/check) may find has a repair. It decides by the judge's survey, writes with the structs
// of fs/format/, and shares nothing with the code that a mounted file system runs.
//
// Invariants
//   - No data is invented. What of a file cannot be read becomes a hole, and is told. What the
//     survey could read stays readable, with its content, under its name (or, if the name is lost,
//     in /lost+found).
//   - A crash at any instant, and a repair after it, leaves no less: new trees and copies are
//     written to blocks that nothing refers to, and what refers to them is switched through a lane
//     of the journal. A repair is done in rounds; each begins with a new survey, and nothing but
//     the region is remembered from one to the next.
//   - Blocks are freed last, when nothing else is wrong.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "fs/check/check.h"
#include "fs/check/records_of_boot.h"
#include "fs/error.h"
#include "fs/pmem/region.h"

namespace pinfs {

/// What is about to be done.
struct RepairQuestion {
    FindingKind kind;
    std::span<const Finding> findings;  ///< all of that kind
    /// It takes nothing from anybody and needs no decision: bitmaps, counts, the superblock's copy,
    /// units of which one byte is wrong.
    bool is_safe;
};

struct RepairOptions {
    /// Asked before anything is done. What is declined is left, and so is all that can only be
    /// decided after it.
    std::function<bool(const RepairQuestion& question)> allow;
    /// Told what was done, a sentence with the place each.
    std::function<void(const std::string& sentence)> tell;
    /// As CheckOptions::progress, for each survey.
    std::function<void(unsigned percent)> progress = {};
    /// The boot we are in: damaged records that may be of this boot are left, for a device may
    /// reach their blocks. Empty: there is no such device.
    std::optional<BootId> boot_id = {};
    std::int64_t now_seconds = 0;  ///< for the times of directories that must be made
};

struct RepairReport {
    std::uint64_t repairs = 0;  ///< sentences told
    /// Inodes that may differ from what was written: some of it was lost, or is not proven. With
    /// their paths; empty: none is left that has a name.
    std::map<std::uint64_t, std::string> doubted;
    CheckReport left;  ///< what the judge says afterwards
};

/// The caller has made sure that no map, pin or hold of this boot is on record (SPEC 3.10). Errors:
/// as check(); media_error where a store fails.
Expected<RepairReport> repair(pmem::Region& region, const RepairOptions& options);

}  // namespace pinfs

// SPDX-License-Identifier: Apache-2.0
//
// What a repair must show, whatever was damaged: the judge finds nothing afterwards, the region
// mounts, and every file that could be read before can be read, with the same content.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "fs/repair/repair.h"
#include "tests/support/mounted.h"

namespace pinfs::test {

/// Files and links by path, as far as a mount of a copy of `memory` can read them to the end.
std::map<std::string, FileState> readable(std::span<const std::byte> memory);

/// Content, target, size and attributes are the same.
bool reads_as(const FileState& file, const FileState& other);

struct Repaired {
    std::vector<std::string> sentences;
    RepairReport report;
    [[nodiscard]] std::string text() const;
};

/// Repairs all, whatever it is. Throws on an error.
Repaired repair_all(pmem::Region& region);

/// Every file of `before` is in `after`. One that is in `told` may have changed there, but not if
/// it read as in `pristine`.
void check_kept(const std::map<std::string, FileState>& before,
                const std::map<std::string, FileState>& after,
                const std::map<std::string, FileState>& pristine, const std::string& told);

/// Damaged memory is used as it is, in a copy; then repaired in place, and all of the above is
/// checked.
Repaired check_repair(pmem::Region& region, std::span<std::byte> memory,
                      const std::map<std::string, FileState>& pristine);

}  // namespace pinfs::test

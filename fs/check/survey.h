// SPDX-License-Identifier: Apache-2.0
//
// One judgement with all that it learned on its way, for who wants more than the findings: the
// repair, which decides by it. check() is the report of one.
//
// Invariant: a survey says how the region was when it was made; after a store it is history.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "fs/check/check.h"
#include "fs/check/claims.h"
#include "fs/check/image.h"
#include "fs/check/journal.h"
#include "fs/check/space.h"
#include "fs/check/walk.h"

namespace pinfs::checking {

class Survey {
public:
    /// Errors: as check().
    static Expected<std::unique_ptr<Survey>> make(const pmem::Region& region,
                                                  const CheckOptions& options);
    Survey(const Survey&) = delete;
    Survey& operator=(const Survey&) = delete;

    CheckOptions options;
    CheckReport report;
    Findings findings;
    Image image;  ///< without a superblock nothing below is there
    std::optional<Journal> journal;
    std::optional<media::State> state;  ///< without it there are no claims and no walk
    std::optional<Claims> claims;
    std::unique_ptr<Walk> walk;
    std::vector<Claims::Watched> shared;  ///< blocks with several owners, by first block
    Space space;

private:
    Survey(const pmem::Region& region, const CheckOptions& wanted);
    void judge_region();
    [[nodiscard]] std::vector<Claims::Watched> owners_of(const std::vector<BlockRun>& runs) const;
    void report_shared();
    void report_bad_blocks();
};

}  // namespace pinfs::checking

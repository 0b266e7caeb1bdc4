// SPDX-License-Identifier: Apache-2.0
#include "fs/repair/repair.h"

#include <algorithm>
#include <functional>
#include <map>
#include <new>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "fs/repair/work.h"

namespace pinfs {

namespace repairing {
namespace {

bool is_safe_to_repair(FindingKind kind) {
    switch (kind) {
        case FindingKind::superblock_damaged:
        case FindingKind::superblock_copy_damaged:
        case FindingKind::superblock_copy_differs:
        case FindingKind::finished_request:
        case FindingKind::lane_state_damaged:
        case FindingKind::group_damaged:
        case FindingKind::group_unused:
        case FindingKind::group_free:
        case FindingKind::group_run_free:
        case FindingKind::total_free:
        case FindingKind::total_inodes:
        case FindingKind::block_lost:
        case FindingKind::block_not_allocated:
        case FindingKind::table_free_bit:
        case FindingKind::table_pending_bit:
        case FindingKind::table_empty:
        case FindingKind::table_window:
        case FindingKind::chunk_pending:
        case FindingKind::inode_blocks:
        case FindingKind::extent_uncoalesced:
        case FindingKind::link_count:
        case FindingKind::directory_parent:
            return true;
        default:
            return false;
    }
}

// In this order: each stands on those before it.
enum class Part : std::uint8_t {
    superblocks,
    journal,
    state,
    tables,
    records,
    inodes,
    names,
    finished,
    space,
    totals,
    last = totals,
};

class Round {
public:
    /// `looked_for_chunks`: in a round before, for all that are in no index.
    Round(pmem::Region& region, checking::Survey& survey, const RepairOptions& options,
          RepairReport& report, bool& looked_for_chunks)
        : work_(region, survey, options, report), looked_for_chunks_(looked_for_chunks) {}

    /// True if the region was changed.
    Expected<bool> run() {
        if (work_.super().magic != media::kSuperMagic) return false;
        sort_findings();
        // Whatever is to be done, it is done to what a mount would see.
        if (work_.survey.journal->sealed() != 0) {
            if (!may(Part::journal)) return false;
            return replay_journal(work_);
        }
        if (const auto units = find_wrong_bytes(work_); !units.empty()) {
            if (!may_set(units)) return false;
            TRY(set_bytes_right(work_, units));
            return true;
        }
        for (const auto& [part, findings] : findings_) {
            // Who has which blocks is not known for certain before all else is right.
            if (part >= Part::space && stuck_) return false;
            if (!may(part)) return false;
            if (TRY(repair(part))) return true;
            stuck_ = true;
        }
        return false;
    }

private:
    void sort_findings();
    bool may(Part part) { return may(findings_[part], false); }
    bool may_set(std::span<const WrongUnit> units);
    bool may(std::span<const Finding> findings, bool is_safe);
    Expected<bool> repair(Part part);
    [[nodiscard]] Part part_of(const Finding& finding);
    [[nodiscard]] Part part_of_place(const Finding& finding) const;
    [[nodiscard]] Part part_of_shared(std::uint64_t offset) const;
    [[nodiscard]] bool is_of_records(const Finding& finding) const;
    [[nodiscard]] bool has_lost_chunks();

    Work work_;
    std::map<Part, std::vector<Finding>> findings_;
    std::optional<bool> lost_chunks_;
    bool& looked_for_chunks_;
    bool stuck_ = false;
};

void Round::sort_findings() {
    for (const Finding& finding : work_.findings()) findings_[part_of(finding)].push_back(finding);
}

bool Round::may_set(std::span<const WrongUnit> units) {
    std::vector<Finding> findings;
    for (const WrongUnit& unit : units) findings.push_back(unit.finding);
    return may(findings, true);
}

// Asks for each kind of what would be repaired.
bool Round::may(std::span<const Finding> findings, bool is_safe) {
    std::map<FindingKind, std::vector<Finding>> kinds;
    for (const Finding& finding : findings) kinds[finding.kind].push_back(finding);
    return std::ranges::all_of(kinds, [&](const auto& kind) {
        return work_.options.allow(
            {kind.first, kind.second, is_safe || is_safe_to_repair(kind.first)});
    });
}

Expected<bool> Round::repair(Part part) {
    switch (part) {
        case Part::superblocks:
            return repair_superblocks(work_);
        case Part::journal:
            return replay_journal(work_);
        case Part::state:
            return repair_state(work_);
        case Part::tables: {
            const bool changed = TRY(repair_table(work_, media::kTableInodes));
            looked_for_chunks_ |= lost_chunks_.value_or(false);
            return TRY(repair_table(work_, media::kTableRecords)) || changed;
        }
        case Part::records:
            return repair_records(work_);
        case Part::inodes:
            return repair_inodes(work_);
        case Part::names:
            return repair_names(work_);
        case Part::finished:
            return repair_finished_requests(work_);
        case Part::space:
            return repair_groups(work_);
        case Part::totals:
            return repair_totals(work_);
    }
    return false;
}

bool Round::is_of_records(const Finding& finding) const {
    media::ChunkHeader header;
    const std::uint64_t chunk = finding.offset / kBlockBytes * kBlockBytes;
    return chunk != finding.offset && work_.read(chunk, header) &&
           work_.is_whole(header, media::kChunkMagic) && header.table == media::kTableRecords;
}

// Chunks of inodes that are in no index: then names that are missing are not missing. What was not
// of use when they were looked for never is.
bool Round::has_lost_chunks() {
    if (looked_for_chunks_) return false;
    if (lost_chunks_) return *lost_chunks_;
    lost_chunks_ = false;
    if (!work_.survey.state) return false;
    std::set<std::uint64_t> known;
    for (const auto& chunk : work_.walk().inodes.chunks()) known.insert(chunk.index);
    work_.for_each_lost([&](std::uint64_t offset, const AnyBlock& block) {
        if (block.header.magic == media::kBlockMagic) return;
        const auto index = work_.chunk_by_inodes(offset);
        if (index && !known.contains(*index)) lost_chunks_ = true;
    });
    return *lost_chunks_;
}

Part Round::part_of_place(const Finding& finding) const {
    const media::Superblock& super = work_.super();
    const std::uint64_t offset = finding.offset;
    if (offset == 0 || offset == media::kSuperCopyOffset) return Part::superblocks;
    if (offset == super.state_offset) return Part::state;
    if (offset == super.finished_offset) return Part::finished;
    if (offset >= super.lanes_offset &&
        offset - super.lanes_offset < std::uint64_t{super.lane_count} * super.lane_bytes)
        return Part::totals;
    for (std::uint64_t group = 0; group < work_.survey.image.groups(); ++group)
        if (offset == media::group_block_of(group, super.zone_groups) * kBlockBytes)
            return Part::space;
    return finding.ino != 0 ? Part::inodes : Part::tables;
}

Part Round::part_of_shared(std::uint64_t offset) const {
    for (const auto& watched : work_.survey.shared) {
        if (watched.run.begin * kBlockBytes != offset) continue;
        bool of_inodes = false;
        for (const checking::Owner& owner : watched.owners) {
            if (owner.kind == checking::OwnerKind::hold) return Part::records;
            of_inodes |= is_of_inode(owner);
        }
        return of_inodes ? Part::inodes : Part::tables;
    }
    return Part::inodes;
}

Part Round::part_of(const Finding& finding) {
    using Kind = FindingKind;
    const Kind kind = finding.kind;
    if (kind == Kind::unreadable) return part_of_place(finding);
    if (kind <= Kind::superblock_geometry) return Part::superblocks;
    if (kind <= Kind::state_bad_blocks) return Part::state;
    if (kind == Kind::finished_request) return Part::finished;
    if (kind == Kind::lane_state_damaged) return Part::totals;
    if (kind <= Kind::logs_overlap) return Part::journal;
    if (kind == Kind::block_shared) return part_of_shared(finding.offset);
    if (kind == Kind::block_outside)
        return is_of_records(finding) ? Part::records
               : finding.ino == 0     ? Part::tables
                                      : Part::inodes;
    if (kind == Kind::total_free || kind == Kind::total_inodes) return Part::totals;
    if (kind <= Kind::block_not_allocated) return Part::space;
    if (kind <= Kind::inode_damaged) return Part::tables;
    if (kind <= Kind::entry_duplicate) return Part::inodes;
    if (kind == Kind::root_directory || kind == Kind::entry_dangling)
        return has_lost_chunks() ? Part::tables : Part::names;
    if (kind <= Kind::orphan_not_empty) return Part::names;
    return Part::records;
}

// By what two rounds are told apart. Which blocks are lost changes with every attempt; that is no
// progress as long as something else is wrong. A lane's state may be set right early, by its
// checksum, or last, with the totals.
std::string looks_of(const CheckReport& report) {
    std::string space;
    std::string lanes;
    std::string others;
    for (const Finding& finding : report.findings) {
        const bool of_space = finding.kind > FindingKind::group_damaged &&
                              finding.kind <= FindingKind::block_not_allocated;
        const bool of_lanes = finding.kind == FindingKind::lane_state_damaged;
        (of_space ? space : of_lanes ? lanes : others) += finding.text + '\n';
    }
    std::string looks = (others.empty() ? space : others) + lanes;
    const CheckTotals& totals = report.totals;
    for (const std::uint64_t count :
         {totals.directories, totals.files, totals.records, totals.lanes_sealed})
        looks += std::to_string(count) + ' ';
    return looks;
}

}  // namespace
}  // namespace repairing

Expected<RepairReport> repair(pmem::Region& region, const RepairOptions& options) {
    using repairing::Round;
    const CheckOptions all{.findings_max = 1'000'000,
                           .shared_max = 65'536,
                           .owners_max = 1024,
                           .progress = options.progress};
    RepairReport report;
    try {
        std::set<std::size_t> seen;
        bool looked_for_chunks = false;
        while (true) {
            const auto survey = TRY(checking::Survey::make(region, all));
            bool changed = false;
            // What the rounds before did not help against is left.
            const std::string looks =
                repairing::looks_of(survey->report) + (looked_for_chunks ? "looked" : "");
            if (!survey->report.clean() && seen.insert(std::hash<std::string>{}(looks)).second) {
                const auto done = Round(region, *survey, options, report, looked_for_chunks).run();
                if (!done && done.error().cause != Cause::no_space &&
                    done.error().cause != Cause::no_inodes)
                    return std::unexpected(done.error());
                changed = done && *done;
            }
            if (changed) continue;
            repairing::Work last(region, *survey, options, report);
            for (auto& [ino, path] : report.doubted) path = repairing::path_of(last, ino);
            report.left = std::move(survey->report);
            return report;
        }
    } catch (const std::bad_alloc&) {
        return fail(Cause::out_of_memory);
    }
}

}  // namespace pinfs

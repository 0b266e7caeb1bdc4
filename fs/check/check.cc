// SPDX-License-Identifier: Apache-2.0
#include "fs/check/check.h"

#include <new>
#include <utility>

#include "fs/check/state.h"
#include "fs/check/superblock.h"
#include "fs/check/survey.h"
#include "fs/format/group.h"

namespace pinfs::checking {

void claim_fixed_areas(const Image& image, Claims& claims) {
    const media::Superblock& super = image.superblock();
    claims.take(0, 1, {OwnerKind::superblock});
    claims.take(media::kSuperCopyOffset / kBlockBytes, 1, {OwnerKind::superblock});
    claims.take(super.state_offset / kBlockBytes, 1, {OwnerKind::state});
    claims.take(super.finished_offset / kBlockBytes, 1, {OwnerKind::finished});
    for (std::uint64_t lane = 0; lane < super.lane_count; ++lane)
        claims.take((super.lanes_offset + lane * super.lane_bytes) / kBlockBytes,
                    super.lane_bytes / kBlockBytes, {OwnerKind::lane, lane});
    const std::uint64_t zones = (image.groups() + super.zone_groups - 1) / super.zone_groups;
    for (std::uint64_t index = 0; index < zones * super.zone_groups; ++index) {
        const std::uint64_t block = media::group_block_of(index, super.zone_groups);
        if (block < image.blocks()) claims.take(block, 1, {OwnerKind::group, index});
    }
}

namespace {

void walk_all(Walk& walk) {
    claim_fixed_areas(walk.image, walk.claims);
    walk_inodes(walk);
    walk_records(walk);
}

void judge_totals(const Image& image, const LaneTotals& lanes, const Space& space,
                  const Walk* walk) {
    const std::uint64_t at = image.superblock().lanes_offset;
    if (!lanes.known) return;
    if (space.known && lanes.free_blocks != space.free_blocks)
        image.findings().add(FindingKind::total_free, at, 0,
                             "the lanes count %lu free blocks, the groups %lu", lanes.free_blocks,
                             space.free_blocks);
    if (walk != nullptr && walk->inodes_complete && lanes.inodes != walk->inodes_used)
        image.findings().add(FindingKind::total_inodes, at, 0,
                             "the lanes count %lu inodes in use, the inode table has %lu",
                             lanes.inodes, walk->inodes_used);
}

}  // namespace

Survey::Survey(const pmem::Region& region, const CheckOptions& wanted)
    : options(wanted), findings(report, wanted.findings_max), image(region, findings) {}

Expected<std::unique_ptr<Survey>> Survey::make(const pmem::Region& region,
                                               const CheckOptions& options) {
    if (region.bytes() < media::kRegionBytesMin) return fail(Cause::region_too_small);
    try {
        std::unique_ptr<Survey> survey{new Survey(region, options)};
        const auto superblock = TRY(judge_superblocks(survey->image, region.bytes()));
        if (superblock) {
            survey->image.set_superblock(*superblock);
            survey->judge_region();
        }
        return survey;
    } catch (const std::bad_alloc&) {
        return fail(Cause::out_of_memory);
    }
}

// Everything behind the superblock.
void Survey::judge_region() {
    journal.emplace(image);
    report.totals.blocks = image.blocks();
    report.totals.lanes_sealed = journal->sealed();

    state = judge_state(image);
    const LaneTotals lanes = judge_lane_states(image);
    if (!state) {
        // Without the roots nothing has an owner: groups are held against themselves.
        space = judge_groups(image, nullptr);
        judge_totals(image, lanes, space, nullptr);
        return;
    }
    judge_finished_requests(image, state->generation_limit);

    claims.emplace(image.blocks(), options.shared_max);
    walk.reset(new Walk{.image = image,
                        .claims = *claims,
                        .state = *state,
                        .inodes = {},
                        .totals = {},
                        .progress = options.progress});
    walk_all(*walk);
    judge_names(*walk);
    if (!claims->shared().empty()) report_shared();
    report_bad_blocks();
    space = judge_groups(image, &*claims);
    judge_totals(image, lanes, space, walk.get());

    CheckTotals& totals = report.totals;
    totals.files = walk->totals.files;
    totals.directories = walk->totals.directories;
    totals.orphans = walk->totals.orphans;
    totals.records = walk->totals.records;
    totals.blocks_used = space.claimed;
    totals.mounted = state->mounted != 0;
    if (options.progress) options.progress(100);
}

// The walk once more, to learn who claims these blocks.
std::vector<Claims::Watched> Survey::owners_of(const std::vector<BlockRun>& runs) const {
    CheckReport unheard;
    Findings silent(unheard, 0);
    const Image same(image, silent);
    Claims watching(image.blocks());
    watching.watch(runs, options.owners_max);
    Walk again{.image = same, .claims = watching, .state = *state, .inodes = {}, .totals = {}};
    walk_all(again);
    return watching.watched();
}

void Survey::report_bad_blocks() {
    std::vector<BlockRun> runs;
    for (const media::BadRange& bad : state->bad) {
        if (bad.blocks == 0) break;
        if (!runs.empty() && bad.begin < runs.back().end()) return;  // a finding says so
        runs.push_back({bad.begin, bad.blocks});
    }
    report.bad_blocks_unlisted = state->bad_unlisted != 0;
    if (runs.empty()) return;
    for (const Claims::Watched& watched : owners_of(runs)) {
        BadBlocks bad{.run = watched.run, .owners = {}};
        for (const Owner& owner : watched.owners) bad.owners.push_back(name_of(owner));
        if (watched.more != 0) bad.owners.push_back(std::to_string(watched.more) + " more");
        report.bad_blocks.push_back(std::move(bad));
    }
}

void Survey::report_shared() {
    shared = owners_of(claims->shared());
    for (const Claims::Watched& watched : shared) {
        std::string owners;
        std::uint64_t ino = 0;
        for (const Owner& owner : watched.owners) {
            if (!owners.empty()) owners += " and by ";
            owners += name_of(owner);
            if (is_of_inode(owner)) ino = owner.id;
        }
        if (watched.more != 0) owners += " and " + std::to_string(watched.more) + " more";
        image.findings().add(FindingKind::block_shared, watched.run.begin * kBlockBytes, ino,
                             "%lu %s claimed by %s", watched.run.count,
                             watched.run.count == 1 ? "block is" : "blocks from there on are",
                             owners.c_str());
    }
}

}  // namespace pinfs::checking

namespace pinfs {

Expected<CheckReport> check(pmem::Region& region, const CheckOptions& options) {
    const auto survey = TRY(checking::Survey::make(region, options));
    return std::move(survey->report);
}

}  // namespace pinfs

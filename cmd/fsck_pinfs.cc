// SPDX-License-Identifier: Apache-2.0
//
// fsck.pinfs, also as fsck.fuse.pinfs: what fsck(8) calls, and what people call.
//
// It judges a region that is not mounted, and with -a, -p or -y does what a mount does first: it
// replays the journal, finishes what was interrupted, and brings the superblock's copy up to date.
// What else is wrong is told and left as it is.
//
// Exit codes are those of fsck(8): 0 no problems, 1 the region was made clean, 4 problems are left,
// 8 the region could not be judged, 16 wrong usage.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "cmd/region_use.h"
#include "fs/check/check.h"
#include "fs/pmem/region.h"
#include "fs/volume/describe.h"
#include "fs/volume/volume.h"

namespace {

using namespace pinfs;
using namespace pinfs::cmd;

constexpr int kClean = 0;
constexpr int kCorrected = 1;
constexpr int kUncorrected = 4;
constexpr int kOperational = 8;
constexpr int kUsage = 16;

int complain(int code, const std::string& sentence) {
    std::cerr << "fsck.pinfs: " << sentence << '\n';
    return code;
}

std::string count_of(std::uint64_t count, const char* one) {
    return std::to_string(count) + " " + one + (count == 1 ? "" : "s");
}

struct Words {
    std::string region;
    bool only_look = false;  ///< -n
    bool automatic = false;  ///< -a, -p: at boot
    bool yes = false;        ///< -y
    bool full = false;       ///< -f
    bool skip_mounted = false;

    [[nodiscard]] bool may_write() const { return (automatic || yes) && !only_look; }
    /// A clean region is believed, and one that is not is replayed, without looking at all of it.
    [[nodiscard]] bool is_quick() const { return automatic && !yes && !only_look && !full; }
};

std::string totals_text(std::uint64_t files, std::uint64_t blocks_used, std::uint64_t blocks) {
    return count_of(files, "file") + ", " + std::to_string(blocks_used) + "/" +
           count_of(blocks, "block");
}

/// Whether a mount puts all of it right.
bool is_mended_by_mount(const CheckReport& report) {
    return report.findings_dropped == 0 &&
           std::ranges::all_of(report.findings, [](const Finding& finding) {
               return finding.kind == FindingKind::superblock_damaged ||
                      finding.kind == FindingKind::superblock_copy_damaged ||
                      finding.kind == FindingKind::superblock_copy_differs;
           });
}

/// Mounts and unmounts, which leaves the region clean.
Expected<MountReport> replay(pmem::Region& region) {
    MountOptions options;
    options.background = false;
    const auto volume = TRY(Volume::mount(region, options));
    TRY(volume->unmount());
    return volume->report();
}

int tell_findings(const Words& words, const CheckReport& report) {
    const std::uint64_t problems = report.findings.size() + report.findings_dropped;
    for (const Finding& finding : report.findings) std::cout << finding.text << '\n';
    if (report.findings_dropped != 0)
        std::cout << "and " << count_of(report.findings_dropped, "more problem") << '\n';
    std::cout << words.region << ": " << count_of(problems, "problem")
              << " found, nothing was changed"
              << (words.may_write() ? ": this version cannot repair them, " : ", ")
              << totals_text(report.totals.files + report.totals.directories,
                             report.totals.blocks_used, report.totals.blocks)
              << '\n';
    return kUncorrected;
}

/// Makes the region clean; nothing but what a mount mends is wrong with it.
int make_clean(const Words& words, pmem::Region& region) {
    if (const std::string kept = kept_records(region); !kept.empty())
        return complain(kUncorrected, words.region + " is left to the next mount: " + kept);
    const auto report = replay(region);
    if (!report)
        return complain(report.error().number() == EUCLEAN ? kUncorrected : kOperational,
                        words.region + " cannot be replayed: " + report.error().message());
    std::cout << words.region << ": was not unmounted; "
              << count_of(report->lanes_replayed, "journal log") << " replayed, clean now\n";
    return kCorrected;
}

int judge_quickly(const Words& words, pmem::Region& region) {
    const auto state = describe_state(region);
    if (!state) return complain(kOperational, words.region + ": " + state.error().message());
    if (state->mounted || state->lanes_to_replay != 0 || state->from_copy)
        return make_clean(words, region);
    std::cout << words.region << ": clean, "
              << totals_text(state->inodes, state->blocks - state->blocks_free, state->blocks)
              << '\n';
    return kClean;
}

int judge(const Words& words, pmem::Region& region) {
    const auto report = check(region);
    if (!report) return complain(kOperational, words.region + ": " + report.error().message());
    const CheckTotals& totals = report->totals;
    const bool dirty = totals.mounted || totals.lanes_sealed != 0;
    if (words.may_write() && is_mended_by_mount(*report) && (dirty || !report->clean())) {
        for (const Finding& finding : report->findings) std::cout << finding.text << '\n';
        if (const int code = make_clean(words, region); code != kCorrected) return code;
        const auto again = check(region);
        if (!again) return complain(kOperational, words.region + ": " + again.error().message());
        return again->clean() ? kCorrected : tell_findings(words, *again);
    }
    if (!report->clean()) return tell_findings(words, *report);
    if (dirty)
        std::cout << words.region << ": the next mount replays "
                  << count_of(totals.lanes_sealed, "journal log") << '\n';
    std::cout << words.region << ": clean, "
              << totals_text(totals.files + totals.directories, totals.blocks_used, totals.blocks)
              << '\n';
    return kClean;
}

int open_and_judge(const Words& words) {
    const auto region = open_when_free(words.region, {.read_only = !words.may_write()});
    if (region) return words.is_quick() ? judge_quickly(words, **region) : judge(words, **region);
    if (region.error().cause != Cause::region_in_use)
        return complain(kOperational, words.region + ": " + region.error().message());
    return words.skip_mounted ? kClean : complain(kOperational, in_use_sentence(words.region));
}

int run(const std::vector<std::string>& arguments) {
    CLI::App app{"Check a region that is not mounted; with -a, -p or -y replay its journal"};
    app.name("fsck.pinfs");
    app.set_version_flag("-V,--version", std::string{"fsck.pinfs "} + PINFS_VERSION);
    Words words;
    bool ignored = false;
    std::string ignored_value;
    app.add_option("region", words.region, "A file or device that mkfs.pinfs prepared")
        ->type_name("REGION")
        ->required();
    auto* const only_look = app.add_flag("-n", words.only_look, "Check all and change nothing");
    app.add_flag("-a,-p", words.automatic,
                 "For fsck(8) at boot: make it clean if it was not unmounted, look no further")
        ->excludes(only_look);
    app.add_flag("-y", words.yes, "Check all, and make it clean if nothing but that is wrong")
        ->excludes(only_look);
    app.add_flag("-f", words.full, "With -a or -p: check all, even if it is clean");
    app.add_flag("-M", words.skip_mounted, "If it is mounted, do nothing, with status 0");
    app.add_flag("-T", ignored, "Ignored: there is no title");
    app.add_flag("-r", ignored, "Ignored: nothing is asked");
    app.add_option("-t", ignored_value, "Ignored: the type");
    app.footer(
        "-C, with or without a number, is ignored: there is no progress bar.\n"
        "Exit status: 0 no problems, 1 made clean, 4 problems left uncorrected, 8 the region could "
        "not be checked, 16 wrong usage.");
    try {
        // CLI11 takes them from the end.
        std::vector<std::string> reversed{arguments.rbegin(), arguments.rend()};
        std::erase_if(reversed, [](const std::string& word) {
            return word.starts_with("-C") &&
                   word.find_first_not_of("0123456789", 2) == std::string::npos;
        });
        app.parse(reversed);
    } catch (const CLI::ParseError& stop) {
        if (stop.get_exit_code() == 0) return app.exit(stop);  // --help, --version
        return complain(kUsage, std::string{stop.what()} + " (see fsck.pinfs --help)");
    }
    if (!words.only_look && !words.may_write())
        std::cerr << "fsck.pinfs: checking as with -n; -y replays the journal too\n";
    return open_and_judge(words);
}

}  // namespace

int main(int count, char** words) {
    try {
        const int code = run({words + 1, words + count});
        std::cout.flush();
        return std::cout ? code : complain(kOperational, "standard output cannot be written");
    } catch (const std::exception& failure) {
        return complain(kOperational, failure.what());
    }
}

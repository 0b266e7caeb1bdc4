// SPDX-License-Identifier: Apache-2.0
//
// fsck.pinfs, also as fsck.fuse.pinfs: what fsck(8) calls, and what people call.
//
// It judges a region that is not mounted, and repairs it: with -y all that is wrong, with -a or -p
// what needs no decision, on a terminal what is said yes to. Then it does what a mount does first:
// it replays the journal and finishes what was interrupted.
//
// Exit codes are those of fsck(8): 0 no problems, 1 the region was made clean, 4 problems are left,
// 8 the region could not be judged, 16 wrong usage.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <ctime>
#include <exception>
#include <functional>
#include <iostream>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cmd/region_use.h"
#include "fs/check/check.h"
#include "fs/pmem/region.h"
#include "fs/repair/repair.h"
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
constexpr std::size_t kFindingsTold = 1000;

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
    bool ask = false;                     ///< on a terminal, without any of these
    std::optional<int> progress_to = {};  ///< -C: a descriptor, 0: a bar on the terminal

    [[nodiscard]] bool may_write() const { return (automatic || yes || ask) && !only_look; }
    /// A clean region is believed, and one that is not is replayed, without looking at all of it.
    [[nodiscard]] bool is_quick() const { return automatic && !yes && !only_look && !full; }
};

std::string totals_text(std::uint64_t files, std::uint64_t blocks_used, std::uint64_t blocks) {
    return count_of(files, "file") + ", " + std::to_string(blocks_used) + "/" +
           count_of(blocks, "block");
}

/// Mounts and unmounts, which leaves the region clean.
Expected<MountReport> replay(pmem::Region& region) {
    MountOptions options;
    options.background = false;
    const auto volume = TRY(Volume::mount(region, options));
    TRY(volume->unmount());
    return volume->report();
}

/// What raised media errors is no inconsistency: whoever owns it has lost it.
void tell_bad_blocks(const Words& words, const CheckReport& report) {
    for (const BadBlocks& bad : report.bad_blocks) {
        std::cout << words.region << ": block " << bad.run.begin;
        if (bad.run.count > 1) std::cout << " to " << bad.run.end() - 1;
        std::cout << " raised media errors: ";
        if (bad.owners.empty()) std::cout << "free";
        for (std::size_t i = 0; i < bad.owners.size(); ++i)
            std::cout << (i == 0 ? "" : ", ") << bad.owners[i];
        std::cout << '\n';
    }
    if (report.bad_blocks_unlisted)
        std::cout << words.region << ": more blocks raised media errors than can be listed\n";
}

/// What is wrong and stays so.
int tell_findings(const Words& words, const CheckReport& report, std::uint64_t repairs = 0) {
    const std::uint64_t problems = report.findings.size() + report.findings_dropped;
    std::size_t told = 0;
    for (const Finding& finding : report.findings) {
        if (told++ == kFindingsTold) break;
        std::cout << finding.text << '\n';
    }
    if (problems > kFindingsTold)
        std::cout << "and " << count_of(problems - kFindingsTold, "more problem") << '\n';
    std::cout << words.region << ": " << count_of(problems, "problem")
              << (repairs == 0 ? " found, nothing was changed, "
                               : " left, " + count_of(repairs, "repair") + " made, ")
              << totals_text(report.totals.files + report.totals.directories,
                             report.totals.blocks_used, report.totals.blocks)
              << '\n';
    if (words.may_write() && !words.yes)
        std::cout << words.region << ": fsck.pinfs -y repairs what can be repaired\n";
    return kUncorrected;
}

/// A bar on the terminal, or a line for each percent: "check 17 100 REGION".
class Progress {
public:
    explicit Progress(const Words& words) : words_(words) {}
    ~Progress() { clear(); }
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    std::function<void(unsigned)> sink() {
        if (!words_.progress_to) return {};
        if (*words_.progress_to == 0 && isatty(STDOUT_FILENO) == 0) return {};
        return [this](unsigned percent) {
            show(percent);
        };
    }
    void clear() {
        if (shown_ && *words_.progress_to == 0) std::cout << "\r\033[K" << std::flush;
        shown_.reset();
    }

private:
    void show(unsigned percent) {
        if (shown_ == percent) return;
        shown_ = percent;
        if (*words_.progress_to == 0) {
            constexpr unsigned kWidth = 50;
            const unsigned full = percent * kWidth / 100;
            std::cout << '\r' << words_.region << ": |" << std::string(full, '=')
                      << std::string(kWidth - full, ' ') << "| " << percent << '%' << std::flush;
            return;
        }
        const std::string line =
            "check " + std::to_string(percent) + " 100 " + words_.region + '\n';
        // Whoever reads it may have gone: the check goes on.
        [[maybe_unused]] const auto written = write(*words_.progress_to, line.data(), line.size());
    }

    const Words& words_;
    std::optional<unsigned> shown_;
};

/// Shows what is wrong and asks whether to repair it.
class Questions {
public:
    bool ask(const RepairQuestion& question) {
        const auto& findings = question.findings;
        for (const Finding& finding : findings.first(std::min(findings.size(), kFindingsAsked)))
            std::cout << finding.text << '\n';
        if (findings.size() > kFindingsAsked)
            std::cout << "and " << count_of(findings.size() - kFindingsAsked, "more") << '\n';
        for (std::string answer; !all_;) {
            std::cout << "repair " << count_of(findings.size(), "problem") << " ("
                      << name_of(question.kind) << ")? y, n, or a for all: " << std::flush;
            if (!std::getline(std::cin, answer) || answer.starts_with('n')) return false;
            if (answer.starts_with('y')) return true;
            all_ = answer.starts_with('a');
        }
        return true;
    }

private:
    static constexpr std::size_t kFindingsAsked = 10;
    bool all_ = false;
};

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

/// What to look at, or to take from a copy, by name.
void tell_doubted(const Words& words, const RepairReport& report) {
    for (const auto& [ino, path] : report.doubted)
        std::cout << words.region << ": " << (path.empty() ? "a file without a name" : path)
                  << " (inode " << ino << ") may differ from what was written to it\n";
}

int mend(const Words& words, pmem::Region& region, const CheckReport& found) {
    if (const std::string kept = kept_records(region); !kept.empty()) {
        const int code = tell_findings(words, found);
        return complain(code, words.region + " is not repaired: " + kept);
    }
    Progress progress{words};
    Questions questions;
    RepairOptions options;
    options.allow = [&](const RepairQuestion& question) {
        progress.clear();
        return words.yes || (words.automatic ? question.is_safe : questions.ask(question));
    };
    options.tell = [&](const std::string& sentence) {
        progress.clear();
        std::cout << sentence << '\n';
    };
    options.progress = progress.sink();
    options.boot_id = boot_id_of_now();
    options.now_seconds = std::time(nullptr);
    const auto report = repair(region, options);
    progress.clear();
    if (!report) return complain(kOperational, words.region + ": " + report.error().message());
    tell_doubted(words, *report);
    if (!report->left.clean()) return tell_findings(words, report->left, report->repairs);
    const CheckTotals& totals = report->left.totals;
    if (totals.mounted || totals.lanes_sealed != 0)
        if (const int code = make_clean(words, region); code != kCorrected) return code;
    std::cout << words.region << ": " << count_of(report->repairs, "repair") << " made, clean now, "
              << totals_text(totals.files + totals.directories, totals.blocks_used, totals.blocks)
              << '\n';
    return kCorrected;
}

int judge(const Words& words, pmem::Region& region) {
    Progress progress{words};
    const auto report = check(region, {.findings_max = kFindingsTold, .progress = progress.sink()});
    progress.clear();
    if (!report) return complain(kOperational, words.region + ": " + report.error().message());
    tell_bad_blocks(words, *report);
    if (!report->clean())
        return words.may_write() ? mend(words, region, *report) : tell_findings(words, *report);
    const CheckTotals& totals = report->totals;
    const bool dirty = totals.mounted || totals.lanes_sealed != 0;
    if (dirty && (words.automatic || words.yes)) return make_clean(words, region);
    if (dirty)
        std::cout << words.region << ": the next mount replays "
                  << count_of(totals.lanes_sealed, "journal log") << '\n';
    std::cout << words.region << ": clean, "
              << totals_text(totals.files + totals.directories, totals.blocks_used, totals.blocks)
              << '\n';
    return kClean;
}

int judge_quickly(const Words& words, pmem::Region& region) {
    const auto state = describe_state(region);
    // Damage needs the long way.
    if (!state || state->from_copy) return judge(words, region);
    if (state->mounted || state->lanes_to_replay != 0) return make_clean(words, region);
    std::cout << words.region << ": clean, "
              << totals_text(state->inodes, state->blocks - state->blocks_free, state->blocks)
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
    CLI::App app{"Check a region that is not mounted, and repair it"};
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
                 "For fsck(8) at boot: make it clean if it was not unmounted; repair what is safe "
                 "(bitmaps, counts, the superblock's copy)")
        ->excludes(only_look);
    app.add_flag("-y", words.yes, "Check all, and repair all that is wrong")->excludes(only_look);
    app.add_flag("-f", words.full, "With -a or -p: check all, even if it is clean");
    app.add_flag("-M", words.skip_mounted, "If it is mounted, do nothing, with status 0");
    app.add_flag("-T", ignored, "Ignored: there is no title");
    app.add_flag("-r", ignored, "Ignored: without another option it asks, on a terminal");
    app.add_option("-t", ignored_value, "Ignored: the type");
    app.footer(
        "-C shows a bar on the terminal; -CFD writes \"check PERCENT 100 REGION\" to descriptor "
        "FD.\n"
        "Without -n, -a, -p and -y it asks on a terminal, and changes nothing elsewhere.\n"
        "Exit status: 0 no problems, 1 made clean, 4 problems left uncorrected, 8 the region could "
        "not be checked, 16 wrong usage.");
    try {
        // CLI11 takes them from the end.
        std::vector<std::string> reversed{arguments.rbegin(), arguments.rend()};
        std::erase_if(reversed, [&words](const std::string& word) {
            constexpr std::size_t kDigitsMax = 6;
            if (!word.starts_with("-C") || word.size() > 2 + kDigitsMax ||
                word.find_first_not_of("0123456789", 2) != std::string::npos)
                return false;
            words.progress_to = word.size() == 2 ? 0 : std::stoi(word.substr(2));
            return true;
        });
        app.parse(reversed);
    } catch (const CLI::ParseError& stop) {
        if (stop.get_exit_code() == 0) return app.exit(stop);  // --help, --version
        return complain(kUsage, std::string{stop.what()} + " (see fsck.pinfs --help)");
    }
    if (!words.only_look && !words.may_write()) {
        words.ask = isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0;
        if (!words.ask) std::cerr << "fsck.pinfs: checking as with -n; -y repairs\n";
    }
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

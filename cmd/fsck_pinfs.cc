// SPDX-License-Identifier: Apache-2.0
//
// fsck.pinfs: what fsck(8) calls for the type pinfs, and what people call. `fsck.pinfs -n REGION`
// judges a region that is not mounted and changes nothing; this version repairs nothing either.
//
// Exit codes are those of fsck(8): 0 no problems, 4 problems found and left as they are, 8 the
// region could not be judged, 16 wrong usage. Without -n the code is the same: 0 says that there
// was nothing to repair.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>

#include "cmd/region_use.h"
#include "fs/check/check.h"
#include "fs/pmem/region.h"

namespace {

constexpr int kClean = 0;
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

int judge(const std::string& path, bool quiet) {
    const auto region = pinfs::cmd::open_when_free(path, {.read_only = true});
    if (!region) {
        return complain(kOperational, region.error().cause == pinfs::Cause::region_in_use
                                          ? pinfs::cmd::in_use_sentence(path)
                                          : path + ": " + region.error().message());
    }
    const auto report = pinfs::check(**region);
    if (!report) return complain(kOperational, path + ": " + report.error().message());

    const pinfs::CheckTotals& totals = report->totals;
    const std::string held = count_of(totals.files + totals.directories, "file") + ", " +
                             std::to_string(totals.blocks_used) + "/" +
                             count_of(totals.blocks, "block");
    if (report->clean()) {
        if (!quiet && totals.lanes_sealed != 0)
            std::cout << path << ": the next mount replays "
                      << count_of(totals.lanes_sealed, "journal log") << '\n';
        std::cout << path << ": clean, " << held << '\n';
        return kClean;
    }
    const std::uint64_t problems = report->findings.size() + report->findings_dropped;
    if (quiet) {
        std::cout << path << ": " << count_of(problems, "problem")
                  << " found; run fsck.pinfs -n to see them\n";
        return kUncorrected;
    }
    for (const pinfs::Finding& finding : report->findings) std::cout << finding.text << '\n';
    if (report->findings_dropped != 0)
        std::cout << "and " << count_of(report->findings_dropped, "more problem") << '\n';
    std::cout << path << ": " << count_of(problems, "problem") << " found, nothing was changed, "
              << held << '\n';
    return kUncorrected;
}

int run(int count, char** words) {
    CLI::App app{"Check a region that is not mounted; nothing is changed"};
    app.name("fsck.pinfs");
    app.set_version_flag("-V,--version", std::string{"fsck.pinfs "} + PINFS_VERSION);
    std::string region;
    bool only_look = false;
    bool quiet = false;
    app.add_option("region", region, "A file or device that mkfs.pinfs prepared")
        ->type_name("REGION")
        ->required();
    app.add_flag("-n", only_look, "Check and change nothing");
    app.add_flag("-a,-p", quiet, "For fsck(8) at boot: as -n, the summary alone");
    app.footer(
        "Exit status: 0 no problems, 4 problems left uncorrected, 8 the region could not be "
        "checked, 16 wrong usage.");
    try {
        app.parse(count, words);
    } catch (const CLI::ParseError& stop) {
        if (stop.get_exit_code() == 0) return app.exit(stop);  // --help, --version
        return complain(kUsage, std::string{stop.what()} + " (see fsck.pinfs --help)");
    }
    if (!only_look && !quiet)
        std::cerr << "fsck.pinfs: this version repairs nothing; checking as with -n\n";
    return judge(region, quiet && !only_look);
}

}  // namespace

int main(int count, char** words) {
    try {
        const int code = run(count, words);
        std::cout.flush();
        return std::cout ? code : complain(kOperational, "standard output cannot be written");
    } catch (const std::exception& failure) {
        return complain(kOperational, failure.what());
    }
}

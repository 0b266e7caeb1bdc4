// SPDX-License-Identifier: Apache-2.0
#include "cmd/scrub.h"

#include <fts.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "cmd/background.h"
#include "cmd/context_request.h"
#include "cmd/exit_codes.h"
#include "cmd/mounts.h"
#include "cmd/pinned.h"
#include "lib/pinfs/protocol.h"

namespace pinfs::cmd {
namespace {

using std::chrono::steady_clock;

struct Totals {
    std::uint64_t units = 0;
    std::uint64_t data_bytes = 0;
    std::uint64_t items = 0;
    std::uint64_t bad = 0;
    std::vector<pinfs_ioc_scrub_finding> findings;
};

/// A line that is written over itself; only where somebody watches.
class Progress {
public:
    void show(const Totals& totals, std::uint64_t items_in_all) {
        if (!watched_ || steady_clock::now() < next_) return;
        next_ = steady_clock::now() + std::chrono::milliseconds{200};
        const std::uint64_t percent =
            items_in_all == 0 ? 100
                              : std::min<std::uint64_t>(100, 100 * totals.items / items_in_all);
        std::fprintf(stderr, "\r%3llu %%  %llu units, %llu bad ",
                     static_cast<unsigned long long>(percent),
                     static_cast<unsigned long long>(totals.units),
                     static_cast<unsigned long long>(totals.bad));
    }
    void erase() const {
        if (watched_) std::fprintf(stderr, "\r\033[K");
    }

private:
    const bool watched_ = isatty(STDERR_FILENO) != 0;
    steady_clock::time_point next_;
};

/// One piece; `words` then say where to go on. Empty, or why it failed, with errno.
std::string scrub_piece(const std::string& mountpoint, pinfs_ioc_scrub& words, Totals& totals) {
    constexpr std::size_t kFindings = 32;
    constexpr std::size_t kBytes = sizeof(words) + kFindings * sizeof(pinfs_ioc_scrub_finding);
    static_assert(kBytes <= PINFS_IOC_BYTES_MAX);
    std::array<std::byte, kBytes> buffer{};
    std::memcpy(buffer.data(), &words, sizeof(words));
    if (std::string failure = ask_context(mountpoint, PINFS_IOC_SCRUB, buffer); !failure.empty())
        return failure;
    const pinfs_ioc_scrub before = words;
    std::memcpy(&words, buffer.data(), sizeof(words));
    if (words.phase == before.phase && words.number == before.number && words.key == before.key) {
        errno = EPROTO;
        return mountpoint + ": the daemon does not go on at what it was asked to verify";
    }
    totals.units += words.units;
    totals.data_bytes += words.data_bytes;
    totals.items += words.items;
    totals.bad += words.bad;
    for (std::size_t i = 0; i < std::min<std::size_t>(words.count, kFindings); ++i) {
        pinfs_ioc_scrub_finding finding;
        std::memcpy(&finding, buffer.data() + sizeof(words) + i * sizeof(finding), sizeof(finding));
        finding.message[sizeof(finding.message) - 1] = '\0';
        finding.path[sizeof(finding.path) - 1] = '\0';
        totals.findings.push_back(finding);
    }
    return {};
}

/// Names for those that the mount knew none for: what it was not asked for since it was mounted.
void find_names(const std::string& mountpoint, std::vector<pinfs_ioc_scrub_finding>& findings) {
    const auto is_nameless = [](const pinfs_ioc_scrub_finding& finding) {
        return finding.ino != 0 && finding.path[0] == '\0';
    };
    if (std::ranges::none_of(findings, is_nameless)) return;
    std::string root = mountpoint;
    std::array<char*, 2> roots{root.data(), nullptr};
    const std::unique_ptr<FTS, int (*)(FTS*)> walk{
        fts_open(roots.data(), FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, nullptr), fts_close};
    while (const FTSENT* const entry = walk ? fts_read(walk.get()) : nullptr) {
        if (entry->fts_info == FTS_DP || entry->fts_info == FTS_NS) continue;
        const std::string path = std::string{entry->fts_path}.substr(mountpoint.size());
        for (pinfs_ioc_scrub_finding& finding : findings)
            if (is_nameless(finding) && finding.ino == entry->fts_statp->st_ino &&
                path.size() < sizeof(finding.path))
                std::memcpy(finding.path, path.data(), path.size());
    }
}

std::string sentence_of(const std::string& mountpoint, const pinfs_ioc_scrub_finding& finding) {
    std::string sentence;
    if (finding.path[0] != '\0')
        sentence = printable((mountpoint == "/" ? "" : mountpoint) + finding.path) + ": ";
    else if (finding.ino == 0)
        sentence = mountpoint + ": ";
    if (finding.is_data != 0)
        sentence += "offset " + std::to_string(finding.file_offset_bytes) + ": ";
    return sentence + printable(finding.message);
}

nlohmann::ordered_json json_of(const Totals& totals, double seconds) {
    nlohmann::ordered_json findings = nlohmann::ordered_json::array();
    for (const pinfs_ioc_scrub_finding& finding : totals.findings) {
        nlohmann::ordered_json one{{"inode", finding.ino},
                                   {"file", std::string{finding.path}},
                                   {"region_offset_bytes", finding.region_offset_bytes},
                                   {"error", finding.error},
                                   {"message", std::string{finding.message}}};
        if (finding.is_data != 0) one["file_offset_bytes"] = finding.file_offset_bytes;
        findings.push_back(std::move(one));
    }
    return {{"units", totals.units},
            {"bad", totals.bad},
            {"data_bytes", totals.data_bytes},
            {"seconds", seconds},
            {"findings", std::move(findings)}};
}

}  // namespace

int scrub(const ScrubCommand& command) {
    const auto entry = mount_for(command.target, mounts_of_pinfs());
    if (!entry)
        return complain(command.program, kFailure, command.target + " is on no mounted pinfs");
    Totals totals;
    Progress progress;
    pinfs_ioc_scrub words{};
    const auto begun = steady_clock::now();
    while (words.phase < PINFS_IOC_SCRUB_DONE) {
        words.flags = command.data ? PINFS_IOC_SCRUB_DATA : 0;
        const auto piece_begun = steady_clock::now();
        const std::string failure = scrub_piece(entry->mountpoint, words, totals);
        if (!failure.empty()) {
            const bool refused = errno == EPERM || errno == EACCES;
            progress.erase();
            return complain(command.program, refused ? kUsage : kFailure, failure);
        }
        progress.show(totals, words.items_in_all);
        std::this_thread::sleep_for(steady_clock::now() - piece_begun);
    }
    progress.erase();
    const std::chrono::duration<double> taken = steady_clock::now() - begun;
    find_names(entry->mountpoint, totals.findings);
    if (command.json) {
        std::cout << json_of(totals, taken.count())
                         .dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
                  << '\n';
    } else {
        for (const pinfs_ioc_scrub_finding& finding : totals.findings)
            std::cout << sentence_of(entry->mountpoint, finding) << '\n';
        if (totals.bad > totals.findings.size())
            std::cout << "and " << totals.bad - totals.findings.size() << " more\n";
        std::cout << totals.units << " units, " << totals.bad << " bad";
        if (command.data) std::cout << ", " << totals.data_bytes << " bytes of data read";
        std::cout << '\n';
    }
    return totals.bad == 0 ? kSuccess : kDamaged;
}

}  // namespace pinfs::cmd

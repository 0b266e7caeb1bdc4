// SPDX-License-Identifier: Apache-2.0
//
// fsx: random operations on a file and a second one beside it, against expected copies in memory.
// An operation that is refused, and any byte or size that is not the expected one, ends it with
// status 1; then all operations so far lie in a file that --replay takes, which may be shortened.
// Wrong usage: status 2.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "tests/fsx/operation.h"
#include "tests/fsx/tested_files.h"

namespace {

using namespace pinfs::fsx;

constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr std::uint64_t kSizeMin = 16 * 1024;
constexpr std::uint64_t kSizeMax = std::uint64_t{1} << 30;
constexpr std::uint64_t kCompareAllEvery = 500;
constexpr std::size_t kShown = 20;

struct Words {
    std::string file;
    std::uint64_t ops = 100'000;
    std::uint64_t seed = std::random_device{}();
    std::uint64_t size = 256 * 1024;
    std::vector<std::string> without;
    std::string replay;
    std::string log;
    std::string keep;
};

/// Empty, or what is wrong with the words.
std::string understand(const Words& words, std::vector<Kind>& kinds) {
    for (std::size_t i = 0; i < kKinds; ++i) kinds.push_back(static_cast<Kind>(i));
    for (const std::string& name : words.without) {
        const auto kind = kind_named(name);
        if (!kind || *kind == Kind::write) {
            std::string message = "--without knows";
            for (const std::string_view known : kKindNames)
                if (known != "write") message += " " + std::string{known};
            return message + ", and not " + name;
        }
        std::erase(kinds, *kind);
    }
    if (words.size < kSizeMin || words.size > kSizeMax)
        return "--size is from 16384 to 1073741824 bytes";
    return {};
}

/// False if it cannot be read as a list of operations.
bool load(const std::string& path, std::vector<Operation>& operations) {
    std::ifstream lines{path};
    if (!lines) return false;
    for (std::string line; std::getline(lines, line);) {
        const auto operation = parse_operation(line);
        if (!operation) return false;
        operations.push_back(*operation);
    }
    return !operations.empty();
}

void report(const Words& words, const std::vector<Operation>& done, const std::string& why) {
    std::cout << "fsx: FAILED: " << why
              << "\nfsx: the last operations (number, kind, file, offset, "
              << "length, target):\n";
    const std::size_t shown = std::min(kShown, done.size());
    for (std::size_t i = done.size() - shown; i < done.size(); ++i)
        std::cout << "  " << text_of(done[i]) << '\n';
    std::ofstream log{words.log};
    for (const Operation& operation : done) log << text_of(operation) << '\n';
    if (log.flush()) {
        std::cout << "fsx: again: --replay " << words.log << " " << words.file << '\n';
    } else {
        std::cout << "fsx: " << words.log << " cannot be written\n";
    }
}

bool keep(const TestedFiles& files, const std::string& prefix) {
    for (std::size_t i = 0; i < 2; ++i) {
        const Bytes& bytes = files.expected(i);
        std::ofstream out{prefix + "." + std::to_string(i), std::ios::binary};
        std::copy(bytes.begin(), bytes.end(), std::ostreambuf_iterator<char>{out});
        if (!out.flush()) return false;
    }
    return true;
}

void count(const std::vector<Operation>& done, std::chrono::steady_clock::duration took) {
    std::array<std::uint64_t, kKinds> counts{};
    for (const Operation& operation : done) ++counts[static_cast<std::size_t>(operation.kind)];
    std::cout << "fsx:";
    for (std::size_t i = 0; i < kKinds; ++i) std::cout << ' ' << kKindNames[i] << ' ' << counts[i];
    std::cout << "\nfsx: " << done.size() << " operations as expected, "
              << std::chrono::duration_cast<std::chrono::seconds>(took).count() << " s\n";
}

int exercise(const Words& words, Generator generator, const std::vector<Operation>& replayed) {
    const bool replay = !words.replay.empty();
    const std::uint64_t total = replay ? replayed.size() : words.ops;
    if (replay)
        std::cout << "fsx: " << total << " operations of " << words.replay << " on " << words.file
                  << std::endl;
    else
        std::cout << "fsx: --seed " << words.seed << " --ops " << total << " --size " << words.size
                  << " " << words.file << std::endl;

    TestedFiles files;
    std::vector<Operation> done;
    done.reserve(total);
    const auto began = std::chrono::steady_clock::now();
    Outcome outcome = files.start({words.file, words.file + ".other"});
    while (outcome && done.size() < total) {
        done.push_back(replay ? replayed[done.size()] : generator.next(files.sizes()));
        outcome = files.run(done.back());
        if (outcome && (done.size() % kCompareAllEvery == 0 || done.size() == total))
            outcome = files.compare_all();
    }
    if (!outcome) {
        report(words, done, outcome.error());
        return kFailed;
    }
    if (!words.keep.empty() && !keep(files, words.keep)) {
        std::cout << "fsx: FAILED: the expected copies cannot be written to " << words.keep << '\n';
        return kFailed;
    }
    count(done, std::chrono::steady_clock::now() - began);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Random operations on FILE and FILE.other against expected copies in memory."};
    Words words;
    app.add_option("FILE", words.file, "is emptied, or made")->required();
    app.add_option("--ops", words.ops, "how many operations (100000)");
    app.add_option("--seed", words.seed, "of an earlier run");
    app.add_option("--size", words.size, "the most bytes of a file (262144)");
    app.add_option("--without", words.without,
                   "leave out operations of this kind; may be repeated");
    app.add_option("--replay", words.replay, "do the operations of this file");
    app.add_option("--log", words.log, "where to leave the operations of a failure");
    app.add_option("--keep", words.keep, "leave the expected copies in this path with .0 and .1");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : kUsage;
    }
    if (words.log.empty()) words.log = "/tmp/fsx-" + std::to_string(words.seed) + ".operations";

    std::vector<Kind> kinds;
    std::vector<Operation> replayed;
    std::string wrong = understand(words, kinds);
    if (wrong.empty() && !words.replay.empty() && !load(words.replay, replayed))
        wrong = words.replay + " is no list of operations";
    if (!wrong.empty()) {
        std::cerr << "fsx: " << wrong << '\n';
        return kUsage;
    }
    return exercise(words, Generator{words.seed, words.size, kinds}, replayed);
}

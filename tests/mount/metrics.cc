// SPDX-License-Identifier: Apache-2.0
//
// .pinfs/metrics: that each request is counted once, with its time and its result, and what
// `pinfs stats` makes of it.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

#include "cmd/metrics.h"
#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs::test;
using pinfs::cmd::Metrics;
using pinfs::cmd::metrics_of;
using pinfs::cmd::OperationMetrics;
using Json = nlohmann::json;

namespace {

Metrics metrics(const KernelMount& mounted) {
    return metrics_of(contents(mounted.path(".pinfs/metrics")));
}

/// What came between two looks.
OperationMetrics change(const Metrics& before, const Metrics& after, const std::string& operation) {
    const auto now = after.operations.find(operation);
    if (now == after.operations.end()) return {};
    const auto old = before.operations.find(operation);
    return old == before.operations.end() ? now->second : now->second.since(old->second);
}

/// A look when `count` requests of this kind came since `before`, or ten seconds have passed: a
/// request is counted a moment after its caller has the answer.
Metrics metrics_after(const KernelMount& mounted, const Metrics& before,
                      const std::string& operation, double count) {
    Metrics now;
    becomes_true([&] {
        now = metrics(mounted);
        return change(before, now, operation).count >= count;
    });
    return now;
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("each request is counted once, in its operation's histogram", "[mount][metrics]") {
    KernelMount mounted;
    mounted.mount();
    constexpr int kTimes = 200;
    const std::string block(4096, 'x');
    const TestFile file{mounted.path("f")};
    const Metrics before = metrics(mounted);
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kTimes; ++i) file.write(static_cast<std::uint64_t>(i) * 4096, block);
    for (int i = 0; i < kTimes; ++i)
        CHECK(file.read(static_cast<std::uint64_t>(i) * 4096, 4096) == block);
    for (int i = 0; i < kTimes; ++i) {
        const std::string directory = mounted.path("d" + std::to_string(i));
        REQUIRE(mkdir(directory.c_str(), 0755) == 0);
        REQUIRE(rename(directory.c_str(), mounted.path("e").c_str()) == 0);
        REQUIRE(rmdir(mounted.path("e").c_str()) == 0);
        REQUIRE(fallocate(file.fd(), FALLOC_FL_KEEP_SIZE, 0, 4096) == 0);
        REQUIRE(fsync(file.fd()) == 0);
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    Metrics after;
    for (const char* operation :
         {"read", "write", "mkdir", "rename", "rmdir", "fallocate", "fsync"}) {
        CAPTURE(operation);
        after = metrics_after(mounted, before, operation, kTimes);
        const OperationMetrics of = change(before, after, operation);
        if (std::string{operation} == "read")  // of reports too
            CHECK(of.count > kTimes);
        else
            CHECK(of.count == kTimes);
        REQUIRE(of.buckets.size() == 26);
        CHECK(of.buckets.back().count == of.count);
        double below = 0;
        for (const auto& bucket : of.buckets) {
            CHECK(bucket.count >= below);
            below = bucket.count;
        }
        CHECK(of.seconds > 0);
        CHECK(of.seconds < seconds);
        CHECK(of.failed == 0);
        CHECK(of.quantile_seconds(0.5) > 0);
        CHECK(of.quantile_seconds(0.5) <= of.quantile_seconds(0.99));
        CHECK(of.quantile_seconds(0.99) <= of.longest_seconds());
        CHECK(of.mean_seconds() <= of.longest_seconds());
    }
    const auto bytes = [&](const char* name) {
        return after.value(name) - before.value(name);
    };
    CHECK(bytes("pinfs_written_bytes_total") == kTimes * 4096);
    CHECK(bytes("pinfs_read_bytes_total") >= kTimes * 4096);
    CHECK(change(before, after, "open").count >= 1);  // of the first look, by another thread
}

TEST_CASE("what fails is counted by operation, and by error", "[mount][metrics]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "x");
    constexpr int kTimes = 20;
    const Metrics before = metrics(mounted);
    for (int i = 0; i < kTimes; ++i) {
        CHECK(errno_if(removexattr(mounted.path("f").c_str(), "user.none")) == ENODATA);
        CHECK(errno_if(unlink(mounted.path(".file_pins").c_str())) == EPERM);
    }
    for (const char* operation : {"removexattr", "unlink"}) {
        CAPTURE(operation);
        const auto of =
            change(before, metrics_after(mounted, before, operation, kTimes), operation);
        CHECK(of.count == kTimes);
        CHECK(of.failed == kTimes);
    }
    const std::string text = contents(mounted.path(".pinfs/metrics"));
    CHECK(has(text, "\npinfs_errors_total{errno=\"EPERM\"} 20\n"));
}

TEST_CASE("METRICS.md has the metrics there are, and alerts ask for no others",
          "[mount][metrics]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "x");
    CHECK(errno_if(unlink(mounted.path(".file_pins").c_str())) == EPERM);
    metrics_after(mounted, {}, "unlink", 1);
    const auto names_in = [](const std::string& text, const char* pattern) {
        std::set<std::string> names;
        const std::regex name{pattern};
        for (std::sregex_iterator at{text.begin(), text.end(), name}, end; at != end; ++at)
            names.insert((*at)[1]);
        return names;
    };
    const std::string text = contents(mounted.path(".pinfs/metrics"));
    const auto there = names_in(text, "# TYPE (pinfs_[a-z_]+) ");
    CHECK(names_in(contents(PINFS_SOURCE_DIR "/METRICS.md"), "`(pinfs_[a-z_]+)`") == there);
    const std::string rules = contents(PINFS_SOURCE_DIR "/cmd/system/pinfs.alerts.yml");
    const auto asked = names_in(rules, "(pinfs_[a-z_]+)");
    CHECK(asked.size() == 5);
    for (const std::string& name : asked) {
        CAPTURE(name);
        CHECK((there.contains(name) || has(text, "\n" + name + "{")));
    }
    CHECK(names_in(rules, "(alert: Pinfs[A-Za-z]+)").size() == 4);
}

TEST_CASE("stats shows what came between two looks", "[mount][metrics]") {
    KernelMount mounted;
    mounted.mount();
    const TestFile file{mounted.path("f")};
    const std::string block(4096, 'x');
    std::atomic<bool> stop{false};
    std::thread writing{[&] {
        while (!stop) {
            if (pwrite(file.fd(), block.data(), block.size(), 0) != 4096) return;
            usleep(1000);
        }
    }};
    const Ran json =
        run({"pinfs", "stats", "--json", "--interval", "0.3", "--count", "2", mounted.root()});
    const Ran table =
        run({"pinfs", "stats", "--interval", "0.2", "--count", "2", mounted.region()});
    stop = true;
    writing.join();
    CAPTURE(json.out, json.err, table.out, table.err);
    REQUIRE(json.status == 0);
    std::istringstream lines{json.out};
    int intervals = 0;
    for (std::string line; std::getline(lines, line); ++intervals) {
        const Json interval = Json::parse(line);
        CHECK(interval["seconds"] >= 0.3);
        CHECK(interval["written_bytes_per_second"] > 4096);
        bool writes = false;
        for (const Json& of : interval["operations"]) {
            if (of["operation"] != "write") continue;
            writes = true;
            CHECK(of["per_second"].get<double>() * 4096 ==
                  Approx(interval["written_bytes_per_second"].get<double>()).epsilon(0.1));
            CHECK(of["failed_per_second"] == 0);
            CHECK(of["mean_seconds"] > 0);
            CHECK(of["p50_seconds"] <= of["p99_seconds"]);
            CHECK(of["p99_seconds"] <= of["longest_seconds"]);
            CHECK(of["time_share"] < 1);
        }
        CHECK(writes);
    }
    CHECK(intervals == 2);
    REQUIRE(table.status == 0);
    // A device has a size of its own.
    const std::string size = std::getenv("PINFS_TEST_REGIONS") != nullptr ? "[0-9.]+" : "64";
    CHECK(std::regex_search(
        table.out, std::regex{"^read .*/s, written [0-9].*/s, free .* of " + size +
                              " MiB, 0 pins\n"
                              "Operation\tPer second\tFailed\tTime\tMean\tp50\tp99\tLongest\n"
                              "[^]*\nread [^]*\nOperation\t[^]*\nwrite\t[0-9]"}));
    CHECK(!has(table.out, "\033"));
    const Ran once = run({"pinfs", "stats", "--once", mounted.path("f")});
    CHECK(once.status == 0);
    CHECK(has(once.out, "\nwrite\t"));
    CHECK(has(once.out, "\ncreate\t"));
}

TEST_CASE("stats refuses what it cannot show in one sentence", "[mount][metrics]") {
    KernelMount mounted;
    mounted.mount();
    const Ran elsewhere = run({"pinfs", "stats", "/proc"});
    CHECK(elsewhere.status == 32);
    CHECK(elsewhere.err == "pinfs stats: /proc is on no mounted pinfs\n");
    for (const std::vector<std::string>& words : {std::vector<std::string>{"--interval", "0"},
                                                  {"--interval", "x"},
                                                  {"--count", "0"},
                                                  {"--count", "-1"},
                                                  {"--once", "--count", "1"}}) {
        std::vector<std::string> all{"pinfs", "stats", mounted.root()};
        all.insert(all.end(), words.begin(), words.end());
        const Ran ran = run(all);
        CAPTURE(words, ran.err);
        CHECK(ran.status == 1);
        CHECK(ran.out.empty());
        CHECK(ran.err.find('\n') == ran.err.size() - 1);
    }
    // It is in use while it is looked at.
    const std::string unmounting =
        "$0 stats --interval 0.1 $1 & sleep 0.3;"
        "until $0 umount $1 2>/dev/null; do sleep 0.05; done; wait $!";
    const Ran live =
        run({"sh", "-c", unmounting, std::string{PINFS_COMMAND_DIR} + "/pinfs", mounted.root()});
    CHECK(live.status == 32);
    CHECK(live.err == "pinfs stats: " + mounted.root() + " is mounted no more\n");
}

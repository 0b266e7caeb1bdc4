// SPDX-License-Identifier: Apache-2.0
#include "cmd/stats.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "cmd/arguments.h"
#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/metrics.h"
#include "cmd/mounts.h"
#include "cmd/pinned.h"
#include "cmd/table.h"

namespace pinfs::cmd {
namespace {

using std::chrono::duration;
using std::chrono::steady_clock;

struct OfOperation {
    std::string operation;
    OperationMetrics came;
};

struct Interval {
    double seconds = 0;
    double read_bytes = 0;
    double written_bytes = 0;
    std::vector<OfOperation> operations;  ///< that came at all; what took most time first
};

Interval between(const Metrics& before, const Metrics& now, double seconds) {
    const auto change = [&](const char* name) {
        return now.value(name) - before.value(name);
    };
    Interval interval{.seconds = seconds,
                      .read_bytes = change("pinfs_read_bytes_total"),
                      .written_bytes = change("pinfs_written_bytes_total"),
                      .operations = {}};
    for (const auto& [operation, all] : now.operations) {
        const auto old = before.operations.find(operation);
        const OperationMetrics came = old == before.operations.end() ? all : all.since(old->second);
        if (came.count > 0) interval.operations.push_back({operation, came});
    }
    std::ranges::stable_sort(interval.operations, [](const auto& left, const auto& right) {
        return left.came.seconds > right.came.seconds;
    });
    return interval;
}

std::string fixed(double value, int digits, const char* unit = "") {
    char text[64];
    std::snprintf(text, sizeof(text), "%.*f%s", digits, value, unit);
    return text;
}

std::string duration_text(double seconds) {
    if (seconds < 1e-3) return fixed(seconds * 1e6, 1, " us");
    return seconds < 1 ? fixed(seconds * 1e3, 1, " ms") : fixed(seconds, 1, " s");
}

std::string longest_text(double seconds) {
    return std::isinf(seconds) ? "more" : duration_text(seconds);
}

std::string rate_text(double bytes, double seconds) {
    return size_text(static_cast<std::uint64_t>(bytes / seconds)) + "/s";
}

void print(const Interval& interval, const Metrics& now) {
    std::cout << "read " << rate_text(interval.read_bytes, interval.seconds) << ", written "
              << rate_text(interval.written_bytes, interval.seconds) << ", free "
              << size_text(static_cast<std::uint64_t>(now.value("pinfs_free_bytes"))) << " of "
              << size_text(static_cast<std::uint64_t>(now.value("pinfs_size_bytes"))) << ", "
              << fixed(now.value("pinfs_pins"), 0) << " pins\n";
    std::vector<std::vector<std::string>> rows;
    for (const auto& [operation, came] : interval.operations)
        rows.push_back(
            {operation, fixed(came.count / interval.seconds, 1),
             fixed(came.failed / interval.seconds, 1),
             fixed(100 * came.seconds / interval.seconds, 1, "%"),
             duration_text(came.mean_seconds()), duration_text(came.quantile_seconds(0.5)),
             duration_text(came.quantile_seconds(0.99)), longest_text(came.longest_seconds())});
    print_table({"Operation", "Per second", "Failed", "Time", "Mean", "p50", "p99", "Longest"},
                rows, {1, 2, 3, 4, 5, 6, 7});
}

void print_json(const Interval& interval) {
    nlohmann::ordered_json json;
    json["seconds"] = interval.seconds;
    json["read_bytes_per_second"] = interval.read_bytes / interval.seconds;
    json["written_bytes_per_second"] = interval.written_bytes / interval.seconds;
    json["operations"] = nlohmann::ordered_json::array();
    for (const auto& [operation, came] : interval.operations)
        json["operations"].push_back(
            {{"operation", operation},
             {"per_second", came.count / interval.seconds},
             {"failed_per_second", came.failed / interval.seconds},
             {"time_share", came.seconds / interval.seconds},
             {"mean_seconds", came.mean_seconds()},
             {"p50_seconds", came.quantile_seconds(0.5)},
             {"p99_seconds", came.quantile_seconds(0.99)},
             {"longest_seconds", came.longest_seconds()}});  // null beyond the last bound
    std::cout << json.dump() << '\n';
}

struct Look {
    Metrics metrics;
    steady_clock::time_point at;
};

std::expected<Look, std::string> look(const std::string& mountpoint) {
    const auto text = read_virtual_file(mountpoint + "/.pinfs/metrics");
    if (!text) return std::unexpected(text.error());
    return Look{metrics_of(*text), steady_clock::now()};
}

double seconds_since_begin(const Metrics& metrics) {
    const double now =
        duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    return std::max(now - metrics.value("pinfs_start_time_seconds"), 1e-3);
}

void show(const StatsCommand& command, const Interval& interval, const Look& now) {
    if (command.json) return print_json(interval);
    if (!command.once && isatty(STDOUT_FILENO) != 0) std::cout << "\033[H\033[2J";
    print(interval, now.metrics);
}

}  // namespace

int show_stats(const StatsCommand& command) {
    if (!(command.interval_seconds >= 0.01 && command.interval_seconds <= 86400))
        return complain(command.program, kUsage, "an interval is 0.01 to 86400 seconds");
    const auto entry = mount_for(command.target, mounts_of_pinfs());
    if (!entry)
        return complain(command.program, kFailure, command.target + " is on no mounted pinfs");
    auto before = look(entry->mountpoint);
    if (!before) return complain(command.program, kFailure, before.error());
    if (command.once) {
        show(command, between({}, before->metrics, seconds_since_begin(before->metrics)), *before);
        return kSuccess;
    }
    for (std::uint64_t i = 0; command.count == 0 || i < command.count; ++i) {
        std::this_thread::sleep_for(duration<double>(command.interval_seconds));
        auto now = look(entry->mountpoint);
        if (!now && !mount_for(entry->mountpoint, mounts_of_pinfs()))
            return complain(command.program, kFailure, entry->mountpoint + " is mounted no more");
        if (!now) return complain(command.program, kFailure, now.error());
        // Another daemon that goes on with the mount counts from nothing.
        const char* const kBegin = "pinfs_start_time_seconds";
        if (now->metrics.value(kBegin) != before->metrics.value(kBegin)) before->metrics = {};
        const double seconds = duration<double>(now->at - before->at).count();
        show(command, between(before->metrics, now->metrics, seconds), *now);
        std::cout << std::flush;
        if (!std::cout) return kSuccess;  // nobody reads any more
        before = std::move(now);
    }
    return kSuccess;
}

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
#include "cmd/stats.h"

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <map>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/mounts.h"
#include "cmd/pinned.h"
#include "cmd/table.h"

namespace pinfs::cmd {
namespace {

using std::chrono::duration;
using std::chrono::steady_clock;

struct Sample {
    std::string name;  ///< with its labels
    double value = 0;
    bool counter = false;  ///< only grows
};

/// Of the Prometheus text format: `# TYPE name counter`, and lines `name{labels} value`.
std::vector<Sample> samples_of(const std::string& text) {
    std::vector<Sample> samples;
    std::set<std::string> counters;
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words{line};
        std::string mark;
        std::string what;
        std::string name;
        std::string type;
        if (line.starts_with('#')) {
            if (words >> mark >> what >> name >> type && what == "TYPE" && type == "counter")
                counters.insert(name);
            continue;
        }
        const std::size_t space = line.rfind(' ');
        if (space == std::string::npos) continue;
        name = line.substr(0, space);
        samples.push_back({.name = name,
                           .value = std::strtod(line.c_str() + space + 1, nullptr),
                           .counter = counters.contains(name.substr(0, name.find('{')))});
    }
    return samples;
}

std::string number_text(double value) {
    char text[64];
    std::snprintf(text, sizeof(text), value == std::floor(value) ? "%.0f" : "%.3f", value);
    return text;
}

void print(const std::vector<Sample>& samples, const std::map<std::string, double>& before,
           double seconds) {
    std::vector<std::vector<std::string>> rows;
    for (const Sample& sample : samples) {
        const auto old = before.find(sample.name);
        const bool rated = sample.counter && old != before.end() && seconds > 0;
        std::string rate;
        if (rated) {
            char text[64];
            std::snprintf(text, sizeof(text), "%.1f", (sample.value - old->second) / seconds);
            rate = text;
        }
        rows.push_back({printable(sample.name), number_text(sample.value), rate});
    }
    print_table({"Metric", "Value", "Per second"}, rows, {1, 2});
}

}  // namespace

int show_stats(const StatsCommand& command) {
    if (!(command.interval_seconds >= 0.01 && command.interval_seconds <= 86400))
        return complain(command.program, kUsage, "an interval is 0.01 to 86400 seconds");
    const auto entry = mount_for(command.target, mounts_of_pinfs());
    if (!entry)
        return complain(command.program, kFailure, command.target + " is on no mounted pinfs");
    const bool live = !command.once && isatty(STDOUT_FILENO) != 0;
    std::map<std::string, double> before;
    for (steady_clock::time_point last{};;) {
        const auto text = read_virtual_file(entry->mountpoint + "/.pinfs/metrics");
        if (!text) return complain(command.program, kFailure, text.error());
        const auto now = steady_clock::now();
        const std::vector<Sample> samples = samples_of(*text);
        if (live) std::cout << "\033[H\033[2J";
        print(samples, before, duration<double>(now - last).count());
        std::cout << std::flush;
        if (command.once || !std::cout) return kSuccess;
        for (const Sample& sample : samples) before[sample.name] = sample.value;
        last = now;
        std::this_thread::sleep_for(duration<double>(command.interval_seconds));
    }
}

}  // namespace pinfs::cmd

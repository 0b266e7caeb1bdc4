// SPDX-License-Identifier: Apache-2.0
#include "cmd/metrics.h"

#include <cmath>
#include <cstdlib>
#include <sstream>

namespace pinfs::cmd {
namespace {

/// Of `name{label="value",...}`; empty if there is no such label.
std::string label_of(const std::string& series, const std::string& label) {
    const std::string key = label + "=\"";
    const std::size_t at = series.find(key);
    if (at == std::string::npos) return {};
    const std::size_t begin = at + key.size();
    return series.substr(begin, series.find('"', begin) - begin);
}

}  // namespace

OperationMetrics OperationMetrics::since(const OperationMetrics& before) const {
    OperationMetrics change = *this;
    change.count -= before.count;
    change.seconds -= before.seconds;
    change.failed -= before.failed;
    for (std::size_t i = 0; i < change.buckets.size() && i < before.buckets.size(); ++i)
        change.buckets[i].count -= before.buckets[i].count;
    return change;
}

double OperationMetrics::quantile_seconds(double share) const {
    const double wanted = share * count;
    double below_seconds = 0;
    double below = 0;
    for (const Bucket& bucket : buckets) {
        if (bucket.count > below && bucket.count >= wanted) {
            if (std::isinf(bucket.bound_seconds)) return below_seconds;
            return below_seconds + (bucket.bound_seconds - below_seconds) * (wanted - below) /
                                       (bucket.count - below);
        }
        below = bucket.count;
        below_seconds = bucket.bound_seconds;
    }
    return 0;
}

double OperationMetrics::longest_seconds() const {
    double longest = 0;
    double below = 0;
    for (const Bucket& bucket : buckets) {
        if (bucket.count > below) longest = bucket.bound_seconds;
        below = bucket.count;
    }
    return longest;
}

Metrics metrics_of(const std::string& text) {
    Metrics metrics;
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line);) {
        const std::size_t space = line.rfind(' ');
        if (line.starts_with('#') || space == std::string::npos) continue;
        const std::string series = line.substr(0, space);
        const double value = std::strtod(line.c_str() + space + 1, nullptr);
        const std::string name = series.substr(0, series.find('{'));
        if (name == series) {
            metrics.values[name] = value;
            continue;
        }
        const std::string operation = label_of(series, "operation");
        if (operation.empty()) continue;
        OperationMetrics& of = metrics.operations[operation];
        if (name == "pinfs_request_duration_seconds_bucket")
            of.buckets.push_back(
                {.bound_seconds = std::strtod(label_of(series, "le").c_str(), nullptr),
                 .count = value});
        else if (name == "pinfs_request_duration_seconds_sum")
            of.seconds = value;
        else if (name == "pinfs_request_duration_seconds_count")
            of.count = value;
        else if (name == "pinfs_failed_requests_total")
            of.failed = value;
    }
    return metrics;
}

}  // namespace pinfs::cmd

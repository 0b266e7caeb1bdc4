// SPDX-License-Identifier: Apache-2.0
//
// What MOUNT/.pinfs/metrics says, read back from the text format of Prometheus.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace pinfs::cmd {

/// Of one operation, since the daemon began.
struct OperationMetrics {
    struct Bucket {
        double bound_seconds = 0;  ///< inclusive; infinity for the last
        double count = 0;          ///< of those that took no longer
    };
    std::vector<Bucket> buckets;
    double count = 0;
    double seconds = 0;  ///< in all
    double failed = 0;

    /// What came since `before`.
    [[nodiscard]] OperationMetrics since(const OperationMetrics& before) const;
    [[nodiscard]] double mean_seconds() const { return count > 0 ? seconds / count : 0; }
    /// That `share` of the requests took no longer than this, as far as buckets tell: inside of one
    /// they count as spread evenly. 0 if there were none.
    [[nodiscard]] double quantile_seconds(double share) const;
    /// The bound of the last bucket that has any.
    [[nodiscard]] double longest_seconds() const;
};

struct Metrics {
    std::map<std::string, double> values;  ///< by name, those without labels
    std::map<std::string, OperationMetrics> operations;

    [[nodiscard]] double value(const std::string& name) const {
        const auto at = values.find(name);
        return at == values.end() ? 0 : at->second;
    }
};

Metrics metrics_of(const std::string& text);

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
//
// .pinfs/metrics, in the text format of Prometheus. Names, once published, stay what they are;
// METRICS.md lists them.
#include <array>
#include <cstring>
#include <string>

#include "fs/fuse/reports.h"
#include "fs/lock.h"
#include "fs/volume/describe.h"

namespace pinfs::fuse {
namespace {

/// What others say as PinnedTotals, for one user's records.
PinnedTotals totals_of(const std::vector<PinnedItem>& items) {
    PinnedTotals totals;
    for (const PinnedItem& item : items) {
        const std::uint64_t bytes = item.end - item.begin;
        switch (item.kind) {
            case PinnedItem::Kind::lease:
                ++totals.leases;
                break;
            case PinnedItem::Kind::map:
                ++totals.maps;
                totals.map_bytes += bytes;
                break;
            case PinnedItem::Kind::pin:
                ++totals.pins;
                totals.pin_bytes += bytes;
                break;
            case PinnedItem::Kind::hold:
                ++totals.holds;
                totals.hold_bytes += bytes;
                break;
            case PinnedItem::Kind::orphan:
                break;
        }
    }
    return totals;
}

std::string seconds_text(std::uint64_t ns) {
    constexpr std::uint64_t kSecond = 1'000'000'000;
    std::string fraction = std::to_string(ns % kSecond);
    fraction.insert(0, 9 - fraction.size(), '0');
    return std::to_string(ns / kSecond) + '.' + fraction;
}

class MetricsText {
public:
    void head(const char* name, const char* type, const char* help) {
        text_ +=
            std::string{"# HELP "} + name + ' ' + help + "\n# TYPE " + name + ' ' + type + '\n';
    }
    void value(const std::string& name, std::uint64_t value) {
        text_ += name + ' ' + std::to_string(value) + '\n';
    }
    void gauge(const char* name, const char* help, std::uint64_t number) {
        head(name, "gauge", help);
        value(name, number);
    }
    void counter(const char* name, const char* help, std::uint64_t number) {
        head(name, "counter", help);
        value(name, number);
    }
    void seconds(const std::string& name, std::uint64_t ns) {
        text_ += name + ' ' + seconds_text(ns) + '\n';
    }
    std::string take() { return std::move(text_); }

private:
    std::string text_;
};

void add_records(MetricsText& text, const PinnedTotals& totals) {
    text.gauge("pinfs_contexts", "Open contexts.", totals.contexts);
    text.gauge("pinfs_leases", "Leases.", totals.leases);
    text.gauge("pinfs_maps", "Direct maps.", totals.maps);
    text.gauge("pinfs_mapped_bytes", "Bytes of files that direct maps cover.", totals.map_bytes);
    text.gauge("pinfs_pins", "Pins.", totals.pins);
    text.gauge("pinfs_pinned_bytes", "Bytes of files that pins cover.", totals.pin_bytes);
    text.gauge("pinfs_holds", "Holds: blocks that wait until nothing can reach them.",
               totals.holds);
    text.gauge("pinfs_held_bytes", "Bytes in holds.", totals.hold_bytes);
}

std::string labelled(const char* name, const char* label, const std::string& value) {
    return std::string{name} + '{' + label + "=\"" + value + "\"}";
}

using AllDurations = std::array<Durations, kOperationNames.size()>;

/// Of operations that came at least once: others would be most of the text.
void add_durations(MetricsText& text, const AllDurations& durations) {
    const std::string name = "pinfs_request_duration_seconds";
    text.head(name.c_str(), "histogram", "From when a request was read to when it was answered.");
    for (std::size_t i = 0; i < durations.size(); ++i) {
        const std::uint64_t count = durations[i].count();
        if (count == 0) continue;
        const std::string label = std::string{"{operation=\""} + kOperationNames[i] + '"';
        std::uint64_t below = 0;
        for (std::size_t bucket = 0; bucket + 1 < Durations::kBuckets; ++bucket) {
            below += durations[i].counts[bucket];
            text.value(name + "_bucket" + label + ",le=\"" +
                           seconds_text(Durations::bound_ns(bucket)) + "\"}",
                       below);
        }
        text.value(name + "_bucket" + label + ",le=\"+Inf\"}", count);
        text.seconds(name + "_sum" + label + '}', durations[i].sum_ns);
        text.value(name + "_count" + label + '}', count);
    }
}

void add_requests(MetricsText& text, const Counters& counters) {
    AllDurations durations;  // one look, so that all agree
    for (std::size_t i = 0; i < durations.size(); ++i)
        durations[i] = counters.durations(static_cast<Operation>(i));
    text.head("pinfs_requests_total", "counter", "Requests of the kernel that were answered.");
    for (std::size_t i = 0; i < durations.size(); ++i)
        text.value(labelled("pinfs_requests_total", "operation", kOperationNames[i]),
                   durations[i].count());
    text.head("pinfs_failed_requests_total", "counter",
              "Requests that were answered with an error, by operation.");
    for (std::size_t i = 0; i < durations.size(); ++i)
        if (const std::uint64_t count = counters.failures(static_cast<Operation>(i)); count != 0)
            text.value(labelled("pinfs_failed_requests_total", "operation", kOperationNames[i]),
                       count);
    text.head("pinfs_errors_total", "counter",
              "Requests that were answered with an error, by error.");
    for (std::size_t number = 1; number < Counters::kErrors; ++number) {
        const std::uint64_t count = counters.errors(static_cast<int>(number));
        const char* name = strerrorname_np(static_cast<int>(number));
        if (count != 0 && name != nullptr)
            text.value(labelled("pinfs_errors_total", "errno", name), count);
    }
    text.counter("pinfs_read_bytes_total", "Bytes that reads were answered with.",
                 counters.read_bytes());
    text.counter("pinfs_written_bytes_total", "Bytes that were written, or copied in a file range.",
                 counters.written_bytes());
    add_durations(text, durations);
}

struct LockName {
    LockRank rank;
    const char* name;
};
constexpr std::array kLocks{
    LockName{LockRank::rename, "rename"},
    LockName{LockRank::range, "range"},
    LockName{LockRank::inode, "inode"},
    LockName{LockRank::pins, "pins"},
    LockName{LockRank::inode_chunk, "inode_chunk"},
    LockName{LockRank::group, "group"},
    LockName{LockRank::lane, "journal_lane"},
};

void add_waits(MetricsText& text) {
    text.head("pinfs_lock_waits_total", "counter", "How often a thread waited for a lock.");
    for (const LockName& lock : kLocks)
        text.value(labelled("pinfs_lock_waits_total", "lock", lock.name),
                   waits_for(lock.rank).count);
    text.head("pinfs_lock_wait_seconds_total", "counter", "How long threads waited for locks.");
    for (const LockName& lock : kLocks)
        text.seconds(labelled("pinfs_lock_wait_seconds_total", "lock", lock.name),
                     waits_for(lock.rank).ns);
}

}  // namespace

Expected<std::string> metrics(Edge& edge, OnlyUser only_uid) {
    Volume& volume = edge.volume;
    const Statistics space = volume.statistics();
    MetricsText text;
    text.head("pinfs_info", "gauge", "Version of the daemon and uuid of the region.");
    text.value(
        "pinfs_info{version=\"" PINFS_VERSION "\",uuid=\"" + uuid_text(volume.uuid()) + "\"}", 1);
    text.head("pinfs_start_time_seconds", "gauge", "When the daemon began, since the epoch.");
    text.seconds("pinfs_start_time_seconds",
                 static_cast<std::uint64_t>(edge.started.seconds) * 1'000'000'000 +
                     edge.started.nanoseconds);
    text.gauge("pinfs_size_bytes", "Bytes of the file system.", space.blocks * kBlockBytes);
    text.gauge("pinfs_free_bytes", "Bytes that are free.", space.blocks_free * kBlockBytes);
    text.gauge("pinfs_available_bytes", "Bytes that are free and not kept in reserve.",
               space.blocks_available * kBlockBytes);
    text.gauge("pinfs_inodes", "Inodes in use.", space.inodes);
    text.gauge("pinfs_inodes_available", "Inodes that can still be made.", space.inodes_available);

    PinnedTotals totals;
    if (only_uid) {
        totals = totals_of(TRY(volume.pinned({.uid = only_uid, .ino = {}, .pid = {}})));
    } else {
        totals = volume.pinned_totals();
    }
    totals.contexts = edge.contexts.count(only_uid);
    add_records(text, totals);
    if (!only_uid)
        text.counter("pinfs_refused_changes_total",
                     "Layout changes that a pin or an exclusive lease refused.",
                     totals.refused_changes);
    add_requests(text, edge.observed.counters);
    add_waits(text);
    return text.take();
}

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
//
// The journal: physical redo in lanes (format/lane.h, FORMAT.md). Commits are independent of each
// other; as many run at a time as there are lanes.
//
// Invariants
//   - A lane is taken last and by one thread; nothing is waited for while holding it.
//   - Live sealed lanes never write the same bytes, because whoever logs a byte of a unit holds
//   that
//     unit's lock until its lane is cleared.
//   - After a failure past the commit point nothing is written any more (`failed`): the next mount
//     replays.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <optional>
#include <vector>

#include "fs/format/lane.h"
#include "fs/journal/transaction.h"
#include "fs/lock.h"

namespace pinfs::journal {

struct Geometry {
    std::uint64_t lanes_offset = 0;
    std::uint32_t lane_count = 0;
    std::uint32_t lane_bytes = 0;
};

/// What a commit adds to the region's totals; modulo 2^64.
struct Totals {
    std::uint64_t free_blocks = 0;
    std::uint64_t inodes = 0;
};

struct Replay {
    std::uint64_t lanes = 0;          ///< sealed lanes that were applied
    std::uint64_t last_sequence = 0;  ///< highest seen in any lane
};

class Journal {
public:
    Journal(const Units& units, const Geometry& geometry);

    /// Applies every sealed lane and clears it; called once, before anything else reads metadata.
    /// With `look_only` it says what it would apply and writes nothing. Errors: media_corrupt (a
    /// seal that does not match, lanes that overlap), media_error.
    Expected<Replay> replay(bool look_only);
    /// Reads every lane's share of the totals; after replay.
    Expected<Totals> load_totals();

    /// Makes `transaction` durable, all or nothing, and copies it home.
    ///   P0  blocks that the transaction allocated, in place: nothing refers to them yet
    ///   P1  header and records into the lane
    ///   P2  seal {crc32c, log_bytes}: one aligned 8-byte store, the commit point
    ///   P3  every record to its place
    ///   P4  seal cleared
    /// A fence stands after P1, P2, P3 and P4; the first one also orders file data that the records
    /// name and this thread stored before. Cut before P2: nothing happened. Between P2 and P4:
    /// replay repeats P3. A lane whose memory fails before P2 is left for another one, for good.
    /// Errors: media_error (nothing happened, or shut down), shut_down.
    Expected<void> commit(Transaction& transaction, const Totals& added);

    /// Largest log that fits a lane; steps of large operations stay below.
    [[nodiscard]] std::size_t log_bytes_max() const {
        return geometry_.lane_bytes - media::kLogOffset;
    }
    [[nodiscard]] bool failed() const { return failed_.load(std::memory_order_relaxed); }
    /// Every later commit fails with shut_down, as after a power cut.
    void fail_all() { failed_.store(true, std::memory_order_relaxed); }

private:
    struct Lane {
        bool taken = false;
        bool lost = false;  // its memory failed
        media::LaneState state{};
    };
    struct SealedLog {
        std::uint32_t lane;
        std::uint64_t sequence;
        std::vector<std::byte> bytes;
    };
    class LaneHold;

    [[nodiscard]] std::uint64_t offset_of(std::uint32_t lane) const {
        return geometry_.lanes_offset + std::uint64_t{lane} * geometry_.lane_bytes;
    }
    Expected<std::vector<SealedLog>> sealed_logs(std::uint64_t& last_sequence);
    std::optional<std::uint32_t> take_lane();
    void give_back_lane(std::uint32_t lane);
    Expected<void> store_new_blocks(const Transaction& transaction);
    Expected<bool> seal(std::uint32_t lane, std::span<const std::byte> log);
    Expected<void> apply(std::uint32_t lane, std::span<const std::byte> log);

    const Units& units_;
    pmem::Region& region_;
    Geometry geometry_;
    std::atomic<std::uint64_t> next_sequence_{1};
    std::atomic<bool> failed_{false};

    std::mutex lanes_mutex_;  // guards Lane::taken and lost; held for a look only
    std::condition_variable lane_free_;
    std::vector<Lane> lanes_;
};

}  // namespace pinfs::journal

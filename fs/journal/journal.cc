// SPDX-License-Identifier: Apache-2.0
#include "fs/journal/journal.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "fs/checksum.h"

namespace pinfs::journal {

namespace {

constexpr std::uint64_t kUnsealed = 0;

std::uint64_t seal_word(std::uint32_t checksum, std::size_t log_bytes) {
    return std::bit_cast<std::uint64_t>(
        media::Seal{.crc32c = checksum, .log_bytes = static_cast<std::uint32_t>(log_bytes)});
}

/// Bytes apart below which two differences become one record: a record's own head costs as much.
constexpr std::size_t kJoinBytes = sizeof(media::LogRecord) + 8;
constexpr std::size_t kLookBytes = 128;  // compared at once

template <class T>
void append(std::vector<std::byte>& log, const T& value) {
    const auto bytes = std::as_bytes(std::span{&value, 1});
    log.insert(log.end(), bytes.begin(), bytes.end());
}

void append_record(std::vector<std::byte>& log, std::uint64_t offset,
                   std::span<const std::byte> bytes) {
    append(log,
           media::LogRecord{
               .offset = offset, .bytes = static_cast<std::uint32_t>(bytes.size()), .reserved = 0});
    log.insert(log.end(), bytes.begin(), bytes.end());
    log.resize(round_up(log.size(), 8));
}

/// Records for the bytes in which `after` differs from `before`; how many.
std::uint32_t append_differences(std::vector<std::byte>& log, std::uint64_t offset,
                                 std::span<const std::byte> before,
                                 std::span<const std::byte> after) {
    std::uint32_t records = 0;
    std::size_t at = 0;
    const std::size_t size = after.size();  // a multiple of 8, as every unit's
    const auto same = [&](std::size_t i) {
        return std::memcmp(before.data() + i, after.data() + i, 8) == 0;
    };
    while (at < size) {
        if (same(at)) {
            at += 8;
            // Most of a block is as it was.
            while (size - at >= kLookBytes &&
                   std::memcmp(before.data() + at, after.data() + at, kLookBytes) == 0)
                at += kLookBytes;
            continue;
        }
        std::size_t end = at + 8;
        for (std::size_t look = end; look < size && look < end + kJoinBytes; look += 8)
            if (!same(look)) end = look + 8;
        append_record(log, offset + at, after.subspan(at, end - at));
        ++records;
        at = end;
    }
    return records;
}

/// Calls `visit(offset, bytes)` for every record of a log. False if the log is malformed.
template <class Visit>
bool for_each_record(std::span<const std::byte> log, const Visit& visit) {
    media::LogHeader header;
    std::memcpy(&header, log.data(), sizeof header);
    std::size_t at = sizeof header;
    for (std::uint32_t i = 0; i < header.record_count; ++i) {
        if (log.size() - at < sizeof(media::LogRecord)) return false;
        media::LogRecord record;
        std::memcpy(&record, log.data() + at, sizeof record);
        at += sizeof record;
        if (record.bytes == 0 || log.size() - at < record.bytes) return false;
        visit(record.offset, log.subspan(at, record.bytes));
        at = std::min<std::size_t>(round_up(at + record.bytes, 8), log.size());
    }
    return at == log.size();
}

thread_local std::vector<std::byte> log_buffer;

}  // namespace

Journal::Journal(const Units& units, const Geometry& geometry)
    : units_{units}, region_{units.region()}, geometry_{geometry}, lanes_(geometry.lane_count) {}

Expected<std::vector<Journal::SealedLog>> Journal::sealed_logs(std::uint64_t& last_sequence) {
    std::vector<SealedLog> logs;
    for (std::uint32_t lane = 0; lane < geometry_.lane_count; ++lane) {
        const std::uint64_t at = offset_of(lane);
        media::Seal seal{};
        TRY(region_.read(at + media::kSealOffset, std::as_writable_bytes(std::span{&seal, 1})));
        const bool is_sealed = std::bit_cast<std::uint64_t>(seal) != kUnsealed;
        media::LogHeader header{};
        const auto loaded =
            region_.read(at + media::kLogOffset, std::as_writable_bytes(std::span{&header, 1}));
        // Nobody misses an unsealed log.
        if (is_sealed) TRY(loaded);
        // Unsealed logs may be torn; a wild sequence only makes later ones larger, so bound it.
        if (header.magic == media::kLogMagic && header.sequence < UINT64_MAX / 2)
            last_sequence = std::max(last_sequence, header.sequence);
        if (!is_sealed) continue;
        if (seal.log_bytes < sizeof header || seal.log_bytes > log_bytes_max() ||
            seal.log_bytes % 8 != 0)
            return fail(Cause::media_corrupt, at);

        SealedLog log{.lane = lane, .sequence = header.sequence, .bytes = {}};
        log.bytes.resize(seal.log_bytes);
        for (std::size_t done = 0; done < log.bytes.size(); done += kBlockBytes) {
            const auto piece = std::span{log.bytes}.subspan(
                done, std::min<std::size_t>(kBlockBytes, log.bytes.size() - done));
            TRY(region_.read(at + media::kLogOffset + done, piece));
        }
        if (crc32c(units_.checksum_seed(), log.bytes) != seal.crc32c)
            return fail(Cause::bad_checksum, at);
        if (header.magic != media::kLogMagic || header.lane != lane || header.sequence == 0 ||
            header.log_bytes != seal.log_bytes)
            return fail(Cause::media_corrupt, at + media::kLogOffset);
        logs.push_back(std::move(log));
    }
    std::ranges::sort(logs, {}, &SealedLog::sequence);
    return logs;
}

Expected<Replay> Journal::replay(bool look_only) {
    Replay replay;
    const auto logs = TRY(sealed_logs(replay.last_sequence));
    replay.lanes = logs.size();
    next_sequence_ = replay.last_sequence + 1;

    struct Written {
        std::uint64_t begin;
        std::uint64_t end;
        std::uint32_t lane;
    };
    std::vector<Written> written;
    for (const SealedLog& log : logs) {
        bool inside = true;
        const bool well_formed =
            for_each_record(log.bytes, [&](std::uint64_t offset, std::span<const std::byte> bytes) {
                inside =
                    inside && offset <= region_.bytes() && bytes.size() <= region_.bytes() - offset;
                written.push_back({offset, offset + bytes.size(), log.lane});
            });
        if (!well_formed || !inside) return fail(Cause::media_corrupt, offset_of(log.lane));
    }
    std::ranges::sort(written, {}, &Written::begin);
    for (std::size_t i = 1; i < written.size(); ++i)
        if (written[i].begin < written[i - 1].end && written[i].lane != written[i - 1].lane)
            return fail(Cause::media_corrupt, offset_of(written[i].lane));
    if (look_only || logs.empty()) return replay;

    Expected<void> stored;
    for (const SealedLog& log : logs)
        for_each_record(log.bytes, [&](std::uint64_t offset, std::span<const std::byte> bytes) {
            if (stored) stored = region_.store_flush(offset, bytes);  // P3 again
        });
    TRY(std::move(stored));
    region_.fence();  // P3 | P4: every record is home before any seal goes
    for (const SealedLog& log : logs)
        TRY(region_.store8_flush(offset_of(log.lane) + media::kSealOffset, kUnsealed));  // P4
    region_.fence();
    return replay;
}

Expected<Totals> Journal::load_totals() {
    Totals totals;
    for (std::uint32_t lane = 0; lane < geometry_.lane_count; ++lane) {
        media::LaneState& state = lanes_[lane].state;
        const std::uint64_t at = offset_of(lane) + media::kLaneStateOffset;
        TRY(units_.read(at, media::kLaneStateMagic, std::as_writable_bytes(std::span{&state, 1})));
        if (state.lane != lane) return fail(Cause::bad_magic, at);
        totals.free_blocks += state.free_blocks;
        totals.inodes += state.inodes;
    }
    return totals;
}

/// Nothing if all are lost.
std::optional<std::uint32_t> Journal::take_lane() {
    thread_local std::uint32_t preferred = 0;
    std::unique_lock lock{lanes_mutex_};
    for (;;) {
        bool any = false;
        for (std::uint32_t i = 0; i < geometry_.lane_count; ++i) {
            const std::uint32_t lane = (preferred + i) % geometry_.lane_count;
            any |= !lanes_[lane].lost;
            if (lanes_[lane].taken || lanes_[lane].lost) continue;
            lanes_[lane].taken = true;
            preferred = lane;
            lock_check::acquired(LockRank::lane, true);
            return lane;
        }
        if (!any) return std::nullopt;
        const Waiting waiting{LockRank::lane};
        lane_free_.wait(lock);
    }
}

void Journal::give_back_lane(std::uint32_t lane) {
    bool lost = false;
    {
        const std::scoped_lock lock{lanes_mutex_};
        lanes_[lane].taken = false;
        lost = lanes_[lane].lost;
    }
    if (lost)
        lane_free_.notify_all();  // there may be none to wait for
    else
        lane_free_.notify_one();
    lock_check::released(LockRank::lane);
}

class Journal::LaneHold {
public:
    explicit LaneHold(Journal& journal) : journal_{journal}, lane_{journal.take_lane()} {}
    ~LaneHold() {
        if (lane_) journal_.give_back_lane(*lane_);
    }
    LaneHold(const LaneHold&) = delete;
    LaneHold& operator=(const LaneHold&) = delete;
    explicit operator bool() const { return lane_.has_value(); }
    [[nodiscard]] std::uint32_t index() const { return *lane_; }
    void lose() {
        const std::scoped_lock lock{journal_.lanes_mutex_};
        journal_.lanes_[*lane_].lost = true;
    }

private:
    Journal& journal_;
    std::optional<std::uint32_t> lane_;
};

Expected<void> Journal::commit(Transaction& transaction, const Totals& added) {
    const std::uint32_t seed = units_.checksum_seed();
    const auto seal_unit = [seed](std::byte* unit, std::size_t bytes) {
        const std::uint32_t sum = unit_checksum(seed, {unit, bytes});
        std::memcpy(unit + 4, &sum, sizeof sum);
    };
    std::uint32_t records = 0;
    log_buffer.clear();
    log_buffer.resize(sizeof(media::LogHeader));
    for (auto& staged : transaction.staged_) {
        // An edited unit that ended as it began stays as it is.
        if (!staged.fresh && !staged.whole &&
            std::memcmp(staged.before.get(), staged.after.get(), staged.bytes) == 0)
            continue;
        seal_unit(staged.after.get(), staged.bytes);
        const std::span<const std::byte> after{staged.after.get(), staged.bytes};
        if (staged.fresh) continue;
        if (staged.whole) {
            append_record(log_buffer, staged.offset, after);
            ++records;
        } else {
            records += append_differences(log_buffer, staged.offset,
                                          {staged.before.get(), staged.bytes}, after);
        }
    }

    const std::size_t bytes = log_buffer.size();
    const std::uint32_t records_of_all = records;
    for (;;) {
        LaneHold lane{*this};
        if (failed()) return fail(Cause::shut_down);
        if (!lane) return fail(Cause::media_error, geometry_.lanes_offset);
        media::LaneState& state = lanes_[lane.index()].state;
        media::LaneState new_state = state;
        log_buffer.resize(bytes);
        records = records_of_all;
        if (added.free_blocks != 0 || added.inodes != 0) {
            new_state.free_blocks += added.free_blocks;
            new_state.inodes += added.inodes;
            seal_unit(reinterpret_cast<std::byte*>(&new_state), sizeof new_state);
            records += append_differences(
                log_buffer, offset_of(lane.index()) + media::kLaneStateOffset,
                std::as_bytes(std::span{&state, 1}), std::as_bytes(std::span{&new_state, 1}));
        }
        if (records == 0) return {};
        if (log_buffer.size() > log_bytes_max()) return fail(Cause::change_too_large);

        const media::LogHeader header{.magic = media::kLogMagic,
                                      .lane = lane.index(),
                                      .sequence = next_sequence_.fetch_add(1),
                                      .log_bytes = static_cast<std::uint32_t>(log_buffer.size()),
                                      .record_count = records,
                                      .reserved = 0};
        std::memcpy(log_buffer.data(), &header, sizeof header);
        TRY(store_new_blocks(transaction));
        if (!TRY(seal(lane.index(), log_buffer))) {
            lane.lose();
            continue;
        }
        if (const auto done = apply(lane.index(), log_buffer); !done) {
            fail_all();
            return done;
        }
        state = new_state;
        return {};
    }
}

Expected<void> Journal::store_new_blocks(const Transaction& transaction) {
    for (const auto& staged : transaction.staged_)
        if (staged.fresh)
            TRY(region_.store_flush(staged.offset, {staged.after.get(), staged.bytes}));  // P0
    return {};
}

/// P1 and P2. False if the lane's memory failed: nothing happened.
Expected<bool> Journal::seal(std::uint32_t lane, std::span<const std::byte> log) {
    // Bad blocks get new memory, where there is any, if they are stored whole.
    std::vector<std::byte> whole;
    for (auto bytes = log;
         !region_.store_flush(offset_of(lane) + media::kLogOffset, bytes);) {  // P1
        if (!whole.empty()) return false;
        whole.assign(log.begin(), log.end());
        whole.resize(round_up(log.size(), kBlockBytes));
        bytes = whole;
    }
    region_.fence();  // P0, P1 | P2
    const auto sealed =
        region_.store8_flush(offset_of(lane) + media::kSealOffset,
                             seal_word(crc32c(units_.checksum_seed(), log), log.size()));  // P2
    if (!sealed) {
        // A store that raises SIGBUS stored nothing; one that is not written back may have.
        if (region_.capabilities().flush != pmem::Flush::page) return false;
        fail_all();
        return std::unexpected{sealed.error()};
    }
    region_.fence();  // P2 | P3
    return true;
}

/// P3 and P4.
Expected<void> Journal::apply(std::uint32_t lane, std::span<const std::byte> log) {
    Expected<void> stored;
    for_each_record(log, [&](std::uint64_t offset, std::span<const std::byte> bytes) {
        if (stored) stored = region_.store_flush(offset, bytes);  // P3
    });
    TRY(std::move(stored));
    region_.fence();                                                             // P3 | P4
    TRY(region_.store8_flush(offset_of(lane) + media::kSealOffset, kUnsealed));  // P4
    region_.fence();  // P4 | locks released
    return {};
}

}  // namespace pinfs::journal

// SPDX-License-Identifier: Apache-2.0
#include "fs/check/journal.h"

#include <algorithm>
#include <cstring>

#include "fs/format/lane.h"
#include "fs/format/state.h"
#include "fs/format/table.h"

namespace pinfs::checking {

using media::kBlockBytes;

Journal::Journal(Image& image) : image_(image) {
    for (std::uint32_t lane = 0; lane < image_.superblock().lane_count; ++lane) read_lane(lane);
    std::stable_sort(logs_.begin(), logs_.end(),
                     [](const Log& a, const Log& b) { return a.sequence < b.sequence; });
    for (const Log& log : logs_)
        for (const Record& record : log.records) image_.lay_over(record.offset, record.bytes);
    image_.seal_overlay();
    if (logs_.size() > 1) report_overlaps();
}

void Journal::read_lane(std::uint32_t lane) {
    const media::Superblock& super = image_.superblock();
    const std::uint64_t lane_offset = super.lanes_offset + std::uint64_t{lane} * super.lane_bytes;
    media::Seal seal{};
    if (!image_.read_unreplayed(lane_offset + media::kSealOffset, seal)) return;
    if (seal.crc32c == 0 && seal.log_bytes == 0) return;

    ++sealed_;
    if (seal.log_bytes < sizeof(media::LogHeader) ||
        seal.log_bytes > super.lane_bytes - media::kLogOffset) {
        image_.findings().add(FindingKind::seal_damaged, lane_offset, 0,
                              "the seal of lane %u names a log of %u bytes", lane, seal.log_bytes);
        return;
    }
    Log log{lane, 0, std::vector<std::byte>(seal.log_bytes), {}};
    if (!image_.read(lane_offset + media::kLogOffset, log.bytes)) return;
    if (crc32c(super.checksum_seed, log.bytes) != seal.crc32c) {
        image_.findings().add(FindingKind::seal_damaged, lane_offset, 0,
                              "the log of lane %u does not match its seal", lane);
        return;
    }
    if (parse(log, lane_offset)) logs_.push_back(std::move(log));
}

// Header and records; false after a finding.
bool Journal::parse(Log& log, std::uint64_t lane_offset) {
    const std::uint64_t log_offset = lane_offset + media::kLogOffset;
    const auto damaged = [&](const char* what) {
        image_.findings().add(FindingKind::log_damaged, log_offset, 0,
                              "the sealed log of lane %u %s", log.lane, what);
        return false;
    };
    media::LogHeader header;
    std::memcpy(&header, log.bytes.data(), sizeof header);
    if (header.magic != media::kLogMagic) return damaged("has another magic");
    if (header.lane != log.lane) return damaged("is another lane's");
    if (header.log_bytes != log.bytes.size()) return damaged("has another length than its seal");
    if (header.sequence == 0) return damaged("has sequence number 0");
    log.sequence = header.sequence;

    std::size_t at = sizeof header;
    for (std::uint32_t i = 0; i < header.record_count; ++i) {
        media::LogRecord record;
        if (log.bytes.size() - at < sizeof record) return damaged("ends before its records");
        std::memcpy(&record, log.bytes.data() + at, sizeof record);
        at += sizeof record;
        const std::size_t padded = (std::size_t{record.bytes} + 7) / 8 * 8;
        if (record.bytes == 0) return damaged("has a record without bytes");
        if (padded > log.bytes.size() - at) return damaged("ends within a record");
        for (std::size_t i_pad = record.bytes; i_pad < padded; ++i_pad)
            if (log.bytes[at + i_pad] != std::byte{0})
                return damaged("has padding that is not zero");
        if (!may_write(record.offset, record.bytes)) {
            image_.findings().add(
                FindingKind::log_target, log_offset, 0,
                "the sealed log of lane %u writes %u bytes at region offset %lu, where no log may",
                log.lane, record.bytes, record.offset);
            return false;
        }
        log.records.push_back(
            {record.offset, std::span<const std::byte>(log.bytes).subspan(at, record.bytes)});
        at += padded;
    }
    if (at != log.bytes.size()) return damaged("goes on behind its records");
    return true;
}

// Inside the region, not in a superblock, and of the lanes only in one lane's state.
bool Journal::may_write(std::uint64_t offset, std::uint64_t bytes) const {
    const media::Superblock& super = image_.superblock();
    if (offset > super.region_bytes || bytes > super.region_bytes - offset) return false;
    const std::uint64_t end = offset + bytes;
    const auto meets = [&](std::uint64_t begin, std::uint64_t stop) {
        return offset < stop && begin < end;
    };
    if (meets(0, kBlockBytes)) return false;
    if (meets(media::kSuperCopyOffset, media::kSuperCopyOffset + kBlockBytes)) return false;
    const std::uint64_t lanes_end =
        super.lanes_offset + std::uint64_t{super.lane_count} * super.lane_bytes;
    if (!meets(super.lanes_offset, lanes_end)) return true;
    if (offset < super.lanes_offset) return false;
    const std::uint64_t within = (offset - super.lanes_offset) % super.lane_bytes;
    return within >= media::kLaneStateOffset &&
           within + bytes <= media::kLaneStateOffset + sizeof(media::LaneState);
}

// What one checksum covers in a block. File data has no unit: then the smallest.
std::uint64_t Journal::unit_bytes_at(std::uint64_t block, BlockUnit& known) const {
    if (known.bytes != 0 && known.block == block) return known.bytes;
    const media::Superblock& super = image_.superblock();
    const std::uint64_t offset = block * kBlockBytes;
    const std::uint64_t lanes_end =
        super.lanes_offset + std::uint64_t{super.lane_count} * super.lane_bytes;
    known = {block, kBlockBytes};
    if (offset >= super.lanes_offset && offset < lanes_end) {
        known.bytes = sizeof(media::LaneState);
    } else if (offset == super.finished_offset) {
        known.bytes = sizeof(media::FinishedRequest);
    } else if (media::le32 magic = 0; image_.read_into(offset, magic)) {
        if (magic == media::kChunkMagic)
            known.bytes = media::kSlotBytes;
        else if (magic != media::kBlockMagic)
            known.bytes = sizeof(media::FinishedRequest);
    }
    return known.bytes;
}

void Journal::report_overlaps() {
    struct Touch {
        std::uint64_t begin;
        std::uint64_t end;
        std::uint32_t lane;
    };
    std::vector<Touch> touches;
    for (std::size_t i = 0; i < logs_.size(); ++i) {
        if (i != 0 && logs_[i].sequence == logs_[i - 1].sequence)
            image_.findings().add(
                FindingKind::logs_overlap, image_.superblock().lanes_offset, 0,
                "the sealed logs of lanes %u and %u have one sequence number, %lu",
                logs_[i - 1].lane, logs_[i].lane, logs_[i].sequence);
        for (const Record& record : logs_[i].records)
            touches.push_back({record.offset, record.offset + record.bytes.size(), logs_[i].lane});
    }
    std::sort(touches.begin(), touches.end(),
              [](const Touch& a, const Touch& b) { return a.begin < b.begin; });
    // Outwards to whole units. A record's first and last byte decide: what is between is whole
    // blocks. Many records touch one block, which is looked at once; the order stays.
    BlockUnit first;
    BlockUnit last;
    for (Touch& touch : touches) {
        const std::uint64_t first_unit = unit_bytes_at(touch.begin / kBlockBytes, first);
        const std::uint64_t last_unit = unit_bytes_at((touch.end - 1) / kBlockBytes, last);
        touch.begin = touch.begin / first_unit * first_unit;
        touch.end = (touch.end - 1) / last_unit * last_unit + last_unit;
    }
    // The furthest end so far of each of two different lanes is enough to meet every overlap.
    Touch furthest{0, 0, 0};
    Touch other{0, 0, 0};
    for (const Touch& touch : touches) {
        const Touch& rival = furthest.lane != touch.lane ? furthest : other;
        if (rival.end > touch.begin)
            image_.findings().add(FindingKind::logs_overlap, touch.begin, 0,
                                  "the sealed logs of lanes %u and %u both write this unit",
                                  rival.lane, touch.lane);
        if (touch.end <= furthest.end) {
            if (touch.lane != furthest.lane && touch.end > other.end) other = touch;
            continue;
        }
        if (touch.lane != furthest.lane) other = furthest;
        furthest = touch;
    }
}

}  // namespace pinfs::checking

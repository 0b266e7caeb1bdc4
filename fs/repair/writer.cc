// SPDX-License-Identifier: Apache-2.0
#include "fs/repair/writer.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace pinfs::repairing {
namespace {

using media::kBlockBytes;
using media::kGroupBlocks;

constexpr std::size_t padded(std::size_t bytes) { return (bytes + 7) / 8 * 8; }

}  // namespace

Expected<void> Writer::stage(std::uint64_t offset, std::span<const std::byte> bytes) {
    assert(!bytes.empty() && bytes.size() <= kBlockBytes);
    const std::size_t more = sizeof(media::LogRecord) + padded(bytes.size());
    const std::size_t room = superblock_.lane_bytes - media::kLogOffset - sizeof(media::LogHeader);
    if (staged_bytes_ + more > room) TRY(commit());
    staged_.push_back({offset, {bytes.begin(), bytes.end()}});
    staged_bytes_ += more;
    return {};
}

Expected<void> Writer::commit() {
    for (auto& [index, known] : groups_) {
        if (!known.dirty) continue;
        known.dirty = false;
        seal_block(known.group);
        const auto bytes = std::as_bytes(std::span(&known.group, 1));
        const Record record{media::group_block_of(index, superblock_.zone_groups) * kBlockBytes,
                            {bytes.begin(), bytes.end()}};
        TRY(write({&record, 1}));
    }
    if (!staged_.empty()) TRY(write(staged_));
    staged_.clear();
    staged_bytes_ = 0;
    return {};
}

// One transaction, as FORMAT.md has it: P1 the log, P2 the seal, P3 every record to its place, P4
// the seal cleared; a fence after each. The first one also waits for new blocks.
Expected<void> Writer::write(std::span<const Record> records) {
    std::vector<std::byte> log(sizeof(media::LogHeader));
    const auto append = [&log](std::span<const std::byte> bytes) {
        log.insert(log.end(), bytes.begin(), bytes.end());
        log.resize(padded(log.size()));
    };
    for (const Record& record : records) {
        const media::LogRecord head{record.offset, static_cast<media::le32>(record.bytes.size()),
                                    0};
        append(std::as_bytes(std::span(&head, 1)));
        append(record.bytes);
    }
    const std::uint64_t lane = TRY(seal_log(log, static_cast<std::uint32_t>(records.size())));
    for (const Record& record : records)
        TRY(region_.store_flush(record.offset, record.bytes));  // P3
    region_.fence();
    TRY(region_.store8_flush(lane + media::kSealOffset, 0));  // P4
    region_.fence();
    return {};
}

// P1 and P2, in a lane whose memory works; its offset.
Expected<std::uint64_t> Writer::seal_log(std::vector<std::byte>& log, std::uint32_t record_count) {
    for (; lane_ < superblock_.lane_count; ++lane_) {
        media::LogHeader header{};
        header.magic = media::kLogMagic;
        header.lane = lane_;
        header.sequence = 1;
        header.log_bytes = static_cast<media::le32>(log.size());
        header.record_count = record_count;
        std::memcpy(log.data(), &header, sizeof header);
        const std::uint64_t seal =
            crc32c(superblock_.checksum_seed, log) | std::uint64_t{header.log_bytes} << 32;
        const std::uint64_t lane =
            superblock_.lanes_offset + std::uint64_t{lane_} * superblock_.lane_bytes;
        if (!region_.store_flush(lane + media::kLogOffset, log)) continue;  // P1
        region_.fence();
        if (const auto sealed = region_.store8_flush(lane + media::kSealOffset, seal);  // P2
            !sealed) {
            // A store that raises SIGBUS stored nothing; one that is not written back may have.
            if (region_.capabilities().flush == pmem::Flush::page)
                return std::unexpected(sealed.error());
            continue;
        }
        region_.fence();
        return lane;
    }
    return fail(Cause::media_error, superblock_.lanes_offset);
}

Writer::Known& Writer::known(std::uint64_t index) {
    const auto [place, is_new] = groups_.try_emplace(index);
    Known& known = place->second;
    if (!is_new) return known;
    const std::uint64_t offset =
        media::group_block_of(index, superblock_.zone_groups) * kBlockBytes;
    const auto bytes = std::as_writable_bytes(std::span(&known.group, 1));
    const media::BlockHeader& header = known.group.header;
    known.whole = region_.read(offset, bytes) && header.magic == media::kBlockMagic &&
                  header.crc32c == unit_checksum(superblock_.checksum_seed, bytes) &&
                  header.kind == static_cast<media::le16>(media::BlockKind::group) &&
                  header.own_offset == offset && header.owner == index && header.level == 0 &&
                  header.generation == 0 && header.next == 0;
    return known;
}

const media::Group* Writer::group(std::uint64_t index) {
    const Known& found = known(index);
    return found.whole ? &found.group : nullptr;
}

bool Writer::is_free(std::uint64_t block) {
    const media::Group* const of = group(block / kGroupBlocks);
    const std::uint64_t bit = block % kGroupBlocks;
    return of != nullptr && (of->bitmap[bit / 8] >> bit % 8 & 1) == 0 && !claims_->has(block) &&
           !is_avoided(block);
}

bool Writer::is_avoided(std::uint64_t block) const {
    return std::ranges::any_of(
        avoided_, [block](const BlockRun& run) { return run.begin <= block && block < run.end(); });
}

// And does not look like metadata that a later round may still want.
bool Writer::is_without_owner(std::uint64_t block) {
    if (claims_->has(block) || taken_.contains(block) || is_avoided(block)) return false;
    media::le32 magic = 0;
    return region_.read(block * kBlockBytes, std::as_writable_bytes(std::span(&magic, 1))) &&
           magic != media::kBlockMagic && magic != media::kChunkMagic;
}

Expected<std::uint64_t> Writer::allocate() {
    if (claims_ == nullptr) return fail(Cause::no_space);
    for (; free_cursor_ < blocks(); ++free_cursor_) {
        if (!is_free(free_cursor_)) continue;
        Known& of = known(free_cursor_ / kGroupBlocks);
        const std::uint64_t bit = free_cursor_ % kGroupBlocks;
        media::u8& byte = of.group.bitmap[bit / 8];
        byte = static_cast<media::u8>(byte | 1u << bit % 8);
        media::le16& run_free = of.group.run_free[bit / media::kRunBlocks];
        run_free = static_cast<media::le16>(run_free - 1);
        --of.group.free_blocks;
        of.dirty = true;
        taken_.insert(free_cursor_);
        return free_cursor_++;
    }
    for (; lost_cursor_ < blocks(); ++lost_cursor_)
        if (is_without_owner(lost_cursor_)) {
            taken_.insert(lost_cursor_);
            return lost_cursor_++;
        }
    return fail(Cause::no_space);
}

}  // namespace pinfs::repairing

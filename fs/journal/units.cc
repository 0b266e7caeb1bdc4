// SPDX-License-Identifier: Apache-2.0
#include "fs/journal/units.h"

#include <cstring>

#include "fs/checksum.h"

namespace pinfs::journal {

namespace {

struct UnitHead {
    std::uint32_t magic;
    std::uint32_t crc32c;
};

UnitHead head_of(std::span<const std::byte> unit) {
    UnitHead head;
    std::memcpy(&head, unit.data(), sizeof head);
    return head;
}

}  // namespace

bool Units::is_sum_right(std::span<const std::byte> unit) const {
    return head_of(unit).crc32c == unit_checksum(checksum_seed_, unit);
}

/// Copies a unit out and verifies its magic.
Expected<void> Units::copy_out(std::uint64_t offset, std::uint32_t magic,
                               std::span<std::byte> out) const {
    TRY(region_.read(offset, out));
    bytes_read_.fetch_add(out.size(), std::memory_order_relaxed);
    if (head_of(out).magic != magic) return fail(Cause::bad_magic, offset);
    return {};
}

Expected<void> Units::read(std::uint64_t offset, std::uint32_t magic,
                           std::span<std::byte> out) const {
    TRY(copy_out(offset, magic, out));
    if (!is_sum_right(out)) return fail(Cause::bad_checksum, offset);
    return {};
}

Expected<void> Units::verify_header(std::uint64_t offset, const BlockIdentity& identity,
                                    std::span<const std::byte> block) {
    media::BlockHeader header;
    std::memcpy(&header, block.data(), sizeof header);
    if (header.kind != static_cast<std::uint16_t>(identity.kind) || header.own_offset != offset ||
        header.owner != identity.owner || header.generation != identity.generation ||
        header.used_bytes > media::kPayloadBytes)
        return fail(Cause::bad_magic, offset, identity.owner);
    return {};
}

Expected<void> Units::read_block(std::uint64_t offset, const BlockIdentity& identity,
                                 std::span<std::byte> out) const {
    if (offset % kBlockBytes != 0) return fail(Cause::media_corrupt, offset, identity.owner);
    TRY(read(offset, media::kBlockMagic, out));
    return verify_header(offset, identity, out);
}

Expected<void> Units::look_into_block(std::uint64_t offset, const BlockIdentity& identity,
                                      std::span<std::byte> out) const {
    std::atomic<std::uint64_t>& place = place_of(offset);
    if (place.load(std::memory_order_relaxed) != offset) {
        TRY(read_block(offset, identity, out));
        place.store(offset, std::memory_order_relaxed);
        return {};
    }
    TRY(copy_out(offset, media::kBlockMagic, out));
    return verify_header(offset, identity, out);
}

void Units::forget(BlockRun run) const {
    if (run.count >= kFoundRightMax) {
        forget_all();
        return;
    }
    for (std::uint64_t block = run.begin; block < run.end(); ++block) {
        const std::uint64_t offset = block * kBlockBytes;
        std::atomic<std::uint64_t>& place = place_of(offset);
        if (place.load(std::memory_order_relaxed) == offset)
            place.store(0, std::memory_order_relaxed);
    }
}

void Units::forget_all() const {
    for (std::atomic<std::uint64_t>& place : *found_right_)
        place.store(0, std::memory_order_relaxed);
}

}  // namespace pinfs::journal

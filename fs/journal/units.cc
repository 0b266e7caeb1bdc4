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
}  // namespace

Expected<void> Units::read(std::uint64_t offset, std::uint32_t magic,
                           std::span<std::byte> out) const {
    TRY(region_.read(offset, out));
    bytes_read_.fetch_add(out.size(), std::memory_order_relaxed);
    UnitHead head;
    std::memcpy(&head, out.data(), sizeof head);
    if (head.magic != magic) return fail(Cause::bad_magic, offset);
    if (head.crc32c != unit_checksum(checksum_seed_, out)) return fail(Cause::bad_checksum, offset);
    return {};
}

Expected<void> Units::read_block(std::uint64_t offset, const BlockIdentity& identity,
                                 std::span<std::byte> out) const {
    if (offset % kBlockBytes != 0) return fail(Cause::media_corrupt, offset, identity.owner);
    TRY(read(offset, media::kBlockMagic, out));
    media::BlockHeader header;
    std::memcpy(&header, out.data(), sizeof header);
    if (header.kind != static_cast<std::uint16_t>(identity.kind) || header.own_offset != offset ||
        header.owner != identity.owner || header.generation != identity.generation ||
        header.used_bytes > media::kPayloadBytes)
        return fail(Cause::bad_magic, offset, identity.owner);
    return {};
}

}  // namespace pinfs::journal

// SPDX-License-Identifier: Apache-2.0
#include "fs/check/image.h"

#include <algorithm>
#include <cstring>

namespace pinfs::checking {

bool Image::read_media(std::uint64_t offset, std::span<std::byte> out, std::uint64_t ino) const {
    const auto done = region_.read(offset, out);
    if (done) return true;
    findings_.add(FindingKind::unreadable, offset, ino, "%zu bytes could not be read: %s",
                  out.size(), done.error().message().c_str());
    return false;
}

bool Image::read(std::uint64_t offset, std::span<std::byte> out, std::uint64_t ino) const {
    if (!read_media(offset, out, ino)) return false;
    if (overlay_.empty()) return true;

    const std::uint64_t end = offset + out.size();
    auto patch = std::lower_bound(
        overlay_.begin(), overlay_.end(), offset / media::kBlockBytes,
        [](const Patch& candidate, std::uint64_t block) { return candidate.block < block; });
    for (; patch != overlay_.end() && patch->block * media::kBlockBytes < end; ++patch) {
        const std::uint64_t patch_begin = patch->block * media::kBlockBytes + patch->begin;
        const std::uint64_t begin = std::max(offset, patch_begin);
        const std::uint64_t stop = std::min(end, patch_begin + patch->bytes);
        if (begin < stop)
            std::memcpy(out.data() + (begin - offset), patch->data + (begin - patch_begin),
                        stop - begin);
    }
    return true;
}

void Image::lay_over(std::uint64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const std::uint64_t begin = offset % media::kBlockBytes;
        const std::size_t length = std::min<std::size_t>(bytes.size(), media::kBlockBytes - begin);
        overlay_.push_back(
            {offset / media::kBlockBytes, static_cast<std::uint32_t>(overlay_.size()),
             static_cast<std::uint16_t>(begin), static_cast<std::uint16_t>(length), bytes.data()});
        offset += length;
        bytes = bytes.subspan(length);
    }
}

void Image::seal_overlay() {
    std::sort(overlay_.begin(), overlay_.end(), [](const Patch& a, const Patch& b) {
        return a.block != b.block ? a.block < b.block : a.order < b.order;
    });
}

bool Image::header_is(const BlockWanted& wanted, const media::BlockHeader& header,
                      bool sum_is_right) const {
    const auto wrong = [&](const char* field, std::uint64_t found, std::uint64_t right) {
        findings_.add(wanted.finding, wanted.offset, wanted.ino,
                      "the %s has %s %lu where %lu belongs", wanted.what, field, found, right);
        return false;
    };
    if (header.magic != media::kBlockMagic) {
        findings_.add(wanted.finding, wanted.offset, wanted.ino,
                      "no %s stands there: the magic is 0x%08x", wanted.what, header.magic);
        return false;
    }
    if (!sum_is_right) {
        findings_.add(wanted.finding, wanted.offset, wanted.ino,
                      "the checksum of the %s does not match", wanted.what);
        return false;
    }
    if (header.kind != static_cast<media::le16>(wanted.kind))
        return wrong("kind", header.kind, static_cast<media::le16>(wanted.kind));
    if (header.own_offset != wanted.offset)
        return wrong("own offset", header.own_offset, wanted.offset);
    if (header.owner != wanted.owner) return wrong("owner", header.owner, wanted.owner);
    if (header.generation != wanted.generation)
        return wrong("generation", header.generation, wanted.generation);
    if (header.level != wanted.level) return wrong("level", header.level, wanted.level);
    if (wanted.kind != media::BlockKind::attributes && header.next != 0)
        return wrong("next block", header.next, 0);
    return true;
}

}  // namespace pinfs::checking

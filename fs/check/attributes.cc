// SPDX-License-Identifier: Apache-2.0
//
// The extended attributes of an inode: the list of blocks, and the entries in what they hold
// together.
#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <vector>

#include "fs/check/walk.h"
#include "fs/format/tree.h"

namespace pinfs::checking {
namespace {

struct AttributesBlock {
    media::BlockHeader header;
    std::array<char, media::kPayloadBytes> payload;
};

// `bytes` is all of an inode's attributes.
void judge_entries(Walk& walk, const Subject& subject, std::string_view bytes) {
    const std::uint64_t ino = subject.inode.ino;
    const std::uint64_t offset = subject.inode.attributes;
    std::vector<std::string_view> names;
    for (std::size_t at = 0; at < bytes.size();) {
        media::AttributeEntry entry{};
        const std::size_t rest = bytes.size() - at;
        if (rest >= sizeof entry) std::memcpy(&entry, bytes.data() + at, sizeof entry);
        if (rest < sizeof entry || rest - sizeof entry < entry.name_bytes ||
            rest - sizeof entry - entry.name_bytes < entry.value_bytes) {
            walk.findings().add(FindingKind::attribute_entry, offset, ino,
                                "an extended attribute at byte %zu goes beyond the last byte, %zu",
                                at, bytes.size());
            return;
        }
        const std::string_view name = bytes.substr(at + sizeof entry, entry.name_bytes);
        if (name.empty() || name.size() > kNameBytesMax ||
            name.find('\0') != std::string_view::npos)
            walk.findings().add(
                FindingKind::attribute_entry, offset, ino,
                "the extended attribute at byte %zu has a name of %zu bytes, \"%s\"", at,
                name.size(), printable(name.substr(0, kNameBytesMax)).c_str());
        if (entry.value_bytes > media::kAttributeValueMax)
            walk.findings().add(FindingKind::attribute_entry, offset, ino,
                                "extended attribute \"%s\" has a value of %u bytes",
                                printable(name.substr(0, kNameBytesMax)).c_str(),
                                entry.value_bytes);
        names.push_back(name);
        at += sizeof entry + entry.name_bytes + entry.value_bytes;
    }
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end())
        walk.findings().add(FindingKind::attribute_duplicate, offset, ino,
                            "there are two extended attributes \"%s\"",
                            printable(twice->substr(0, kNameBytesMax)).c_str());
}

}  // namespace

Owned walk_attributes(Walk& walk, const Subject& subject) {
    const media::Inode& inode = subject.inode;
    Findings& findings = walk.findings();
    if (inode.attributes == 0 && inode.attributes_bytes == 0) return {};
    if ((inode.attributes == 0) != (inode.attributes_bytes == 0) ||
        inode.attributes_bytes > media::kAttributesBytesMax) {
        findings.add(FindingKind::attributes_damaged, subject.offset, inode.ino,
                     "%u bytes of extended attributes cannot stand at %lu", inode.attributes_bytes,
                     inode.attributes);
        if (inode.attributes == 0) return {0, false};
    }

    // No more blocks than the longest attributes have: a list that goes on does not end by itself.
    constexpr std::size_t kPiecesMax =
        (media::kAttributesBytesMax + media::kPayloadBytes - 1) / media::kPayloadBytes;
    Owned owned;
    std::vector<char> bytes;
    AttributesBlock block;
    for (std::uint64_t offset = inode.attributes; offset != 0; offset = block.header.next) {
        const auto stop = [&] {
            owned.complete = false;
            return owned;
        };
        if (!walk.image.holds_block(offset)) {
            findings.add(
                FindingKind::block_outside, subject.offset, inode.ino,
                "an attributes block is said to stand at %lu, which is no place of a block",
                offset);
            return stop();
        }
        if (owned.blocks == kPiecesMax) {
            findings.add(FindingKind::attributes_damaged, offset, inode.ino,
                         "the list of attributes blocks is longer than %zu", kPiecesMax);
            return stop();
        }
        const bool fresh =
            walk.claims.take(offset / media::kBlockBytes, 1, {OwnerKind::attributes, inode.ino});
        ++owned.blocks;
        if (!fresh || !walk.image.read_block(
                          {media::BlockKind::attributes, offset, inode.ino, inode.generation, 0,
                           FindingKind::attributes_damaged, inode.ino, "attributes block"},
                          block))
            return stop();
        const std::uint32_t used = block.header.used_bytes;
        const bool last = block.header.next == 0;
        if (used > media::kPayloadBytes || used == 0 || (!last && used != media::kPayloadBytes)) {
            findings.add(FindingKind::attributes_damaged, offset, inode.ino,
                         "an attributes block, %s, has %u bytes in use",
                         last ? "the last" : "not the last", used);
            return stop();
        }
        bytes.insert(bytes.end(), block.payload.begin(), block.payload.begin() + used);
    }
    if (bytes.size() != inode.attributes_bytes)
        findings.add(FindingKind::attributes_damaged, subject.offset, inode.ino,
                     "the extended attributes have %zu bytes, the inode says %u", bytes.size(),
                     inode.attributes_bytes);
    judge_entries(walk, subject, {bytes.data(), bytes.size()});
    return owned;
}

}  // namespace pinfs::checking

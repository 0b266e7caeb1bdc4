// SPDX-License-Identifier: Apache-2.0
//
// The extended attributes of an inode: the list of blocks, and the entries in what they hold
// together.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "fs/check/values.h"
#include "fs/check/walk.h"
#include "fs/format/access_list.h"
#include "fs/format/tree.h"

namespace pinfs::checking {
namespace {

void judge_list(Walk& walk, const Subject& subject, std::string_view name, std::string_view value) {
    const bool is_default = name == media::kDefaultListName;
    if (!is_default && name != media::kAccessListName) return;
    const std::uint32_t mode = subject.inode.mode;
    const auto add = [&](const char* what) {
        walk.findings().add(FindingKind::access_list, subject.inode.attributes, subject.inode.ino,
                            "the list \"%s\" %s", std::string{name}.c_str(), what);
    };
    constexpr std::size_t kThatOfAMode =
        sizeof(media::AccessListHead) + 3 * sizeof(media::AccessEntry);
    const auto permissions = permissions_of_list(value);
    if (!permissions)
        add("is none");
    else if (is_default ? !S_ISDIR(mode) : S_ISLNK(mode))
        add("is not for an inode of this type");
    else if (!is_default && *permissions != (mode & 0777))
        add("contradicts the mode");
    else if (!is_default && value.size() == kThatOfAMode)
        add("says no more than the mode");
}

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
        judge_list(walk, subject, name,
                   bytes.substr(at + sizeof entry + entry.name_bytes, entry.value_bytes));
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

// Written from FORMAT.md, "Access lists".
std::optional<std::uint32_t> permissions_of_list(std::string_view value) {
    media::AccessListHead head{};
    if (value.size() < sizeof head || value.size() > media::kAccessListBytesMax) return {};
    std::memcpy(&head, value.data(), sizeof head);
    value.remove_prefix(sizeof head);
    if (head.version != media::kAccessListVersion) return {};
    std::map<std::uint32_t, std::uint32_t> permissions;  // by tag; the last of each
    std::uint32_t highest = 0;
    for (; value.size() >= sizeof(media::AccessEntry);
         value.remove_prefix(sizeof(media::AccessEntry))) {
        media::AccessEntry entry;
        std::memcpy(&entry, value.data(), sizeof entry);
        const bool named = entry.tag == media::kAccessUser || entry.tag == media::kAccessGroup;
        if (entry.tag < highest || entry.permissions > 7) return {};
        if (named ? entry.id == media::kAccessNobody : permissions.contains(entry.tag)) return {};
        permissions[entry.tag] = entry.permissions;
        highest = entry.tag;
    }
    const bool names_somebody =
        permissions.contains(media::kAccessUser) || permissions.contains(media::kAccessGroup);
    std::set<std::uint32_t> tags{media::kAccessOwner, media::kAccessOwningGroup,
                                 media::kAccessOther};
    for (const std::uint32_t tag : tags)
        if (!permissions.contains(tag)) return {};
    tags.insert({media::kAccessUser, media::kAccessGroup, media::kAccessMask});
    for (const auto& [tag, ignored] : permissions)
        if (!tags.contains(tag)) return {};
    const auto mask = permissions.find(media::kAccessMask);
    if (!value.empty() || (names_somebody && mask == permissions.end())) return {};
    const std::uint32_t group =
        mask != permissions.end() ? mask->second : permissions[media::kAccessOwningGroup];
    return permissions[media::kAccessOwner] << 6 | group << 3 | permissions[media::kAccessOther];
}

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

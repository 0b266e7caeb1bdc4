// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "fs/check/values.h"
#include "fs/repair/content.h"

namespace pinfs::repairing {
namespace {

constexpr std::uint64_t kFileBlocksMax = std::uint64_t{1} << 32;

// A tree from its root to the leaves, which name themselves: keys of the index are not needed.
class MapReader {
public:
    MapReader(Work& work, Content& content, media::BlockKind kind)
        : work_(work), content_(content), kind_(kind) {}

    void read(const LostLeaves& lost_leaves) {
        const media::Inode& inode = content_.inode;
        std::uint64_t root = 0;
        std::memcpy(&root, inode.inline_map, sizeof root);
        AnyBlock top;
        const bool is_tree = (inode.map_level != 0 || inode.map_bytes == sizeof root) &&
                             work_.holds_block(root) && work_.read(root, top) &&
                             is_node_of(work_, top, root, inode, kind_);
        if (is_tree)
            node(root, top.header.level);
        else if (inode.map_level != 0 && inode.map_level <= media::kTreeLevelsMax)
            node(root, inode.map_level);
        else
            leaf({inode.inline_map, std::min<std::size_t>(inode.map_bytes, media::kInlineBytes)},
                 false);
        // A tree that is whole has lost nothing: such leaves are older ones.
        const auto [begin, end] = lost_leaves.equal_range(inode.ino);
        for (auto found = begin; found != end && content_.lost_units != 0; ++found)
            if (work_.read(found->second, top) &&
                is_node_of(work_, top, found->second, inode, kind_) &&
                top.header.generation == inode.generation && !seen_.contains(found->second))
                node(found->second, 1);
        for (const AnyBlock& broken : doubtful_) leaf_of(broken, true);
    }

private:
    void node(std::uint64_t offset, unsigned level) {
        AnyBlock block;
        if (!work_.holds_block(offset) || !seen_.insert(offset).second ||
            !work_.read(offset, block)) {
            ++content_.lost_units;
            return;
        }
        if (!is_node_of(work_, block, offset, content_.inode, kind_) ||
            block.header.level != level) {
            ++content_.lost_units;
            if (level == 1 && looks_like_ours(block, offset)) doubtful_.push_back(block);
            return;
        }
        ++content_.nodes;
        if (level == 1) return leaf_of(block, false);
        const std::size_t used = used_of(block);
        media::TreeIndexEntry entry;
        for (std::size_t at = 0; at + sizeof entry <= used; at += sizeof entry) {
            std::memcpy(&entry, block.payload.data() + at, sizeof entry);
            node(entry.child, level - 1);
        }
    }

    // The checksum is wrong, but most of the header is right.
    bool looks_like_ours(const AnyBlock& block, std::uint64_t offset) const {
        const media::BlockHeader& header = block.header;
        return (header.magic == media::kBlockMagic) + (header.own_offset == offset) +
                   (header.owner == content_.inode.ino) + (header.level == 1) +
                   (header.kind == static_cast<media::le16>(kind_)) >=
               4;
    }

    static std::size_t used_of(const AnyBlock& block) {
        return std::min<std::size_t>(block.header.used_bytes, media::kPayloadBytes);
    }
    void leaf_of(const AnyBlock& block, bool doubtful) {
        leaf({block.payload.data(), used_of(block)}, doubtful);
    }
    void leaf(std::span<const media::u8> payload, bool doubtful) {
        if (kind_ == media::BlockKind::directory_tree) {
            if (!parse_entries(work_, payload, doubtful, content_)) ++content_.lost_records;
            return;
        }
        media::Extent extent;
        for (std::size_t at = 0; at + sizeof extent <= payload.size(); at += sizeof extent) {
            std::memcpy(&extent, payload.data() + at, sizeof extent);
            if (doubtful)
                content_.doubtful.push_back(extent);
            else
                add_extent(work_, extent, content_);
        }
    }
    Work& work_;
    Content& content_;
    media::BlockKind kind_;
    std::set<std::uint64_t> seen_;
    std::vector<AnyBlock> doubtful_;
};

bool lacks_a_name(const InodeNote* target, std::uint8_t type) {
    if (target == nullptr || target->state == InodeNote::State::unused) return false;
    if (target->state == InodeNote::State::damaged) return true;
    const bool is_directory = type == S_IFDIR >> 12;
    return target->type == type &&
           (is_directory ? target->named_in == 0 : target->entries < target->nlink);
}

bool is_long_link(const media::Inode& inode) {
    return S_ISLNK(inode.mode) && (inode.size > media::kInlineBytes || inode.map_level != 0);
}

}  // namespace

std::uint64_t Content::data_blocks() const {
    std::uint64_t blocks = 0;
    for (const auto& [at, extent] : extents) blocks += extent.blocks;
    return blocks;
}

bool is_node_of(Work& work, const AnyBlock& node, std::uint64_t offset, const media::Inode& inode,
                media::BlockKind kind) {
    const media::BlockHeader& header = node.header;
    return header.magic == media::kBlockMagic && work.survey.image.sum_matches(node) &&
           header.kind == static_cast<media::le16>(kind) && header.own_offset == offset &&
           header.owner == inode.ino && header.level >= 1 && header.level <= media::kTreeLevelsMax;
}

bool parse_entries(Work& work, std::span<const media::u8> payload, bool doubtful,
                   Content& content) {
    while (!payload.empty()) {
        media::DirectoryEntry head;
        if (payload.size() < sizeof head) return false;
        std::memcpy(&head, payload.data(), sizeof head);
        if (payload.size() - sizeof head < head.name_bytes) return false;
        const std::string_view name{reinterpret_cast<const char*>(payload.data()) + sizeof head,
                                    head.name_bytes};
        payload = payload.subspan(sizeof head + head.name_bytes);
        const bool is_proven =
            checking::is_name(name) &&
            head.key >> media::kNameCollisionBits == checking::hash_of(name, work.super()) &&
            lacks_a_name(work.note(head.ino), head.type);
        if (!doubtful || is_proven)
            content.entries.push_back({head.ino, head.type, std::string{name}});
        else
            ++content.lost_records;
    }
    return true;
}

void add_extent(Work& work, media::Extent extent, Content& content) {
    const std::uint64_t blocks = work.survey.image.blocks();
    if (extent.blocks == 0 || extent.start_block == 0 || extent.start_block >= blocks ||
        extent.blocks > blocks - extent.start_block || extent.file_block >= kFileBlocksMax ||
        extent.blocks > kFileBlocksMax - extent.file_block ||
        extent.blocks > media::kExtentBlocksMax) {
        content.lost_records += extent.blocks != 0;
        return;
    }
    extent.segment = media::kSegmentRegion;
    extent.flags &= media::kExtentUnwritten;
    auto& extents = content.extents;
    const std::uint64_t end = extent.file_block + extent.blocks;
    std::uint64_t at = extent.file_block;
    auto next = extents.upper_bound(at);
    if (next != extents.begin()) {
        const media::Extent& before = std::prev(next)->second;
        at = std::max(at, std::min(end, before.file_block + before.blocks));
    }
    if (at != extent.file_block) ++content.lost_records;
    while (at < end) {
        const std::uint64_t stop = next == extents.end() ? end : std::min(end, next->first);
        if (at < stop) {
            media::Extent piece = extent;
            piece.file_block = at;
            piece.start_block += at - extent.file_block;
            piece.blocks = static_cast<media::le32>(stop - at);
            extents.emplace_hint(next, at, piece);
        }
        if (stop == end) return;
        ++content.lost_records;
        at = next->first + next->second.blocks;
        ++next;
    }
}

void read_map(Work& work, Content& content, const LostLeaves& lost_leaves) {
    const std::uint32_t mode = content.inode.mode;
    if (S_ISREG(mode) || is_long_link(content.inode))
        MapReader(work, content, media::BlockKind::extent_tree).read(lost_leaves);
    else if (S_ISDIR(mode))
        MapReader(work, content, media::BlockKind::directory_tree).read(lost_leaves);
}

void read_attributes(Work& work, Content& content) {
    const media::Inode& inode = content.inode;
    std::string bytes;
    std::set<std::uint64_t> seen;
    AnyBlock block;
    for (std::uint64_t offset = inode.attributes; offset != 0; offset = block.header.next) {
        const media::BlockHeader& header = block.header;
        if (!work.holds_block(offset) || !seen.insert(offset).second || !work.read(offset, block) ||
            header.magic != media::kBlockMagic || !work.survey.image.sum_matches(block) ||
            header.own_offset != offset ||
            header.kind != static_cast<media::le16>(media::BlockKind::attributes) ||
            header.owner != inode.ino || bytes.size() > media::kAttributesBytesMax) {
            ++content.lost_units;
            break;
        }
        ++content.attribute_blocks;
        bytes.append(reinterpret_cast<const char*>(block.payload.data()),
                     std::min<std::size_t>(header.used_bytes, media::kPayloadBytes));
    }
    std::set<std::string_view> names;
    for (std::string_view rest = bytes; !rest.empty();) {
        media::AttributeEntry head{};
        if (rest.size() >= sizeof head) std::memcpy(&head, rest.data(), sizeof head);
        if (rest.size() < sizeof head || rest.size() - sizeof head < head.name_bytes ||
            rest.size() - sizeof head - head.name_bytes < head.value_bytes) {
            ++content.lost_records;
            break;
        }
        const std::size_t length = sizeof head + head.name_bytes + head.value_bytes;
        const std::string_view name = rest.substr(sizeof head, head.name_bytes);
        const bool is_right = !name.empty() && name.size() <= kNameBytesMax &&
                              name.find('\0') == std::string_view::npos &&
                              head.value_bytes <= media::kAttributeValueMax &&
                              content.attributes.size() + length <= media::kAttributesBytesMax;
        if (is_right && names.insert(name).second)
            content.attributes.append(rest.substr(0, length));
        else
            ++content.lost_records;
        rest.remove_prefix(length);
    }
}

}  // namespace pinfs::repairing

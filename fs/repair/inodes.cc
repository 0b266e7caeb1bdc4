// SPDX-License-Identifier: Apache-2.0
//
// Inodes about which there are findings: all that can be read of them is read first, then each is
// written anew, with new trees where the old ones were wrong. And blocks with two owners: one
// keeps them, the other has a copy, or a hole where they were never its data.
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "fs/check/values.h"
#include "fs/format/access_list.h"
#include "fs/repair/doubtful.h"

namespace pinfs::repairing {
namespace {

using checking::Owner;
using checking::OwnerKind;

constexpr std::uint32_t kNanoseconds = 1'000'000'000;
constexpr std::uint64_t kLinkTargetMax = 4095;
constexpr std::uint64_t kGenerationsAhead = std::uint64_t{1} << 20;

struct Wrong {
    bool map = false;
    bool attributes = false;
    bool lists = false;  ///< access lists
    bool type = false;
    bool generation = false;
    std::vector<Contested> contested;
};

bool is_of_inodes(FindingKind kind) {
    return (kind >= FindingKind::inode_generation && kind <= FindingKind::entry_duplicate) ||
           kind == FindingKind::unreadable || kind == FindingKind::block_outside ||
           kind == FindingKind::block_shared;
}

void add_to(Wrong& wrong, FindingKind kind) {
    switch (kind) {
        case FindingKind::attributes_damaged:
        case FindingKind::attribute_entry:
        case FindingKind::attribute_duplicate:
            wrong.attributes = true;
            break;
        case FindingKind::access_list:
            wrong.attributes = wrong.lists = true;
            break;
        case FindingKind::inode_mode:
            wrong.type = wrong.map = true;
            break;
        case FindingKind::inode_generation:
            wrong.generation = true;
            break;
        case FindingKind::unreadable:
        case FindingKind::block_outside:
        case FindingKind::block_shared:
            wrong.map = wrong.attributes = true;
            break;
        case FindingKind::inode_map:
        case FindingKind::inode_size:
        case FindingKind::inode_segment:
        case FindingKind::symbolic_link:
        case FindingKind::tree_node_damaged:
        case FindingKind::tree_node_empty:
        case FindingKind::tree_order:
        case FindingKind::tree_bounds:
        case FindingKind::extent_field:
        case FindingKind::extent_overlap:
        case FindingKind::extent_uncoalesced:
        case FindingKind::entry_damaged:
        case FindingKind::entry_name:
        case FindingKind::entry_hash:
        case FindingKind::entry_duplicate:
            wrong.map = true;
            break;
        default:
            break;
    }
}

class InodeRepair {
public:
    explicit InodeRepair(Work& work) : work_(work) {}

    Expected<bool> run() {
        gather();
        if (wrong_.empty()) return false;
        raise_generation_limit();
        read_all();
        for (Content& content : contents_) TRY(mend(content, wrong_[content.inode.ino]));
        if (state_changed_) TRY(work_.stage_state());
        TRY(work_.use_slots(cleared_));
        TRY(work_.writer.commit());
        return !contents_.empty() || state_changed_;
    }

private:
    void gather();
    void contest(const checking::Claims::Watched& watched);
    [[nodiscard]] std::uint64_t node_owner(std::uint64_t block, OwnerKind& kind) const;
    void raise_generation_limit();
    void read_all();
    void claim(const Content& content, const media::Extent& extent);
    void believe_doubtful();
    void read_one(const media::Inode& inode, const LostLeaves& lost);
    void find_type(media::Inode& inode) const;
    bool is_directory_inline(const media::Inode& inode) const;
    Expected<void> mend(Content& content, Wrong& wrong);
    Expected<void> settle(Content& content, const Wrong& wrong);
    Expected<void> settle_extent(Content& content, const media::Extent& extent, const Wrong& wrong);
    void mend_fields(media::Inode& inode) const;
    bool mend_link(Content& content) const;
    void mend_lists(Content& content) const;

    Work& work_;
    std::map<std::uint64_t, Wrong> wrong_;
    std::vector<Content> contents_;
    std::map<std::uint64_t, bool> cleared_;
    std::map<std::uint64_t, std::uint64_t> own_runs_;  // of one inode: begin, end
    std::uint64_t copied_ = 0;
    std::uint64_t taken_away_ = 0;
    bool state_changed_ = false;
};

void InodeRepair::gather() {
    for (const Finding& finding : work_.findings()) {
        if (finding.ino == 0 || !is_of_inodes(finding.kind) || !work_.inode(finding.ino)) continue;
        add_to(wrong_[finding.ino], finding.kind);
    }
    for (const auto& watched : work_.survey.shared) contest(watched);
}

// Metadata that says itself whose it is has its block; else who came first.
void InodeRepair::contest(const checking::Claims::Watched& watched) {
    bool fixed = false;
    for (const Owner& owner : watched.owners)
        fixed |= !is_of_inode(owner) && owner.kind != OwnerKind::hold;
    OwnerKind kind{};
    const std::uint64_t proven = fixed ? 0 : node_owner(watched.run.begin, kind);
    bool is_metadata = fixed;
    for (const Owner& owner : watched.owners)
        is_metadata |= owner.kind == kind && owner.id == proven && proven != 0;
    bool first = true;
    for (const Owner& owner : watched.owners) {
        if (!is_of_inode(owner) || !work_.inode(owner.id)) continue;
        Wrong& wrong = wrong_[owner.id];
        if (owner.kind != OwnerKind::data) {
            (owner.kind == OwnerKind::tree ? wrong.map : wrong.attributes) = true;
            continue;
        }
        if (is_metadata || !first) {
            wrong.map = true;
            // Twice in one inode is seen when its extents are settled.
            const bool twice = !is_metadata && owner.id == watched.owners.front().id;
            if (!twice) wrong.contested.push_back({watched.run, !is_metadata});
        }
        first = false;
    }
}

// Whose node or attributes stand in a block; 0: nobody's.
std::uint64_t InodeRepair::node_owner(std::uint64_t block, OwnerKind& kind) const {
    AnyBlock node;
    const std::uint64_t offset = block * kBlockBytes;
    if (!work_.read(offset, node)) return 0;
    const media::BlockHeader& header = node.header;
    if (header.magic != media::kBlockMagic || header.own_offset != offset ||
        !work_.survey.image.sum_matches(node))
        return 0;
    kind = header.kind == static_cast<media::le16>(media::BlockKind::attributes)
               ? OwnerKind::attributes
               : OwnerKind::tree;
    return header.owner;
}

// One inode that is far ahead has a wrong generation; else the limit is wrong.
void InodeRepair::raise_generation_limit() {
    std::uint64_t highest = 0;
    for (auto& [ino, wrong] : wrong_) {
        const auto inode = work_.inode(ino);
        if (!wrong.generation || !inode) continue;
        const std::uint64_t limit = work_.state.generation_limit;
        if ((inode->generation & 0xffffffff) == 0 || inode->generation < limit ||
            inode->generation - limit > UINT32_MAX)
            continue;
        highest = std::max(highest, inode->generation);
        wrong.generation = false;
    }
    if (highest == 0) return;
    work_.state.generation_limit = highest + kGenerationsAhead;
    state_changed_ = true;
    work_.tell(work_.super().state_offset, 0, "generations below %lu are taken as used",
               work_.state.generation_limit);
}

// Before the first block is allocated: what of these inodes is only found now is claimed.
void InodeRepair::read_all() {
    LostLeaves lost;
    const bool any_map = std::any_of(wrong_.begin(), wrong_.end(),
                                     [](const auto& entry) { return entry.second.map; });
    if (any_map)
        work_.for_each_lost([&](std::uint64_t offset, const AnyBlock& block) {
            const media::BlockHeader& header = block.header;
            if (header.magic != media::kBlockMagic || header.level != 1) return;
            const auto found = wrong_.find(header.owner);
            if (found != wrong_.end() && found->second.map) lost.emplace(header.owner, offset);
        });
    for (const auto& [ino, wrong] : wrong_)
        if (const auto inode = work_.inode(ino)) read_one(*inode, lost);
    for (const Content& content : contents_)
        for (const auto& [at, extent] : content.extents) claim(content, extent);
    believe_doubtful();
}

void InodeRepair::claim(const Content& content, const media::Extent& extent) {
    work_.survey.claims->take(extent.start_block, extent.blocks,
                              {OwnerKind::data, content.inode.ino});
}

// Of leaves with a wrong checksum what nobody else has or wants.
void InodeRepair::believe_doubtful() {
    if (std::ranges::all_of(contents_, [](const Content& c) { return c.doubtful.empty(); })) return;
    DoubtfulExtents extents(work_);
    for (const Content& content : contents_)
        for (const media::Extent& extent : content.doubtful) extents.offer(extent);
    for (Content& content : contents_) {
        for (const media::Extent& extent : content.doubtful)
            if (extents.is_believed(extent))
                add_extent(work_, extent, content);
            else
                ++content.lost_records;
        for (const auto& [at, extent] : content.extents) claim(content, extent);
    }
}

void InodeRepair::read_one(const media::Inode& inode, const LostLeaves& lost) {
    Content& content = contents_.emplace_back();
    content.inode = inode;
    if (wrong_[inode.ino].map || wrong_[inode.ino].type) find_type(content.inode);
    read_map(work_, content, lost);
    read_attributes(work_, content);
}

bool InodeRepair::is_directory_inline(const media::Inode& inode) const {
    Content content;
    return inode.map_bytes != 0 && inode.map_bytes <= media::kInlineBytes &&
           parse_entries(work_, {inode.inline_map, inode.map_bytes}, true, content) &&
           content.lost_records == 0;
}

// The type by what the inode has, where that contradicts the mode.
void InodeRepair::find_type(media::Inode& inode) const {
    const std::uint32_t permissions = inode.mode & 07777;
    const auto is_type = [&](std::uint32_t type) {
        if ((inode.mode & S_IFMT) == type && inode.mode >> 16 == 0) return;
        inode.mode = type | permissions;
    };
    std::uint64_t root = 0;
    std::memcpy(&root, inode.inline_map, sizeof root);
    AnyBlock node;
    if (inode.map_level != 0 && work_.holds_block(root) && work_.read(root, node)) {
        if (is_node_of(work_, node, root, inode, media::BlockKind::directory_tree))
            return is_type(S_IFDIR);
        if (is_node_of(work_, node, root, inode, media::BlockKind::extent_tree))
            return is_type(S_ISLNK(inode.mode) ? S_IFLNK : S_IFREG);
    }
    if (inode.map_level == 0 && is_directory_inline(inode)) return is_type(S_IFDIR);
    if (checking::is_type(inode.mode)) {
        inode.mode &= 0xffff;
        if (!S_ISDIR(inode.mode) || inode.map_bytes == 0 || inode.map_level != 0) return;
        // A directory none of whose entries is one.
        Content content;
        (void)parse_entries(
            work_, {inode.inline_map, std::min<std::size_t>(inode.map_bytes, media::kInlineBytes)},
            true, content);
        if (!content.entries.empty() || inode.map_bytes % sizeof(media::Extent) != 0) return;
        return is_type(S_IFREG);
    }
    if (inode.device_major != 0 || inode.device_minor != 0) return is_type(S_IFCHR);
    if (inode.map_level == 0 && inode.map_bytes != 0 && inode.map_bytes == inode.size)
        return is_type(S_IFLNK);
    // An entry that names it may know better than nothing.
    is_type(inode.ino == kRootIno.value ? S_IFDIR : S_IFREG);
}

void InodeRepair::mend_fields(media::Inode& inode) const {
    std::uint32_t allowed = media::kInodeFlagsKnown;
    if (!S_ISDIR(inode.mode)) allowed &= ~media::kInodeProjectInherit;
    if (!S_ISREG(inode.mode)) allowed &= ~media::kInodeCutting;
    if (!S_ISREG(inode.mode) && !S_ISDIR(inode.mode)) allowed &= ~media::kInodeDax;
    inode.flags &= allowed;
    for (media::le32* const part :
         {&inode.atime_ns, &inode.mtime_ns, &inode.ctime_ns, &inode.btime_ns})
        if (*part >= kNanoseconds) *part = 0;
    if (!S_ISCHR(inode.mode) && !S_ISBLK(inode.mode)) inode.device_major = inode.device_minor = 0;
    if (S_ISREG(inode.mode)) inode.size = std::min(inode.size, kFileBytesMax);
    if ((inode.flags & media::kInodeCutting) == 0)
        inode.cut_begin = 0;
    else if (inode.cut_begin < blocks_of(inode.size) || inode.cut_begin > std::uint64_t{1} << 32)
        inode.cut_begin = blocks_of(inode.size);
    if (!S_ISDIR(inode.mode)) inode.parent = 0;
    inode.segment = media::kSegmentRegion;
    const bool has_map = S_ISREG(inode.mode) || S_ISDIR(inode.mode) || S_ISLNK(inode.mode);
    if (has_map) return;
    inode.size = 0;
    inode.map_level = 0;
    inode.map_bytes = 0;
    std::fill(std::begin(inode.inline_map), std::end(inode.inline_map), media::u8{0});
}

// The target ends where whoever follows it ends it: before the first zero. False if nothing is
// left.
bool InodeRepair::mend_link(Content& content) const {
    media::Inode& inode = content.inode;
    std::array<char, kBlockBytes> target{};
    const bool is_long = !content.extents.empty();
    if (inode.nlink == 0 && (is_long || inode.size > media::kInlineBytes)) {
        // Of an orphan the blocks may be freed already.
        inode.size = std::clamp<std::uint64_t>(inode.size, media::kInlineBytes + 1, kLinkTargetMax);
        return true;
    }
    if (is_long) {
        const media::Extent& first = content.extents.begin()->second;
        if (first.file_block != 0 || (first.flags & media::kExtentUnwritten) != 0 ||
            !work_.read(first.start_block * kBlockBytes, target))
            return false;
    } else {
        std::copy(std::begin(inode.inline_map), std::end(inode.inline_map), target.begin());
    }
    std::uint64_t length = strnlen(target.data(), kLinkTargetMax);
    if (is_long && inode.size > media::kInlineBytes) length = std::min(length, inode.size);
    if (length == 0) return false;
    inode.size = length;
    if (length > media::kInlineBytes) return true;
    content.extents.clear();
    content.nodes = 0;
    inode.map_level = 0;
    inode.map_bytes = static_cast<media::le32>(length);
    std::fill(std::begin(inode.inline_map), std::end(inode.inline_map), media::u8{0});
    std::copy_n(target.begin(), length, inode.inline_map);
    return true;
}

// Lists that are none or misplaced go; the mode says what a list that is one says.
void InodeRepair::mend_lists(Content& content) const {
    constexpr std::size_t kThatOfAMode =
        sizeof(media::AccessListHead) + 3 * sizeof(media::AccessEntry);
    media::Inode& inode = content.inode;
    std::string kept;
    for (std::string_view rest = content.attributes; !rest.empty();) {
        media::AttributeEntry head;
        std::memcpy(&head, rest.data(), sizeof head);
        const std::size_t length = sizeof head + head.name_bytes + head.value_bytes;
        const std::string_view name = rest.substr(sizeof head, head.name_bytes);
        const std::string_view value = rest.substr(sizeof head + head.name_bytes, head.value_bytes);
        const std::string_view all = rest.substr(0, length);
        rest.remove_prefix(length);
        const bool is_default = name == media::kDefaultListName;
        if (!is_default && name != media::kAccessListName) {
            kept += all;
            continue;
        }
        const auto permissions = checking::permissions_of_list(value);
        if (is_default ? !S_ISDIR(inode.mode) : S_ISLNK(inode.mode)) continue;
        if (!permissions) {
            // Its mask was in the place of the group's permissions: who it named is not known.
            if (!is_default) inode.mode &= ~std::uint32_t{070};
            continue;
        }
        if (!is_default) inode.mode = (inode.mode & ~std::uint32_t{0777}) | *permissions;
        if (is_default || value.size() != kThatOfAMode) kept += all;
    }
    content.attributes = kept;
}

Expected<void> InodeRepair::mend(Content& content, Wrong& wrong) {
    media::Inode& inode = content.inode;
    const media::Inode old = inode;
    const std::uint64_t offset = work_.offset_of(inode.ino);
    mend_fields(inode);
    bool write_the_map = wrong.map;
    bool write_the_attributes = wrong.attributes;
    if (wrong.generation) {
        inode.generation = work_.next_generation();
        state_changed_ = write_the_map = write_the_attributes = true;
    }
    if (S_ISLNK(inode.mode) && !mend_link(content)) {
        cleared_[inode.ino] = false;
        TRY(work_.writer.stage_value(offset, media::Inode{}));
        work_.tell(offset, inode.ino,
                   "the target of the symbolic link is lost, and so it was "
                   "removed");
        return {};
    }
    if (wrong.lists) mend_lists(content);
    copied_ = taken_away_ = 0;
    TRY(settle(content, wrong));
    if (write_the_map) TRY(write_map(work_, content));
    if (write_the_attributes) TRY(write_attributes(work_, content));
    inode.blocks = content.data_blocks() + content.nodes + content.attribute_blocks;
    TRY(work_.stage_inode(inode));

    std::string more;
    const auto add = [&more](std::uint64_t count, const char* what) {
        if (count != 0) more += ", " + std::to_string(count) + what;
    };
    add(copied_, " blocks that another file has were copied");
    add(taken_away_, " blocks that are not its own became holes");
    add(content.lost_units, " blocks of its metadata could not be read");
    add(content.lost_records, " extents, entries or attributes were left out");
    if (S_ISREG(inode.mode) && old.blocks > inode.blocks && content.lost_units != 0)
        add(old.blocks - inode.blocks,
            " of its blocks are not there any more: what was lost of "
            "the data is a hole");
    if (copied_ + taken_away_ + content.lost_units + content.lost_records != 0 || wrong.type)
        work_.doubt(inode.ino);
    work_.tell(
        offset, inode.ino, "the inode was mended%s%s%s", write_the_map ? ", with a new map" : "",
        write_the_attributes && (old.attributes | inode.attributes) != 0 ? ", with new attributes"
                                                                         : "",
        more.c_str());
    return {};
}

// Every block of the inode's extents that somebody else, or an earlier extent, has.
Expected<void> InodeRepair::settle(Content& content, const Wrong& wrong) {
    own_runs_.clear();
    if (!wrong.map) return {};
    const auto extents = std::exchange(content.extents, {});
    for (const auto& [at, extent] : extents) TRY(settle_extent(content, extent, wrong));
    return {};
}

Expected<void> InodeRepair::settle_extent(Content& content, const media::Extent& extent,
                                          const Wrong& wrong) {
    enum class Fate : std::uint8_t { kept, copied, hole };
    const std::uint64_t end = extent.start_block + extent.blocks;
    const auto meets = [&](std::uint64_t begin, std::uint64_t stop) {
        return begin < end && extent.start_block < stop;
    };
    bool is_contested = false;
    for (const Contested& contested : wrong.contested)
        is_contested |= meets(contested.run.begin, contested.run.end());
    auto own = own_runs_.upper_bound(extent.start_block);
    if (own != own_runs_.begin()) is_contested |= std::prev(own)->second > extent.start_block;
    if (own != own_runs_.end()) is_contested |= own->first < end;
    if (!is_contested) {
        own_runs_[extent.start_block] = end;
        content.extents[extent.file_block] = extent;
        return {};
    }
    for (std::uint32_t i = 0; i < extent.blocks; ++i) {
        media::Extent piece = extent;
        piece.file_block += i;
        piece.start_block += i;
        piece.blocks = 1;
        Fate fate = Fate::kept;
        for (const Contested& contested : wrong.contested)
            if (piece.start_block >= contested.run.begin && piece.start_block < contested.run.end())
                fate = contested.copy && fate != Fate::hole ? Fate::copied : Fate::hole;
        const auto next = own_runs_.upper_bound(piece.start_block);
        if (fate == Fate::kept && next != own_runs_.begin() &&
            std::prev(next)->second > piece.start_block)
            fate = Fate::copied;
        // A hole reads as what is not written.
        if (fate == Fate::copied && (piece.flags & media::kExtentUnwritten) != 0) fate = Fate::hole;
        if (fate == Fate::hole) {
            ++taken_away_;
            continue;
        }
        if (fate == Fate::copied) {
            std::array<std::byte, kBlockBytes> block{};
            if (!work_.region.copy_out(piece.start_block * kBlockBytes, block)) {
                ++taken_away_;
                continue;
            }
            piece.start_block = TRY(work_.writer.allocate());
            TRY(work_.region.copy_in(piece.start_block * kBlockBytes, block));
            ++copied_;
        }
        own_runs_[piece.start_block] = piece.start_block + 1;
        content.extents[piece.file_block] = piece;
    }
    return {};
}

}  // namespace

Expected<bool> repair_inodes(Work& work) { return InodeRepair(work).run(); }

}  // namespace pinfs::repairing

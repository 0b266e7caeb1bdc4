// SPDX-License-Identifier: Apache-2.0
//
// The name space: entries that name nothing, link counts, parents, and inodes that nobody names,
// which go to /lost+found as "#" and their number. Inodes and trees are whole by now.
#include <sys/stat.h>

#include <algorithm>

#include "fs/repair/content.h"

namespace pinfs::repairing {
namespace {

constexpr std::uint64_t kRoot = kRootIno.value;
constexpr std::uint8_t kDirectory = S_IFDIR >> 12;
constexpr std::size_t kPathBytesMax = 65536;

class NameRepair {
public:
    explicit NameRepair(Work& work) : work_(work) {}

    Expected<bool> run() {
        if (has(FindingKind::root_directory)) return make_root();
        TRY(edit_directories());
        if (!changed_) TRY(mend_counts());
        if (!changed_) TRY(find_homes());
        TRY(work_.writer.commit());
        return changed_;
    }

private:
    [[nodiscard]] bool has(FindingKind kind) const {
        return std::ranges::any_of(work_.findings(),
                                   [kind](const Finding& finding) { return finding.kind == kind; });
    }
    Expected<bool> make_root();
    Expected<void> edit_directories();
    Expected<void> edit_directory(std::uint64_t directory, std::uint64_t without);
    Expected<void> mend_counts();
    Expected<void> find_homes();
    std::optional<Content> directory_of(std::uint64_t ino) const;
    Expected<void> write_directory(Content& content);
    bool revive(const Entry& entry);
    Expected<void> store_new(media::Inode& inode);
    [[nodiscard]] std::uint64_t free_ino() const;
    media::Inode new_directory(std::uint64_t ino, std::uint32_t permissions, std::uint64_t parent);

    Work& work_;
    bool changed_ = false;
    std::map<std::uint64_t, bool> revived_;
};

std::optional<Content> NameRepair::directory_of(std::uint64_t ino) const {
    const auto inode = work_.inode(ino);
    if (!inode || !S_ISDIR(inode->mode)) return std::nullopt;
    Content content;
    content.inode = *inode;
    read_map(work_, content, {});
    read_attributes(work_, content);
    return content;
}

Expected<void> NameRepair::write_directory(Content& content) {
    TRY(write_map(work_, content));
    content.inode.blocks = content.nodes + content.attribute_blocks;
    changed_ = true;
    return work_.stage_inode(content.inode);
}

media::Inode NameRepair::new_directory(std::uint64_t ino, std::uint32_t permissions,
                                       std::uint64_t parent) {
    media::Inode inode{};
    inode.magic = media::kInodeMagic;
    inode.ino = ino;
    inode.generation = work_.next_generation();
    inode.mode = S_IFDIR | permissions;
    inode.nlink = 2;
    inode.parent = parent;
    inode.atime = inode.mtime = inode.ctime = inode.btime = work_.options.now_seconds;
    return inode;
}

// Stores an inode in a slot that is free, or in a new chunk where there is none.
Expected<void> NameRepair::store_new(media::Inode& inode) {
    TRY(work_.stage_state());
    if (work_.note(inode.ino) != nullptr) {
        TRY(work_.stage_inode(inode));
        return work_.use_slots({{inode.ino, true}});
    }
    const std::uint64_t index = inode.ino / media::kChunkSlots;
    const unsigned slot = inode.ino % media::kChunkSlots;
    const std::uint64_t block = TRY(work_.writer.allocate());
    checking::Chunk chunk{};
    chunk.header.magic = media::kChunkMagic;
    chunk.header.own_offset = block * kBlockBytes;
    chunk.header.table = media::kTableInodes;
    chunk.header.chunk = index;
    chunk.header.used = static_cast<media::le16>(1u | 1u << slot);
    work_.writer.seal(chunk.header);
    work_.writer.seal(inode);
    std::memcpy(chunk.slots[slot - 1].data(), &inode, sizeof inode);
    TRY(work_.writer.store_new(block, chunk));
    TRY(work_.writer.commit());
    TRY(repair_table(work_, media::kTableInodes, {{index, block * kBlockBytes}}));
    return {};
}

// Inode 1 is taken from whatever it is: nobody could reach that.
Expected<bool> NameRepair::make_root() {
    media::Inode root = new_directory(kRoot, 0755, kRoot);
    root.flags = media::kInodeDax;
    TRY(store_new(root));
    TRY(work_.writer.commit());
    work_.tell(work_.super().state_offset, kRoot, "a root directory was made");
    return true;
}

// The first that is free.
std::uint64_t NameRepair::free_ino() const {
    const auto& inodes = work_.walk().inodes;
    for (std::size_t i = 0; i < inodes.slots(); ++i)
        if (inodes.ino(i) % media::kChunkSlots != 0 &&
            work_.walk().inodes.note(i).state == InodeNote::State::unused)
            return inodes.ino(i);
    std::uint64_t index = 0;
    for (const auto& chunk : inodes.chunks()) {
        if (chunk.index != index) break;
        ++index;
    }
    return index * media::kChunkSlots + 1;
}

Expected<void> NameRepair::edit_directories() {
    std::map<std::uint64_t, std::uint64_t> without;  // directory: an inode that it must not name
    for (const Finding& finding : work_.findings()) {
        const bool of_root = finding.ino == kRoot && finding.offset == work_.offset_of(kRoot);
        if (finding.kind == FindingKind::directory_two_names && of_root)
            without[work_.note(kRoot)->named_in] = kRoot;
        else if (finding.kind == FindingKind::entry_dangling ||
                 finding.kind == FindingKind::entry_type ||
                 finding.kind == FindingKind::directory_two_names)
            without.try_emplace(finding.ino, 0);
        else if (finding.kind == FindingKind::directory_loop)
            without[work_.note(finding.ino)->named_in] = finding.ino;
    }
    for (const auto& [directory, ino] : without) TRY(edit_directory(directory, ino));
    if (!revived_.empty()) {
        TRY(work_.use_slots(revived_));
        changed_ = true;
    }
    return {};
}

// Leaves out what names nothing, a directory's further names, and `without`.
Expected<void> NameRepair::edit_directory(std::uint64_t directory, std::uint64_t without) {
    auto content = directory_of(directory);
    if (!content) return {};
    const std::uint64_t offset = work_.offset_of(directory);
    std::vector<Entry> kept;
    std::set<std::uint64_t> subdirectories;
    bool edited = false;
    for (Entry& entry : content->entries) {
        const InodeNote* const target = work_.note(entry.ino);
        const std::string name = checking::printable(entry.name);
        const char* why = nullptr;
        if (target == nullptr || target->state != InodeNote::State::used) {
            if (revive(entry)) {
                kept.push_back(std::move(entry));
                continue;
            }
            why = "names no inode";
        } else if (entry.ino == kRoot || (without != 0 && entry.ino == without)) {
            why = "names a directory above it";
        } else if (target->type == kDirectory &&
                   (target->named_in != directory || !subdirectories.insert(entry.ino).second)) {
            why = "names a directory that has another name";
        }
        if (why != nullptr) {
            work_.tell(offset, directory, "the entry \"%s\", which %s (%lu), was removed",
                       name.c_str(), why, entry.ino);
            edited = true;
            continue;
        }
        if (entry.type != target->type) {
            work_.tell(offset, directory, "the entry \"%s\" has its inode's type now",
                       name.c_str());
            entry.type = target->type;
            edited = true;
        }
        kept.push_back(std::move(entry));
    }
    if (!edited) return {};
    content->entries = std::move(kept);
    return write_directory(*content);
}

// An inode of the entry's type, whole, with names, whose slot is only said to be free.
bool NameRepair::revive(const Entry& entry) {
    media::Inode inode;
    if (work_.note(entry.ino) == nullptr || entry.ino % media::kChunkSlots == 0 ||
        !work_.read(work_.offset_of(entry.ino), inode) ||
        !work_.is_whole(inode, media::kInodeMagic) || inode.ino != entry.ino || inode.nlink == 0 ||
        (inode.mode & S_IFMT) >> 12 != entry.type)
        return false;
    if (revived_.emplace(entry.ino, true).second)
        work_.tell(work_.offset_of(entry.ino), entry.ino,
                   "it has a name, and its slot is in use again");
    return true;
}

Expected<void> NameRepair::mend_counts() {
    std::set<std::uint64_t> inos;
    for (const Finding& finding : work_.findings())
        if (finding.kind == FindingKind::link_count ||
            finding.kind == FindingKind::directory_parent ||
            finding.kind == FindingKind::orphan_not_empty)
            inos.insert(finding.ino);
    for (const std::uint64_t ino : inos) {
        auto inode = work_.inode(ino);
        if (!inode) continue;
        const InodeNote& note = *work_.note(ino);
        const bool is_directory = S_ISDIR(inode->mode);
        inode->nlink = is_directory ? 2 + note.subdirectories : note.entries;
        if (is_directory) {
            if (ino == kRoot)
                inode->parent = kRoot;
            else if (note.named_in != 0)
                inode->parent = note.named_in;
            work_.tell(work_.offset_of(ino), ino, "the link count is %u, the parent %lu now",
                       inode->nlink, inode->parent);
        } else {
            work_.tell(work_.offset_of(ino), ino, "the link count is %u now", inode->nlink);
        }
        TRY(work_.stage_inode(*inode));
        changed_ = true;
    }
    return {};
}

Expected<void> NameRepair::find_homes() {
    std::vector<std::uint64_t> homeless;
    for (const Finding& finding : work_.findings())
        if (finding.kind == FindingKind::inode_unreachable) homeless.push_back(finding.ino);
    auto root = directory_of(kRoot);
    if (homeless.empty() || !root) return {};

    std::string name = "lost+found";
    for (unsigned i = 1;; ++i) {
        const auto entry = std::ranges::find(root->entries, name, &Entry::name);
        if (entry == root->entries.end()) break;
        if (auto home = directory_of(entry->ino)) {
            std::set<std::string> names;
            for (const Entry& there : home->entries) names.insert(there.name);
            for (const std::uint64_t ino : homeless) {
                std::string wanted = "#" + std::to_string(ino);
                while (!names.insert(wanted).second) wanted += "-";
                work_.tell(work_.offset_of(ino), ino, "nobody named it: it is /%s/%s now",
                           name.c_str(), wanted.c_str());
                home->entries.push_back({ino, work_.note(ino)->type, wanted});
            }
            return write_directory(*home);
        }
        name = "lost+found-" + std::to_string(i);  // the name is a file's
    }
    // First the directory; what goes there is next.
    media::Inode home = new_directory(free_ino(), 0700, kRoot);
    TRY(store_new(home));
    root->entries.push_back({home.ino, kDirectory, name});
    work_.tell(work_.super().state_offset, home.ino, "the directory /%s was made", name.c_str());
    return write_directory(*root);
}

}  // namespace

std::string path_of(Work& work, std::uint64_t ino) {
    std::string path;
    while (ino != kRoot && path.size() < kPathBytesMax) {
        const InodeNote* const note = work.survey.walk ? work.note(ino) : nullptr;
        const auto directory =
            note == nullptr || note->named_in == 0 ? std::nullopt : work.inode(note->named_in);
        if (!directory) return {};
        Content content;
        content.inode = *directory;
        read_map(work, content, {});
        const auto entry = std::ranges::find(content.entries, ino, &Entry::ino);
        if (entry == content.entries.end()) return {};
        path = "/" + checking::printable(entry->name) + path;
        ino = note->named_in;
    }
    return path.empty() ? "/" : path;
}

Expected<bool> repair_names(Work& work) { return NameRepair(work).run(); }

}  // namespace pinfs::repairing

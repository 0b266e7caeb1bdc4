// SPDX-License-Identifier: Apache-2.0
//
// The entries of a directory: every field, their order, that a key is the name's own, that no name
// is there twice; and what they say of the inodes they name.
#define XXH_INLINE_ALL
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "fs/check/tree.h"
#include "fs/check/values.h"

namespace pinfs::checking {
namespace {

constexpr std::uint64_t kHashMax = (std::uint64_t{1} << media::kNameHashBits) - 1;
constexpr std::uint64_t kKeyMin = std::uint64_t{1} << media::kNameCollisionBits;
constexpr std::uint64_t kKeyEnd = std::uint64_t{1}
                                  << (media::kNameHashBits + media::kNameCollisionBits);

class Entries final : public TreeWalk::Sink {
public:
    Entries(Walk& walk, const Subject& subject)
        : walk_(walk), findings_(walk.findings()), ino_(subject.inode.ino) {}

    void leaf(const TreeWalk::Leaf& leaf) override {
        const char* at = reinterpret_cast<const char*>(leaf.payload.data());
        std::size_t rest = leaf.payload.size();
        while (rest != 0) {
            media::DirectoryEntry entry;
            if (rest >= sizeof entry) std::memcpy(&entry, at, sizeof entry);
            if (rest < sizeof entry || rest - sizeof entry < entry.name_bytes) {
                findings_.add(FindingKind::entry_damaged, leaf.offset, ino_,
                              "the directory's records end %zu bytes into an entry", rest);
                complete_ = false;
                return;
            }
            judge(entry, {at + sizeof entry, entry.name_bytes}, leaf);
            const std::size_t bytes = sizeof entry + entry.name_bytes;
            size_ += bytes;
            at += bytes;
            rest -= bytes;
        }
    }

    [[nodiscard]] std::uint64_t size() const { return size_; }
    [[nodiscard]] std::uint64_t entries() const { return entries_; }
    [[nodiscard]] std::uint32_t subdirectories() const { return subdirectories_; }
    [[nodiscard]] bool complete() const { return complete_; }

private:
    void judge(const media::DirectoryEntry& entry, std::string_view name,
               const TreeWalk::Leaf& leaf);
    void judge_name(const media::DirectoryEntry& entry, std::string_view name,
                    const TreeWalk::Leaf& leaf);
    void judge_target(const media::DirectoryEntry& entry, std::string_view name,
                      const TreeWalk::Leaf& leaf);

    Walk& walk_;
    Findings& findings_;
    std::uint64_t ino_;
    std::uint64_t size_ = 0;
    std::uint64_t entries_ = 0;
    std::uint32_t subdirectories_ = 0;
    bool complete_ = true;
    std::uint64_t previous_key_ = 0;
    // Names that share the hash of the last entry, one after the other, and where each begins.
    std::string same_hash_;
    std::vector<std::uint32_t> same_hash_begin_;
};

void Entries::judge(const media::DirectoryEntry& entry, std::string_view name,
                    const TreeWalk::Leaf& leaf) {
    ++entries_;
    if (entry.key < kKeyMin || entry.key >= kKeyEnd)
        findings_.add(FindingKind::entry_damaged, leaf.offset, ino_,
                      "entry \"%s\" has key %lu, which none may have", printable(name).c_str(),
                      entry.key);
    if (entry.key < leaf.lower || entry.key >= leaf.upper)
        findings_.add(FindingKind::tree_bounds, leaf.offset, ino_,
                      "entry \"%s\" has key %lu, outside of its leaf's [%lu, %lu)",
                      printable(name).c_str(), entry.key, leaf.lower, leaf.upper);
    if (entries_ != 1 && entry.key <= previous_key_)
        findings_.add(FindingKind::tree_order, leaf.offset, ino_,
                      "entry \"%s\" has key %lu and follows one with key %lu",
                      printable(name).c_str(), entry.key, previous_key_);
    judge_name(entry, name, leaf);
    previous_key_ = entry.key;
    judge_target(entry, name, leaf);
}

void Entries::judge_name(const media::DirectoryEntry& entry, std::string_view name,
                         const TreeWalk::Leaf& leaf) {
    if (!is_name(name))
        findings_.add(FindingKind::entry_name, leaf.offset, ino_,
                      "an entry for inode %lu has the name \"%s\"", entry.ino,
                      printable(name).c_str());
    const std::uint64_t key_hash = entry.key >> media::kNameCollisionBits;
    const std::uint64_t hash = hash_of(name, walk_.image.superblock());
    if (key_hash != hash)
        findings_.add(FindingKind::entry_hash, leaf.offset, ino_,
                      "entry \"%s\" has a key of hash %lu, its name's is %lu",
                      printable(name).c_str(), key_hash, hash);

    if (key_hash != previous_key_ >> media::kNameCollisionBits) {
        same_hash_.clear();
        same_hash_begin_.clear();
    }
    for (std::size_t i = 0; i < same_hash_begin_.size(); ++i) {
        const std::size_t begin = same_hash_begin_[i];
        const std::size_t end =
            i + 1 < same_hash_begin_.size() ? same_hash_begin_[i + 1] : same_hash_.size();
        if (std::string_view(same_hash_).substr(begin, end - begin) != name) continue;
        findings_.add(FindingKind::entry_duplicate, leaf.offset, ino_,
                      "two entries have the name \"%s\"", printable(name).c_str());
        break;
    }
    // More names of one hash than there are collision indices are out of order already.
    if (same_hash_begin_.size() < std::size_t{1} << media::kNameCollisionBits) {
        same_hash_begin_.push_back(static_cast<std::uint32_t>(same_hash_.size()));
        same_hash_.append(name);
    }
}

void Entries::judge_target(const media::DirectoryEntry& entry, std::string_view name,
                           const TreeWalk::Leaf& leaf) {
    InodeNote* const target = walk_.inodes.find(entry.ino);
    if (target == nullptr || target->state == InodeNote::State::unused) {
        findings_.add(FindingKind::entry_dangling, leaf.offset, ino_,
                      "entry \"%s\" names inode %lu, which is not in use", printable(name).c_str(),
                      entry.ino);
        return;
    }
    ++target->entries;
    const bool damaged = target->state == InodeNote::State::damaged;
    if (!damaged && target->type != entry.type)
        findings_.add(FindingKind::entry_type, leaf.offset, ino_,
                      "entry \"%s\" has type %u, but inode %lu is of type %u",
                      printable(name).c_str(), entry.type, entry.ino, target->type);
    if ((damaged ? entry.type : target->type) != S_IFDIR >> 12) return;
    ++subdirectories_;
    if (target->named_in == 0) {
        target->named_in = ino_;
        return;
    }
    findings_.add(FindingKind::directory_two_names, leaf.offset, ino_,
                  "entry \"%s\" names directory %lu, which has an entry in directory %lu as well",
                  printable(name).c_str(), entry.ino, target->named_in);
}

}  // namespace

bool is_name(std::string_view name) {
    return !name.empty() && name != "." && name != ".." &&
           name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

std::uint64_t hash_of(std::string_view name, const media::Superblock& superblock) {
    const std::uint64_t hash =
        XXH3_64bits_withSeed(name.data(), name.size(), superblock.name_hash_seed);
    return std::min((hash >> (64 - superblock.name_hash_bits)) + 1, kHashMax);
}

Owned walk_directory(Walk& walk, const Subject& subject) {
    const media::Inode& inode = subject.inode;
    Entries entries(walk, subject);
    TreeWalk tree(walk, subject, media::BlockKind::directory_tree, entries);
    Owned nodes = tree.run();
    nodes.complete = nodes.complete && entries.complete();

    InodeNote* const note = walk.inodes.find(inode.ino);
    note->subdirectories = entries.subdirectories();
    note->names_known = nodes.complete;
    if (nodes.complete && inode.size != entries.size())
        walk.findings().add(FindingKind::inode_size, subject.offset, inode.ino,
                            "the size is %lu, the directory's entries have %lu bytes", inode.size,
                            entries.size());
    if (inode.nlink == 0 && entries.entries() != 0)
        walk.findings().add(FindingKind::orphan_not_empty, subject.offset, inode.ino,
                            "the directory is unlinked but has %lu entries", entries.entries());
    return nodes;
}

}  // namespace pinfs::checking

// SPDX-License-Identifier: Apache-2.0
//
// The name space as a whole: link counts, parents, loops, and inodes that nobody names.
#include <sys/stat.h>

#include <vector>

#include "fs/check/walk.h"

namespace pinfs::checking {
namespace {

constexpr std::uint8_t kDirectory = S_IFDIR >> 12;
constexpr std::uint64_t kRoot = kRootIno.value;

bool is_directory(const InodeNote& note) {
    return note.state == InodeNote::State::used && note.type == kDirectory;
}

void judge_root(Walk& walk) {
    const InodeNote* const root = walk.inodes.find(kRoot);
    const bool damaged = root != nullptr && root->state == InodeNote::State::damaged;
    if (damaged || (root != nullptr && is_directory(*root))) return;
    walk.findings().add(FindingKind::root_directory, walk.image.superblock().state_offset, 0,
                        "inode 1, the root, is not a directory in use");
}

void judge_links(Walk& walk, std::size_t i) {
    const InodeNote& note = walk.inodes.note(i);
    const std::uint64_t ino = walk.inodes.ino(i);
    const std::uint64_t offset = walk.inodes.offset(i);
    Findings& findings = walk.findings();

    if (ino == kRoot && note.entries != 0)
        findings.add(FindingKind::directory_two_names, offset, ino,
                     "the root directory has %u entries", note.entries);
    if (ino != kRoot && note.entries == 0 && note.nlink != 0)
        findings.add(FindingKind::inode_unreachable, offset, ino,
                     "it has link count %u, but no entry names it", note.nlink);
    if (note.type != kDirectory) {
        if (note.entries != note.nlink && note.entries != 0)
            findings.add(FindingKind::link_count, offset, ino,
                         "the link count is %u, but %u entries name it", note.nlink, note.entries);
        return;
    }
    const bool orphan = note.nlink == 0 && note.entries == 0 && ino != kRoot;
    if (orphan) return;
    if (note.names_known && std::uint64_t{note.nlink} != std::uint64_t{2} + note.subdirectories)
        findings.add(FindingKind::link_count, offset, ino,
                     "the link count is %u, but it has %u subdirectories", note.nlink,
                     note.subdirectories);
    const std::uint64_t parent = ino == kRoot ? kRoot : note.named_in;
    if (parent != 0 && note.parent != parent)
        findings.add(FindingKind::directory_parent, offset, ino,
                     "its parent is said to be %lu, but it is in directory %lu", note.parent,
                     parent);
}

// Follows every directory upwards: who does not come to the root, nor to one that has no entry
// (which is reported for itself), is in a loop or below one. Every directory is entered once.
void judge_loops(Walk& walk) {
    enum Mark : std::uint8_t { kUnknown, kOnPath, kDone };
    std::vector<InodeNote*> path;
    for (std::size_t i = 0; i < walk.inodes.slots(); ++i) {
        if (!is_directory(walk.inodes.note(i))) continue;
        std::uint64_t ino = walk.inodes.ino(i);
        InodeNote* note = &walk.inodes.note(i);
        path.clear();
        while (note != nullptr && is_directory(*note) && note->mark == kUnknown) {
            note->mark = kOnPath;
            path.push_back(note);
            if (ino == kRoot || note->named_in == 0) break;
            ino = note->named_in;
            note = walk.inodes.find(ino);
            if (note != nullptr && note->mark == kOnPath)
                walk.findings().add(FindingKind::directory_loop,
                                    walk.image.superblock().state_offset, ino,
                                    "the directory is below itself and not below the root");
        }
        for (InodeNote* passed : path) passed->mark = kDone;
    }
}

}  // namespace

void judge_names(Walk& walk) {
    judge_root(walk);
    for (std::size_t i = 0; i < walk.inodes.slots(); ++i)
        if (walk.inodes.note(i).state == InodeNote::State::used) judge_links(walk, i);
    judge_loops(walk);
}

}  // namespace pinfs::checking

// SPDX-License-Identifier: Apache-2.0
//
// One request to a file system, as a value: run on a mounted one here, and on a model of one
// (model_files.h) to say what must come out. Workloads of crash and model tests are lists of these.
//
// A path begins with "/", or is "#n": the n-th open file, whatever became of its name.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/support/mounted.h"

namespace pinfs::test {

enum class Do : std::uint8_t {
    create,            // path, number: permissions
    make_directory,    // path, number: permissions
    make_node,         // path, number: mode; offset, length: device major and minor
    make_unnamed,      // path: of the directory, seed: permissions, number: n of "#n"
    symbolic_link,     // path, other: target
    link,              // path: of the file; other: new name
    rename,            // path, other, number: flags
    unlink,            // path
    remove_directory,  // path
    write,             // path, offset, length, seed of the pattern; number 1: kill privileges
    append,            // path, length, seed
    truncate,          // path, length: new size
    allocate,          // path, offset, length; number 1: keep size
    zero_range,        // path, offset, length; number 1: keep size
    punch_hole,        // path, offset, length
    copy,  // path: source, other: destination, offset: of source, seed: of destination, length
    set_attribute,     // path, other: name, length and seed of the value, number: SetAttribute
    set_list,          // path, other: name, seed: see list_of
    remove_attribute,  // path, other
    change_mode,       // path, number
    change_owner,      // path, number: uid, seed: gid
    set_times,         // path, offset: atime, length: mtime, in seconds
    sync,              // path
    open,              // path, number: n of "#n"
    release,           // number
    lease,             // path: an open file, number: n of the holder, seed 1: exclusive
    drop_lease,        // path: the same, number
    map,               // path: an open file, offset, length, number: n of the map or pin
    pin,               // the same
    drop,              // number: unmaps or unpins
    reload,            // number: of a map, which its owner shows anew whole
    lose_owner,        // of all maps and pins: the context and its guard close
    finish_pending,
    unmount,
    abandon,  // as a killed daemon
    mount,
};

struct Operation {
    Do what;
    std::string path = {};
    std::string other = {};
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::uint64_t seed = 0;
    std::uint32_t number = 0;
    bool elsewhere = false;  ///< on a thread of its own: the allocator spreads threads over groups

    [[nodiscard]] std::string text() const;
};
using Operations = std::vector<Operation>;

inline bool is_handle(const std::string& path) { return path.starts_with('#'); }
inline std::uint32_t handle_of(const std::string& path) {
    return static_cast<std::uint32_t>(std::stoul(path.substr(1)));
}

/// An access list. `seed` has three bits of permissions for each entry, the owner's lowest: owner,
/// user 1000, owning group, mask, other; if the sixteenth bit is set: owner, owning group, other.
Bytes list_of(std::uint64_t seed);

/// Runs operations on a mounted file system; keeps the open files.
class Runner {
public:
    explicit Runner(Mounted& fs) : fs_{fs} {}
    Expected<void> run(const Operation& operation);
    [[nodiscard]] Expected<Ino> find(const std::string& path) const;
    /// The file that a map or pin is of; no inode if it does not live.
    [[nodiscard]] Ino reached(std::uint32_t number) const;
    /// Bytes of the last write, append or copy.
    [[nodiscard]] std::uint64_t written() const { return written_; }

private:
    Expected<void> run_here(const Operation& operation);
    Expected<void> make(const Operation& operation, std::uint32_t mode);
    Expected<void> change(const Operation& operation);

    Mounted& fs_;
    Expected<void> reach(const Operation& operation);
    Expected<void> lease(Ino ino, std::uint32_t number, pin::LeaseKind kind);
    Expected<void> drop(std::uint32_t number);
    Expected<void> reload(std::uint32_t number);

    struct Reached {
        Ino ino;
        std::uint64_t id = 0;
        std::uint64_t generation = 0;  // 0: a map
    };
    std::map<std::uint32_t, Ino> open_;
    std::map<std::uint32_t, Reached> reached_;
    pin::Owner owner_;
    std::uint64_t guard_ = 0;
    std::uint64_t written_ = 0;
};

}  // namespace pinfs::test

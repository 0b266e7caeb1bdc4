// SPDX-License-Identifier: Apache-2.0
//
// A mounted file system for a test: memory, mkfs, mount without background threads; helpers that
// throw where the test did not expect an error; and snapshots of all that a caller can see.
//
//     Mounted fs{{.bytes = 1_MiB}};
//     const Ino file = fs.make_file("/a", 10'000, 7);   // pattern of seed 7
//     const Snapshot before = fs.snapshot();
//     fs.remount();
//     CHECK(difference(fs.snapshot(), before) == "");
//     fs.check_clean();
//
// Helpers may be called from several threads where Volume may.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "fs/check/check.h"
#include "fs/pmem/region.h"
#include "fs/volume/volume.h"

namespace pinfs::test {

using Bytes = std::vector<std::byte>;

/// What free blocks hold before a test writes them, so that they show where nobody zeroed them.
inline constexpr std::byte kPoison{0xdb};

[[noreturn]] void not_expected(const Error& error, const std::source_location& where);

/// The value, or an exception that says what failed and where it was called.
template <class T>
T must(Expected<T> result, const std::source_location& where = std::source_location::current()) {
    if (!result) not_expected(result.error(), where);
    if constexpr (!std::is_void_v<T>) return *std::move(result);
}

/// Bytes that depend on the seed and on each byte's offset in the file; no word is zero or poison.
Bytes pattern(std::uint64_t offset, std::size_t bytes, std::uint64_t seed);

/// What can be seen of one name. What is not known is not set, and then compares equal.
struct FileState {
    std::uint32_t mode = 0;
    std::uint32_t nlink = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t device_major = 0;
    std::uint32_t device_minor = 0;
    std::optional<std::uint64_t> size;  ///< of a directory it is the format's own
    std::optional<Time> atime, mtime, ctime, btime;
    std::optional<std::uint32_t> flags;
    std::optional<std::uint64_t> ino, generation;
    std::string target;
    std::string first_name;  ///< lowest path of the same inode
    std::map<std::string, Bytes> attributes;
    std::map<std::uint64_t, Bytes> blocks;  ///< file blocks that are not all zeros, up to EOF
};
/// By path; the root is "/".
using Snapshot = std::map<std::string, FileState>;

Snapshot snapshot_of(Volume& volume);
/// Of one inode, whatever its names; `first_name` is empty.
FileState state_of(Volume& volume, Ino ino);
/// Empty if they agree, else the first few differences.
std::string difference(const Snapshot& found, const Snapshot& expected);
/// The same for one name.
std::string difference(const FileState& found, const FileState& expected);

struct MountedOptions {
    std::uint64_t bytes = std::uint64_t{1} << 20;
    unsigned name_hash_bits = 54;
    bool poison = true;  ///< free blocks hold kPoison; false for regions too large to fill
    bool dax = true;
    std::uint64_t map_unit_bytes = kBlockBytes;
};

/// Memory that is not in a file. Untouched pages cost nothing.
class Memory {
public:
    explicit Memory(std::uint64_t bytes);
    ~Memory();
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

private:
    std::span<std::byte> bytes_;
};

/// Poison and an empty file system, all of it deterministic.
void make_empty(pmem::Region& region, std::span<std::byte> memory, const MountedOptions& options);
/// As tests mount: no background threads, a fixed machine id.
MountOptions mount_options();

class Mounted {
public:
    /// In memory of its own, without an observer.
    explicit Mounted(const MountedOptions& options);
    /// Makes it in `region`, e.g. a CrashRegion's.
    Mounted(pmem::Region& region, std::span<std::byte> memory, const MountedOptions& options);
    /// Mounts what is there, in another boot of the machine: what was mapped or pinned is not any
    /// more. In the same one its owners may live.
    explicit Mounted(pmem::Region& region, bool same_boot = false);
    ~Mounted();

    [[nodiscard]] pmem::Region& region() const { return *region_; }
    [[nodiscard]] Volume& volume() const { return *volume_; }
    Volume* operator->() const { return volume_.get(); }
    [[nodiscard]] bool is_mounted() const { return volume_ != nullptr; }

    void mount(bool background = false, std::uint64_t unpin_delay_ms = 0);
    void unmount();
    void remount();
    /// As a killed daemon: what is in memory is gone.
    void abandon() { volume_.reset(); }

    // By path, from the root. The lookups are given back: what is made is known to nobody.
    [[nodiscard]] Expected<Ino> find(std::string_view path) const;
    [[nodiscard]] Ino ino(std::string_view path) const { return must(find(path)); }
    Ino make_directory(std::string_view path, std::uint32_t mode = 0755);
    /// With `bytes` bytes of pattern(0, bytes, seed).
    Ino make_file(std::string_view path, std::size_t bytes = 0, std::uint64_t seed = 0);
    /// In pieces of at most 1 MiB, as requests come.
    void write(Ino ino, std::uint64_t offset, std::span<const std::byte> bytes);
    [[nodiscard]] Bytes read(Ino ino, std::uint64_t offset, std::size_t bytes) const;
    void truncate(Ino ino, std::uint64_t size);
    /// Removes everything below the root, orphans included; throws if any of it cannot be removed.
    void remove_all();

    [[nodiscard]] Snapshot snapshot() const { return snapshot_of(*volume_); }
    /// Throws unless the judge finds nothing. Works while mounted and no call is under way.
    void check_clean() const;

    /// Splits "/a/b" into the inode of "/a" and "b".
    struct Place {
        Ino parent;
        std::string_view name;
    };
    [[nodiscard]] Expected<Place> place_of(std::string_view path) const;

private:
    std::unique_ptr<Memory> memory_;
    std::unique_ptr<pmem::Region> own_region_;
    pmem::Region* region_;
    bool same_boot_ = true;
    std::unique_ptr<Volume> volume_;
};

}  // namespace pinfs::test

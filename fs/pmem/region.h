// SPDX-License-Identifier: Apache-2.0
//
// The region: the only code that loads, stores, flushes and fences media. Everything above sees
// offsets, never addresses, so that a test region sees every store and a bad page fails one
// request.
//
// Invariants
//   - Only the copying inside read, copy_out, copy_in, zero, store_flush and store8_flush touches
//     media, under a SIGBUS recovery point with no lock taken, destructor or foreign frame inside
//     it.
//   - `*_flush` and copies into the region are durable after a later fence() of the same thread.
//   - Where the capabilities say that contents are not persistent, flushes cost nothing.
//   - What raised a media error is one of the bad blocks until it was written whole.
// Thread-safe; who may write what is for the layers above to say.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <vector>

#include "fs/error.h"
#include "fs/pmem/bad_blocks.h"
#include "fs/units.h"

namespace pinfs::pmem {

enum class Kind : std::uint8_t { devdax = 1, fsdax, tmpfs, hugetlb, file };
enum class Flush : std::uint8_t { page = 1, line, none };  ///< msync; cache line; eADR or volatile

/// What a region can do (SPEC 1.4), found out when it is opened.
struct Capabilities {
    Kind kind = Kind::file;
    Flush flush = Flush::page;
    bool map_sync = false;    ///< the mapping carries MAP_SYNC
    bool persistent = false;  ///< contents survive a power cut
    bool pinnable = false;    ///< the kernel lets a device pin its pages long-term
    std::uint64_t map_unit_bytes = kBlockBytes;  ///< alignment of a direct map
    std::uint64_t huge_bytes = kBlockBytes;      ///< page size worth aligning to
};
const char* name_of(Kind kind);
const char* name_of(Flush flush);

/// Sees what a region does, in order; tests replay it (tests/support/crash_region.h). `where` is
/// the call site in the layers above: the unit of a mutation run.
class Observer {
public:
    virtual ~Observer() = default;
    /// Before a load. Returning false makes it fail with media_error.
    virtual bool before_load(std::uint64_t offset, std::uint64_t bytes) = 0;
    /// Before a store. Returning false makes it fail with media_error, nothing stored.
    virtual bool before_store(std::uint64_t offset, std::uint64_t bytes) = 0;
    /// The region's memory holds the new bytes; not yet flushed.
    virtual void stored(std::uint64_t offset, std::uint64_t bytes) = 0;
    virtual void flushed(std::uint64_t offset, std::uint64_t bytes,
                         const std::source_location& where) = 0;
    virtual void fenced(const std::source_location& where) = 0;
};

struct OpenOptions {
    bool read_only = false;  ///< maps without write permission; stores are a programmer's mistake
    bool exclusive = true;  ///< take the region's lock; fails with region_in_use. Readers share it.
    bool locked_out_is_fine =
        false;  ///< with read_only: look even while another process has the lock
};

/// A process that has a region's lock.
struct LockHolder {
    int pid = 0;
    std::string command;
};

class Region {
public:
    using Where = std::source_location;

    /// Opens and maps a device DAX node or a regular file. The lock dies with the process (or is
    /// inherited by a child that keeps the Region). Errors: system, region_in_use,
    /// region_too_small, region_not_mappable, device_not_bound.
    static Expected<std::unique_ptr<Region>> open(const std::string& path,
                                                  const OpenOptions& options);

    /// Makes a regular file of `bytes` with `mode`, allocated whole unless `sparse`: where the file
    /// system runs full under a sparse region, stores fail with media_error. Fails if the path
    /// exists (EEXIST). On error no file is left.
    static Expected<void> create_file(const std::string& path, std::uint64_t bytes, unsigned mode,
                                      bool sparse = false);

    /// Allocates what is missing of an existing file on tmpfs or hugetlbfs, so that their running
    /// full later is no media error; does nothing for other kinds. Contents stay. Errors: system
    /// (ENOSPC).
    static Expected<void> allocate_file(const std::string& path);

    /// Who has the lock of the region at `path`; empty if nobody has it or it cannot be seen
    /// (processes of others, without privilege).
    static std::vector<LockHolder> find_lock_holders(const std::string& path);
    /// The same as "process 4711 (pinfs)", several joined by a comma.
    static std::string lock_holders(const std::string& path);

    /// Memory that a test owns, `memory` aligned to a page, must outlive the region.
    Region(std::span<std::byte> memory, const Capabilities& capabilities, Observer* observer);
    ~Region();
    Region(const Region&) = delete;
    Region& operator=(const Region&) = delete;

    [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
    [[nodiscard]] const Capabilities& capabilities() const { return capabilities_; }
    [[nodiscard]] const std::string& path() const { return path_; }
    /// The file or device itself, as fstat(2) names it and /proc/PID/maps does; nullopt: memory of
    /// a test.
    struct Backing {
        dev_t device;  ///< st_dev
        ino_t inode;
    };
    [[nodiscard]] std::optional<Backing> backing() const;
    [[nodiscard]] bool read_only() const { return read_only_; }

    /// Copies out metadata. Errors: media_error (SIGBUS; also when the file was truncated under
    /// us), media_corrupt if [offset, offset + size) is not inside the region.
    Expected<void> read(std::uint64_t offset, std::span<std::byte> out) const;
    /// Copies out file data; as read.
    Expected<void> copy_out(std::uint64_t offset, std::span<std::byte> out) const;
    /// Whether a bad block may get new memory when all of it is stored: not while a device or a
    /// client's map has the old.
    enum class Renew : std::uint8_t { allowed, never };
    /// Copies in file data, past the caches where that helps. Durable after fence().
    Expected<void> copy_in(std::uint64_t offset, std::span<const std::byte> bytes,
                           Renew renew = Renew::allowed, Where where = Where::current());
    /// Zeroes; durable after fence().
    Expected<void> zero(std::uint64_t offset, std::uint64_t bytes, Where where = Where::current());
    /// Stores metadata and flushes it; durable after fence().
    Expected<void> store_flush(std::uint64_t offset, std::span<const std::byte> bytes,
                               Where where = Where::current());
    /// One aligned store of 8 bytes that no crash tears, and its flush.
    Expected<void> store8_flush(std::uint64_t offset, std::uint64_t value,
                                Where where = Where::current());
    /// Flushes what others stored, through mappings of their own; durable after fence(). Errors:
    /// media_error.
    Expected<void> flush(std::uint64_t offset, std::uint64_t bytes, Where where = Where::current());
    /// Takes the backing pages of [offset, offset + bytes) away and gives new ones, so that
    /// whoever still has the old ones, a device too, has lost the region's bytes. True if that is
    /// certain: the file system says so (SEEK_DATA). False where the kind of region has no such
    /// thing, or where a page is shared with bytes outside. Contents of the range are lost.
    /// Errors: system (ENOSPC: no new pages; try again).
    Expected<bool> renew_pages(std::uint64_t offset, std::uint64_t bytes);
    /// Blocks that raised media errors, now or when the region was last in use.
    [[nodiscard]] const BadBlocks& bad_blocks() const { return bad_; }
    /// Adds what is known from elsewhere: from media, or from the system's list of the device.
    void add_bad_blocks(BlockRun run) { bad_.add(run); }
    void add_bad_blocks_of_device();
    /// Orders this thread's stores and flushes before all that follow. (Where a flush is a system
    /// call, it was made, and its failure returned, by the storing function.)
    void fence(Where where = Where::current());

private:
    using CopyFunction = void (*)(std::byte* to, const std::byte* from, std::size_t bytes);

    Region() = default;
    [[nodiscard]] bool holds(std::uint64_t offset, std::uint64_t bytes) const {
        return offset <= bytes_ && bytes <= bytes_ - offset;
    }
    [[nodiscard]] std::uint64_t offset_of(const std::byte* address) const {
        return static_cast<std::uint64_t>(address - memory_);
    }
    Expected<void> map(int fd, std::uint64_t align_bytes);
    /// What is lost there: one block.
    [[nodiscard]] std::unexpected<Error> lost(std::uint64_t offset) const;
    /// New memory for a bad block, whose content is lost. True if that was possible.
    bool renew_block(std::uint64_t block);
    void advise(std::byte* memory, std::uint64_t bytes) const;
    Expected<void> load(std::uint64_t offset, std::span<std::byte> out) const;
    Expected<void> store(CopyFunction copy, std::uint64_t offset, const std::byte* from,
                         std::uint64_t bytes, Renew renew, const Where& where);
    Expected<void> store_guarded(CopyFunction copy, std::uint64_t offset, const std::byte* from,
                                 std::uint64_t bytes, Renew renew);

    std::byte* memory_ = nullptr;
    std::uint64_t bytes_ = 0;
    Capabilities capabilities_;
    Observer* observer_ = nullptr;
    std::string path_;
    mutable BadBlocks bad_;
    int lock_fd_ = -1;
    int map_flags_ = 0;
    bool mapped_ = false;  // unmap at the end
    bool read_only_ = false;
};

}  // namespace pinfs::pmem

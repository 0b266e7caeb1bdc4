// SPDX-License-Identifier: Apache-2.0
//
// A mounted file system: the one interface that the kernel edge, the tools and the tests use. Every
// call is atomic and durable when it returns (SPEC 6.1; exceptions are said at the function), and
// on error nothing changed. No call waits for a client. Thread-safe.
//
// Inodes are named by number. A call that returns an Entry counts one reference of the caller to
// that inode, as FUSE lookups count; `forget` takes them back. An inode that is unlinked lives,
// readable and writable, until it is neither open nor referenced.
//
// Permissions are the kernel's to check (default_permissions); a Caller gives ownership to what it
// makes. What immutable and append-only inodes refuse, whoever asks, is checked here
// (protection.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fs/error.h"
#include "fs/pin/events.h"
#include "fs/pin/limits.h"
#include "fs/pmem/region.h"
#include "fs/units.h"
#include "fs/volume/pinning.h"
#include "fs/volume/scrub.h"
#include "fs/volume/survivors.h"

namespace pinfs {

struct Time {
    std::int64_t seconds = 0;  ///< since 1970, may be negative
    std::uint32_t nanoseconds = 0;
    auto operator<=>(const Time&) const = default;
};

struct Attributes {
    Ino ino;
    std::uint64_t generation = 0;
    std::uint64_t size_bytes = 0;
    std::uint64_t blocks = 0;  ///< of 4 KiB, tree nodes and extended attributes included
    std::uint32_t mode = 0;    ///< as st_mode
    std::uint32_t nlink = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t device_major = 0;
    std::uint32_t device_minor = 0;
    std::uint32_t flags = 0;  ///< media::kInode*
    std::uint32_t project = 0;
    Time atime, mtime, ctime, btime;
};

struct Entry {
    Attributes attributes;
};

/// On whose behalf; also owner of what is made.
struct Caller {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
};

/// Only what is set changes. `now` as times of a utimensat(UTIME_NOW) are filled in by the caller.
struct AttributeChange {
    std::optional<std::uint32_t> mode;  ///< permission bits
    std::optional<std::uint32_t> uid;
    std::optional<std::uint32_t> gid;
    std::optional<std::uint64_t> size_bytes;
    std::optional<Time> atime;
    std::optional<Time> mtime;
    std::optional<Time> ctime;
    bool touch = false;                  ///< both times are the current one, nothing else is asked
    std::optional<std::uint32_t> flags;  ///< all of media::kInode* that a user may set
    std::optional<std::uint32_t> project;
    // Of what is no directory, and unless `mode` is set:
    bool kill_privileges = false;  ///< clear setuid, and setgid with group execute
    bool kill_setgid = false;      ///< clear setgid
};

/// A new inode. `mode` carries the type: S_IFREG, S_IFDIR, S_IFLNK (with `target`), S_IFIFO, ...
struct NewInode {
    std::uint32_t mode = 0;
    std::uint32_t device_major = 0;
    std::uint32_t device_minor = 0;
    std::string_view target = {};
    std::uint32_t umask = 0;  ///< obeyed where the directory has no default access list
};

enum class DaxMode : std::uint8_t { inode, always, never };  ///< SPEC 1.2

/// When reading advances the access time: never; if that is not newer than the other times or a day
/// old; always.
enum class AtimePolicy : std::uint8_t { none, relative, strict };

struct MountOptions {
    bool read_only = false;
    DaxMode dax = DaxMode::inode;
    AtimePolicy atime = AtimePolicy::relative;
    bool directory_atime = true;  ///< also that of directories
    std::string machine_id;       ///< 32 hex digits; empty: read /etc/machine-id
    std::string boot_id;          ///< the same; empty: /proc/sys/kernel/random/boot_id
    bool background = true;       ///< own threads for orphans and times; tests run them by hand
    pin::Limits limits;           ///< of leases, maps, pins and holds
    /// A hold whose release cannot be proven ends after this time all the same; 0: never.
    std::uint64_t release_grace_seconds = 0;
    std::uint64_t unpin_delay_ms = 0;  ///< injected before a pin or a short reference ends (3.12)
    bool takeover = false;             ///< though another machine mounted the region last (3.10)
    Supervision supervision;
};

struct Statistics {
    std::uint64_t blocks = 0;  ///< of the region
    std::uint64_t blocks_free = 0;
    std::uint64_t blocks_available = 0;  ///< without the reserve
    std::uint64_t inodes = 0;            ///< in use
    std::uint64_t inodes_available = 0;
};

/// What a mount found and did; for logs and tests.
struct MountReport {
    bool was_clean = true;
    std::uint64_t lanes_replayed = 0;
    std::uint64_t bytes_read = 0;  ///< of media, until mount returned
};

struct ExtentInfo {
    std::uint64_t file_block = 0;
    std::uint64_t start_block = 0;
    std::uint64_t blocks = 0;
    bool unwritten = false;
};

struct DirectoryItem {
    std::string_view name;  ///< valid during the call
    Ino ino;
    std::uint32_t mode = 0;    ///< type bits only
    std::uint64_t cookie = 0;  ///< where to go on after this item
};

/// `writing` also stands for cutting (O_TRUNC); `appending` is writing with O_APPEND.
enum class OpenFor : std::uint8_t { reading, appending, writing };
enum class SeekTo : std::uint8_t { data, hole };
enum class SetAttribute : std::uint8_t { create_or_replace, create, replace };
enum RenameFlags : std::uint32_t { kRenameNoReplace = 1, kRenameExchange = 2, kRenameWhiteout = 4 };

class Volume {
public:
    /// Replays the journal and mounts; unlinked inodes and cuts left by a crash are finished in the
    /// background. Errors: no_superblock, feature_unknown, region_truncated, bad_checksum and the
    /// like.
    static Expected<std::unique_ptr<Volume>> mount(pmem::Region& region,
                                                   const MountOptions& options);
    /// Stops the background work; does not mark the region clean (as a crash would) unless
    /// `unmount` succeeded before.
    ~Volume();

    /// Writes back times, gives back what nobody uses, marks the region clean. No call may be under
    /// way or follow.
    Expected<void> unmount();

    /// Of a supervised mount: writes back what waits in memory, so that the next daemon's volume
    /// goes on as this one would have. No call may be under way or follow.
    Expected<void> hand_over();
    /// Numbers that this session gives out begin here; of its first volume.
    [[nodiscard]] SessionStart session_start() const;

    /// A remount. No change is under way or comes when it becomes read-only; then the region is
    /// marked clean and nothing more is stored. On error nothing changed, but that background work
    /// may have ended. Errors: EROFS (the region was opened read-only), feature_unknown, shut_down.
    Expected<void> set_read_only(bool read_only);
    [[nodiscard]] bool read_only() const;
    /// As MountOptions has them.
    void set_access_times(AtimePolicy policy, bool directories);

    /// Stops as a power cut would (SPEC 6.6): from now on every call fails with shut_down, and
    /// unmount leaves the region as it is, for the next mount to recover.
    void shut_down();
    [[nodiscard]] bool is_shut_down() const;
    /// The inodes that the kernel may know.
    [[nodiscard]] std::vector<Ino> known_inodes() const;

    [[nodiscard]] const MountReport& report() const;
    [[nodiscard]] Statistics statistics() const;
    [[nodiscard]] std::string_view label() const;

    // Names
    Expected<Entry> lookup(Ino parent, std::string_view name);  ///< also "." and ".."
    void forget(Ino ino, std::uint64_t count);
    Expected<Entry> make(Ino parent, std::string_view name, const NewInode& inode, Caller caller);
    /// A regular file without a name, as a new one of `parent` would be: gone when nothing refers
    /// to it any more, unless `link` gave it a name.
    Expected<Entry> make_unnamed(Ino parent, const NewInode& inode, Caller caller);
    Expected<Entry> link(Ino ino, Ino parent, std::string_view name);
    Expected<void> unlink(Ino parent, std::string_view name);
    Expected<void> remove_directory(Ino parent, std::string_view name);
    /// `flags`: NOREPLACE, WHITEOUT or both; or EXCHANGE. A whiteout, a character device 0:0 of
    /// `caller`, takes the old name: so overlayfs hides names of a lower layer.
    Expected<void> rename(Ino parent, std::string_view name, Ino new_parent,
                          std::string_view new_name, std::uint32_t flags, Caller caller = {});
    Expected<std::string> read_link(Ino ino);
    /// Items in cookie order after `cookie` (0: from the start, `.` and `..` first with cookies 1
    /// and 2). `sink` returns false to stop; it is called under the directory's lock and must not
    /// call the volume. An entry that stays is seen exactly once, whatever comes and goes
    /// meanwhile.
    Expected<void> read_directory(Ino ino, std::uint64_t cookie,
                                  const std::function<bool(const DirectoryItem&)>& sink);

    // Attributes
    Expected<Attributes> attributes(Ino ino);
    Expected<Attributes> change_attributes(Ino ino, const AttributeChange& change);
    Expected<std::vector<std::byte>> attribute(Ino ino,
                                               std::string_view name);  ///< an xattr's value
    Expected<std::vector<std::string>> attribute_names(Ino ino);
    /// An access list is an attribute too: the mode follows it, and loses setgid with
    /// `kill_setgid`. Errors: no_attribute, attribute_exists, invalid_argument, directories_only.
    Expected<void> set_attribute(Ino ino, std::string_view name, std::span<const std::byte> value,
                                 SetAttribute how, bool kill_setgid = false);
    /// Errors: no_attribute, but for an access list.
    Expected<void> remove_attribute(Ino ino, std::string_view name);

    // Content
    /// Counts an open; true if DAX mode is in force for it (SPEC 1.2): the mode changes only while
    /// the file is open nowhere. Errors: immutable, append_only.
    Expected<bool> open(Ino ino, OpenFor purpose = OpenFor::reading);
    /// Ends one open; the last one gives back preallocated blocks. Whether there may have been any.
    bool release(Ino ino);
    /// Bytes read: fewer than asked at the end of the file. Holes and unwritten blocks read as
    /// zeros. The access time advances as the mount's policy has it, unless `noted` is false.
    Expected<std::size_t> read(Ino ino, std::uint64_t offset_bytes, std::span<std::byte> out,
                               bool noted = true);
    /// As a read, for one that the kernel answers itself: true if the access time advanced.
    bool note_access(Ino ino);
    /// Bytes written: fewer than given where the region fills up or the largest file ends. Durable
    /// when it returns; the times of an overwrite in place at sync, release, or within 5 s
    /// (SPEC 6.1, 6.2). With `append` the offset is the end of the file.
    Expected<std::size_t> write(Ino ino, std::uint64_t offset_bytes,
                                std::span<const std::byte> bytes, bool append = false,
                                bool kill_privileges = false);
    /// Blocks for [offset, offset + length), which read as zeros where nothing was; the file grows
    /// to its end unless `keep_size`. ENOSPC is known before anything is done, but for a race with
    /// other writers: then some holes may have blocks. After a crash it may be done up to some
    /// block, as zero_range and punch_hole. Errors: no_space, file_too_large, invalid_argument.
    Expected<void> allocate(Ino ino, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                            bool keep_size);
    /// As allocate, and the range reads as zeros.
    Expected<void> zero_range(Ino ino, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                              bool keep_size);
    /// The range reads as zeros, and its whole blocks are free. Needs no space.
    Expected<void> punch_hole(Ino ino, std::uint64_t offset_bytes, std::uint64_t length_bytes);
    /// Bytes copied, as read and write have them: fewer than asked at the end of the source, where
    /// the region fills up, and after 16 MiB. Blocks of the destination stay where they are.
    Expected<std::size_t> copy(Ino from, std::uint64_t from_offset_bytes, Ino to,
                               std::uint64_t to_offset_bytes, std::uint64_t length_bytes);
    /// Where data or a hole begins, at `offset_bytes` or behind; unwritten blocks are holes, and so
    /// is the end of the file. Errors: no_data at or beyond the end.
    Expected<std::uint64_t> seek(Ino ino, std::uint64_t offset_bytes, SeekTo to);
    /// Makes the file durable: its times, and what writable maps and pins may have left dirty
    /// (SPEC 6.3).
    Expected<void> sync(Ino ino);
    /// Extents that meet [offset, offset + length), in order: the first `at_most`.
    Expected<std::vector<ExtentInfo>> extents(Ino ino, std::uint64_t offset_bytes,
                                              std::uint64_t length_bytes,
                                              std::size_t at_most = SIZE_MAX);

    // Contexts (SPEC 2.1): who gets events, and owns maps and pins
    /// A new context of a process. Errors: shut_down, read_only.
    Expected<std::uint64_t> open_context(const pin::Owner& owner);
    /// Its last reference is gone: its maps without a living guard, and its pins, end by proof.
    void close_context(std::uint64_t context);
    /// A guard of `context`: maps that name it live until it is closed, whatever becomes of the
    /// context. Errors: no_such_context.
    Expected<std::uint64_t> open_guard(std::uint64_t context);
    void close_guard(std::uint64_t guard);
    /// `wake` is called, without locks, when a context that had no event gets one.
    void set_event_sink(std::function<void(std::uint64_t context)> wake);
    /// `changed` is called when the times of a file advance for a map or pin, which its users do
    /// not ask for: where they begin and end, and at sync. It must not call the volume.
    void set_change_sink(std::function<void(Ino ino)> changed);
    /// Under which name a file is known: the last that was heard of. Empty if that is none any
    /// more.
    [[nodiscard]] std::string path(Ino ino);
    /// The next event, nullopt if none waits. Errors: no_such_context.
    Expected<std::optional<pin::Event>> next_event(std::uint64_t context);
    [[nodiscard]] bool has_event(std::uint64_t context);

    // Leases (SPEC 2). Errors of all: not_leasable, invalid_argument.
    /// Errors: not_leaser, lease_conflict, pins_outlive_lease, limit_*.
    Expected<LeaseAnswer> set_lease(OpenFile file, const LeaseRequest& request);
    /// The first lease of the open file that meets the range. Errors: no_such_record.
    Expected<LeaseAnswer> lease(OpenFile file, std::uint64_t offset_bytes,
                                std::uint64_t length_bytes);
    Expected<void> drop_lease(OpenFile file, std::uint64_t offset_bytes,
                              std::uint64_t length_bytes);
    /// Drops all leases of an open file description that is released.
    void drop_leases(OpenFile file);

    // Maps (SPEC 5.1)
    /// Errors: no_lease, unaligned, beyond_end, holes_in_range, no_space, limit_*.
    Expected<MapAnswer> map(OpenFile file, const MapRequest& request);
    /// Errors: no_such_record.
    Expected<void> unmap(std::uint64_t context, std::uint64_t id);
    /// Where a part of a map lies now; its blocks are the map's from then on. Holes get blocks, as
    /// long as there is space; the range ends at the end of the file. Errors: no_such_record,
    /// limit_*.
    Expected<LayoutAnswer> reload_map(std::uint64_t context, std::uint64_t id,
                                      std::uint64_t offset_bytes, std::uint64_t length_bytes);
    /// fsync has nothing to flush in this part of a map: its owner does that from now on.
    Expected<void> declare_clean(std::uint64_t context, std::uint64_t id,
                                 std::uint64_t offset_bytes, std::uint64_t length_bytes);
    /// Where a file lies, holes left out.
    Expected<LayoutAnswer> layout(Ino ino, std::uint64_t offset_bytes, std::uint64_t length_bytes);

    // Pins (SPEC 3)
    /// Errors: no_exclusive_lease, beyond_end, region_not_pinnable, no_space, limit_*,
    /// outside_namespace.
    Expected<PinAnswer> pin(OpenFile file, const PinRequest& request);
    /// By the context that owns it, or `who` as the process that owns it. Errors: no_such_record.
    Expected<void> unpin(const pin::Owner& who, std::uint64_t id, std::uint64_t generation);
    /// Where the part of a pin that is in this range of the file lies, up to its end if
    /// `length_bytes` is 0. Errors: no_such_record.
    Expected<std::vector<Extent>> pin_extents(const pin::Owner& who, std::uint64_t id,
                                              std::uint64_t generation, std::uint64_t offset_bytes,
                                              std::uint64_t length_bytes);
    /// A recovered pin becomes that of the context of `who`: its owner, or who has the secret.
    /// Errors: no_such_record, not_adoptable.
    Expected<PinAnswer> adopt_pin(const pin::Owner& who, std::uint64_t id, std::uint64_t generation,
                                  const pin::Secret& secret);
    /// A pin of context `from` becomes that of `to`. Errors: no_such_record, no_such_context.
    Expected<PinAnswer> transfer_pin(std::uint64_t from, const pin::Owner& to, std::uint64_t id,
                                     std::uint64_t generation);

    // For administrators (SPEC 3.11, 4)
    /// Ends a lease, map or pin after `grace_ms`; its context is told at once. The caller was
    /// checked. Errors: no_such_record.
    Expected<void> revoke(std::uint64_t id, std::uint64_t grace_ms);
    /// Ends a hold without proof.
    Expected<void> release_hold(std::uint64_t id);
    /// Verifies a piece of the metadata in use, from `from` on, while all else goes on: some
    /// milliseconds of reading, and no lock for longer than a few units take. The mount keeps
    /// nothing of it; what changes behind the place is not seen again. Errors: shut_down.
    Expected<ScrubPiece> scrub(const ScrubPlace& from, const ScrubOptions& options);
    /// Everything that is on record, by file and offset; one consistent moment.
    Expected<std::vector<PinnedItem>> pinned(const PinnedFilter& filter = {});
    [[nodiscard]] PinnedTotals pinned_totals();
    /// Bytes of maps, pins and holds charged to `uid`, and the limit.
    [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> charged_bytes(std::uint32_t uid);
    /// What stands in the way, in words: "pin 17 of process 4711 (server)"; empty if it is gone.
    [[nodiscard]] std::string describe(std::uint64_t id);

    /// What the region can do, and its identity.
    [[nodiscard]] const pmem::Region& region() const;
    [[nodiscard]] std::array<std::uint8_t, 16> uuid() const;
    /// Offsets of maps are multiples of it (SPEC 1.5).
    [[nodiscard]] std::uint64_t map_unit_bytes() const;

    /// Finishes orphans, cuts and times, and releases what is proven to be free, now; tests without
    /// background threads call it.
    Expected<void> finish_pending();

private:
    class Core;
    explicit Volume(std::unique_ptr<Core> core);
    std::unique_ptr<Core> core_;
};

/// For mkfs. `uuid` 16 bytes; `label` at most 64.
struct MakeOptions {
    std::array<std::uint8_t, 16> uuid{};
    std::string label;
    bool dax = true;  ///< the root directory's DAX flag
    std::uint32_t root_uid = 0;
    std::uint32_t root_gid = 0;
    std::uint64_t name_hash_seed = 0;
    unsigned name_hash_bits = 54;  ///< fewer only in tests
    std::uint64_t map_unit_bytes = kBlockBytes;
    Time now;
};

/// Writes a new, empty, clean file system over the whole region (rounded down to blocks). The old
/// superblocks are wiped first and the new ones written last, so that an interrupted mkfs leaves
/// nothing mountable. Errors: region_too_small, invalid_argument, media_error.
Expected<void> make_file_system(pmem::Region& region, const MakeOptions& options);

/// Only what is set changes; a label has at most 64 bytes.
struct IdentityChange {
    std::optional<std::array<std::uint8_t, 16>> uuid;
    std::optional<std::string> label;
};

/// Changes what a region that is not mounted is called; checksums keep the seed of its making. A
/// crash leaves the old identity or the new one. Errors: as mount, and invalid_argument.
Expected<void> change_identity(pmem::Region& region, const IdentityChange& change);

}  // namespace pinfs

// SPDX-License-Identifier: Apache-2.0
//
// The inside of a Volume: what its operations share. Mount and unmount are in core.cc, each kind of
// operation in a file of its own.
//
// How an operation goes: take the inodes' states, lock them sorted by Ino, look, put together one
// Change, commit it, unlock. Locks are declared before the Change, so that they outlive it.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <thread>
#include <utility>

#include "fs/format/record.h"
#include "fs/format/state.h"
#include "fs/format/superblock.h"
#include "fs/inode/directory.h"
#include "fs/inode/extents.h"
#include "fs/inode/table.h"
#include "fs/journal/journal.h"
#include "fs/memory_reserve.h"
#include "fs/pin/registry.h"
#include "fs/space/allocator.h"
#include "fs/space/change.h"
#include "fs/volume/finished_requests.h"
#include "fs/volume/inode_states.h"
#include "fs/volume/volume.h"

namespace pinfs {

inline constexpr std::uint32_t kLinksMax = 1u << 20;  ///< of one file; directories have no limit

Time now();
std::uint64_t monotonic_ns();
/// Of nanoseconds since 1970, not negative.
inline Time time_of_ns(std::int64_t ns) {
    return {ns / 1'000'000'000, static_cast<std::uint32_t>(ns % 1'000'000'000)};
}

/// The superblock of `region`, from its first or second copy, verified against the region. With
/// `repair` a damaged copy is rewritten from the other. Errors: no_superblock, feature_unknown,
/// region_truncated, media_corrupt, media_error.
Expected<media::Superblock> read_superblock(pmem::Region& region, bool repair);
/// Whether the copy of the superblock at `offset` is whole. Errors: bad_checksum, media_error.
Expected<void> verify_superblock(pmem::Region& region, std::uint64_t offset);

class Volume::Core {
public:
    Core(pmem::Region& region, const media::Superblock& super, const MountOptions& options);
    ~Core();

    Expected<void> mount();
    Expected<void> unmount();
    Expected<void> hand_over();
    [[nodiscard]] SessionStart session_start() const { return session_start_; }
    Expected<void> set_read_only(bool read_only);
    void shut_down();
    [[nodiscard]] bool is_shut_down() const { return journal_.failed(); }
    [[nodiscard]] bool read_only() const { return read_only_; }
    void set_access_times(AtimePolicy policy, bool directories) {
        atime_ = policy;
        directory_atime_ = directories;
    }

    using Use = InodeStates::Use;
    using Change = space::Change;
    using Exclusive = std::unique_lock<RankedSharedMutex<LockRank::inode>>;
    using Shared = std::shared_lock<RankedSharedMutex<LockRank::inode>>;
    using TableLock = std::unique_lock<RankedMutex<LockRank::inode_chunk>>;
    using PinsLock = std::unique_lock<RankedMutex<LockRank::pins>>;

    // ---- shared by the operations
    [[nodiscard]] Use use(Ino ino) { return {states_, ino}; }
    [[nodiscard]] Change change(space::Reserve reserve) {
        return {journal_, units_, allocator_, reserve};
    }
    /// Refuses operations on a volume that was shut down, and changes of a read-only one.
    Expected<void> admit_read() const;
    Expected<void> admit_change() const;

    /// The inode as committed; its state is locked. Errors: stale_inode.
    Expected<media::Inode> read_inode(InodeState& state);
    Expected<media::Inode> read_directory_inode(InodeState& state);
    /// The inode as `change` will leave it; its state is locked exclusively. Times that waited in
    /// memory come with it.
    Expected<media::Inode*> edit_inode(Change& change, InodeState& state);
    [[nodiscard]] static Attributes attributes_of(const media::Inode& inode,
                                                  const InodeState& state);

    inode::Directory directory(const media::Inode& inode) { return {units_, name_hash_, inode}; }
    inode::Directory directory(Change& change, media::Inode& inode) {
        return {change, name_hash_, inode};
    }
    static void touch(media::Inode& inode, Time time);  ///< mtime and ctime
    static void set_ctime(media::Inode& inode, Time time);

    /// Exclusive locks on up to four inodes, each once, sorted.
    static std::vector<Exclusive> lock_all(std::initializer_list<InodeState*> states);

    /// A generation no inode has had; the table's lock is held and no change is begun.
    Expected<std::uint64_t> next_generation();

    /// Runs `operation` again after pending work has given blocks back, if it failed for want of
    /// them.
    template <class Operation>
    auto with_space(const Operation& operation) {
        auto result = operation();
        while (!result && result.error().cause == Cause::no_space && gained_space())
            result = operation();
        return result;
    }

    // ---- creation.cc
    Expected<Entry> make(Ino parent, std::string_view name, const NewInode& inode, Caller caller);
    Expected<Entry> make_unnamed(Ino parent, const NewInode& inode, Caller caller);
    // ---- names.cc, rename.cc
    Expected<Entry> lookup(Ino parent, std::string_view name);
    Expected<Entry> link(Ino ino, Ino parent, std::string_view name);
    Expected<void> remove(Ino parent, std::string_view name, bool directory);
    Expected<void> rename(Ino parent, std::string_view name, Ino new_parent,
                          std::string_view new_name, std::uint32_t flags, Caller caller);
    Expected<void> read_directory(Ino ino, std::uint64_t cookie,
                                  const std::function<bool(const DirectoryItem&)>& sink);
    Expected<std::string> read_link(Ino ino);
    // ---- attributes.cc
    Expected<Attributes> attributes(Ino ino);
    Expected<Attributes> change_attributes(Ino ino, const AttributeChange& change);
    Expected<std::vector<std::byte>> attribute(Ino ino, std::string_view name);
    Expected<std::vector<std::string>> attribute_names(Ino ino);
    Expected<void> set_attribute(Ino ino, std::string_view name, std::span<const std::byte> value,
                                 SetAttribute how, bool kill_setgid);
    Expected<void> remove_attribute(Ino ino, std::string_view name);
    /// Takes the capabilities of a program away that is about to be written: a change of its own
    /// before the write.
    Expected<void> drop_capability(InodeState& state);
    // ---- content.cc
    Expected<bool> open(Ino ino, OpenFor purpose);
    bool release(Ino ino);
    Expected<std::size_t> read(Ino ino, std::uint64_t offset_bytes, std::span<std::byte> out,
                               bool noted);
    Expected<std::size_t> write(Ino ino, std::uint64_t offset_bytes,
                                std::span<const std::byte> bytes, bool append,
                                bool kill_privileges);
    Expected<void> sync(Ino ino);
    Expected<std::vector<ExtentInfo>> extents(Ino ino, std::uint64_t offset_bytes,
                                              std::uint64_t length_bytes, std::size_t at_most);
    // ---- allocate.cc, copy.cc
    Expected<void> allocate(Ino ino, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                            bool keep_size);
    Expected<void> zero_range(Ino ino, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                              bool keep_size);
    Expected<void> punch_hole(Ino ino, std::uint64_t offset_bytes, std::uint64_t length_bytes);
    Expected<std::size_t> copy(Ino from, std::uint64_t from_offset_bytes, Ino to,
                               std::uint64_t to_offset_bytes, std::uint64_t length_bytes);
    Expected<std::uint64_t> seek(Ino ino, std::uint64_t offset_bytes, SeekTo to);
    // ---- times.cc
    bool note_access(Ino ino);
    // ---- truncate.cc
    Expected<Attributes> truncate(InodeState& state, std::uint64_t size_bytes,
                                  const AttributeChange& change);
    /// Frees what an interrupted cut left; the caller holds the range of the cut, and no inode
    /// lock.
    Expected<void> finish_cut(InodeState& state);
    /// The same for a caller that holds no range.
    Expected<void> finish_old_cut(InodeState& state);
    // ---- contexts.cc
    Expected<std::uint64_t> open_context(const pin::Owner& owner);
    void close_context(std::uint64_t context);
    Expected<std::uint64_t> open_guard(std::uint64_t context);
    void close_guard(std::uint64_t guard);
    void set_event_sink(std::function<void(std::uint64_t context)> sink);
    void set_change_sink(std::function<void(Ino ino)> sink);  // times.cc
    Expected<std::optional<pin::Event>> next_event(std::uint64_t context);
    bool has_event(std::uint64_t context);
    // ---- leasing.cc
    Expected<LeaseAnswer> set_lease(OpenFile file, const LeaseRequest& request);
    Expected<LeaseAnswer> lease(OpenFile file, std::uint64_t offset_bytes,
                                std::uint64_t length_bytes);
    Expected<void> drop_lease(OpenFile file, std::uint64_t offset_bytes,
                              std::uint64_t length_bytes);
    void drop_leases(OpenFile file);
    // ---- mapping.cc
    Expected<MapAnswer> map(OpenFile file, const MapRequest& request);
    Expected<void> unmap(std::uint64_t context, std::uint64_t id);
    Expected<LayoutAnswer> reload_map(std::uint64_t context, std::uint64_t id,
                                      std::uint64_t offset_bytes, std::uint64_t length_bytes);
    Expected<void> declare_clean(std::uint64_t context, std::uint64_t id,
                                 std::uint64_t offset_bytes, std::uint64_t length_bytes);
    Expected<LayoutAnswer> layout(Ino ino, std::uint64_t offset_bytes, std::uint64_t length_bytes);
    // ---- pinning.cc
    Expected<PinAnswer> pin(OpenFile file, const PinRequest& request);
    Expected<void> unpin(const pin::Owner& who, std::uint64_t id, std::uint64_t generation);
    Expected<std::vector<Extent>> pin_extents(const pin::Owner& who, std::uint64_t id,
                                              std::uint64_t generation, std::uint64_t offset_bytes,
                                              std::uint64_t length_bytes);
    Expected<PinAnswer> adopt_pin(const pin::Owner& who, std::uint64_t id, std::uint64_t generation,
                                  const pin::Secret& secret);
    Expected<PinAnswer> transfer_pin(std::uint64_t from, const pin::Owner& to, std::uint64_t id,
                                     std::uint64_t generation);
    // ---- pinned.cc
    Expected<std::vector<PinnedItem>> pinned(const PinnedFilter& filter);
    PinnedTotals pinned_totals();
    std::pair<std::uint64_t, std::uint64_t> charged_bytes(std::uint32_t uid);
    std::string describe(std::uint64_t id);
    std::optional<std::string> path_of(Ino ino);
    // ---- keeper.cc
    Expected<void> revoke(std::uint64_t id, std::uint64_t grace_ms);
    Expected<void> release_hold(std::uint64_t id);
    // ---- scrub.cc
    Expected<ScrubPiece> scrub(const ScrubPlace& from, const ScrubOptions& options);
    // ---- pending.cc
    void forget(Ino ino, std::uint64_t count);
    Expected<void> finish_pending();
    [[nodiscard]] Statistics statistics() const;
    /// Waits for pending work to give blocks back; false if there is none.
    bool gained_space();

    InodeStates& states() { return states_; }
    [[nodiscard]] const MountReport& report() const { return report_; }
    [[nodiscard]] std::string_view label() const;
    [[nodiscard]] const pmem::Region& region() const { return region_; }
    [[nodiscard]] std::uint64_t map_unit_bytes() const;
    [[nodiscard]] std::array<std::uint8_t, 16> uuid() const { return std::to_array(super_.uuid); }

private:
    friend class Volume;
    class Scrubber;

    // core.cc
    Expected<void> mark_mounted();
    Expected<void> mark_clean();
    Expected<void> edit_state(const std::function<void(media::State&)>& edit);
    /// Region offset of the inode, remembered; before the lock of the inode table is taken.
    Expected<std::uint64_t> locate(InodeState& state);
    // survivors.cc
    /// What of the session before this daemon lives on: before and after the records are loaded.
    void restore_contexts();
    Expected<void> restore_files();
    Expected<void> restore_finished();
    void tell_survivors();
    /// What a request that was finished before made, with the reference that it holds.
    Expected<Entry> finished_entry(const FinishedRequests::Made& made);
    /// Whether a map or pin that is on record was made in this session, and its owner lives on.
    enum class Survival : std::uint8_t { unknown, lives, ended };
    [[nodiscard]] Survival survival_of(const pin::Reference& reference) const;
    /// The leases of the handle are others now. The pins' lock is held.
    void note_leases(std::uint64_t ino, std::uint64_t handle);
    // creation.cc
    struct Fresh {
        media::Inode* inode;  ///< staged; after the commit it reads as committed
        std::uint64_t slot_offset;
    };
    Expected<Fresh> new_inode(Change& change, std::uint64_t generation, const media::Inode& above,
                              const NewInode& wanted, Caller caller);
    Entry known(const media::Inode& inode, std::uint64_t slot_offset);
    Expected<Entry> make_once(Ino parent, std::string_view name, const NewInode& inode,
                              Caller caller);
    Expected<Entry> make_unnamed_once(Ino parent, const NewInode& inode, Caller caller);
    Expected<void> adopt_orphan(Change& change, InodeState& state, const media::Inode& inode);
    Expected<void> store_target(Change& change, media::Inode& inode, std::string_view target);
    // names.cc
    Expected<bool> remove_once(Ino parent, std::string_view name, bool directory);
    Expected<void> drop_link(Change& change, InodeState& state, media::Inode& inode, Time time);
    Expected<std::optional<inode::Name>> find_name(Ino parent, std::string_view name);
    // rename.cc
    struct Renaming;
    Expected<bool> rename_once(const Renaming& renaming);
    Expected<bool> is_below(Ino ino, Ino ancestor);
    // content.cc
    struct WritePlan;
    Expected<std::optional<std::size_t>> write_once(InodeState& state, std::uint64_t offset_bytes,
                                                    std::span<const std::byte> bytes, bool append,
                                                    bool kill_privileges);
    std::uint64_t behind_append(const WritePlan& plan);
    Expected<void> place_data(Change& change, WritePlan& plan);
    Expected<void> copy_data(InodeState& state, const WritePlan& plan);
    Expected<void> trim_preallocation(InodeState& state);
    // allocate.cc
    struct HeldRange;
    Expected<void> with_range(InodeState& state, HeldRange range,
                              Expected<void> (*refuse)(const media::Inode&),
                              const std::function<Expected<void>(const HeldRange&)>& operation);
    Expected<void> zero_written(InodeState& state, std::uint64_t begin, std::uint64_t end);
    Expected<void> zero_from_end(InodeState& state, std::uint64_t old_end, std::uint64_t new_end);
    Expected<void> prepare_cut(InodeState& state, const HeldRange& range);
    Expected<void> cut_range(InodeState& state, const HeldRange& range);
    Expected<void> zero_edges(InodeState& state, const HeldRange& range);
    Expected<void> check_room(InodeState& state, const HeldRange& range);
    Expected<bool> fill_step(Change& change, media::Inode& inode, std::uint64_t begin,
                             std::uint64_t end, const HeldRange& range, bool zeroed);
    Expected<void> fill_range(InodeState& state, const HeldRange& range, bool zeroed);
    // times.cc
    void set_lazy_time(InodeState& state);
    /// The same, where the kernel does not know of it.
    void note_outside_change(InodeState& state);
    /// The inode was read; its state is locked. True if the access time advances.
    bool note_access(InodeState& state, const media::Inode& inode);
    void write_later(InodeState& state);
    /// Puts the times that waited into the inode as `change` will leave it.
    static void apply_lazy_times(Change& change, media::Inode& inode, InodeState& state);
    Expected<void> write_lazy_times(Ino ino);
    // attributes.cc
    static Expected<void> admit(const AttributeChange& change, const media::Inode& inode);
    Expected<void> apply(Change& one, const AttributeChange& change, media::Inode& inode);
    Expected<void> erase_attribute(Change& change, media::Inode& inode, std::string_view name);
    // access_lists.cc
    static Expected<bool> adopt_list(media::Inode& inode, std::string_view name,
                                     std::span<const std::byte> value, bool kill_setgid);
    Expected<void> list_follows_mode(Change& change, media::Inode& inode);
    Expected<void> inherit_lists(Change& change, const media::Inode& above, media::Inode& inode,
                                 std::uint32_t umask);
    // truncate.cc
    Expected<std::pair<std::uint64_t, std::uint64_t>> cut_of(const media::Inode& inode,
                                                             std::uint64_t size_bytes);
    // contexts.cc
    void abandon_all();
    // layout_change.cc
    class LayoutChange;
    /// Whether the layout of these bytes may change: errors range_pinned, range_leased.
    Expected<void> admit_layout_change(InodeState& state, std::uint64_t begin_bytes,
                                       std::uint64_t end_bytes);
    /// Tells the leases on these bytes that their layout changed, where no block went.
    void tell_leases(InodeState& state, std::uint64_t begin_bytes, std::uint64_t end_bytes);
    bool is_pinned(InodeState& state, std::uint64_t begin_bytes, std::uint64_t end_bytes);
    bool is_reached(InodeState& state, std::uint64_t begin_bytes, std::uint64_t end_bytes);
    /// The block of which a part is to be cut, moved away from under maps. The range is held.
    Expected<void> replace_block(InodeState& state, std::uint64_t byte);
    Expected<void> move_blocks(InodeState& state, std::uint64_t begin_block,
                               std::uint64_t end_block);
    Expected<void> copy_blocks(std::uint64_t from, std::uint64_t to, std::uint64_t count,
                               std::vector<std::byte>& buffer);
    // records.cc
    /// Numbers for the records of one change; before it is begun, with the tables' lock held.
    Expected<void> prepare_records();
    /// Even; who is not on record has an odd one, so that no two things have the same id.
    std::uint64_t take_record_id();
    /// Of a lease, context or guard. The caller holds pins_mutex_.
    std::uint64_t take_volatile_id() {
        return std::exchange(next_volatile_id_, next_volatile_id_ + 2);
    }
    std::uint64_t take_generation();
    /// Writes a record and, when `change` is committed, enters what it says into the registry. The
    /// locks of pins and tables are held.
    Expected<void> store_record(Change& change, media::Record& wanted, inode::Table::Slot& slot);
    Expected<void> store_hold(Change& change, std::unique_ptr<pin::Hold> hold);
    Expected<void> store_reference(Change& change, InodeState& state,
                                   std::unique_ptr<pin::Reference> reference);
    Expected<void> update_record(Change& change, const pin::Reference& reference);
    Expected<void> erase_record(Change& change, std::uint64_t slot, std::uint64_t slot_offset);
    /// Ends a map or pin: its record, then itself. The pins' lock is held; the state is used.
    Expected<void> end_reference(InodeState& state, pin::Reference& reference);
    Expected<void> release_holds(const std::vector<std::uint64_t>& ids);
    Expected<void> release_free_holds();
    // recovery.cc
    Expected<void> load_records();
    void recover(const media::Record& record, const inode::Table::Slot& slot);
    void link_holds();
    Expected<void> erase_slots(const std::vector<inode::Table::Slot>& slots);
    // pinned.cc
    std::optional<std::string> name_in(Ino parent, std::uint64_t key, Ino ino);
    std::optional<std::string> name_of_directory(Ino ino, Ino& parent);
    std::optional<std::string> path_of_directory(Ino ino);
    void remember_name(InodeState& state, Ino parent, std::string_view name);
    // contexts.cc
    void wake(const std::vector<std::uint64_t>& contexts);
    /// A file that may be leased: regular and in DAX mode. Errors: not_leasable, invalid_argument.
    Expected<media::Inode> read_leasable(InodeState& state);
    void forget_if_unwatched(InodeState& state);
    // mapping.cc
    /// Blocks, written or zeroed, for every hole of [begin, end), up to the end of the file; in
    /// steps, as long as process `for_pid` is not killed (EINTR); 0: whatever happens. No range is
    /// held.
    Expected<void> populate(InodeState& state, std::uint64_t begin_bytes, std::uint64_t end_bytes,
                            std::uint32_t for_pid = 0);
    Expected<bool> is_written(InodeState& state, std::uint64_t begin_block,
                              std::uint64_t end_block);
    struct Reach {
        std::uint64_t end_bytes = 0;   ///< before rounding
        bool up_to_block_end = false;  ///< it may end in the block with the file's end
        bool allocate = true;          ///< holes get blocks; else they are an error
    };
    struct Reached {
        std::uint64_t id = 0;
        std::uint64_t generation = 0;
        std::uint64_t layout_generation = 0;
        std::vector<Extent> extents;
    };
    Expected<Reached> reach(InodeState& state, std::unique_ptr<pin::Reference> wanted,
                            const Reach& how,
                            const std::function<Expected<void>(pin::Reference&)>& admit);
    Expected<void> enter(InodeState& state, std::unique_ptr<pin::Reference> reference,
                         Reached& reached);
    pin::Map* find_map(std::uint64_t context, std::uint64_t id);
    // map_units.cc
    struct Restoration;
    struct UnitPart;
    static bool is_unit(const std::vector<inode::Mapping>& pieces, std::uint64_t begin_block);
    Expected<bool> is_whole_units(InodeState& state, std::uint64_t begin_bytes,
                                  std::uint64_t end_bytes);
    Expected<void> align_units(InodeState& state, std::uint64_t begin_bytes,
                               std::uint64_t end_bytes, std::uint64_t for_map = 0);
    Expected<void> move_unit(InodeState& state, std::uint64_t begin_block);
    Expected<bool> move_unit_at_once(InodeState& state, std::uint64_t begin_block);
    Expected<void> copy_piece(const inode::Mapping& piece, std::uint64_t to,
                              std::vector<std::byte>& buffer);
    Expected<void> restore_unit(InodeState& state, const std::vector<inode::Mapping>& pieces,
                                std::uint64_t for_map);
    std::optional<Restoration> plan_restoration(InodeState& state,
                                                const std::vector<inode::Mapping>& pieces,
                                                std::uint64_t for_map);
    void release_kept(const Restoration& restoration);
    Expected<void> restore_parts(InodeState& state, const std::vector<inode::Mapping>& pieces,
                                 Restoration& restoration);
    Expected<bool> restore_step(InodeState& state, UnitPart& part, std::uint64_t blocks,
                                std::uint64_t to);
    // pinning.cc
    pin::Pin* find_pin(const pin::Owner& who, std::uint64_t id, std::uint64_t generation);
    Expected<PinAnswer> give_pin(pin::Pin& pin, const pin::Owner& to);
    // mapping.cc
    /// Where file blocks [begin, end) lie; with the range held, and without `holes_too`, errors
    /// holes_in_range.
    Expected<std::vector<Extent>> extents_of(InodeState& state, std::uint64_t begin_bytes,
                                             std::uint64_t end_bytes, bool holes_too);
    /// The same of a map, with holes: where units are larger than a block, those that lie as one
    /// run. Of another a client would show what stands behind its pieces.
    Expected<std::vector<Extent>> shown_extents(InodeState& state, std::uint64_t begin_bytes,
                                                std::uint64_t end_bytes);
    Expected<void> zero_behind_end(InodeState& state, std::uint64_t begin_bytes,
                                   std::uint64_t end_bytes);
    /// SPEC 3.12: so that collisions happen. No lock is held.
    void inject_delay() const;
    // flushing.cc
    Expected<void> flush_reached(InodeState& state);
    Expected<void> flush_range(InodeState& state, std::uint64_t begin_bytes,
                               std::uint64_t end_bytes);
    // keeper.cc
    void keep();
    /// One round: true if there is more to wait for.
    bool keep_once();
    class MappedByOthers;
    void disturb_keeper();
    void start_keeper();
    void stop_keeper();
    void wake_contexts();
    void end_revoked(std::uint64_t now_ns);
    void end_of_processes(std::uint64_t now_ns);
    Expected<void> settle_abandoned();
    Expected<void> end_gone(const std::vector<std::pair<Ino, std::uint64_t>>& ended);
    /// `quiet`: nothing of this machine is pinned, asked after `now_ns`.
    Expected<void> prove_holds(bool quiet, MappedByOthers& others, std::uint64_t now_ns);
    Expected<void> end_gone_references(bool quiet, MappedByOthers& others, std::uint64_t now_ns);
    Expected<bool> move_from_device(Ino ino, std::uint64_t id, std::uint64_t begin_bytes,
                                    std::uint64_t end_bytes);
    [[nodiscard]] bool can_renew_pages() const;
    [[nodiscard]] bool has_waited_enough(std::uint64_t since_ns, std::uint64_t now_ns) const;
    bool is_mapped(MappedByOthers& others, Ino ino, std::uint64_t begin_bytes,
                   std::uint64_t end_bytes);
    // bad_blocks.cc
    Expected<void> load_bad_blocks();
    /// Free ones are renewed, or kept from being given out; what changed is written down.
    Expected<void> settle_bad_blocks();
    void renew_free_bad_blocks();
    void tell_media_error(const InodeState& state, std::uint64_t begin_bytes,
                          std::uint64_t end_bytes);
    // pending.cc
    void find_pending();
    Expected<void> drop_idle_hints(std::uint64_t tolerated);
    void abandoned(Ino ino);
    Expected<bool> free_orphan(Ino ino, std::uint64_t steps_max);
    Expected<void> finish_one(Ino ino);
    void background();
    Expected<void> start_background();  ///< errors: system, where there can be no thread
    void stop_background();

    pmem::Region& region_;
    const media::Superblock super_;
    const MountOptions options_;
    std::atomic<bool> read_only_;
    std::atomic<AtimePolicy> atime_;
    std::atomic<bool> directory_atime_;
    journal::Units units_;
    journal::Journal journal_;
    space::Allocator allocator_;
    RankedMutex<LockRank::inode_chunk> table_mutex_;  // both tables': their roots share a block
    inode::Table inodes_;
    inode::Table records_;
    const inode::NameHash name_hash_;
    InodeStates states_;
    FinishedRequests finished_;
    SessionStart session_start_;
    MountReport report_;
    RankedMutex<LockRank::rename> rename_mutex_;
    std::atomic<std::uint64_t> inodes_in_use_{0};

    // Guarded by the lock of the tables.
    std::uint64_t next_generation_ = 0;
    std::uint64_t generation_limit_ = 0;
    std::uint64_t next_record_id_ = 0;
    std::uint64_t record_id_limit_ = 0;

    std::mutex bad_blocks_mutex_;           // of one settling
    std::uint64_t bad_blocks_written_ = 0;  // version of the region's list that is on media

    // Leases, maps, pins and holds.
    RankedMutex<LockRank::pins> pins_mutex_;
    pin::Registry registry_;              // guarded by pins_mutex_
    std::uint64_t next_volatile_id_ = 1;  // guarded by pins_mutex_
    std::function<void(std::uint64_t)> event_sink_;
    std::mutex event_sink_mutex_;
    std::function<void(Ino)> change_sink_;
    std::mutex change_sink_mutex_;
    std::atomic<std::uint64_t> refused_changes_{0};
    std::array<std::uint8_t, 16> boot_id_{};
    std::array<std::uint8_t, 16> machine_id_{};
    bool records_known_ = false;  // in the registry: not of a volume that was read-only so far
    std::mutex keeper_mutex_;
    std::condition_variable keeper_wake_;
    bool keeper_disturbed_ = false;
    bool keeper_stopping_ = false;
    std::vector<std::uint64_t> revoking_;        // guarded by pins_mutex_
    std::vector<std::uint64_t> unwritten_gone_;  // whose records say they have an owner; the same
    std::thread keeper_;

    // Pending work: inodes to free or to cut, and those with times to write.
    std::mutex pending_mutex_;
    std::condition_variable pending_changed_;  // worker_ waits for it
    std::condition_variable space_may_come_;   // requests that found no space
    std::deque<Ino> pending_;
    std::vector<Ino> lazy_;
    unsigned working_ = 0;  // threads that finish one
    bool stopping_ = false;
    std::thread worker_;
};

}  // namespace pinfs

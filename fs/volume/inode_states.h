// SPDX-License-Identifier: Apache-2.0
//
// What is in memory of an inode: its locks, who refers to it, times not yet on media. It exists
// while the kernel knows the inode, somebody has it open, or an operation is under way; what is on
// media stays on media.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fs/lock.h"
#include "fs/units.h"
#include "fs/volume/range_lock.h"

namespace pinfs {

struct InodeState {
    explicit InodeState(Ino number) : ino{number} {}

    const Ino ino;
    RankedSharedMutex<LockRank::inode> mutex;
    RangeLock ranges;
    std::atomic<std::uint64_t> slot_offset{0};  ///< of the inode in its chunk; 0: not looked up yet
    std::atomic<std::int64_t> lazy_time_ns{0};  ///< mtime and ctime newer than media's; 0: none
    std::atomic<std::int64_t> lazy_atime_ns{0};
    std::atomic<bool> preallocated{false};   ///< blocks beyond EOF to give back at the last release
    std::atomic<bool> no_capability{false};  ///< known to have no security.capability
    /// Something of it is leased, mapped, pinned, or was: the registry knows. Set with a range held
    /// that the lease or pin protects, so a holder of the range sees it.
    std::atomic<bool> watched{false};
    std::atomic<std::uint32_t> layout_changes{0};
    // The last name by which it was looked up or made: a directory, and the key in it. A hint, for
    // reports.
    std::atomic<std::uint64_t> parent{0};
    std::atomic<std::uint64_t> name_key{0};
    bool dead = false;     ///< freed on media; guarded by mutex
    bool unnamed = false;  ///< never had a name and may get one; guarded by mutex

    void set_name(Ino directory, std::uint64_t key) {
        parent.store(directory.value);
        name_key.store(key);
    }
    [[nodiscard]] bool has_lazy_times() const {
        return lazy_time_ns.load() != 0 || lazy_atime_ns.load() != 0;
    }

private:
    friend class InodeStates;
    // Guarded by the table's shard.
    std::uint64_t lookups = 0;
    std::uint32_t opens = 0;
    std::uint32_t users = 0;    // operations under way
    std::uint32_t records = 0;  // maps and pins, also those that nobody owns any more
    std::uint32_t owned = 0;    // maps and pins that somebody owns
    bool dax = false;           // mode in force while open
    bool orphan = false;
};

class InodeStates {
public:
    /// `abandoned` is called, without locks, when nothing refers to an unlinked inode any more.
    explicit InodeStates(std::function<void(Ino)> abandoned) : abandoned_{std::move(abandoned)} {}

    /// Keeps the state in memory while an operation uses it.
    class Use {
    public:
        Use(InodeStates& states, Ino ino) : states_{&states}, state_{states.use(ino)} {}
        ~Use() {
            if (state_) states_->end_use(state_);
        }
        Use(Use&& other) noexcept
            : states_{other.states_}, state_{std::exchange(other.state_, nullptr)} {}
        Use& operator=(Use&&) = delete;
        InodeState& operator*() const { return *state_; }
        InodeState* operator->() const { return state_.get(); }

    private:
        InodeStates* states_;
        std::shared_ptr<InodeState> state_;
    };

    void add_lookup(InodeState& state);
    /// True if nothing refers to an unlinked inode any more: `abandoned` is not called for it.
    [[nodiscard]] bool forget(Ino ino, std::uint64_t count);
    /// An unlinked inode that the kernel has, nobody knows how often: any forget takes it back.
    void keep_until_forgotten(InodeState& state);
    /// Counts an open; of the first one `dax` becomes the mode in force. Returns the mode in force.
    bool open(InodeState& state, bool dax);
    /// True if it was the last.
    bool close(InodeState& state);
    [[nodiscard]] std::uint32_t opens(InodeState& state);
    /// Whether it is open, or mapped or pinned, in DAX mode.
    [[nodiscard]] bool is_dax(InodeState& state);
    /// A map or pin of it is on record: the state stays in memory, and while somebody owns the map
    /// or pin, also the inode. Both follow the record through these.
    void add_record(InodeState& state, bool owned);
    void abandon_record(InodeState& state);
    void remove_record(InodeState& state, bool owned);
    /// Whether somebody but the operation under way may still use the inode.
    [[nodiscard]] bool is_referenced(InodeState& state);
    /// The inode has no name any more: `abandoned` follows when the last reference goes.
    void mark_orphan(InodeState& state);
    /// It has a name again.
    void unmark_orphan(InodeState& state);
    /// Unlinked inodes that are not open: they go as soon as the kernel forgets them.
    [[nodiscard]] std::uint64_t unopened_orphans() const { return unopened_orphans_.load(); }
    /// The inode is freed: its number may come back with another state.
    void remove(InodeState& state);
    /// The kernel is gone: no lookup and no open counts any more. No operation is under way.
    void drop_all();
    /// After many states went, and when no more go, gives their memory back to the system. To be
    /// called every few seconds, by one thread.
    void give_back_memory();
    [[nodiscard]] std::size_t size() const;
    [[nodiscard]] std::vector<Ino> all() const;

private:
    /// Of a shard's table. With fewer it would grow through sizes that malloc keeps when they are
    /// freed, for each thread, among what comes and goes (the thread caches of glibc, up to 1 KiB).
    static constexpr std::size_t kBucketsMin = 257;
    struct Shard {
        Shard() { states.rehash(kBucketsMin); }
        mutable std::mutex mutex;
        std::unordered_map<Ino, std::shared_ptr<InodeState>> states;
        std::size_t most = 0;  // at once, since memory was last given back
    };
    Shard& shard_of(Ino ino) { return shards_[std::hash<Ino>{}(ino) >> 32 & (kShards - 1)]; }
    std::shared_ptr<InodeState> use(Ino ino);
    void end_use(const std::shared_ptr<InodeState>& state);
    /// With the shard locked: drops the state if nothing refers to it; true if it was an orphan and
    /// is nobody's any more.
    bool drop_if_unused(Shard& shard, InodeState& state);
    /// With the shard locked: after `orphan` or `opens` went from not counting to counting, or
    /// back.
    void count_orphan(const InodeState& state, int step) {
        if (state.orphan && state.opens == 0)
            unopened_orphans_.fetch_add(static_cast<std::uint64_t>(step));
    }

    static constexpr std::size_t kShards = 64;
    std::array<Shard, kShards> shards_;
    std::atomic<std::uint64_t> unopened_orphans_{0};
    std::size_t last_states_ = 0;  // when memory was last thought of; of that thread
    std::function<void(Ino)> abandoned_;
};

}  // namespace pinfs

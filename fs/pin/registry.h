// SPDX-License-Identifier: Apache-2.0
//
// All that is leased, mapped, pinned and held of a mounted file system, by file and by id; contexts
// and guards; who is charged for what. In memory: what is durable of it, the volume writes.
//
// Invariants
//   - A reference is in exactly one set of its file: `pins` or `maps` while it has an owner, `gone`
//     after.
//   - A hold waits for the maps that may reach its blocks. One that waits for nothing is free,
//     unless it needs a proof that no device reaches them (SPEC 3.9).
// Not thread-safe: the caller holds the lock of rank `pins`.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fs/pin/events.h"
#include "fs/pin/limits.h"
#include "fs/pin/pins.h"
#include "fs/units.h"

namespace pinfs::pin {

/// Blocks that no file owns any more and somebody may still reach.
struct Hold {
    std::uint64_t id = 0;
    std::uint64_t generation = 0;
    std::uint64_t ino = 0;  ///< the file they came from
    std::uint64_t ino_generation = 0;
    std::uint64_t file_block = 0;
    BlockRun run;
    Owner owner;  ///< of the map or pin for which they are held; its uid is charged
    std::int64_t made_seconds = 0;
    std::uint64_t made_ns = 0;  ///< CLOCK_MONOTONIC
    std::set<std::uint64_t> waits_for;
    bool needs_proof = false;
    bool may_be_mapped = false;  ///< its owner may live, revoked, or is not known any more
    bool kept = false;           ///< its file is about to get the blocks back
    std::uint64_t slot = 0;
    std::uint64_t slot_offset = 0;

    [[nodiscard]] bool is_free() const { return waits_for.empty() && !needs_proof && !kept; }
    [[nodiscard]] std::uint64_t bytes() const { return run.count * kBlockBytes; }
};

struct Context {
    std::uint64_t id = 0;
    Owner owner;
    EventQueue events;
    std::set<std::uint64_t> references;  ///< maps and pins it owns
};

class Registry {
public:
    explicit Registry(const Limits& limits) : charges{limits} {}

    Charges charges;

    // ---- files
    /// nullptr if nothing of the file is leased, mapped, pinned or gone.
    [[nodiscard]] FilePins* find(std::uint64_t ino);
    FilePins& file(std::uint64_t ino) { return files_[ino]; }
    /// Forgets a file of which nothing is left; true if so.
    bool drop_if_empty(std::uint64_t ino);
    [[nodiscard]] const std::unordered_map<std::uint64_t, FilePins>& files() const {
        return files_;
    }

    // ---- contexts and guards
    /// Ids are the caller's, never used twice, shared with those of leases.
    Context& open_context(std::uint64_t id, const Owner& owner);
    [[nodiscard]] Context* context(std::uint64_t id);
    /// The context is no more: its pins, and its maps of no living guard, are gone.
    void close_context(std::uint64_t id, std::uint64_t now_ns);
    void open_guard(std::uint64_t id, std::uint64_t context) { guards_[id].context = context; }
    [[nodiscard]] bool has_guard(std::uint64_t id, std::uint64_t context) const {
        const auto found = guards_.find(id);
        return found != guards_.end() && found->second.context == context;
    }
    /// The maps of the guard are gone.
    void close_guard(std::uint64_t id, std::uint64_t now_ns);
    [[nodiscard]] std::size_t contexts() const { return contexts_.size(); }

    // ---- maps and pins
    /// Enters it, charged to its owner. (Who may exceed the limits charged before: `charges`.)
    Reference& add(std::unique_ptr<Reference> reference);
    [[nodiscard]] Reference* reference(std::uint64_t id);
    /// It has no owner any more. Holds that wait for it need proof instead.
    void abandon(Reference& reference, std::uint64_t now_ns);
    /// It ended: nothing reaches its blocks through it. Holds that waited for it may be free then.
    void remove(Reference& reference);
    /// A living owner's: of another context from now on, or of none of ours (a process).
    void move(Reference& reference, const Owner& owner);
    [[nodiscard]] const std::unordered_map<std::uint64_t, std::unique_ptr<Reference>>& references()
        const {
        return references_;
    }
    /// Ids of what processes own, not contexts of ours: theirs, and recovered ones.
    [[nodiscard]] const std::map<Process, std::set<std::uint64_t>>& process_owned() const {
        return process_owned_;
    }
    void abandon_all_of(const Process& process, std::uint64_t now_ns);
    /// Those without owner.
    [[nodiscard]] const std::set<std::uint64_t>& gone() const { return gone_; }
    /// What became gone since the last call, and may have ended since: its state on media is
    /// behind.
    struct Abandoned {
        std::uint64_t id = 0;
        std::uint64_t ino = 0;
    };
    [[nodiscard]] std::vector<Abandoned> take_abandoned() { return std::exchange(abandoned_, {}); }

    // ---- holds
    Hold& add_hold(std::unique_ptr<Hold> hold);
    [[nodiscard]] Hold* hold(std::uint64_t id);
    /// The map, which lives, may reach the hold's blocks.
    void wait_for(Hold& hold, std::uint64_t map);
    void prove(Hold& hold) {
        hold.needs_proof = false;
        note(hold);
    }
    /// While it is kept it is not free.
    void keep(Hold& hold, bool kept) {
        hold.kept = kept;
        note(hold);
    }
    void remove_hold(std::uint64_t id);
    [[nodiscard]] const std::unordered_map<std::uint64_t, std::unique_ptr<Hold>>& holds() const {
        return holds_;
    }
    /// Holds that are free and wait to be given back.
    [[nodiscard]] const std::set<std::uint64_t>& free_holds() const { return free_holds_; }
    /// Holds that wait for nothing but a proof.
    [[nodiscard]] const std::set<std::uint64_t>& unproven_holds() const { return unproven_holds_; }

    // ---- leases, by id: looks at all of them
    [[nodiscard]] std::optional<Lease> lease(std::uint64_t id) const;
    std::optional<Lease> set_lease_deadline(std::uint64_t id, std::uint64_t deadline_ns);
    /// Ends every part of it.
    void drop_lease(std::uint64_t id);

    /// Posts an event to a context that is open; notes the context if it had none.
    void post(std::uint64_t context, const Event& event);
    /// Tells the leases of a file that the layout of [begin, end) changed.
    void post_gone(FilePins& file, std::uint64_t begin, std::uint64_t end);
    /// Tells the owner of a map that what it shows of [begin, end) is to be seen anew.
    void post_gone(const Map& map, std::uint64_t begin, std::uint64_t end);
    /// The next event of a context that is open.
    std::optional<Event> take_event(Context& context);
    void post_to_all(const Event& event);
    /// Contexts that got their first event since the last call.
    [[nodiscard]] std::vector<std::uint64_t> take_woken() { return std::exchange(woken_, {}); }

private:
    void note(const Hold& hold);
    void enter_owner(const Reference& reference);
    void leave_owner(const Reference& reference);

    std::unordered_map<std::uint64_t, FilePins> files_;
    std::unordered_map<std::uint64_t, Context> contexts_;
    struct Guard {
        std::uint64_t context = 0;
        std::set<std::uint64_t> maps;
    };
    std::unordered_map<std::uint64_t, Guard> guards_;
    std::unordered_map<std::uint64_t, std::unique_ptr<Reference>> references_;
    std::unordered_map<std::uint64_t, std::unique_ptr<Hold>> holds_;
    std::map<Process, std::set<std::uint64_t>> process_owned_;
    std::set<std::uint64_t> gone_;
    std::vector<Abandoned> abandoned_;
    std::set<std::uint64_t> free_holds_;
    std::set<std::uint64_t> unproven_holds_;
    std::vector<std::uint64_t> woken_;
};

}  // namespace pinfs::pin

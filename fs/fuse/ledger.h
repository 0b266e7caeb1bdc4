// SPDX-License-Identifier: Apache-2.0
//
// What the next daemon of a supervised mount must know and neither media nor the kernel tell: which
// files are open and with which handles, contexts with their tokens, guards, leases, and the
// kernel's first request, which it sends once. A table in memory that the supervisor keeps (a
// memfd), written as things change; so it is right whenever the daemon ends, and an upgrade hands
// over the same as a crash leaves.
//
// An entry becomes valid by the last store into it (its kind), and invalid by the first: a daemon
// killed in between leaves no half of one. What an entry says is in force before the request that
// brought it about is answered.
//
// Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "fs/fuse/context_files.h"
#include "fs/volume/survivors.h"

namespace pinfs::fuse {

class Ledger {
public:
    /// The memory behind a new ledger, close-on-exec; -1 and errno if there is none.
    static int make_memory();
    /// Takes over what `memory` has; it stays open. The error is one sentence: a version that does
    /// not know this layout.
    static std::expected<std::unique_ptr<Ledger>, std::string> attach(int memory);
    ~Ledger();
    Ledger(const Ledger&) = delete;
    Ledger& operator=(const Ledger&) = delete;

    // ---- the session
    [[nodiscard]] std::uint64_t session() const;
    [[nodiscard]] std::optional<SessionStart> start() const;
    void set_start(const SessionStart& start);
    /// The kernel's first request and what it was answered; empty until it came.
    [[nodiscard]] std::span<const std::byte> first_request() const;
    void set_first_request(std::span<const std::byte> request);
    [[nodiscard]] std::span<const std::byte> first_answer() const;
    void set_first_answer(std::span<const std::byte> answer);
    /// The mount was shut down (SPEC 6.6), and stays so.
    [[nodiscard]] bool is_shut_down() const;
    void set_shut_down();
    std::uint64_t take_handle_number();

    // ---- open files
    void opened(std::uint64_t handle, Ino ino);
    /// False if it is not open, or no more.
    bool closed(std::uint64_t handle);
    void leases_are(std::uint64_t handle, const std::vector<pin::Lease>& leases);
    void map_made(std::uint64_t map, std::uint64_t guard);
    void map_ended(std::uint64_t map);

    // ---- open files of .pinfs/context
    void context_opened(std::uint64_t handle, std::uint32_t uid);
    /// It is this context or guard from now on.
    void context_is(const KnownContextFile& file);
    void polled(std::uint64_t handle, std::uint64_t poller);
    void context_closed(std::uint64_t handle);

    /// What the last daemon left, without what requests made that were not answered: they come
    /// again, and make it anew.
    struct Left {
        Survivors survivors;
        std::vector<KnownContextFile> contexts;
    };
    [[nodiscard]] Left survivors(const std::vector<std::uint64_t>& unanswered);

private:
    struct Header;
    struct Entry;
    enum class Kind : std::uint32_t { none, open, context, lease, map };
    using Slot = std::uint32_t;

    Ledger(std::byte* memory, bool is_new);
    [[nodiscard]] Header& header() const;
    [[nodiscard]] Entry& entry(Slot slot) const;
    /// A new entry, which becomes valid as the last thing. The lock is held.
    Slot add(Kind kind, const Entry& entry);
    void erase(Slot slot);
    [[nodiscard]] std::uint64_t whole_set(const std::vector<Slot>& slots) const;
    static pin::Lease lease_of(const Entry& entry);

    std::byte* const memory_;
    mutable std::mutex mutex_;
    std::vector<Slot> free_;
    std::unordered_map<std::uint64_t, Slot> files_;  // by handle: open files, contexts
    std::unordered_map<std::uint64_t, std::vector<Slot>> leases_;  // by handle
    std::unordered_map<std::uint64_t, Slot> maps_;                 // by id
    std::unordered_map<std::uint64_t, std::vector<std::uint64_t>> maps_of_guards_;
};

}  // namespace pinfs::fuse

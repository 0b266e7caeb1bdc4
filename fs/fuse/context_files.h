// SPDX-License-Identifier: Apache-2.0
//
// The open files of .pinfs/context: each is nothing yet, a context, or a guard of one (SPEC 2.1,
// 5.1). Hides their tokens and whom a new event wakes.
//
// Invariants
//   - A context or guard of the volume lives exactly as long as its open file.
//   - Nobody is woken under a lock: a notification goes to the kernel, which asks back.
// Thread-safe. The volume's wake comes without locks, so the mutex here may be held while the
// volume is called.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "fs/error.h"
#include "fs/fuse/connection.h"
#include "fs/volume/volume.h"

namespace pinfs::fuse {

using Token = std::array<std::uint8_t, 16>;
class Ledger;

/// An open file of .pinfs/context, as a ledger has it.
struct KnownContextFile {
    std::uint64_t handle = 0;
    std::uint32_t uid = 0;
    std::uint64_t poller = 0;   ///< by which the kernel knows who waits for it; 0: nobody
    std::uint64_t context = 0;  ///< 0: it is nothing yet
    std::uint64_t guard = 0;    ///< of `context`; 0: it is the context itself
    Token token{};
    pin::Owner owner;
};

class ContextFiles {
public:
    /// With a ledger, of a supervised mount, that is told of them.
    ContextFiles(Volume& volume, std::uint64_t user_max, Ledger* ledger)
        : volume_(volume), user_max_(user_max), ledger_(ledger) {}
    ContextFiles(const ContextFiles&) = delete;
    ContextFiles& operator=(const ContextFiles&) = delete;

    /// Begins to wake pollers; `stop` ends it, before the session is destroyed.
    void start();
    void stop();

    /// Those that were open when the last daemon ended; the volume knows their contexts and guards.
    void restore(const std::vector<KnownContextFile>& files);

    /// Errors: limit_user_contexts.
    Expected<void> open(std::uint64_t handle, std::uint32_t uid);
    void release(std::uint64_t handle);

    struct Named {
        std::uint64_t context;
        Token token;
    };
    /// Makes the open file a context, if it is none yet. Errors: is_a_context_already (a guard),
    /// and those of Volume::open_context.
    Expected<Named> hello(std::uint64_t handle, const pin::Owner& owner);
    /// Makes it a guard; its id. Errors: is_a_context_already, no_such_context.
    Expected<std::uint64_t> guard(std::uint64_t handle, const Token& token);
    /// The context that this open file is. Errors: not_a_context.
    [[nodiscard]] Expected<std::uint64_t> context_of(std::uint64_t handle) const;
    /// The context whose token it is. Errors: no_such_context.
    [[nodiscard]] Expected<std::uint64_t> context_of(const Token& token) const;
    /// Keeps `poller`, if there is one, until an event comes; whether one waits already.
    bool poll(std::uint64_t handle, fuse_pollhandle* poller);

    /// Contexts of one user, or of all.
    [[nodiscard]] std::uint64_t count(std::optional<std::uint32_t> uid) const;

private:
    struct Poller {
        void operator()(fuse_pollhandle* handle) const { fuse_pollhandle_destroy(handle); }
    };
    using PollerPointer = std::unique_ptr<fuse_pollhandle, Poller>;
    enum class Role : std::uint8_t { none, context, guard };
    struct File {
        std::uint32_t uid = 0;
        Role role = Role::none;
        std::uint64_t id = 0;
        Token token{};
        PollerPointer poller;
    };
    struct TokenHash {  // tokens are random
        std::size_t operator()(const Token& token) const noexcept;
    };

    void wake(std::uint64_t context);
    [[nodiscard]] const File* find(std::uint64_t handle) const;

    Volume& volume_;
    const std::uint64_t user_max_;
    Ledger* const ledger_;
    mutable std::mutex mutex_;
    std::unordered_map<std::uint64_t, File> files_;              // by handle
    std::unordered_map<Token, std::uint64_t, TokenHash> names_;  // to contexts
    std::unordered_map<std::uint64_t, std::uint64_t> handles_;   // of contexts
    std::unordered_map<std::uint32_t, std::uint64_t> of_user_;   // open files
    bool stopped_ = true;
    std::uint64_t waking_ = 0;  // pollers under way to the kernel
    std::condition_variable woken_;
};

}  // namespace pinfs::fuse

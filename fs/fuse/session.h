// SPDX-License-Identifier: Apache-2.0
//
// A mount that is served: the connection to the kernel, the threads that answer it, the signals
// that end it. Hides libfuse.
//
// Invariants
//   - SIGTERM, SIGINT and SIGHUP are blocked in all threads and taken by one; block_signals() runs
//     before any thread is started.
//   - When run() returns, no call on the volume is under way and none follows.
//   - A remount, read-only, writable, or with another rule for access times, reaches the volume.
//   - No thread asks anything of its own mount: killed while it waits for the answer, it would hold
//     the connection open for ever.
#pragma once

#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "fs/fuse/mounter.h"
#include "fs/fuse/supervised_connection.h"
#include "fs/fuse/trace.h"
#include "fs/volume/volume.h"

namespace pinfs::fuse {

/// The daemon's side of a supervised mount.
struct SupervisedSession {
    SupervisedConnection* connection = nullptr;  ///< nullptr: not supervised
    Ledger* ledger = nullptr;
    std::vector<KnownContextFile> contexts;  ///< that the last daemon left open
    std::string address;                     ///< where the supervisor listens
    int control = -1;                        ///< readable when the supervisor has a word
    /// The word: true if another daemon is to go on. False: the supervisor is no more.
    std::function<bool()> is_to_hand_over;
};

struct SessionOptions {
    MountRequest mount;
    bool allow_root = false;  ///< with mount.allow_other: root and the owner, nobody else
    bool kernel_mmap = true;  ///< SPEC 1.3
    bool io_uring = false;    ///< requests come through io_uring
    std::string described;    ///< options other than those of the kernel, for user.pinfs.options
    std::string region_path;  ///< where clients open the region; empty: as `mount.source`
    std::optional<std::uint32_t> report_gid;  ///< the group that sees everything in reports
    std::uint64_t user_contexts = pin::Limits{}.user_contexts;
    SupervisedSession supervised;
    std::shared_ptr<Trace> trace;  ///< not started; null: there is none
};

/// Whether this build can serve over io_uring.
bool built_with_io_uring();
/// Of libfuse, as it is linked.
const char* library_version();

class Session {
public:
    static void block_signals();

    /// Mounts, by the process that was started for `options.mount` and outlives the session, unless
    /// the supervisor did. On error, one sentence, nothing is mounted.
    static std::expected<std::unique_ptr<Session>, std::string> mount(Volume& volume,
                                                                      const SessionOptions& options,
                                                                      Mounter& mounter);
    ~Session();

    /// Serves until the file system is unmounted or a signal ends it; then it is mounted no more.
    /// False if the connection failed.
    bool run();
    /// Why it ended: the supervisor asked for it. It is mounted still.
    [[nodiscard]] bool hands_over() const;

private:
    class Core;
    explicit Session(std::unique_ptr<Core> core);
    std::unique_ptr<Core> core_;
};

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
#include "cmd/mount.h"

#include <malloc.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <expected>
#include <fstream>
#include <memory>
#include <new>
#include <utility>

#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/log.h"
#include "cmd/mount_options.h"
#include "cmd/region_name.h"
#include "cmd/region_use.h"
#include "cmd/remount.h"
#include "cmd/supervision.h"
#include "cmd/supervisor.h"
#include "fs/fuse/confinement.h"
#include "fs/fuse/mount_table.h"
#include "fs/fuse/session.h"
#include "fs/pmem/region.h"
#include "fs/volume/describe.h"
#include "fs/volume/volume.h"

namespace pinfs::cmd {
namespace {

/// Why there will be no mount; with kSuccess nobody wants to hear of it.
struct Problem {
    int status;
    std::string sentence;
};
std::unexpected<Problem> problem(int status, std::string sentence) {
    return std::unexpected(Problem{status, std::move(sentence)});
}

/// Everything that is known before a region is opened.
struct Plan {
    std::string region;  ///< absolute, as mountinfo will show it
    ParsedOptions options;
    fuse::SessionOptions session;
    bool foreground = false;
    bool verbose = false;
};

std::expected<std::string, Problem> absolute(const std::string& path, const char* what) {
    const std::unique_ptr<char, void (*)(void*)> resolved{realpath(path.c_str(), nullptr), free};
    if (resolved) return std::string{resolved.get()};
    return problem(kFailure, std::string{what} + " " + path + ": " + strerror(errno));
}

std::expected<std::string, Problem> usable_mountpoint(const std::string& path) {
    auto resolved = absolute(path, "mount point");
    if (!resolved) return resolved;
    // Of a dead mount nothing can be asked; mount(2) will say so.
    struct stat st {};
    if (stat(resolved->c_str(), &st) == 0 && !S_ISDIR(st.st_mode))
        return problem(kFailure, "mount point " + path + " is not a directory");
    return resolved;
}

constexpr const char* kUringSwitch = "/sys/module/fuse/parameters/enable_uring";

std::expected<void, Problem> check_io_uring() {
    if (!fuse::built_with_io_uring())
        return problem(kSystem, "option 'io_uring': this build has no FUSE over io_uring");
    char state = 0;
    std::ifstream{kUringSwitch} >> state;
    if (state == 'Y') return {};
    if (state == 0)
        return problem(kSystem, "option 'io_uring': this kernel has no FUSE over io_uring");
    return problem(kSystem, std::string{"option 'io_uring': an administrator must allow it first: "
                                        "echo Y > "} +
                                kUringSwitch);
}

std::expected<void, Problem> check_supervision(const ParsedOptions& options) {
    if (options.io_uring)
        return problem(kUsage,
                       "options 'supervise' and 'io_uring' exclude each other: requests "
                       "over io_uring end with the daemon");
    const std::string why = fuse::why_no_supervision();
    if (!why.empty()) return problem(kSystem, "option 'supervise': " + why);
    return {};
}

/// A daemon that goes on with the mount would wait for itself.
std::expected<void, Problem> check_trace(const std::string& file, const std::string& mountpoint) {
    const std::string directory = file.substr(0, file.rfind('/') + 1);
    const auto resolved = absolute(directory, "directory of the trace");
    if (!resolved) return std::unexpected(resolved.error());
    if ((*resolved + "/").starts_with(mountpoint + "/"))
        return problem(kUsage, "option 'trace=" + file + "' names a file below the mount point");
    return {};
}

std::expected<Plan, Problem> plan_of(const MountCommand& command, bool under_supervisor) {
    Plan plan;
    plan.foreground = command.foreground;
    plan.verbose = command.verbose;
    for (const std::string& list : command.options)
        if (auto parsed = parse_options(list, command.sloppy, plan.options); !parsed)
            return problem(kUsage, parsed.error());
    // Nothing can be asked of a mount that waits for us.
    auto mountpoint = under_supervisor ? std::expected<std::string, Problem>{command.mountpoint}
                                       : usable_mountpoint(command.mountpoint);
    if (!mountpoint) return std::unexpected(mountpoint.error());
    plan.session.mount.mountpoint = *mountpoint;
    if (plan.options.remount) return plan;
    const auto given =
        region_path(plan.options.source.empty() ? command.region : plan.options.source);
    if (!given) return problem(kFailure, given.error());
    if (struct stat st{}; plan.options.nofail && stat(given->c_str(), &st) != 0 && errno == ENOENT)
        return problem(kSuccess, {});
    auto region = absolute(*given, "region");
    if (!region) return std::unexpected(region.error());
    plan.region = *region;
    if (plan.options.io_uring)
        if (auto allowed = check_io_uring(); !allowed) return std::unexpected(allowed.error());
    if (plan.options.supervise)
        if (auto allowed = check_supervision(plan.options); !allowed)
            return std::unexpected(allowed.error());

    if (!plan.options.trace_to.file.empty() && !under_supervisor)
        if (auto allowed = check_trace(plan.options.trace_to.file, *mountpoint); !allowed)
            return std::unexpected(allowed.error());

    // A mount by root is for everybody, as of any file system; a user's is for that user.
    const bool by_root = geteuid() == 0;
    plan.session.mount.source = *region;
    plan.session.mount.flags = plan.options.flags;
    plan.session.mount.allow_other = plan.options.allow_other || plan.options.allow_root || by_root;
    plan.session.mount.kernel_options = plan.options.kernel_options;
    plan.session.allow_root = plan.options.allow_root;
    plan.session.kernel_mmap = plan.options.kernel_mmap;
    plan.session.io_uring = plan.options.io_uring;
    plan.session.region_path = plan.options.region_path;
    plan.session.report_gid = plan.options.report_gid;
    plan.session.user_contexts = plan.options.limits.user_contexts;
    ParsedOptions in_force = plan.options;
    in_force.allow_other = plan.session.mount.allow_other && !plan.options.allow_root;
    plan.session.described = described(in_force);
    return plan;
}

// --- The daemon --------------------------------------------------------------------------------

std::string sentence_of_failure(const std::string& region, const Error& error) {
    if (error.cause == Cause::region_in_use) return in_use_sentence(region);
    return "region " + region + ": " + error.message();
}

void log_capabilities(const pmem::Region& region) {
    const pmem::Capabilities& can = region.capabilities();
    spdlog::info("region {}: {} bytes on {}, map unit {}, flush by {}, MAP_SYNC {}, {}, {}",
                 region.path(), region.bytes(), pmem::name_of(can.kind), can.map_unit_bytes,
                 pmem::name_of(can.flush), can.map_sync ? "yes" : "no",
                 can.persistent ? "persistent" : "not persistent",
                 can.pinnable ? "pinnable" : "not pinnable");
    if (can.map_unit_bytes != kBlockBytes && can.map_unit_bytes != kRunBlocks * kBlockBytes)
        spdlog::warn(
            "region {} maps in units of {} bytes, not of 4 KiB or 2 MiB: its files can be read and "
            "written, not mapped directly or pinned",
            region.path(), can.map_unit_bytes);
}

void log_recovery(const pmem::Region& region, const MountReport& report) {
    if (report.was_clean) return;
    spdlog::warn("region {} was not unmounted: {} transactions replayed, {} bytes read",
                 region.path(), report.lanes_replayed, report.bytes_read);
}

/// A read-only mount too may have to replay, and may become writable later; but if it cannot write
/// the region it needs not.
Expected<std::unique_ptr<pmem::Region>> open_for(const std::string& path, bool read_only) {
    auto region = open_when_free(path, {});
    if (region || !read_only) return region;
    const int number = region.error().number();
    if (number != EROFS && number != EACCES && number != EPERM) return region;
    return open_when_free(path, {.read_only = true});
}

/// Whether the mount is read-only by now, that another daemon served before.
bool is_read_only(const std::string& mountpoint) {
    const auto entry = fuse::mount_at(mountpoint);
    return entry && entry->read_only;
}

/// What inodes took goes back to the system when the kernel forgets them. Left to itself, malloc
/// keeps in each arena twice as much as the largest piece that was ever freed; told so, it would
/// map and unmap each buffer of a moved unit. Of arenas but the first, malloc_trim leaves all that
/// is free at the end: 21 MiB were seen after 200,000 inodes.
void keep_little_memory() {
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_TRIM_THRESHOLD, 256 << 10);
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
}

/// `supervised`: the supervisor's end of this daemon, or nullptr.
int serve(const Plan& plan, Start& start, Supervised* supervised) {
    keep_little_memory();
    if (plan.foreground)
        log_to_terminal(plan.verbose);
    else
        log_to_system(plan.verbose);
    fuse::Session::block_signals();
    if (chdir("/") != 0) return start.failed(kSystem, std::string{"/: "} + strerror(errno));
    auto mounter = fuse::Mounter::start(plan.session.mount);
    if (!mounter) return start.failed(kSystem, mounter.error());
    fuse::SessionOptions session_options = plan.session;
    if (plan.options.trace) {
        auto trace = fuse::Trace::open(plan.options.trace_to);
        if (!trace) return start.failed(kFailure, trace.error());
        session_options.trace = *std::move(trace);
    }

    if (supervised != nullptr)
        if (const auto go = supervised->wait_for_go(); !go)
            return start.failed(kFailure, go.error());
    const bool takes_over = supervised != nullptr && supervised->takes_over();
    const bool read_only = takes_over ? is_read_only(plan.session.mount.mountpoint)
                                      : (plan.options.flags & MS_RDONLY) != 0;
    auto region = open_for(plan.region, read_only);
    if (!region) return start.failed(kFailure, sentence_of_failure(plan.region, region.error()));
    const auto identity = describe_identity(**region);
    if (!identity)
        return start.failed(kFailure, sentence_of_failure(plan.region, identity.error()));
    if (const std::string twin = twin_sentence(plan.region, identity->uuid); !twin.empty())
        return start.failed(kFailure, twin);
    log_capabilities(**region);
    // Before the first byte of metadata is believed, and before there are threads.
    if (plan.options.confine)
        if (auto done =
                fuse::confine({.io_uring = plan.options.io_uring,
                               .device = (*region)->capabilities().kind == pmem::Kind::devdax,
                               .trace = session_options.trace != nullptr});
            !done)
            return start.failed(kSystem, done.error());

    MountOptions options;
    options.read_only = read_only;
    options.dax = plan.options.dax;
    if ((plan.options.flags & MS_NOATIME) != 0) options.atime = AtimePolicy::none;
    if ((plan.options.flags & MS_STRICTATIME) != 0) options.atime = AtimePolicy::strict;
    options.directory_atime = (plan.options.flags & MS_NODIRATIME) == 0;
    options.limits = plan.options.limits;
    options.release_grace_seconds = plan.options.release_grace_seconds;
    options.unpin_delay_ms = plan.options.unpin_delay_ms;
    options.takeover = plan.options.takeover;
    if (supervised != nullptr) options.supervision = supervised->supervision();
    auto volume = Volume::mount(**region, options);
    if (!volume) return start.failed(kFailure, sentence_of_failure(plan.region, volume.error()));
    if (!takes_over) log_recovery(**region, (*volume)->report());

    if (supervised != nullptr) {
        if (const auto connected = supervised->connect(**volume); !connected) {
            static_cast<void>((*volume)->unmount());
            return start.failed(kFailure, connected.error());
        }
        session_options.supervised = supervised->session();
    }
    if ((*region)->read_only()) session_options.described += ",region=read-only";
    auto session = fuse::Session::mount(**volume, session_options, **mounter);
    if (!session) {
        // The volume's own failure would say less than this one.
        if (!takes_over) static_cast<void>((*volume)->unmount());
        return start.failed(kFailure, session.error());
    }
    spdlog::info(
        "{} is mounted on {}, {},{}{}", plan.region, plan.session.mount.mountpoint,
        read_only ? "ro" : "rw", session_options.described,
        plan.session.mount.allow_other ? "" : ", for this user alone (-o allow_root: root too)");
    start.succeeded();
    if (supervised != nullptr) supervised->serving();
    const bool orderly = (*session)->run();
    const bool hands_over = (*session)->hands_over();
    session->reset();
    if (hands_over) {
        if (const auto written = (*volume)->hand_over(); !written)
            spdlog::error("region {}: {}", plan.region, written.error().message());
        return kHandedOver;
    }

    const auto unmounted = (*volume)->unmount();
    if (!unmounted)
        spdlog::error("region {}: unmounting failed: {}", plan.region, unmounted.error().message());
    else
        spdlog::info("{} is unmounted", plan.region);
    volume->reset();
    return orderly && unmounted ? kSuccess : kFailure;
}

int serve_guarded(const Plan& plan, Start& start, Supervised* supervised = nullptr) {
    try {
        return serve(plan, start, supervised);
    } catch (const std::bad_alloc&) {
        return start.failed(kSystem, "out of memory");
    } catch (const std::exception& failure) {
        return start.failed(kSystem, failure.what());
    }
}

/// What can be known of a region without mounting it.
int check_region(const std::string& program, const std::string& path) {
    const auto region = pmem::Region::open(
        path, {.read_only = true, .exclusive = true, .locked_out_is_fine = true});
    if (!region) return complain(program, kFailure, sentence_of_failure(path, region.error()));
    const auto description = describe(**region);
    if (!description)
        return complain(program, kFailure, sentence_of_failure(path, description.error()));
    return kSuccess;
}

/// Until the daemon answers; empty, or a sentence if it ended instead. Another process than the
/// daemon must ask: see fs/fuse/session.h.
std::string wait_for_answer(const std::string& mountpoint) {
    struct stat st {};
    if (stat(mountpoint.c_str(), &st) == 0) return {};
    return mountpoint + " does not answer: " + strerror(errno) + "; see the system log";
}

int serve_supervised(const MountCommand& command, int socket) {
    prctl(PR_SET_NAME, "pinfs");  // which a program that was started by its descriptor has not
    Supervised supervised{socket};
    Start start{command.program, [&](int status, const std::string& sentence) {
                    supervised.failed(status, sentence);
                }};
    const auto plan = plan_of(command, /*under_supervisor=*/true);
    if (!plan) return start.failed(plan.error().status, plan.error().sentence);
    return serve_guarded(*plan, start, &supervised);
}

}  // namespace

int mount_region(const MountCommand& command) {
    const auto socket = Supervised::socket_from_environment();
    if (socket) return serve_supervised(command, *socket);
    const auto plan = plan_of(command, /*under_supervisor=*/false);
    if (!plan && plan.error().status == kSuccess) return kSuccess;
    if (!plan) return complain(command.program, plan.error().status, plan.error().sentence);
    if (plan->options.remount)
        return remount(command.program, plan->session.mount.mountpoint, plan->options);
    if (command.fake) return check_region(command.program, plan->region);
    const auto daemon = [&](Start& start) {
        return plan->options.supervise ? supervise(command, plan->session.mount, start)
                                       : serve_guarded(*plan, start);
    };
    if (!command.foreground)
        return in_background(command.program, daemon,
                             [&] { return wait_for_answer(plan->session.mount.mountpoint); });
    Start start{command.program};
    return daemon(start);
}

}  // namespace pinfs::cmd

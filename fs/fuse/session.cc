// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/session.h"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdarg>
#include <cstring>
#include <thread>

#include "fs/fuse/connection.h"
#include "fs/fuse/edge.h"
#include "fs/fuse/mount_table.h"
#include "fs/fuse/routing.h"

namespace pinfs::fuse {
namespace {

sigset_t ending_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
    return signals;
}

/// Once for each daemon. What an option asks for was refused where the kernel lacks it.
void log_what_it_lacks(const Edge& edge) {
    using enum KernelFeature::Concerns;
    const bool on_device = edge.volume.region().capabilities().kind == pmem::Kind::devdax;
    std::string lacks;
    for (const KernelFeature& feature : edge.kernel.features()) {
        const bool concerned = feature.concerns == all ||
                               (feature.concerns == kernel_mmap && edge.options.kernel_mmap) ||
                               (feature.concerns == device_dax && on_device);
        if (concerned && !feature.has)
            lacks += std::string{"; "} + feature.without + " (Linux " + feature.since + ")";
    }
    spdlog::info("Linux {}, FUSE {}{}", kernel_release(), edge.kernel.version(), lacks);
}

void on_init(void* user, fuse_conn_info* connection) noexcept {
    Edge& edge = *static_cast<Edge*>(user);
    set_features(*connection, edge.options.kernel_mmap);
    edge.kernel.learn(*connection);
    try {
        log_what_it_lacks(edge);
    } catch (const std::bad_alloc&) {
        spdlog::error("no memory to say what the kernel lacks");
    }
}

fuse_lowlevel_ops all_operations() {
    fuse_lowlevel_ops operations = routed_operations();
    operations.init = on_init;
    return operations;
}

void log_of_library(fuse_log_level level, const char* format, va_list arguments) {
    std::array<char, 512> text{};
    vsnprintf(text.data(), text.size(), format, arguments);
    std::string_view line{text.data()};
    while (line.ends_with('\n')) line.remove_suffix(1);
    if (line.empty()) return;
    if (level <= FUSE_LOG_ERR)
        spdlog::error("libfuse: {}", line);
    else if (level <= FUSE_LOG_WARNING || line.find("failed to start io-uring") != line.npos)
        spdlog::warn("libfuse: {}", line);
    else
        spdlog::debug("libfuse: {}", line);
}

struct AccessTimes {
    AtimePolicy policy = AtimePolicy::relative;
    bool directories = true;
    bool operator==(const AccessTimes&) const = default;
};

/// As mountinfo shows them.
AccessTimes access_times_of(const MountEntry& entry) {
    const std::string words = "," + entry.options + ",";
    const auto has = [&](const char* word) {
        return words.find(word) != std::string::npos;
    };
    return {.policy = has(",noatime,")    ? AtimePolicy::none
                      : has(",relatime,") ? AtimePolicy::relative
                                          : AtimePolicy::strict,
            .directories = !has(",nodiratime,")};
}

}  // namespace

bool built_with_io_uring() {
#ifdef PINFS_FUSE_IO_URING
    return true;
#else
    return false;
#endif
}

const char* library_version() { return fuse_pkgversion(); }

class Session::Core {
public:
    Core(Volume& volume, const SessionOptions& options, Mounter& mounter)
        : edge_{volume,
                {.kernel_mmap = options.kernel_mmap,
                 .described = options.described,
                 .mountpoint = options.mount.mountpoint,
                 .region_path =
                     options.region_path.empty() ? options.mount.source : options.region_path,
                 .report_gid = options.report_gid,
                 .user_contexts = options.user_contexts,
                 .supervisor = options.supervised.address},
                options.supervised.ledger,
                options.trace.get()},
          options_(options),
          mounter_(mounter) {}
    ~Core() {
        if (session_ != nullptr) fuse_session_destroy(session_);
        for (const int descriptor : {signals_, stop_, mounts_})
            if (descriptor >= 0) close(descriptor);
    }
    Core(const Core&) = delete;
    Core& operator=(const Core&) = delete;

    std::expected<void, std::string> mount();
    bool run();
    [[nodiscard]] bool hands_over() const { return hands_over_; }

private:
    [[nodiscard]] bool is_supervised() const { return options_.supervised.connection != nullptr; }
    std::expected<void, std::string> attach_here();
    void watch();
    void end();
    /// The kernel does not say when it makes the file system read-only or writable, but it does say
    /// when mounts change.
    void follow_remount();
    /// Whether what is mounted there is still this mount.
    [[nodiscard]] bool is_mounted() const;

    Edge edge_;
    fuse_session* session_ = nullptr;
    dev_t device_ = 0;  // of the mount
    const SessionOptions options_;
    Mounter& mounter_;
    int signals_ = -1;
    int stop_ = -1;    // written when the loop has ended
    int mounts_ = -1;  // mountinfo: tells of changes
    AccessTimes access_times_;
    std::atomic<bool> hands_over_{false};
};

std::expected<void, std::string> Session::Core::mount() {
    fuse_set_log_func(log_of_library);
    const sigset_t set = ending_signals();
    signals_ = signalfd(-1, &set, SFD_CLOEXEC);
    stop_ = eventfd(0, EFD_CLOEXEC);
    mounts_ = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (signals_ < 0 || stop_ < 0 || mounts_ < 0)
        return std::unexpected(std::string{strerror(errno)});

    session_ = make_session(all_operations(), &edge_,
                            {.allow_root = options_.allow_root, .io_uring = options_.io_uring});
    if (session_ == nullptr) return std::unexpected("libfuse makes no session");

    const auto attached =
        is_supervised() ? options_.supervised.connection->connect(session_) : attach_here();
    if (!attached) return attached;
    if (const auto entry = mount_at(options_.mount.mountpoint)) {
        device_ = entry->device;
        access_times_ = access_times_of(*entry);
    }
    return {};
}

std::expected<void, std::string> Session::Core::attach_here() {
    const auto device = mounter_.attach();
    if (!device) return std::unexpected(device.error());
    const std::string name = "/dev/fd/" + std::to_string(*device);
    if (fuse_session_mount(session_, name.c_str()) == 0) return {};
    close(*device);
    mounter_.detach(Detach::at_once);
    return std::unexpected("libfuse does not take the connection");
}

bool Session::Core::run() {
    edge_.invalidator.start(session_);
    edge_.contexts.restore(options_.supervised.contexts);
    edge_.contexts.start();
    edge_.report_maker.start();
    if (options_.trace) options_.trace->start();
    edge_.volume.set_change_sink([this](Ino ino) { edge_.invalidator.attributes(ino); });
    std::thread watcher{[this] {
        watch();
    }};
    // Who waited for an event at the last daemon asks this one.
    for (const KnownContextFile& file : options_.supervised.contexts)
        if (file.poller != 0) options_.supervised.connection->wake(file.poller);
    const int result = is_supervised()
                           ? serve_requests(session_, supervised_threads(),
                                            options_.supervised.connection->has_clones())
                           : serve_requests(session_);
    if (result != 0) spdlog::error("the connection to the kernel failed: {}", strerror(-result));

    const std::uint64_t one = 1;
    if (write(stop_, &one, sizeof(one)) != sizeof(one))
        spdlog::error("eventfd: {}", strerror(errno));
    watcher.join();
    edge_.volume.set_change_sink({});
    edge_.report_maker.stop();
    edge_.contexts.stop();
    edge_.invalidator.stop();
    // The kernel answers what still comes with ENOTCONN from here on.
    fuse_session_destroy(std::exchange(session_, nullptr));
    if (options_.trace) options_.trace->stop();  // no thread answers any more
    if (result != 0 && is_mounted() && !is_supervised()) mounter_.detach(Detach::at_once);
    return result == 0;
}

bool Session::Core::is_mounted() const {
    const auto entry = mount_at(options_.mount.mountpoint);
    return entry && entry->device == device_;
}

void Session::Core::watch() {
    std::array<pollfd, 4> events{pollfd{signals_, POLLIN, 0}, pollfd{stop_, POLLIN, 0},
                                 pollfd{mounts_, POLLPRI, 0},
                                 pollfd{options_.supervised.control, POLLIN, 0}};
    while (true) {
        if (poll(events.data(), events.size(), -1) < 0) {
            if (errno == EINTR) continue;
            spdlog::error("poll: {}", strerror(errno));
            return;
        }
        if (events[1].revents != 0) return;
        if (events[2].revents != 0) follow_remount();
        if (events[3].revents != 0) {
            events[3].fd = -1;
            if (options_.supervised.is_to_hand_over()) {
                spdlog::info("another daemon goes on with {}", options_.mount.mountpoint);
                hands_over_ = true;
                fuse_session_exit(session_);
            } else {
                spdlog::warn("the supervisor of {} is no more: this daemon goes on without",
                             options_.mount.mountpoint);
            }
        }
        if (events[0].revents == 0) continue;
        signalfd_siginfo info{};
        if (read(signals_, &info, sizeof(info)) != sizeof(info)) continue;
        spdlog::info("ending on {}", strsignal(static_cast<int>(info.ssi_signo)));
        end();
    }
}

void Session::Core::follow_remount() {
    for (const MountEntry& entry : mount_table()) {
        if (entry.device != device_ || entry.type != kMountType) continue;
        // What a user's mount shows need not be what was asked: only a change counts.
        const AccessTimes access_times = access_times_of(entry);
        if (access_times != access_times_)
            edge_.volume.set_access_times(access_times.policy, access_times.directories);
        access_times_ = access_times;
        if (entry.read_only == edge_.volume.read_only()) return;
        const char* const now = entry.read_only ? "read-only" : "writable";
        if (const auto done = edge_.volume.set_read_only(entry.read_only); !done)
            spdlog::error("{} cannot become {}: {}", entry.mountpoint, now, done.error().message());
        else
            spdlog::info("{} is {} now", entry.mountpoint, now);
        return;
    }
}

void Session::Core::end() {
    if (is_mounted()) {
        const int busy = mounter_.detach(Detach::when_idle);
        if (busy == 0) return;  // the kernel ends the loop
        spdlog::warn("{} is in use: programs that have files open there get errors from now on",
                     options_.mount.mountpoint);
        mounter_.detach(Detach::at_once);
    }
    fuse_session_exit(session_);
}

Session::Session(std::unique_ptr<Core> core) : core_(std::move(core)) {}
Session::~Session() = default;

void Session::block_signals() {
    const sigset_t set = ending_signals();
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
}

std::expected<std::unique_ptr<Session>, std::string> Session::mount(Volume& volume,
                                                                    const SessionOptions& options,
                                                                    Mounter& mounter) {
    auto core = std::make_unique<Core>(volume, options, mounter);
    if (auto mounted = core->mount(); !mounted) return std::unexpected(mounted.error());
    return std::unique_ptr<Session>{new Session{std::move(core)}};
}

bool Session::run() { return core_->run(); }
bool Session::hands_over() const { return core_->hands_over(); }

}  // namespace pinfs::fuse

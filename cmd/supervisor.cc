// SPDX-License-Identifier: Apache-2.0
#include "cmd/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "cmd/exit_codes.h"
#include "cmd/log.h"
#include "cmd/supervision.h"
#include "fs/fuse/mount_table.h"

namespace pinfs::cmd {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

/// A daemon that lived no longer died quickly; after so many of them it is given up.
constexpr auto kQuick = 2s;
constexpr unsigned kQuickDeathsMax = 6;
constexpr auto kFirstPause = 50ms;  // before the next start; doubled each time
/// How long a program of another version may take until it could serve.
constexpr auto kPatience = 30s;

struct Daemon {
    pid_t pid = -1;
    int socket = -1;
    std::string version;
    steady_clock::time_point started;
};

/// How a process ended, for the log.
std::string ending_of(int status) {
    if (WIFSIGNALED(status))
        return std::string{"of signal "} + std::to_string(WTERMSIG(status)) + " (" +
               strsignal(WTERMSIG(status)) + ")";
    return "with status " + std::to_string(WEXITSTATUS(status));
}

class Supervisor {
public:
    Supervisor(const MountCommand& command, const fuse::MountRequest& mount)
        : command_(command), mount_(mount) {}

    int run(Start& start);

private:
    using Result = std::expected<void, Message>;  // what failed, as a daemon says it

    static std::unexpected<Message> failed(int status, std::string sentence) {
        return std::unexpected(Message{.word = Word::failed,
                                       .status = status,
                                       .text = std::move(sentence),
                                       .descriptors = {}});
    }
    Result prepare();
    Result mount_first();
    Result attach_kernel();
    [[nodiscard]] bool is_mounted() const;
    Result start_program(int program, Daemon& daemon);
    Result expect(Daemon& daemon, Word word,
                  std::optional<std::chrono::milliseconds> timeout = std::nullopt);
    Result resume(Daemon& daemon);
    int end_of(Daemon& daemon);
    bool bring_back();
    bool pause(std::chrono::milliseconds time);
    std::optional<int> look_after();
    void answer_order();
    std::string upgrade(bool& done);
    [[noreturn]] void become_daemon(int program, int socket) const;

    const MountCommand command_;
    const fuse::MountRequest mount_;
    std::string path_;  // of the program
    int program_ = -1;  // that serves, whatever stands at the path by now
    int ledger_ = -1;
    int listener_ = -1;
    int signals_ = -1;
    std::string address_;
    std::vector<int> connection_;
    dev_t device_ = 0;
    Daemon daemon_;
    unsigned quick_deaths_ = 0;
    bool ending_ = false;  // somebody wants the mount to end
};

Supervisor::Result Supervisor::prepare() {
    std::array<char, PATH_MAX> path{};
    if (readlink("/proc/self/exe", path.data(), path.size() - 1) < 0)
        return failed(kSystem, std::string{"/proc/self/exe: "} + strerror(errno));
    path_ = path.data();
    program_ = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    ledger_ = fuse::Ledger::make_memory();
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&set, signal);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    signals_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (program_ < 0 || ledger_ < 0 || signals_ < 0) return failed(kSystem, strerror(errno));
    auto listening = listen_for_orders();
    if (!listening) return failed(kSystem, listening.error());
    std::tie(listener_, address_) = *std::move(listening);
    return {};
}

/// In the child: the program, with words that make it a daemon of this mount.
void Supervisor::become_daemon(int program, int socket) const {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    std::vector<std::string> words;
    if (command_.program == "mount.pinfs")
        words = {command_.program, command_.region, command_.mountpoint};
    else
        words = {"pinfs", "mount", command_.region, command_.mountpoint};
    for (const std::string& options : command_.options) words.insert(words.end(), {"-o", options});
    if (command_.verbose) words.emplace_back("-v");
    if (command_.sloppy) words.emplace_back("-s");
    if (command_.foreground) {
        words.emplace_back("-f");
    } else if (const int null = open("/dev/null", O_RDWR | O_CLOEXEC); null >= 0) {
        for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
            dup2(null, standard);
    }
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    Supervised::set_environment(socket);
    fcntl(socket, F_SETFD, 0);
    fexecve(program, arguments.data(), environ);
    _exit(127);
}

Supervisor::Result Supervisor::expect(Daemon& daemon, Word word,
                                      std::optional<std::chrono::milliseconds> timeout) {
    const auto said = hear(daemon.socket, timeout);
    if (!said) {
        if (timeout) kill(daemon.pid, SIGKILL);
        return failed(kFailure, "the daemon ended before it served; see the system log");
    }
    if (said->word == Word::failed) return std::unexpected(*said);
    if (said->word != word) return failed(kSystem, "the daemon says what nobody asked it");
    if (word == Word::prepared) daemon.version = said->text;
    return {};
}

/// Until the daemon could serve.
Supervisor::Result Supervisor::start_program(int program, Daemon& daemon) {
    const auto [ours, theirs] = socket_pair();
    if (ours < 0) return failed(kSystem, std::string{"no socket: "} + strerror(errno));
    const pid_t child = fork();
    if (child == 0) become_daemon(program, theirs);
    close(theirs);
    if (child < 0) {
        close(ours);
        return failed(kSystem, std::string{"no process: "} + strerror(errno));
    }
    daemon = {.pid = child, .socket = ours, .version = {}, .started = steady_clock::now()};
    say(ours, {.word = Word::look, .text = address_, .descriptors = {ledger_}});
    return expect(daemon, Word::prepared, kPatience);
}

/// Lets a daemon that could serve do so, on the connection that there is.
Supervisor::Result Supervisor::resume(Daemon& daemon) {
    say(daemon.socket, {.word = Word::go, .text = {}, .descriptors = connection_});
    return expect(daemon, Word::serving);
}

Supervisor::Result Supervisor::attach_kernel() {
    const auto device = fuse::attach(mount_);
    if (!device) return failed(kFailure, device.error());
    connection_ = fuse::clones_of(*device);
    connection_.insert(connection_.begin(), *device);
    if (const auto entry = fuse::mount_at(mount_.mountpoint)) device_ = entry->device;
    return {};
}

Supervisor::Result Supervisor::mount_first() {
    const auto steps = [&]() -> Result {
        if (auto done = start_program(program_, daemon_); !done) return done;
        say(daemon_.socket, {.word = Word::go, .text = {}, .descriptors = {}});
        if (auto done = expect(daemon_, Word::mounted); !done) return done;
        if (auto done = attach_kernel(); !done) return done;
        say(daemon_.socket, {.word = Word::connection, .text = {}, .descriptors = connection_});
        return expect(daemon_, Word::serving);
    };
    auto done = steps();
    if (done) return done;
    if (!connection_.empty()) fuse::detach(mount_.mountpoint, fuse::Detach::at_once);
    end_of(daemon_);
    return done;
}

/// Waits until the daemon has ended, which it is about to do without its socket; its status.
int Supervisor::end_of(Daemon& daemon) {
    if (daemon.socket >= 0) close(std::exchange(daemon.socket, -1));
    int status = 0;
    while (daemon.pid > 0 && waitpid(daemon.pid, &status, 0) < 0 && errno == EINTR) {
    }
    daemon.pid = -1;
    return status;
}

bool Supervisor::is_mounted() const {
    const auto entry = fuse::mount_at(mount_.mountpoint);
    return entry && entry->device == device_;
}

/// True if nobody wanted the mount to end meanwhile.
bool Supervisor::pause(std::chrono::milliseconds time) {
    const auto until = steady_clock::now() + time;
    while (true) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - steady_clock::now());
        if (left <= 0ms) return !ending_;
        pollfd waiting{signals_, POLLIN, 0};
        if (poll(&waiting, 1, static_cast<int>(left.count())) <= 0) continue;
        signalfd_siginfo info{};
        while (read(signals_, &info, sizeof(info)) == sizeof(info))
            if (static_cast<int>(info.ssi_signo) != SIGCHLD) ending_ = true;
        if (ending_) return false;
    }
}

/// Starts daemons until one serves. False: it is given up, or the mount is to end.
bool Supervisor::bring_back() {
    while (is_mounted()) {
        quick_deaths_ = steady_clock::now() - daemon_.started < kQuick ? quick_deaths_ + 1 : 0;
        if (quick_deaths_ > kQuickDeathsMax) {
            spdlog::error(
                "{}: {} daemons died within seconds; it is given up, and programs get errors until "
                "it is unmounted",
                mount_.mountpoint, quick_deaths_);
            return false;
        }
        if (quick_deaths_ > 1 && !pause(kFirstPause * (1 << quick_deaths_))) return false;
        auto done = start_program(program_, daemon_);
        if (done) done = resume(daemon_);
        if (done) {
            spdlog::warn("{}: another daemon goes on, process {}", mount_.mountpoint, daemon_.pid);
            return true;
        }
        spdlog::error("{}: no daemon goes on: {}", mount_.mountpoint, done.error().text);
        end_of(daemon_);
    }
    return false;
}

/// The sentence for who asked; the daemon that serves afterwards is `daemon_`, unless none does.
std::string Supervisor::upgrade(bool& done) {
    done = false;
    const int program = open(path_.c_str(), O_PATH | O_CLOEXEC);
    if (program < 0) return path_ + ": " + strerror(errno);
    Daemon next;
    const std::string before = daemon_.version;
    if (const auto prepared = start_program(program, next); !prepared) {
        end_of(next);
        close(program);
        return path_ + " does not start: " + prepared.error().text + "; " + before + " goes on";
    }
    say(daemon_.socket, {.word = Word::hand_over, .text = {}, .descriptors = {}});
    const int status = end_of(daemon_);
    if (!is_mounted()) {
        end_of(next);
        close(program);
        return "it was unmounted meanwhile";
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != kHandedOver)
        spdlog::warn("{}: the daemon that was to hand over ended {}", mount_.mountpoint,
                     ending_of(status));
    const auto resumed = resume(next);
    if (resumed) {
        close(std::exchange(program_, program));
        daemon_ = next;
        quick_deaths_ = 0;
        done = true;
        spdlog::info("{}: {} -> {}", mount_.mountpoint, before, daemon_.version);
        return before + " -> " + daemon_.version;
    }
    end_of(next);
    close(program);
    const bool back = bring_back();
    return path_ + " does not go on: " + resumed.error().text +
           (back ? "; " + before + " does" : "; nor does any other");
}

/// One order of one client that may give it.
void Supervisor::answer_order() {
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) return;
    ucred who{};
    socklen_t bytes = sizeof(who);
    Message answer{.word = Word::failed, .status = kUsage, .text = {}, .descriptors = {}};
    const auto order = hear(client, 1000ms);
    if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &who, &bytes) != 0 ||
        (who.uid != 0 && who.uid != geteuid())) {
        answer.text = "only root and who mounted it may";
    } else if (order && order->word == Word::hand_over) {
        bool done = false;
        answer.text = upgrade(done);
        answer.word = done ? Word::serving : Word::failed;
        answer.status = done ? kSuccess : kFailure;
    }
    say(client, answer);
    close(client);
}

/// One event; an exit status if that was the end.
std::optional<int> Supervisor::look_after() {
    std::array<pollfd, 2> events{pollfd{signals_, POLLIN, 0}, pollfd{listener_, POLLIN, 0}};
    if (poll(events.data(), events.size(), -1) < 0) return std::nullopt;
    if (events[1].revents != 0) answer_order();
    signalfd_siginfo info{};
    while (read(signals_, &info, sizeof(info)) == sizeof(info)) {
        const auto signal = static_cast<int>(info.ssi_signo);
        if (signal == SIGCHLD) continue;
        ending_ = true;
        if (daemon_.pid > 0) kill(daemon_.pid, signal);
    }
    int status = 0;
    if (daemon_.pid > 0 && waitpid(daemon_.pid, &status, WNOHANG) != daemon_.pid)
        return std::nullopt;
    if (daemon_.pid > 0) {
        daemon_.pid = -1;
        end_of(daemon_);
    } else {
        status = kFailure << 8;  // no daemon goes on: said before
    }
    if (!is_mounted()) return WIFEXITED(status) ? WEXITSTATUS(status) : kFailure;
    spdlog::error("{}: the daemon ended {}", mount_.mountpoint, ending_of(status));
    if (!ending_ && bring_back()) return std::nullopt;
    if (ending_) fuse::detach(mount_.mountpoint, fuse::Detach::at_once);
    return kFailure;  // the connection ends with us
}

int Supervisor::run(Start& start) {
    if (command_.foreground)
        log_to_terminal(command_.verbose);
    else
        log_to_system(command_.verbose);
    std::signal(SIGPIPE, SIG_IGN);
    auto mounted = prepare();
    if (mounted) mounted = mount_first();
    if (!mounted) return start.failed(mounted.error().status, mounted.error().text);
    if (chdir("/") != 0) spdlog::warn("/: {}", strerror(errno));
    start.succeeded();
    while (true)
        if (const auto status = look_after()) return *status;
}

}  // namespace

int supervise(const MountCommand& command, const fuse::MountRequest& mount, Start& start) {
    MountCommand resolved = command;
    resolved.region = mount.source;
    resolved.mountpoint = mount.mountpoint;
    return Supervisor{resolved, mount}.run(start);
}

}  // namespace pinfs::cmd

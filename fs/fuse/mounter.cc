// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/mounter.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <thread>
#include <vector>

#include "fs/fuse/packets.h"

namespace pinfs::fuse {
namespace {

enum class Wish : char { attach = 'a', detach_when_idle = 'd', detach_at_once = 'l' };

/// One packet; a descriptor goes with it if one was made.
struct Answer {
    int number = 0;  ///< 0 or an errno
    std::array<char, 1024> sentence{};
};

bool send_answer(int socket, Answer& answer, int descriptor) {
    iovec part{&answer, sizeof(answer)};
    return send_packet(socket, {&part, 1}, {&descriptor, descriptor >= 0 ? 1U : 0U});
}

/// Sends the wish; `descriptor` is -1 if none came.
Answer ask(int socket, Wish wish, int& descriptor) {
    descriptor = -1;
    Answer answer{.number = EPIPE, .sentence = {}};
    if (send(socket, &wish, sizeof(wish), MSG_NOSIGNAL) != sizeof(wish)) return answer;
    iovec part{&answer, sizeof(answer)};
    std::vector<int> descriptors;
    if (receive_packet(socket, {&part, 1}, descriptors) != static_cast<ssize_t>(sizeof(answer)))
        return {.number = EPIPE, .sentence = {}};
    if (!descriptors.empty()) descriptor = descriptors.front();
    return answer;
}

/// The directory where the kernel shows its connections; -1 if it cannot be had.
int open_connections() {
    // Where nobody has mounted it: a mount of our own, which nobody sees.
    const int context = fsopen("fusectl", FSOPEN_CLOEXEC);
    const bool made =
        context >= 0 && fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0;
    const int root = made ? fsmount(context, FSMOUNT_CLOEXEC, 0) : -1;
    if (context >= 0) close(context);
    return root >= 0 ? root : open("/sys/fs/fuse/connections", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/// How many requests of a connection are not answered; nothing if that is not told.
std::optional<long> unanswered(int connections, const std::string& connection) {
    // A file of it tells a number once.
    const int file = openat(connections, (connection + "/waiting").c_str(), O_RDONLY | O_CLOEXEC);
    std::array<char, 32> text{};
    const bool told = file >= 0 && read(file, text.data(), text.size() - 1) > 0;
    if (file >= 0) close(file);
    return told ? std::optional{std::atol(text.data())} : std::nullopt;
}

/// Until nothing is under way, or nothing more comes to its end: others may use the mount.
void wait_for_answers(dev_t device) {
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::seconds kPatience{1};
    const int connections = open_connections();
    if (connections < 0) return;
    long fewest = LONG_MAX;
    for (auto since = Clock::now(); fewest > 0 && Clock::now() < since + kPatience;) {
        const auto count = unanswered(connections, std::to_string(minor(device)));
        if (!count) break;
        if (*count < fewest) {
            fewest = *count;
            since = Clock::now();
        }
        if (fewest > 0) std::this_thread::sleep_for(std::chrono::milliseconds{2});
    }
    close(connections);
}

/// syncfs has the pages of a FUSE mount sent to the daemon, and does not wait for its answers.
void write_back(const std::string& mountpoint) {
    const int root = open(mountpoint.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) return;
    struct stat status {};
    const bool is_known = fstat(root, &status) == 0;
    syncfs(root);
    close(root);
    if (is_known) wait_for_answers(status.st_dev);
}

/// Until the other end is closed.
void serve(int socket, const MountRequest& request) {
    Wish wish{};
    ssize_t count = 0;
    while ((count = recv(socket, &wish, sizeof(wish), 0)) > 0 || (count < 0 && errno == EINTR)) {
        if (count < 0) continue;
        Answer answer;
        int device = -1;
        if (wish == Wish::attach) {
            const auto attached = attach(request);
            if (attached) {
                device = *attached;
            } else {
                answer.number = EIO;
                attached.error().copy(answer.sentence.data(), answer.sentence.size() - 1);
            }
        } else if (wish == Wish::detach_when_idle) {
            write_back(request.mountpoint);
            answer.number = detach(request.mountpoint, Detach::when_idle);
        } else {
            answer.number = detach(request.mountpoint, Detach::at_once);
        }
        const bool told = send_answer(socket, answer, device);
        if (device >= 0) close(device);
        if (!told) return;
    }
}

/// Of all that was open only the socket stays.
[[noreturn]] void be_the_process(int socket, const MountRequest& request) {
    prctl(PR_SET_NAME, "pinfs-mounter");
    constexpr int kSocket = 3;
    const int null = open("/dev/null", O_RDWR);
    if (socket != kSocket && dup2(socket, kSocket) < 0) _exit(1);
    for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (dup2(null, standard) < 0) _exit(1);
    if (close_range(kSocket + 1, ~0U, 0) != 0 || fcntl(kSocket, F_SETFD, FD_CLOEXEC) != 0) _exit(1);
    serve(kSocket, request);
    _exit(0);
}

}  // namespace

std::expected<std::unique_ptr<Mounter>, std::string> Mounter::start(const MountRequest& request) {
    std::array<int, 2> sockets{};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets.data()) != 0)
        return std::unexpected(std::string{"no socket: "} + strerror(errno));
    const pid_t child = fork();
    if (child < 0) {
        const int number = errno;
        for (const int socket : sockets) close(socket);
        return std::unexpected(std::string{"no process: "} + strerror(number));
    }
    if (child == 0) {
        close(sockets[0]);
        be_the_process(sockets[1], request);
    }
    close(sockets[1]);
    return std::unique_ptr<Mounter>{new Mounter{sockets[0], child}};
}

Mounter::~Mounter() {
    close(socket_);
    while (waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
    }
}

std::expected<int, std::string> Mounter::attach() {
    int device = -1;
    const Answer answer = ask(socket_, Wish::attach, device);
    if (device >= 0) return device;
    if (answer.sentence[0] != '\0') return std::unexpected(std::string{answer.sentence.data()});
    return std::unexpected(std::string{"the process that mounts ended"});
}

int Mounter::detach(Detach how) {
    int none = -1;
    const Wish wish = how == Detach::when_idle ? Wish::detach_when_idle : Wish::detach_at_once;
    return ask(socket_, wish, none).number;
}

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/mountpoint.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "fs/fuse/packets.h"

namespace pinfs::fuse {
namespace {

constexpr const char* kHelper = "fusermount3";

class Descriptor {
public:
    explicit Descriptor(int number = -1) : number_(number) {}
    Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    ~Descriptor() { reset(); }
    void reset() {
        if (number_ >= 0) close(number_);
        number_ = -1;
    }
    [[nodiscard]] int get() const { return number_; }
    int release() { return std::exchange(number_, -1); }

private:
    int number_;
};

std::string reason(int number) { return strerror(number); }

std::string joined(std::string options, const std::string& more) {
    if (!more.empty()) options += "," + more;
    return options;
}

// --- As root
// --------------------------------------------------------------------------------------

std::expected<int, std::string> attach_as_root(const MountRequest& request) {
    Descriptor device{open(kFuseDevice, O_RDWR | O_CLOEXEC)};
    if (device.get() < 0)
        return std::unexpected(
            std::string{kFuseDevice} + " cannot be opened: " + reason(errno) +
            " (is the fuse module loaded, and the device there in this container?)");
    struct stat st {};
    if (stat(request.mountpoint.c_str(), &st) != 0)
        return std::unexpected(request.mountpoint + ": " + reason(errno));

    char identity[128];
    snprintf(identity, sizeof(identity), "fd=%d,rootmode=%o,user_id=%u,group_id=%u", device.get(),
             st.st_mode & static_cast<unsigned>(S_IFMT), getuid(), getgid());
    std::string options{identity};
    if (request.allow_other) options = joined(options, "allow_other");
    if (request.default_permissions) options = joined(options, "default_permissions");
    options = joined(options, request.kernel_options);
    if (mount(request.source.c_str(), request.mountpoint.c_str(), kMountType, request.flags,
              options.c_str()) != 0)
        return std::unexpected("the kernel does not mount on " + request.mountpoint + ": " +
                               reason(errno));
    return device.release();
}

// --- As a user, through fusermount3
// ---------------------------------------------------------------

struct HelperResult {
    int status = 0;     ///< exit status, -1 if it could not be started
    std::string text;   ///< what it said on stderr
    Descriptor device;  ///< of a mount
};

Descriptor receive_descriptor(int socket) {
    char byte = 0;
    iovec part{&byte, 1};
    std::vector<int> descriptors;
    receive_packet(socket, {&part, 1}, descriptors);
    return Descriptor{descriptors.empty() ? -1 : descriptors.front()};
}

std::string read_all(int descriptor) {
    std::string text;
    std::array<char, 512> piece{};
    ssize_t count = 0;
    while ((count = read(descriptor, piece.data(), piece.size())) > 0 ||
           (count < 0 && errno == EINTR))
        if (count > 0) text.append(piece.data(), static_cast<std::size_t>(count));
    while (!text.empty() && text.back() == '\n') text.pop_back();
    for (char& letter : text)
        if (letter == '\n') letter = ' ';
    return text;
}

/// Runs fusermount3. With `wants_device` it is asked for a mount, whose descriptor it hands over.
HelperResult run_helper(const std::vector<const char*>& arguments, bool wants_device) {
    HelperResult result;
    std::array<int, 2> sockets{-1, -1};
    std::array<int, 2> pipes{-1, -1};
    if (pipe2(pipes.data(), O_CLOEXEC) != 0)
        return {.status = -1, .text = reason(errno), .device = Descriptor{}};
    Descriptor errors{pipes[0]};
    Descriptor errors_end{pipes[1]};
    if (wants_device && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) != 0)
        return {.status = -1, .text = reason(errno), .device = Descriptor{}};
    Descriptor ours{sockets[0]};
    Descriptor theirs{sockets[1]};

    // The helper finds its end of the socket by a number in its environment.
    constexpr int kSocketNumber = 3;
    std::vector<std::string> variables;
    for (char** entry = environ; *entry != nullptr; ++entry)
        if (std::strncmp(*entry, "_FUSE_COMMFD=", 13) != 0) variables.emplace_back(*entry);
    variables.push_back("_FUSE_COMMFD=" + std::to_string(kSocketNumber));
    std::vector<char*> environment;
    for (std::string& variable : variables) environment.push_back(variable.data());
    environment.push_back(nullptr);

    std::vector<std::string> words{kHelper};
    for (const char* argument : arguments) words.emplace_back(argument);
    std::vector<char*> vector;
    for (std::string& word : words) vector.push_back(word.data());
    vector.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, errors_end.get(), STDERR_FILENO);
    // dup2 onto itself would keep close-on-exec set; posix_spawn clears it then.
    if (wants_device) posix_spawn_file_actions_adddup2(&actions, theirs.get(), kSocketNumber);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    pid_t pid = 0;
    const int failed =
        posix_spawnp(&pid, kHelper, &actions, &attributes, vector.data(), environment.data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (failed != 0) return {.status = -1, .text = reason(failed), .device = Descriptor{}};
    errors_end.reset();
    theirs.reset();

    Descriptor device = wants_device ? receive_descriptor(ours.get()) : Descriptor{};
    std::string text = read_all(errors.get());
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return {.status = WIFEXITED(status) ? WEXITSTATUS(status) : 1,
            .text = std::move(text),
            .device = std::move(device)};
}

/// fusermount3 takes a backslash before what would end or split an option.
std::string escaped(const std::string& value) {
    std::string text;
    for (const char letter : value) {
        if (letter == ',' || letter == '\\') text += '\\';
        text += letter;
    }
    return text;
}

std::string helper_options(const MountRequest& request) {
    struct Name {
        unsigned long flag;
        const char* text;
    };
    constexpr std::array kNames{
        Name{MS_NOEXEC, "noexec"},   Name{MS_SYNCHRONOUS, "sync"},      Name{MS_NOATIME, "noatime"},
        Name{MS_DIRSYNC, "dirsync"}, Name{MS_NODIRATIME, "nodiratime"},
    };
    std::string options = request.flags & MS_RDONLY ? "ro" : "rw";
    options += ",nosuid,nodev";  // fusermount3 sets them for a user whatever is asked
    for (const Name& name : kNames)
        if (request.flags & name.flag) options = joined(options, name.text);
    options = joined(options, "fsname=" + escaped(request.source));
    options = joined(options, "subtype=pinfs");
    if (request.allow_other) options = joined(options, "allow_other");
    if (request.default_permissions) options = joined(options, "default_permissions");
    return joined(options, request.kernel_options);
}

std::expected<int, std::string> attach_as_user(const MountRequest& request) {
    const std::string options = helper_options(request);
    HelperResult result =
        run_helper({"-o", options.c_str(), "--", request.mountpoint.c_str()}, true);
    if (result.device.get() >= 0) return result.device.release();
    if (result.status == -1)
        return std::unexpected(std::string{kHelper} + " cannot be started: " + result.text);
    if (result.text.empty())
        result.text = std::string{kHelper} + " ended with status " + std::to_string(result.status);
    return std::unexpected(result.text);
}

}  // namespace

std::expected<int, std::string> attach(const MountRequest& request) {
    return geteuid() == 0 ? attach_as_root(request) : attach_as_user(request);
}

int detach(const std::string& mountpoint, Detach how) {
    if (geteuid() == 0) {
        const int flags = UMOUNT_NOFOLLOW | (how == Detach::at_once ? MNT_DETACH : 0) |
                          (how == Detach::by_force ? MNT_FORCE : 0);
        // Programs whose requests were made to fail need a moment to let go.
        constexpr std::chrono::milliseconds kPause{20};
        for (int retries = how == Detach::by_force ? 50 : 0;; --retries) {
            if (umount2(mountpoint.c_str(), flags) == 0) return 0;
            if (errno != EBUSY || retries == 0) return errno;
            std::this_thread::sleep_for(kPause);
        }
    }
    std::vector<const char*> arguments{"-u"};
    if (how == Detach::at_once) arguments.push_back("-z");
    arguments.insert(arguments.end(), {"--", mountpoint.c_str()});
    const HelperResult result = run_helper(arguments, false);
    if (result.status == 0) return 0;
    return result.text.find(reason(EBUSY)) != std::string::npos ? EBUSY : EPERM;
}

}  // namespace pinfs::fuse

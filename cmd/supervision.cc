// SPDX-License-Identifier: Apache-2.0
#include "cmd/supervision.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "fs/fuse/packets.h"

namespace pinfs::cmd {
namespace {

constexpr std::size_t kTextBytesMax = 4096;
constexpr const char* kVariable = "PINFS_SUPERVISOR";

struct Head {
    Word word;
    std::int32_t status;
};

sockaddr_un address_of(const std::string& name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path + 1, sizeof(address.sun_path) - 1);  // behind a NUL: no file
    return address;
}

}  // namespace

bool say(int socket, const Message& message) {
    Head head{message.word, message.status};
    std::string text = message.text.substr(0, kTextBytesMax);
    std::array<iovec, 2> parts{iovec{&head, sizeof(head)}, iovec{text.data(), text.size()}};
    return fuse::send_packet(socket, parts, message.descriptors);
}

std::optional<Message> hear(int socket, std::optional<std::chrono::milliseconds> timeout) {
    if (timeout) {
        pollfd waiting{socket, POLLIN, 0};
        int ready = 0;
        while ((ready = poll(&waiting, 1, static_cast<int>(timeout->count()))) < 0 &&
               errno == EINTR) {
        }
        if (ready <= 0) return std::nullopt;
    }
    Head head{};
    std::string text(kTextBytesMax, '\0');
    std::array<iovec, 2> parts{iovec{&head, sizeof(head)}, iovec{text.data(), text.size()}};
    std::vector<int> descriptors;
    const ssize_t count = fuse::receive_packet(socket, parts, descriptors);
    if (count < static_cast<ssize_t>(sizeof(head))) return std::nullopt;
    text.resize(static_cast<std::size_t>(count) - sizeof(head));
    return Message{head.word, head.status, std::move(text), std::move(descriptors)};
}

std::pair<int, int> socket_pair() {
    std::array<int, 2> sockets{-1, -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets.data()) != 0) return {-1, -1};
    return {sockets[0], sockets[1]};
}

std::expected<std::pair<int, std::string>, std::string> listen_for_orders() {
    const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socklen_t bytes = sizeof(address.sun_family);  // without a name: the kernel finds one
    if (listener < 0 || bind(listener, reinterpret_cast<sockaddr*>(&address), bytes) != 0 ||
        listen(listener, 8) != 0 ||
        getsockname(listener, reinterpret_cast<sockaddr*>(&address), &(bytes = sizeof(address))) !=
            0) {
        const std::string why = strerror(errno);
        if (listener >= 0) close(listener);
        return std::unexpected("no socket: " + why);
    }
    return std::pair{
        listener, std::string{address.sun_path + 1, bytes - offsetof(sockaddr_un, sun_path) - 1}};
}

std::expected<int, std::string> connect_for_orders(const std::string& name) {
    const int order = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    const sockaddr_un address = address_of(name);
    const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    ucred owner{};
    socklen_t owner_bytes = sizeof(owner);
    if (order < 0 || connect(order, reinterpret_cast<const sockaddr*>(&address), bytes) != 0 ||
        getsockopt(order, SOL_SOCKET, SO_PEERCRED, &owner, &owner_bytes) != 0) {
        const std::string why = strerror(errno);
        if (order >= 0) close(order);
        return std::unexpected("its supervisor cannot be reached: " + why);
    }
    if (owner.uid == 0 || owner.uid == geteuid()) return order;
    close(order);
    return std::unexpected("its supervisor is of user " + std::to_string(owner.uid));
}

// --- The daemon's side -------------------------------------------------------------------------

std::optional<int> Supervised::socket_from_environment() {
    const char* const text = std::getenv(kVariable);
    if (text == nullptr) return std::nullopt;
    const int socket = std::atoi(text);
    unsetenv(kVariable);
    if (socket <= STDERR_FILENO || fcntl(socket, F_SETFD, FD_CLOEXEC) != 0) return std::nullopt;
    return socket;
}

void Supervised::set_environment(int socket) {
    setenv(kVariable, std::to_string(socket).c_str(), 1);
}

Supervised::~Supervised() { close(socket_); }

std::expected<void, std::string> Supervised::wait_for_go() {
    const auto gone = [] {
        return std::unexpected("the supervisor is no more");
    };
    const auto look = hear(socket_);
    if (!look || look->word != Word::look || look->descriptors.size() != 1) return gone();
    const int memory = look->descriptors.front();
    // For a look: what it says changes until the other daemon has ended.
    if (const auto known = fuse::Ledger::attach(memory); !known)
        return std::unexpected(known.error());
    address_ = look->text;
    say(socket_, {.word = Word::prepared, .text = PINFS_VERSION, .descriptors = {}});
    const auto go = hear(socket_);
    if (!go || go->word != Word::go) return gone();
    auto ledger = fuse::Ledger::attach(memory);
    close(memory);
    if (!ledger) return std::unexpected(ledger.error());
    ledger_ = *std::move(ledger);
    if (go->descriptors.empty()) return {};
    take_connection(go->descriptors);
    const auto unanswered = connection_->take_back();
    if (!unanswered) return std::unexpected(unanswered.error());
    left_ = ledger_->survivors(*unanswered);
    return {};
}

void Supervised::take_connection(const std::vector<int>& descriptors) {
    connection_ = std::make_unique<fuse::SupervisedConnection>(
        descriptors.front(), std::vector<int>{descriptors.begin() + 1, descriptors.end()},
        *ledger_);
}

Supervision Supervised::supervision() {
    Supervision supervision{
        .session = ledger_->session(),
        .survivors = nullptr,
        .kernel_has = {},
        .leases_changed = [this](std::uint64_t handle, const std::vector<pin::Lease>& leases) {
            ledger_->leases_are(handle, leases);
        }};
    if (!takes_over()) return supervision;
    supervision.survivors = &left_.survivors;
    supervision.kernel_has = [this](Ino ino) {
        return connection_->kernel_has(ino);
    };
    return supervision;
}

std::expected<void, std::string> Supervised::connect(Volume& volume) {
    if (!ledger_->start()) ledger_->set_start(volume.session_start());
    if (ledger_->is_shut_down()) volume.shut_down();
    if (takes_over()) return {};
    say(socket_, {.word = Word::mounted, .text = {}, .descriptors = {}});
    const auto connection = hear(socket_);
    if (!connection || connection->word != Word::connection || connection->descriptors.empty())
        return std::unexpected("the supervisor has no connection");
    take_connection(connection->descriptors);
    return {};
}

fuse::SupervisedSession Supervised::session() {
    return {.connection = connection_.get(),
            .ledger = ledger_.get(),
            .contexts = left_.contexts,
            .address = address_,
            .control = socket_,
            .is_to_hand_over = [this] {
                const auto order = hear(socket_);
                return order && order->word == Word::hand_over;
            }};
}

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
//
// What the supervisor of a mount and its daemon say to each other, over a socket of packets that
// the daemon inherits. The words in their order, of a daemon that starts:
//
//   supervisor            daemon
//   look {ledger}
//                         prepared "version"     it could serve; nothing was touched yet
//   go {connection}                              without descriptors: there is no mount yet
//                         mounted                the volume is; asks for a connection
//   connection {...}                             only if `go` had none
//                         serving
//   hand_over                                    another daemon waits for its `go`
//                         exits with kHandedOver
//
// Instead of any of its words a daemon may say `failed` with an exit status and a sentence, and
// end. A connection is the device's descriptor and its clones.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "fs/fuse/ledger.h"
#include "fs/fuse/session.h"
#include "fs/fuse/supervised_connection.h"

namespace pinfs::cmd {

enum class Word : std::uint32_t {
    look,
    prepared,
    go,
    mounted,
    connection,
    serving,
    hand_over,
    failed,
};

struct Message {
    Word word{};
    int status = 0;
    std::string text;
    std::vector<int> descriptors;  ///< received ones are the receiver's to close
};

/// False if nobody listens any more.
bool say(int socket, const Message& message);
/// nullopt if nobody speaks any more, or not within the time.
std::optional<Message> hear(int socket,
                            std::optional<std::chrono::milliseconds> timeout = std::nullopt);

/// A pair of connected sockets of packets, close-on-exec; -1 and errno if there is none.
std::pair<int, int> socket_pair();

/// Of a daemon that wrote back what it had and let another go on.
inline constexpr int kHandedOver = 75;

/// Where a supervisor listens for `pinfs upgrade`: an address of the kernel's choice, so nobody can
/// have it before. The socket, and the address as text.
std::expected<std::pair<int, std::string>, std::string> listen_for_orders();
/// A connection to it, of whose other end root or this user is the owner.
std::expected<int, std::string> connect_for_orders(const std::string& address);

/// The daemon's side.
class Supervised {
public:
    /// The supervisor that started this process; nullopt if none did. Takes the word out of the
    /// environment.
    static std::optional<int> socket_from_environment();
    static void set_environment(int socket);

    explicit Supervised(int socket) : socket_(socket) {}
    ~Supervised();
    Supervised(const Supervised&) = delete;
    Supervised& operator=(const Supervised&) = delete;

    /// Until the supervisor says `go`. With a connection what the last daemon left is known then.
    /// The error is one sentence.
    std::expected<void, std::string> wait_for_go();
    /// Whether another daemon served before.
    [[nodiscard]] bool takes_over() const { return connection_ != nullptr; }
    /// For the volume that is about to be mounted.
    [[nodiscard]] Supervision supervision();
    /// The volume is mounted: gets a connection if there is none.
    std::expected<void, std::string> connect(Volume& volume);
    /// For the session; what it refers to lives as long as this.
    [[nodiscard]] fuse::SupervisedSession session();
    void serving() { say(socket_, {.word = Word::serving, .text = {}, .descriptors = {}}); }
    void failed(int status, const std::string& sentence) {
        say(socket_, {.word = Word::failed, .status = status, .text = sentence, .descriptors = {}});
    }

private:
    void take_connection(const std::vector<int>& descriptors);

    const int socket_;
    std::unique_ptr<fuse::Ledger> ledger_;
    std::unique_ptr<fuse::SupervisedConnection> connection_;
    fuse::Ledger::Left left_;
    std::string address_;
};

}  // namespace pinfs::cmd

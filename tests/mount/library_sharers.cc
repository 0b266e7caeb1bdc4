// SPDX-License-Identifier: Apache-2.0
//
// A context that several processes have (SPEC 3.3): its pins live until the last of them is gone,
// whoever made them and however it ends. And maps that follow their file beside a buffer that a
// device writes.
#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <pinfs.hpp>
#include <string>
#include <thread>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs::test;
using pinfs::Context;
using pinfs::Lease;
using pinfs::Map;
using pinfs::Pin;

namespace {

constexpr std::uint64_t kBlock = 4096;
constexpr std::uint64_t kPinnedBytes = 16 * kBlock;
constexpr std::uint64_t kFileBytes = 64 * kBlock;
constexpr std::uint32_t kExclusive = PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE;

/// One process hands another a descriptor.
void send_descriptor(int socket, int descriptor) {
    char byte = 'x';
    iovec data{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof descriptor)] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    if (sendmsg(socket, &message, 0) != 1) _exit(20);
}

int receive_descriptor(int socket) {
    char byte = 0;
    iovec data{&byte, 1};
    int descriptor = -1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof descriptor)] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) return -1;
    const cmsghdr* const header = CMSG_FIRSTHDR(&message);
    if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return -1;
    std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
    return descriptor;
}

/// A process that pins the first part of the file, and gives its context and word by the socket.
[[noreturn]] void be_owner(const KernelMount& mounted, int socket) {
    const TestFile file{mounted.path("f"), O_RDWR};
    Context context{mounted.root()};
    const Lease lease{context, file.fd(), kExclusive, 0, kPinnedBytes};
    const Pin pin{context, file.fd(), 0, kPinnedBytes};
    send_descriptor(socket, context.fd());
    for (;;) pause();
}

void end(pid_t process) {
    REQUIRE(kill(process, SIGKILL) == 0);
    REQUIRE(waitpid(process, nullptr, 0) == process);
}

int truncated(const KernelMount& mounted, std::uint64_t bytes) {
    return truncate(mounted.path("f").c_str(), static_cast<off_t>(bytes)) == 0 ? 0 : errno;
}

}  // namespace

TEST_CASE("3.3: a pin lives as long as one process has its context, whoever is killed",
          "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    TestFile{mounted.path("f")}.write(0, std::string(kFileBytes, 'a'));
    int sockets[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    const pid_t owner = fork();
    if (owner == 0) {
        alarm(60);
        be_owner(mounted, sockets[1]);
    }
    close(sockets[1]);
    const int context = receive_descriptor(sockets[0]);
    close(sockets[0]);
    REQUIRE(context >= 0);
    // What was handed on is handed on once more, by fork.
    const pid_t sharer = fork();
    if (sharer == 0) {
        alarm(60);
        for (;;) pause();
    }

    end(owner);
    CHECK(truncated(mounted, 0) == EBUSY);
    CHECK(contents(mounted.path(".file_pins")).find("/f") != std::string::npos);
    CHECK(truncated(mounted, kPinnedBytes) == 0);  // what is beside it can be cut

    close(context);
    usleep(100'000);
    CHECK(truncated(mounted, 0) == EBUSY);

    end(sharer);
    CHECK(becomes_true([&] { return truncated(mounted, 0) == 0; }));
    CHECK(becomes_true([&] { return contents(mounted.path(".file_pins")).empty(); }));
    mounted.unmount();
    mounted.check();
}

TEST_CASE("maps follow their file while a device writes into what is pinned of it",
          "[mount][library][concurrency]") {
    KernelMount mounted;
    mounted.mount();
    const std::uint64_t pinned = std::max(kPinnedBytes, mounted.map_unit());
    const std::uint64_t length = 4 * pinned;
    const TestFile file{mounted.path("f")};
    file.write(0, std::string(length, 'a'));
    write_file(mounted.outside("device"), std::string(pinned, 'd'));
    Context context{mounted.root()};
    const Lease others{context, file.fd(), PINFS_LEASE_LAYOUT, 0, PINFS_TO_END};
    const Lease lease{context, file.fd(), kExclusive, 0, pinned};
    const Map map{context, file.fd(), 0, length, PROT_READ | PROT_WRITE};
    const Pin pin{context, file.fd(), 0, pinned};

    io_uring ring{};
    REQUIRE(io_uring_queue_init(8, &ring, 0) == 0);
    iovec buffer{map.data(), pinned};
    REQUIRE(io_uring_register_buffers(&ring, &buffer, 1) == 0);
    const int source = open(mounted.outside("device").c_str(), O_RDONLY | O_CLOEXEC);
    REQUIRE(source >= 0);

    // What is cut from under the map stays held as long as the map lives: that many cuts fit.
    const std::uint64_t cuts = (std::uint64_t{38} << 20) / (length - pinned);
    std::atomic<bool> over{false};
    std::atomic<int> cut_errno{0};
    std::thread cutter{[&] {
        const std::string piece(length - pinned, 'b');
        const int number = open(mounted.path("f").c_str(), O_RDWR | O_CLOEXEC);
        for (std::uint64_t i = 0; i < cuts; ++i)
            if (ftruncate(number, static_cast<off_t>(pinned)) != 0 ||
                pwrite(number, piece.data(), piece.size(), static_cast<off_t>(pinned)) < 0)
                cut_errno.store(errno);
        close(number);
        over.store(true);
    }};
    int reads = 0;
    int events = 0;
    std::string wrong;
    while ((!over.load() || reads < 300) && wrong.empty()) {
        io_uring_prep_read_fixed(io_uring_get_sqe(&ring), source, map.data(), pinned, 0, 0);
        io_uring_cqe* done = nullptr;
        if (io_uring_submit_and_wait(&ring, 1) < 0 || io_uring_wait_cqe(&ring, &done) != 0 ||
            done->res != static_cast<int>(pinned))
            wrong = "the device does not write";
        else
            io_uring_cqe_seen(&ring, done);
        ++reads;
        while (context.next_event(0)) ++events;  // the map follows the file
        // What the device wrote is the file's, by either way; then it is changed for the next time.
        if (file.read(0, pinned) != std::string(pinned, 'd'))
            wrong = "the file does not show what the device wrote";
        if (std::memcmp(map.data(), file.read(0, pinned).data(), pinned) != 0)
            wrong = "the map does not show the file";
        std::memset(map.data(), 'c', pinned);
        if (file.read(0, 1) != "c") wrong = "the map is not the file";
    }
    cutter.join();
    CHECK(wrong.empty());
    CHECK(cut_errno.load() == 0);
    CHECK(events > 0);
    io_uring_queue_exit(&ring);
    close(source);
}

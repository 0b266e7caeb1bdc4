// SPDX-License-Identifier: Apache-2.0
//
// .pinfs/context through the kernel: contexts, guards, events, and how long leases live.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <functional>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/raw_protocol.h"

using namespace pinfs::test;

namespace {

enum : std::uint32_t { kGone = 1, kRevoking = 2 };

bool is_readable(int descriptor, int timeout_ms = 0) {
    pollfd waiting{descriptor, POLLIN, 0};
    return poll(&waiting, 1, timeout_ms) == 1 && (waiting.revents & POLLIN) != 0;
}

/// RELEASE comes after close(2) has returned.
bool soon(const std::function<bool()>& is_so) {
    for (int i = 0; i < 500; ++i) {
        if (is_so()) return true;
        usleep(10'000);
    }
    return false;
}

}  // namespace

TEST_CASE("HELLO makes an open file a context, and says the same again", "[mount][context]") {
    KernelMount mounted;
    mounted.mount();
    const RawContext context{mounted.root()};
    REQUIRE(context.hello().error == 0);
    const RawContext other{mounted.root()};
    CHECK(other.id() != context.id());
    CHECK(std::memcmp(other.token(), context.token(), 16) != 0);
    // Also by another process that has the descriptor.
    CHECK(in_child([&] {
              pinfs_ioc_hello words{};
              words.major = PINFS_PROTOCOL_MAJOR;
              words.minor = 1000;
              words.features = ~0ull;
              const Outcome outcome = ask(context.get(), PINFS_IOC_HELLO, words);
              return outcome.error == 0 && words.context == context.id() &&
                             std::memcmp(words.token, context.token(), 16) == 0 &&
                             words.minor == PINFS_PROTOCOL_MINOR && words.features == 0
                         ? 0
                         : 1;
          }) == 0);
    pinfs_ioc_hello words{};
    words.major = PINFS_PROTOCOL_MAJOR + 1;
    const Descriptor file{mounted.path(".pinfs/context"), O_RDWR};
    const Outcome refused = ask(file.get(), PINFS_IOC_HELLO, words);
    CHECK(refused.error == EPROTO);
    CHECK(refused.sentence.find("another version") != refused.sentence.npos);
    words.major = PINFS_PROTOCOL_MAJOR;
    words.reserved[2] = 1;
    CHECK(ask(file.get(), PINFS_IOC_HELLO, words).error == EINVAL);
    // What was refused left no trace.
    words.reserved[2] = 0;
    CHECK(ask(file.get(), PINFS_IOC_HELLO, words).error == 0);
}

TEST_CASE("a failure is told by errno and by one sentence in the buffer", "[mount][context]") {
    KernelMount mounted;
    mounted.mount(GENERATE("", "dax=never"));
    const Descriptor file{mounted.path(".pinfs/context"), O_RDONLY};
    pinfs_ioc_event words{};
    const Outcome outcome = ask(file.get(), PINFS_IOC_EVENT, words);
    CHECK(outcome.error == EINVAL);
    CHECK(outcome.sentence.find("no HELLO") != outcome.sentence.npos);
    pinfs_ioc_lease lease{};
    write_file(mounted.path("f"), "x");
    const Descriptor f{mounted.path("f"), O_RDWR};
    lease.flags = kLayoutLease;
    const Outcome unknown = ask(f.get(), PINFS_IOC_LEASE_SET, lease);
    CHECK(unknown.error == EBADF);
    CHECK(unknown.sentence.find("SPEC 2.1") != unknown.sentence.npos);
    CHECK(ask(f.get(), static_cast<pinfs_ioc>(200), lease).error == ENOTTY);
    const Descriptor root{mounted.root(), O_RDONLY | O_DIRECTORY};
    CHECK(ask(root.get(), PINFS_IOC_LEASE_SET, lease).error == EINVAL);
}

TEST_CASE("a guard is of one context, and no context itself", "[mount][context]") {
    KernelMount mounted;
    mounted.mount();
    RawContext context{mounted.root()};
    std::uint64_t id = 0;
    const Descriptor guard = context.guard(id);
    REQUIRE(guard.is_open());
    pinfs_ioc_guard words{};
    std::memcpy(words.token, context.token(), sizeof(words.token));
    CHECK(ask(guard.get(), PINFS_IOC_GUARD, words).error == EINVAL);
    CHECK(ask(context.get(), PINFS_IOC_GUARD, words).error == EINVAL);
    pinfs_ioc_hello hello{};
    hello.major = PINFS_PROTOCOL_MAJOR;
    CHECK(ask(guard.get(), PINFS_IOC_HELLO, hello).error == EINVAL);
    words.token[0] ^= 1;
    const Descriptor other{mounted.path(".pinfs/context"), O_RDWR};
    CHECK(ask(other.get(), PINFS_IOC_GUARD, words).error == EBADF);
    // A token ends with its context.
    words.token[0] ^= 1;
    context.close();
    CHECK(soon([&] {
        const Descriptor late{mounted.path(".pinfs/context"), O_RDWR};
        return ask(late.get(), PINFS_IOC_GUARD, words).error == EBADF;
    }));
}

TEST_CASE("one page of a guard can be mapped, and keeps the mount busy", "[mount][context]") {
    KernelMount mounted;
    mounted.mount();
    {
        const RawContext context{mounted.root()};
        std::uint64_t id = 0;
        Descriptor guard = context.guard(id);
        void* const page = mmap(nullptr, kBlock, PROT_NONE, MAP_PRIVATE, guard.get(), 0);
        REQUIRE(page != MAP_FAILED);
        CHECK(madvise(page, kBlock, MADV_DONTFORK) == 0);
        guard.reset();
        CHECK(errno_if(umount2(mounted.root().c_str(), UMOUNT_NOFOLLOW)) == EBUSY);
        // A child has not got it.
        CHECK(in_child([&] { return msync(page, kBlock, MS_ASYNC) == 0 ? 1 : 0; }) == 0);
        CHECK(munmap(page, kBlock) == 0);
    }
    mounted.unmount();
    mounted.check();
}

TEST_CASE("an event makes the context readable, once for all who wait", "[mount][context]") {
    KernelMount mounted;
    mounted.mount();
    const RawContext context{mounted.root()};
    const Descriptor file = file_of(mounted, "f", 8);
    pinfs_ioc_lease lease{};
    REQUIRE(context.lease(file.get(), kLayoutLease, 0, 0, &lease, 77).error == 0);
    CHECK(!is_readable(context.get(), 20));
    const Descriptor polled{epoll_create1(EPOLL_CLOEXEC)};
    epoll_event interest{EPOLLIN, {}};
    REQUIRE(epoll_ctl(polled.get(), EPOLL_CTL_ADD, context.get(), &interest) == 0);
    CHECK(errno_if(read(context.get(), &lease, sizeof(lease))) == EAGAIN);

    const pid_t truncating = fork();
    if (truncating == 0) {
        usleep(100'000);
        _exit(truncate(mounted.path("f").c_str(), 2 * kBlock) == 0 ? 0 : 1);
    }
    CHECK(is_readable(context.get(), 10'000));
    epoll_event came{};
    CHECK(epoll_wait(polled.get(), &came, 1, 10'000) == 1);
    int status = 1;
    waitpid(truncating, &status, 0);
    CHECK(status == 0);
    const pinfs_ioc_event event = context.event();
    CHECK(event.type == kGone);
    CHECK(event.id == lease.id);
    CHECK(event.user_data == 77);
    CHECK(event.offset_bytes == 2 * kBlock);
    CHECK(event.length_bytes >= 6 * kBlock);
    CHECK(context.event().type == 0);
    CHECK(!is_readable(context.get()));
    CHECK(epoll_wait(polled.get(), &came, 1, 0) == 0);

    // And again, by read(2), several at once.
    const Descriptor second = file_of(mounted, "g", 8);
    REQUIRE(context.lease(second.get(), kLayoutLease, 0, 0).error == 0);
    REQUIRE(truncate(mounted.path("f").c_str(), 0) == 0);
    REQUIRE(truncate(mounted.path("g").c_str(), 0) == 0);
    CHECK(is_readable(context.get(), 10'000));
    pinfs_ioc_event events[4] = {};
    CHECK(errno_if(read(context.get(), events, sizeof(events[0]) - 1)) == EINVAL);
    CHECK(read(context.get(), events, sizeof(events)) == 2 * sizeof(events[0]));
    CHECK(events[0].type == kGone);
    CHECK(events[0].id == lease.id);
    CHECK(events[1].type == kGone);
    CHECK(errno_if(read(context.get(), events, sizeof(events))) == EAGAIN);
    // Other files are always ready, as they were.
    CHECK(is_readable(second.get()));
}

TEST_CASE("a lease lives until its open file is closed for the last time", "[mount][context]") {
    KernelMount mounted;
    mounted.mount();
    const RawContext context{mounted.root()};
    Descriptor file = file_of(mounted, "f", 4);
    REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
    const auto is_leased = [&] {
        return truncate(mounted.path("f").c_str(), 0) != 0;
    };
    const auto unleased = [&] {
        return !is_leased();
    };
    CHECK(is_leased());

    SECTION("of another open of the same file: it makes no difference") {
        Descriptor other{mounted.path("f"), O_RDWR};
        other.reset();
        usleep(100'000);
        CHECK(is_leased());
        file.reset();
        CHECK(soon(unleased));
    }
    SECTION("a dup shares it") {
        const Descriptor copy{dup(file.get())};
        file.reset();
        usleep(100'000);
        CHECK(is_leased());
        pinfs_ioc_lease words{};
        CHECK(ask(copy.get(), PINFS_IOC_LEASE_GET, words).error == 0);
        CHECK(words.flags == kExclusiveLease);
    }
    SECTION("a child of fork shares it") {
        int gate[2];
        REQUIRE(pipe(gate) == 0);
        const pid_t child = fork();
        if (child == 0) {
            close(gate[1]);
            char byte = 0;
            _exit(read(gate[0], &byte, 1) == 0 ? 0 : 1);
        }
        close(gate[0]);
        file.reset();
        usleep(100'000);
        CHECK(is_leased());
        close(gate[1]);
        waitpid(child, nullptr, 0);
        CHECK(soon(unleased));
    }
    SECTION("whom it was sent to shares it, and may be killed") {
        int pair[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        const pid_t child = fork();
        if (child == 0) {
            file.reset();
            char byte = 0;
            alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
            iovec piece{&byte, 1};
            msghdr message{};
            message.msg_iov = &piece;
            message.msg_iovlen = 1;
            message.msg_control = control;
            message.msg_controllen = sizeof(control);
            if (recvmsg(pair[1], &message, 0) != 1) _exit(1);
            if (write(pair[1], "y", 1) != 1) _exit(1);
            pause();
        }
        char byte = 'x';
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
        iovec piece{&byte, 1};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof(control);
        cmsghdr* const head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        const int sent = file.get();
        std::memcpy(CMSG_DATA(head), &sent, sizeof(sent));
        REQUIRE(sendmsg(pair[0], &message, 0) == 1);
        REQUIRE(read(pair[0], &byte, 1) == 1);
        file.reset();
        usleep(100'000);
        CHECK(is_leased());
        kill(child, SIGKILL);
        waitpid(child, nullptr, 0);
        CHECK(soon(unleased));
        close(pair[0]);
        close(pair[1]);
    }
    SECTION("the end of its context leaves it") {
        RawContext short_lived{mounted.root()};
        const Descriptor second = file_of(mounted, "g", 4);
        REQUIRE(short_lived.lease(second.get(), kExclusiveLease, 0, 0).error == 0);
        short_lived.close();
        usleep(100'000);
        CHECK(errno_if(truncate(mounted.path("g").c_str(), 0)) == EBUSY);
    }
}

TEST_CASE("what a descriptor was not opened for it does not give", "[mount][context]") {
    KernelMount mounted;
    mounted.mount();
    const RawContext context{mounted.root()};
    const Descriptor both = file_of(mounted, "f", 4);
    const Descriptor reads{mounted.path("f"), O_RDONLY};
    const Descriptor writes{mounted.path("f"), O_WRONLY};
    std::uint64_t guard_id = 0;
    const Descriptor guard = context.guard(guard_id);
    CHECK(context.lease(writes.get(), kLayoutLease, 0, 0).error == EACCES);
    CHECK(context.lease(reads.get(), kSharedLease, 0, 0).error == 0);
    CHECK(context.lease(writes.get(), kSharedLease, 0, 0).error == 0);
    CHECK(context.lease(both.get(), kSharedLease, 0, 0).error == 0);

    pinfs_ioc_map map{};
    CHECK(context.map(writes.get(), guard_id, 0, kBlock, map).error == EACCES);
    map = {};
    map.flags = PINFS_IOC_MAP_WRITE;
    CHECK(context.map(reads.get(), guard_id, 0, kBlock, map).error == EACCES);
    map = {};
    CHECK(context.map(reads.get(), guard_id, 0, kBlock, map).error == 0);
    map = {};
    map.flags = PINFS_IOC_MAP_WRITE;
    CHECK(context.map(both.get(), guard_id, 0, kBlock, map).error == 0);

    CHECK(context.pin(reads.get(), 0, kBlock).error == EACCES);
    CHECK(context.pin(writes.get(), 0, kBlock).error == EACCES);
    pinfs_ioc_pin pin{};
    pin.owner_fd = -1;
    pin.flags = PINFS_IOC_PIN_READ;
    CHECK(context.pin(reads.get(), 0, kBlock, pin).error == 0);
    pinfs_ioc_layout layout{};
    layout.length_bytes = kBlock;
    CHECK(ask(writes.get(), PINFS_IOC_LAYOUT, layout).error == EACCES);
    CHECK(ask(reads.get(), PINFS_IOC_LAYOUT, layout).error == 0);
}

TEST_CASE("a layout is read in pages, which belong together", "[mount][context]") {
    KernelMount mounted;
    mounted.mount();
    const RawContext context{mounted.root()};
    const Descriptor file{mounted.path("f"), O_RDWR | O_CREAT};
    constexpr std::uint64_t kPieces = 40;
    for (std::uint64_t i = 0; i < kPieces; ++i)  // with holes between
        REQUIRE(pwrite(file.get(), "x", 1, static_cast<off_t>(2 * i * kBlock)) == 1);
    std::vector<pinfs_ioc_extent> all;
    pinfs_ioc_layout words{};
    words.length_bytes = 1 << 30;
    do {
        std::vector<pinfs_ioc_extent> page;
        words.first = all.size();
        REQUIRE(ask(file.get(), PINFS_IOC_LAYOUT, words, 0, &page).error == 0);
        REQUIRE(words.total == kPieces);
        REQUIRE(words.count > 0);
        all.insert(all.end(), page.begin(), page.end());
    } while (all.size() < words.total);
    REQUIRE(all.size() == kPieces);
    CHECK(words.size_bytes == 2 * (kPieces - 1) * kBlock + 1);
    for (std::uint64_t i = 0; i < kPieces; ++i) {
        CHECK(all[i].file_offset_bytes == 2 * i * kBlock);
        CHECK(all[i].length_bytes == kBlock);
    }
    std::vector<pinfs_ioc_extent> at_once;
    pinfs_ioc_layout whole{};
    whole.length_bytes = 1 << 30;
    REQUIRE(ask(file.get(), PINFS_IOC_LAYOUT, whole, PINFS_IOC_BYTES_MAX, &at_once).error == 0);
    CHECK(at_once.size() == kPieces);
    CHECK(whole.generation != 0);
    // A layout that changed meanwhile is another one.
    REQUIRE(ftruncate(file.get(), 8 * kBlock) == 0);
    CHECK(ask(file.get(), PINFS_IOC_LAYOUT, whole).error == ESTALE);
}

TEST_CASE("one user's contexts are bounded, and concern no other", "[mount][context]") {
    KernelMount mounted;
    mounted.mount("user_contexts=20");
    const auto open_many = [&](uid_t uid) {
        return in_child([&] {
            if (setresuid(uid, uid, uid) != 0) return 100;
            std::vector<Descriptor> files;
            while (true) {
                files.emplace_back(mounted.path(".pinfs/context"), O_RDWR);
                if (!files.back().is_open())
                    return errno == ENOMEM ? static_cast<int>(files.size()) - 1 : 100;
            }
        });
    };
    CHECK(open_many(1000) == 20);
    std::vector<Descriptor> mine;
    for (int i = 0; i < 20; ++i) mine.emplace_back(mounted.path(".pinfs/context"), O_RDWR);
    CHECK(mine.back().is_open());
    CHECK(!Descriptor{mounted.path(".pinfs/context"), O_RDWR}.is_open());
    CHECK(soon([&] { return open_many(1000) == 20; }));
    mine.pop_back();
    CHECK(soon([&] { return Descriptor{mounted.path(".pinfs/context"), O_RDWR}.is_open(); }));
}

TEST_CASE("revoking is for administrators", "[mount][context]") {
    KernelMount mounted;
    mounted.mount();
    const RawContext context{mounted.root()};
    const Descriptor file = file_of(mounted, "f", 4);
    REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
    pinfs_ioc_pin pin{};
    pin.owner_fd = -1;
    pin.user_data = 5;
    REQUIRE(context.pin(file.get(), 0, kBlock, pin).error == 0);
    const auto revoke = [&](std::uint64_t id, std::uint64_t grace_ms) {
        const RawContext asking{mounted.root()};
        pinfs_ioc_revoke words{};
        words.id = id;
        words.grace_ms = grace_ms;
        return ask(asking.get(), PINFS_IOC_REVOKE, words).error;
    };
    CHECK(in_child([&] {
              if (setresuid(1000, 1000, 1000) != 0) return 100;
              return revoke(pin.id, 0);
          }) == EPERM);
    CHECK(revoke(pin.id + 1000, 0) == ENOENT);
    CHECK(revoke(pin.id, 60'000) == 0);
    CHECK(is_readable(context.get(), 10'000));
    const pinfs_ioc_event event = context.event();
    CHECK(event.type == kRevoking);
    CHECK(event.id == pin.id);
    CHECK(event.user_data == 5);
    CHECK(event.deadline_ns != 0);
    CHECK(context.unpin(pin.id, pin.generation).error == 0);
    CHECK(context.unpin(pin.id, pin.generation).error == ENOENT);
}

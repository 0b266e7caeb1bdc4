// SPDX-License-Identifier: Apache-2.0
//
// Clients that mean ill: whatever they ask, the answer is an errno, the daemon lives, and what
// others have is as it was.
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <functional>
#include <random>
#include <set>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/raw_protocol.h"
#include "tests/support/seed.h"

using namespace pinfs::test;

namespace {

const std::set<int> kExpected{0,      EINVAL, EBADF,  ENOENT, EPERM, EACCES, ENOTTY, EOPNOTSUPP,
                              EAGAIN, EBUSY,  ENOMEM, ESTALE, ENXIO, ENOSPC, EPROTO};

/// What somebody else has, and keeps.
struct Bystander {
    explicit Bystander(const KernelMount& mounted)
        : path(mounted.path("theirs")),
          context(mounted.root()),
          file(file_of(mounted, "theirs", 4)) {
        REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
        pin.owner_fd = -1;
        REQUIRE(context.pin(file.get(), 0, 2 * kBlock, pin).error == 0);
    }
    void check() const {
        CHECK(contents(path) == std::string(4 * kBlock, 'x'));
        CHECK(errno_if(truncate(path.c_str(), 0)) == EBUSY);
        pinfs_ioc_layout words{};
        words.id = pin.id;
        words.generation = pin.generation;
        CHECK(ask(context.get(), PINFS_IOC_PIN_EXTENTS, words).error == 0);
    }

    std::string path;
    RawContext context;
    Descriptor file;
    pinfs_ioc_pin pin{};
};

/// Bytes of memory that a process has of its own.
std::uint64_t private_bytes(pid_t pid) {
    const std::string status = contents("/proc/" + std::to_string(pid) + "/status");
    return std::stoull(status.substr(status.find("RssAnon:") + 8)) * 1024;
}

}  // namespace

TEST_CASE("random bytes in every ioctl, on every kind of file, give an errno", "[mount][hostile]") {
    KernelMount mounted;
    mounted.mount();
    std::mt19937_64 random{seed_of_test("random ioctls", 20261121)};
    {
        const Bystander bystander{mounted};
        const RawContext context{mounted.root()};
        std::uint64_t guard_id = 0;
        const Descriptor guard = context.guard(guard_id);
        const Descriptor fresh{mounted.path(".pinfs/context"), O_RDWR};
        const Descriptor file = file_of(mounted, "f", 64);
        const Descriptor uncached = file_of(mounted, "g", 4);
        REQUIRE(context.lease(file.get(), kSharedLease, 0, 0).error == 0);
        const Descriptor directory{mounted.root(), O_RDONLY | O_DIRECTORY};
        const Descriptor special{mounted.path(".pinfs"), O_RDONLY | O_DIRECTORY};
        const Descriptor report{mounted.path(".pinfs/region"), O_RDONLY};
        const std::array files{context.get(),  guard.get(),     fresh.get(),   file.get(),
                               uncached.get(), directory.get(), special.get(), report.get()};
        std::vector<unsigned char> buffer(PINFS_IOC_BYTES_MAX + 1);
        for (int round = 0; round < 40'000; ++round) {
            const int target = files[random() % files.size()];
            const auto number = static_cast<unsigned>(random() % (random() % 4 == 0 ? 256 : 40));
            const std::size_t bytes =
                random() % 3 == 0 ? random() % (PINFS_IOC_BYTES_MAX + 1) : PINFS_IOC_BYTES_MIN;
            for (std::size_t at = 0; at < bytes; at += 8) {
                // Numbers that mean something are hit more often than noise.
                constexpr std::array kWords{0ull,
                                            0ull,
                                            0ull,
                                            0ull,
                                            1ull,
                                            2ull,
                                            3ull,
                                            kBlock + 0ull,
                                            1ull << 63,
                                            ~0ull,
                                            (1ull << 63) - 1,
                                            1ull << 44};
                const std::uint64_t word =
                    random() % 8 == 0 ? random() : kWords[random() % kWords.size()];
                std::memcpy(buffer.data() + at, &word, std::min<std::size_t>(8, bytes - at));
            }
            if (bytes >= 16 && random() % 2 == 0) std::memcpy(buffer.data(), context.token(), 16);
            const long result = ioctl(target, PINFS_IOC(number, bytes), buffer.data());
            CAPTURE(round, number, bytes, errno);
            if (!kExpected.contains(errno_if(result))) FAIL("unexpected");
        }
        bystander.check();
        CHECK(mounted.daemon() != 0);
    }
    mounted.unmount();
    mounted.check();
}

TEST_CASE("a buffer that is too short, and fields that must be zero, are EINVAL",
          "[mount][hostile]") {
    KernelMount mounted;
    mounted.mount();
    const RawContext context{mounted.root()};
    const Descriptor file = file_of(mounted, "f", 4);
    REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
    struct Request {
        int target;
        pinfs_ioc number;
        std::size_t reserved;  ///< offset of its last reserved word
    };
    const std::array requests{
        Request{context.get(), PINFS_IOC_HELLO, offsetof(pinfs_ioc_hello, reserved[3])},
        Request{context.get(), PINFS_IOC_UNMAP, offsetof(pinfs_ioc_map_range, reserved[3])},
        Request{context.get(), PINFS_IOC_CLEAN, offsetof(pinfs_ioc_map_range, reserved[0])},
        Request{context.get(), PINFS_IOC_RELOAD, offsetof(pinfs_ioc_layout, reserved2[3])},
        Request{context.get(), PINFS_IOC_UNPIN, offsetof(pinfs_ioc_pin_name, reserved[3])},
        Request{context.get(), PINFS_IOC_ADOPT, offsetof(pinfs_ioc_adopt, reserved[3])},
        Request{context.get(), PINFS_IOC_RECEIVE, offsetof(pinfs_ioc_adopt, reserved[0])},
        Request{context.get(), PINFS_IOC_REVOKE, offsetof(pinfs_ioc_revoke, reserved[3])},
        Request{context.get(), PINFS_IOC_RELEASE_HOLD, offsetof(pinfs_ioc_pin_name, generation)},
        Request{file.get(), PINFS_IOC_LEASE_SET, offsetof(pinfs_ioc_lease, reserved2[3])},
        Request{file.get(), PINFS_IOC_LEASE_GET, offsetof(pinfs_ioc_lease, reserved)},
        Request{file.get(), PINFS_IOC_LEASE_DROP, offsetof(pinfs_ioc_lease, reserved2[0])},
        Request{file.get(), PINFS_IOC_MAP, offsetof(pinfs_ioc_map, reserved2[3])},
        Request{file.get(), PINFS_IOC_LAYOUT, offsetof(pinfs_ioc_layout, reserved)},
        Request{file.get(), PINFS_IOC_PIN, offsetof(pinfs_ioc_pin, reserved2[3])},
        Request{file.get(), PINFS_IOC_DAX_ACTIVE, offsetof(pinfs_ioc_dax, reserved[14])},
    };
    for (const Request& request : requests) {
        CAPTURE(request.number);
        std::array<unsigned char, PINFS_IOC_BYTES_MIN> buffer{};
        for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{16},
                                        std::size_t{PINFS_IOC_BYTES_MIN - 1}})
            CHECK(errno_if(ioctl(request.target, PINFS_IOC(request.number, bytes),
                                 buffer.data())) == EINVAL);
        buffer.fill(0);
        buffer[0] = PINFS_PROTOCOL_MAJOR;
        buffer[request.reserved] = 1;
        CHECK(errno_if(ioctl(request.target, PINFS_IOC(request.number, buffer.size()),
                             buffer.data())) == EINVAL);
        pinfs_ioc_failure failure{};
        std::memcpy(&failure, buffer.data(), sizeof(failure));
        CHECK(std::string{failure.message}.starts_with("a reserved field is not zero"));
    }
    pinfs_ioc_region small{};
    std::array<unsigned char, PINFS_IOC_BYTES_MIN> buffer{};
    CHECK(errno_if(ioctl(context.get(), PINFS_IOC(PINFS_IOC_REGION, buffer.size()),
                         buffer.data())) == EINVAL);
    CHECK(ask(context.get(), PINFS_IOC_REGION, small).error == 0);
    CHECK(std::string{small.path} == mounted.region());

    for (const std::uint32_t flags : {0u, 2u, 4u, 5u, 6u, 8u, 9u, ~0u}) {
        CAPTURE(flags);
        CHECK(context.lease(file.get(), flags, 0, 0).error == EINVAL);
    }
    pinfs_ioc_map map{};
    map.flags = 4;
    CHECK(context.map(file.get(), 0, 0, kBlock, map).error == EINVAL);
    pinfs_ioc_pin pin{};
    pin.flags = 2;
    CHECK(context.pin(file.get(), 0, kBlock, pin).error == EINVAL);
    pin = {};
    pin.owner = 2;
    CHECK(context.pin(file.get(), 0, kBlock, pin).error == EINVAL);
    pin = {};
    pin.owner_fd = 1'000'000;
    CHECK(context.pin(file.get(), 0, kBlock, pin).error == EBADF);
    pin.owner_fd = -7;
    CHECK(context.pin(file.get(), 0, kBlock, pin).error == EBADF);
}

TEST_CASE("ranges near the end of the address space overflow nowhere", "[mount][hostile]") {
    KernelMount mounted;
    mounted.mount();
    {
        const RawContext context{mounted.root()};
        const Descriptor file = file_of(mounted, "f", 4);
        std::uint64_t guard_id = 0;
        const Descriptor guard = context.guard(guard_id);
        REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
        constexpr std::array<std::uint64_t, 8> kPlaces{
            1ull << 44,         (1ull << 63) - kBlock, (1ull << 63) - 1, 1ull << 63,
            ~0ull - 2 * kBlock, ~0ull - kBlock,        ~0ull - 1,        ~0ull};
        for (const std::uint64_t offset : kPlaces) {
            for (const std::uint64_t length :
                 {std::uint64_t{1}, kBlock, std::uint64_t{1} << 63, UINT64_MAX}) {
                CAPTURE(offset, length);
                pinfs_ioc_map map{};
                CHECK(context.pin(file.get(), offset, length).error == EINVAL);
                CHECK(context.pin(file.get(), 0, offset).error == EINVAL);
                CHECK(context.map(file.get(), guard_id, offset, length, map).error == EINVAL);
                const int leased = context.lease(file.get(), kExclusiveLease, offset, length).error;
                CHECK((leased == 0 || leased == EINVAL));
                pinfs_ioc_layout layout{};
                layout.offset_bytes = offset;
                layout.length_bytes = length;
                layout.first = offset;
                const int told = ask(file.get(), PINFS_IOC_LAYOUT, layout).error;
                CHECK((told == 0 || told == EINVAL));
                if (told == 0) CHECK(layout.count == 0);
                pinfs_ioc_map_range range{};
                range.offset_bytes = offset;
                range.length_bytes = length;
                const int cleaned = ask(context.get(), PINFS_IOC_CLEAN, range).error;
                CHECK((cleaned == ENOENT || cleaned == EINVAL));
            }
        }
        CHECK(context.pin(file.get(), 0, 0).error == EINVAL);
        CHECK(context.pin(file.get(), 0, 4 * kBlock + 1).error == EINVAL);
        CHECK(context.pin(file.get(), 0, 4 * kBlock).error == 0);
    }
    mounted.unmount();
    mounted.check();
}

TEST_CASE("what is another's is not there: tokens, maps, pins, guards", "[mount][hostile]") {
    KernelMount mounted;
    mounted.mount();
    const Bystander bystander{mounted};
    std::uint64_t their_guard = 0;
    const Descriptor guard = bystander.context.guard(their_guard);
    pinfs_ioc_map their_map{};
    REQUIRE(bystander.context.map(bystander.file.get(), their_guard, 0, kBlock, their_map).error ==
            0);
    const RawContext context{mounted.root()};
    CHECK(context.unpin(bystander.pin.id, bystander.pin.generation).error == ENOENT);
    CHECK(bystander.context.unpin(bystander.pin.id, bystander.pin.generation + 1).error == ENOENT);
    CHECK(bystander.context.unpin(bystander.pin.id + 999, bystander.pin.generation).error ==
          ENOENT);
    pinfs_ioc_map_range range{};
    range.map = their_map.id;
    range.length_bytes = kBlock;
    CHECK(ask(context.get(), PINFS_IOC_UNMAP, range).error == ENOENT);
    CHECK(ask(context.get(), PINFS_IOC_CLEAN, range).error == ENOENT);
    pinfs_ioc_layout layout{};
    layout.id = their_map.id;
    layout.length_bytes = kBlock;
    CHECK(ask(context.get(), PINFS_IOC_RELOAD, layout).error == ENOENT);
    layout.id = bystander.pin.id;
    layout.generation = bystander.pin.generation;
    CHECK(ask(context.get(), PINFS_IOC_PIN_EXTENTS, layout).error == ENOENT);
    pinfs_ioc_adopt adopt{};
    adopt.id = bystander.pin.id;
    adopt.generation = bystander.pin.generation;
    CHECK(ask(context.get(), PINFS_IOC_ADOPT, adopt).error == ENOENT);  // it has an owner
    CHECK(ask(context.get(), PINFS_IOC_RECEIVE, adopt).error == EBADF);
    std::memcpy(adopt.secret, context.token(), sizeof(adopt.secret));
    CHECK(ask(context.get(), PINFS_IOC_RECEIVE, adopt).error == ENOENT);

    // A token is 16 random bytes: one bit off is none.
    pinfs_ioc_lease lease{};
    std::memcpy(lease.token, context.token(), sizeof(lease.token));
    lease.flags = kLayoutLease;
    const Descriptor file = file_of(mounted, "f", 4);
    for (unsigned char& byte : lease.token) {
        byte ^= 0x10;
        CHECK(ask(file.get(), PINFS_IOC_LEASE_SET, lease).error == EBADF);
        byte ^= 0x10;
    }
    CHECK(ask(file.get(), PINFS_IOC_LEASE_SET, lease).error == 0);
    // Nor does another user with the file and a context of its own get further.
    REQUIRE(chmod(bystander.path.c_str(), 0666) == 0);
    CHECK(in_child([&] {
              if (setresuid(1000, 1000, 1000) != 0) return 100;
              const RawContext own{mounted.root()};
              const Descriptor theirs{bystander.path, O_RDWR};
              if (own.lease(theirs.get(), kSharedLease, 0, 0).error != EACCES) return 1;
              if (own.lease(theirs.get(), kLayoutLease, 0, 0).error != 0) return 2;
              if (own.pin(theirs.get(), 0, kBlock).error != EPERM) return 3;
              if (own.unpin(bystander.pin.id, bystander.pin.generation).error != ENOENT) return 4;
              pinfs_ioc_pin_name hold{};
              hold.id = bystander.pin.id;
              if (ask(own.get(), PINFS_IOC_RELEASE_HOLD, hold).error != EPERM) return 5;
              return 0;
          }) == 0);
    bystander.check();
}

TEST_CASE("a limit names its option, and one user's is no other's", "[mount][hostile]") {
    KernelMount mounted;
    mounted.mount("user_records=100,user_bytes=64K");
    const auto greedy = [&] {
        if (setresuid(1000, 1000, 1000) != 0) return 100;
        const RawContext context{mounted.root()};
        const Descriptor file{mounted.path("f"), O_RDWR};
        if (context.lease(file.get(), kExclusiveLease, 0, 0).error != 0) return 101;
        int pins = 0;
        for (;; ++pins) {
            const Outcome outcome = context.pin(file.get(), 0, kBlock);
            if (outcome.error == 0) continue;
            if (outcome.error != ENOMEM) return 102;
            if (outcome.sentence.find("user_bytes=") == outcome.sentence.npos) return 103;
            break;
        }
        for (int i = 0;; ++i) {
            const Outcome outcome = context.lease(file.get(), kLayoutLease, 2 * i * kBlock, kBlock);
            if (outcome.error == 0) continue;
            if (outcome.error != ENOMEM) return 104;
            if (outcome.sentence.find("user_records=") == outcome.sentence.npos) return 105;
            if (i > 100) return 106;
            break;
        }
        return pins;
    };
    write_file(mounted.path("f"), std::string(4 * kBlock, 'x'));
    REQUIRE(chown(mounted.path("f").c_str(), 1000, 1000) == 0);
    CHECK(in_child(greedy) == 16);
    const Bystander bystander{mounted};
    bystander.check();
    // All of it came back when that process ended, once no device can have it.
    int again = 0;
    for (int i = 0; i < 100 && again != 16; ++i) {
        usleep(100'000);
        again = in_child(greedy);
    }
    CHECK(again == 16);
}

TEST_CASE("who never reads events costs others neither time nor memory", "[mount][hostile]") {
    KernelMount mounted;
    mounted.mount();
    const RawContext deaf{mounted.root()};
    const Descriptor file = file_of(mounted, "f", 4);
    REQUIRE(deaf.lease(file.get(), kLayoutLease, 0, 0).error == 0);
    const auto cut = [&](int rounds) {
        for (int i = 0; i < rounds; ++i) {
            REQUIRE(ftruncate(file.get(), 0) == 0);
            REQUIRE(pwrite(file.get(), "x", 1, kBlock) == 1);
        }
    };
    cut(5000);  // threads and their heaps are there now
    // A kernel that makes huge pages of memory in use adds some megabytes now and then; what is
    // kept for each cut would show each time.
    std::uint64_t least_growth = UINT64_MAX;
    for (int i = 0; i < 3; ++i) {
        const std::uint64_t before = private_bytes(mounted.daemon());
        cut(5000);
        const std::uint64_t after = private_bytes(mounted.daemon());
        least_growth = std::min(least_growth, after - std::min(before, after));
    }
    CHECK(least_growth < 1 << 20);
    int events = 0;
    while (deaf.event().type != 0) ++events;
    CHECK(events >= 1);
    CHECK(events < 10);
}

TEST_CASE("who maps while others cut holds no more than the limit", "[mount][hostile]") {
    KernelMount mounted;
    mounted.mount("user_bytes=4M");
    {
        const RawContext context{mounted.root()};
        const Descriptor file = file_of(mounted, "f", 16);
        std::uint64_t guard_id = 0;
        const Descriptor guard = context.guard(guard_id);
        REQUIRE(context.lease(file.get(), kLayoutLease, 0, 0).error == 0);
        pinfs_ioc_map map{};
        REQUIRE(context.map(file.get(), guard_id, 0, 16 * kBlock, map).error == 0);
        bool bounded = false;
        for (int i = 0; i < 200; ++i) {
            REQUIRE(ftruncate(file.get(), 0) == 0);
            REQUIRE(ftruncate(file.get(), 16 * kBlock) == 0);
            pinfs_ioc_layout layout{};
            layout.id = map.id;
            layout.length_bytes = 16 * kBlock;
            const int error = ask(context.get(), PINFS_IOC_RELOAD, layout).error;
            bounded = bounded || error == ENOMEM;
            CAPTURE(i);
            if (error != 0) CHECK(error == ENOMEM);
        }
        pinfs_ioc_region region{};
        REQUIRE(ask(context.get(), PINFS_IOC_REGION, region).error == 0);
        CHECK(region.pin_limit_bytes == 4 << 20);
        // What is mapped and what was cut, in whole map units.
        CHECK(region.pinned_bytes <=
              (4 << 20) + 2 * std::max<std::uint64_t>(16 * kBlock, region.map_align_bytes));
        CHECK(bounded);
    }
    mounted.unmount();
    mounted.check();
}

// SPDX-License-Identifier: Apache-2.0
//
// Maps of libpinfs on a mount: over many extents, after others changed the file, and what fork,
// exec and close_range leave of them. In C++ with pinfs.hpp.
#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>
#include <pinfs.hpp>
#include <random>
#include <string>
#include <vector>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/region_bytes.h"

using namespace pinfs::test;
using pinfs::Context;
using pinfs::Lease;
using pinfs::Map;

namespace {

constexpr std::uint64_t kBlock = 4096;

sigjmp_buf after_signal;

/// Whether a load there raises SIGBUS.
bool raises_sigbus(const std::byte* address) {
    struct sigaction before {};
    struct sigaction jump {};
    jump.sa_handler = [](int) {
        siglongjmp(after_signal, 1);
    };
    sigaction(SIGBUS, &jump, &before);
    volatile bool raised = true;
    if (sigsetjmp(after_signal, 1) == 0) {
        static_cast<void>(*const_cast<const volatile std::byte*>(address));
        raised = false;
    }
    sigaction(SIGBUS, &before, nullptr);
    return raised;
}

std::string text_at(const Map& map, std::size_t offset, std::size_t bytes) {
    return {map.at<const char>(offset), bytes};
}

/// The errno of a call that throws.
int error_of(const std::function<void()>& call) {
    try {
        call();
    } catch (const pinfs::error& error) {
        INFO(error.what());
        CHECK(std::string{error.what()}.size() > 10);
        return error.code().value();
    }
    return 0;
}

/// A file whose pieces, of so many bytes, lie in the region in another order than in the file, each
/// full of a letter.
void write_scattered(const TestFile& file, std::uint64_t pieces, std::uint64_t bytes = kBlock) {
    std::vector<std::uint64_t> order(pieces);
    for (std::uint64_t i = 0; i < pieces; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), std::mt19937_64{7});
    for (const std::uint64_t piece : order)
        file.write(piece * bytes, std::string(bytes, static_cast<char>('a' + piece % 26)));
}

std::uint32_t kind_number(const std::string& kind) {
    if (kind == "tmpfs") return PINFS_KIND_TMPFS;
    if (kind == "hugetlb") return PINFS_KIND_HUGETLB;
    return kind == "devdax" ? PINFS_KIND_DEVDAX : 0;
}

}  // namespace

TEST_CASE("a context opens from any path in the mount", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "content");
    REQUIRE(run({"mkdir", "-p", mounted.path("a/b")}).status == 0);
    for (const std::string name : {"", "f", "a/b", "a"}) {
        CAPTURE(name);
        Context context{mounted.path(name)};
        const auto info = context.region_info();
        CHECK(info.kind == kind_number(mounted.region_kind()));
        CHECK(info.pinnable == 1);
        if (info.kind != PINFS_KIND_DEVDAX) CHECK(info.persistent == 0);
        CHECK(info.block_bytes == kBlock);
        CHECK((fcntl(context.fd(), F_GETFD) & FD_CLOEXEC) != 0);
        CHECK_FALSE(context.next_event(0));
    }
    mounted.unmount();
    CHECK(error_of([&] { const Context context{mounted.root()}; }) == ENODEV);
}

TEST_CASE("a map over a thousand extents is one range, and coherent with read and write",
          "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    constexpr std::uint64_t kBlocks = 1500;
    const TestFile file{mounted.path("f")};
    write_scattered(file, kBlocks);
    Context context{mounted.root()};
    const auto extents = context.layout(file.fd(), 0, kBlocks * kBlock);
    REQUIRE(extents.size() > 1000);
    const Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT};
    Map map{context, file.fd(), 0, kBlocks * kBlock};
    for (std::uint64_t block = 0; block < kBlocks; ++block) {
        const char* const at = map.at<const char>(block * kBlock);
        if (at[0] != static_cast<char>('a' + block % 26) || at[kBlock - 1] != at[0]) {
            CAPTURE(block);
            REQUIRE(at[0] == static_cast<char>('a' + block % 26));
        }
    }
    pinfs::memcpy_persist(map.data() + 5 * kBlock - 3, "mapped", 6);
    CHECK(file.read(5 * kBlock - 3, 6) == "mapped");
    file.write(700 * kBlock - 4, "written");
    CHECK(text_at(map, 700 * kBlock - 4, 7) == "written");
    map.sync(0, map.size());
    map.unmap();
    CHECK(error_of([&] { pinfs::checked(pinfs_unmap(context.get(), map.data(), map.size())); }) ==
          EINVAL);
    // In the middle of the file as well, and read-only.
    const std::uint64_t begin = 600 * kBlock / mounted.map_unit() * mounted.map_unit();
    const Map part{context, file.fd(), begin, 800 * kBlock - begin, PROT_READ};
    CHECK(text_at(part, 700 * kBlock - 4 - begin, 7) == "written");
}

TEST_CASE("maps are refused with the rule that it was", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    const std::uint64_t unit = mounted.map_unit();
    const TestFile file{mounted.path("f")};
    file.resize(10 * unit);
    file.write(0, "data");
    Context context{mounted.root()};
    const auto mapping = [&](std::uint64_t offset, std::uint64_t length,
                             int protection = PROT_READ | PROT_WRITE, unsigned flags = 0) {
        return error_of(
            [&] { const Map map{context, file.fd(), offset, length, protection, flags}; });
    };
    CHECK(mapping(0, unit) == EPERM);
    const Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT, 0, 8 * unit};
    CHECK(mapping(0, unit) == 0);
    CHECK(mapping(0, 0) == EINVAL);
    CHECK(mapping(1, unit) == EINVAL);
    CHECK(mapping(0, unit, PROT_EXEC) == EINVAL);
    CHECK(mapping(0, unit, PROT_WRITE) == EINVAL);
    CHECK(mapping(0, unit, PROT_READ, 4) == EINVAL);
    CHECK(mapping(UINT64_MAX - unit + 1, unit) == EINVAL);
    CHECK(mapping(7 * unit, 2 * unit) == EPERM);
    CHECK(mapping(0, 2 * unit, PROT_READ, PINFS_MAP_NOALLOC) == ENXIO);
    CHECK(mapping(0, 2 * unit) == 0);
    CHECK(mapping(0, 2 * unit, PROT_READ, PINFS_MAP_NOALLOC) == 0);
    const Lease longer{context, file.fd(), PINFS_LEASE_LAYOUT};
    CHECK(mapping(9 * unit, 2 * unit) == EINVAL);

    // Read-only descriptors may be mapped to read.
    const TestFile reader{mounted.path("f"), O_RDONLY};
    const Lease readers{context, reader.fd(), PINFS_LEASE_LAYOUT};
    CHECK(error_of([&] { const Map map{context, reader.fd(), 0, unit}; }) == EACCES);
    CHECK(error_of([&] { const Map map{context, reader.fd(), 0, unit, PROT_READ}; }) == 0);

    // Another user may open a context, but not the region.
    REQUIRE(chmod(mounted.path("f").c_str(), 0666) == 0);
    CHECK(in_child([&] {
              if (setgid(1000) != 0 || setuid(1000) != 0) return 1;
              struct pinfs_context* other = nullptr;
              if (pinfs_context_open(mounted.root().c_str(), 0, &other) != 0) return 2;
              const int fd = open(mounted.path("f").c_str(), O_RDWR);
              struct pinfs_lease wanted = PINFS_INIT(struct pinfs_lease);
              wanted.flags = PINFS_LEASE_LAYOUT;
              if (pinfs_lease_set(other, fd, &wanted) != 0) return 3;
              void* address = nullptr;
              if (pinfs_map(other, fd, 0, unit, PROT_READ, 0, &address) != -EACCES) return 4;
              const std::string why = pinfs_last_error();
              return why.find("does not open for this user") == std::string::npos ? 5 : 0;
          }) == 0);
}

TEST_CASE("a file of another name is taken for the region only if it is the region",
          "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    const TestFile file{mounted.path("f")};
    file.write(0, "data");
    const auto map_with = [&](const std::string& region) {
        return in_child([&] {
            setenv("PINFS_REGION", region.c_str(), 1);
            Context context{mounted.root()};
            const Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT};
            try {
                const Map map{context, file.fd(), 0, kBlock};
                return std::memcmp(map.data(), "data", 4) == 0 ? 0 : 98;
            } catch (const pinfs::error& error) {
                return error.code().value();
            }
        });
    };
    write_file(mounted.outside("copy"), RegionBytes{mounted.region()}.copy());
    const std::string other_name = mounted.region() + "-other-name";
    REQUIRE(link(mounted.region().c_str(), other_name.c_str()) == 0);
    CHECK(map_with(other_name) == 0);
    REQUIRE(unlink(other_name.c_str()) == 0);
    CHECK(map_with(mounted.outside("copy")) == ENODEV);
    CHECK(map_with("/dev/null") == ENODEV);
    CHECK(map_with(mounted.outside("none")) == ENOENT);
}

TEST_CASE("after GONE a map shows the file, and SIGBUS beyond its new end", "[mount][library]") {
    KernelMount mounted{128};
    mounted.mount();
    const std::uint64_t unit = mounted.map_unit();
    const std::uint64_t units = unit == kBlock ? 400 : 16;  // four times as many as stay
    const std::uint64_t stay = units / 4;
    const std::uint64_t hole = stay / 4;  // what becomes one, twice as long as a unit
    const auto letter = [](std::uint64_t place) {
        return std::string(1, static_cast<char>('a' + place % 26));
    };
    const TestFile file{mounted.path("f")};
    write_scattered(file, units, unit);
    Context context{mounted.root()};
    const Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT, 0, PINFS_TO_END, 4711};
    const Map map{context, file.fd(), 0, units * unit};
    const std::uint64_t new_end = stay * unit + 10;
    REQUIRE(truncate(mounted.path("f").c_str(), static_cast<off_t>(new_end)) == 0);

    // Nobody waited: the old blocks are still there, and nobody else's.
    CHECK(text_at(map, 3 * stay * unit, 1) == letter(3 * stay));
    bool lease_told = false;
    bool map_told = false;
    while (const auto event = context.next_event(0)) {
        CHECK(event->type == PINFS_EVENT_GONE);
        CHECK(event->size_bytes == sizeof(pinfs_event));
        if (event->user_data == 4711)
            lease_told = true;
        else
            map_told = event->user_data == reinterpret_cast<std::uintptr_t>(map.data());
    }
    CHECK(lease_told);
    CHECK(map_told);
    CHECK(raises_sigbus(map.data() + (stay + 1) * unit));
    CHECK(raises_sigbus(map.data() + 3 * stay * unit));
    CHECK(raises_sigbus(map.data() + units * unit - 1));
    CHECK(text_at(map, (stay - 1) * unit, 1) == letter(stay - 1));
    CHECK(text_at(map, stay * unit, 11) == std::string(10, letter(stay)[0]) + '\0');

    // A hole is filled when the map follows it.
    REQUIRE(fallocate(file.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      static_cast<off_t>(hole * unit), static_cast<off_t>(2 * unit)) == 0);
    while (context.next_event(0)) continue;
    CHECK(text_at(map, hole * unit - 1, 2) == letter(hole - 1) + '\0');
    CHECK(text_at(map, (hole + 2) * unit - 1, 2) == '\0' + letter(hole + 2));
    file.write((hole + 1) * unit, "anew");
    CHECK(text_at(map, (hole + 1) * unit, 4) == "anew");

    // What grows again shows in a new map.
    file.resize(units * unit);
    CHECK(raises_sigbus(map.data() + (stay + 1) * unit));
    const Map again{context, file.fd(), 0, units * unit};
    CHECK(text_at(again, (stay + 1) * unit, 3) == std::string(3, '\0'));
}

TEST_CASE("a child of fork has no map and no use of the context", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    const TestFile file{mounted.path("f")};
    file.write(0, "data");
    Context context{mounted.root()};
    const Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT};
    Map map{context, file.fd(), 0, kBlock};
    CHECK(in_child([&] { return static_cast<int>(*map.at<volatile char>(0)); }) == 128 + SIGSEGV);
    CHECK(in_child([&] {
              struct pinfs_event event = PINFS_INIT(struct pinfs_event);
              struct pinfs_pin pin = PINFS_PIN_INIT;
              void* address = nullptr;
              if (pinfs_context_fd(context.get()) != -ESTALE) return 1;
              if (pinfs_context_next_event(context.get(), &event, 0) != -ESTALE) return 2;
              if (pinfs_map(context.get(), file.fd(), 0, kBlock, PROT_READ, 0, &address) != -ESTALE)
                  return 3;
              if (pinfs_unmap(context.get(), map.data(), kBlock) != -ESTALE) return 4;
              if (pinfs_pin(context.get(), file.fd(), &pin) != -ESTALE) return 5;
              pinfs_context_close(context.get());
              Context own{mounted.root()};
              const Map own_map{own, file.fd(), 0, kBlock};  // the lease is the open file's
              return std::memcmp(own_map.data(), "data", 4) == 0 ? 0 : 6;
          }) == 0);
    // And the parent's is as it was.
    CHECK(text_at(map, 0, 4) == "data");
    map.unmap();
}

TEST_CASE("a map outlives every descriptor, and keeps the mount", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    int ready[2];
    int go_on[2];
    REQUIRE(pipe2(ready, 0) == 0);
    REQUIRE(pipe2(go_on, 0) == 0);
    const pid_t child = fork();
    if (child == 0) {
        const int file = open(mounted.path("f").c_str(), O_RDWR | O_CREAT, 0644);
        if (file < 0 || ftruncate(file, 10 * kBlock) != 0) _exit(1);
        auto& context = *new Context{mounted.root()};
        auto& lease = *new Lease{context, file, PINFS_LEASE_LAYOUT};
        static_cast<void>(lease);
        auto& map = *new Map{context, file, 0, 10 * kBlock};
        dup2(ready[1], 0);
        dup2(go_on[0], 1);
        if (close_range(3, ~0U, 0) != 0) _exit(2);
        pinfs::memcpy_persist(map.data() + 5 * kBlock, "after", 5);
        if (write(0, "x", 1) != 1) _exit(3);
        char byte = 0;
        if (read(1, &byte, 1) != 1) _exit(4);
        _exit(std::memcmp(map.data() + 5 * kBlock, "after", 5) == 0 ? 0 : 5);
    }
    char byte = 0;
    close(ready[1]);
    REQUIRE(read(ready[0], &byte, 1) == 1);
    CHECK(contents(mounted.path("f")).substr(5 * kBlock, 5) == "after");
    CHECK(errno_if(umount2(mounted.root().c_str(), 0)) == EBUSY);
    // What is cut from under it is not given to others while it lives.
    REQUIRE(truncate(mounted.path("f").c_str(), 0) == 0);
    write_file(mounted.path("g"), std::string(40 << 20, 'g'));
    REQUIRE(write(go_on[1], "x", 1) == 1);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    for (const int fd : {ready[0], go_on[0], go_on[1]}) close(fd);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("exec ends contexts and maps", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    int stay[2];
    REQUIRE(pipe2(stay, O_CLOEXEC) == 0);
    const pid_t child = fork();
    if (child == 0) {
        dup2(stay[0], 0);
        const int file = open(mounted.path("f").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (file < 0 || ftruncate(file, kBlock) != 0) _exit(1);
        auto& context = *new Context{mounted.root()};
        new Lease{context, file, PINFS_LEASE_LAYOUT};
        new Map{context, file, 0, kBlock};
        execlp("cat", "cat", static_cast<char*>(nullptr));
        _exit(2);
    }
    // Until exec the mount is busy; then it is not, though the process lives.
    for (int i = 0; i < 500 && mounted.is_mounted(); ++i) {
        if (run({"sh", "-c", "grep -q '^cat$' /proc/" + std::to_string(child) + "/comm"}).status ==
            0)
            break;
        usleep(10'000);
    }
    mounted.unmount();
    CHECK(waitpid(child, nullptr, WNOHANG) == 0);
    close(stay[1]);
    close(stay[0]);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

TEST_CASE("closing a context ends what it has, and the mount can go", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    const std::uint64_t unit = mounted.map_unit();
    const std::uint64_t maps = unit == kBlock ? 50 : 8;
    {
        const TestFile file{mounted.path("f")};
        file.resize(2 * maps * unit);
        Context context{mounted.root()};
        Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE};
        void* address = nullptr;
        for (std::uint64_t i = 0; i < maps; ++i)
            REQUIRE(pinfs_map(context.get(), file.fd(), i * unit, unit, PROT_READ, 0, &address) ==
                    0);
        struct pinfs_pin pin = PINFS_PIN_INIT;
        pin.length_bytes = maps / 5 * unit;
        REQUIRE(pinfs_pin(context.get(), file.fd(), &pin) == 0);
        lease.drop();
        CHECK(errno_if(ftruncate(file.fd(), 0)) == EBUSY);
        context = Context{mounted.root()};
        // The old one was swapped out and closed: its pin is gone at once, without any proof.
        CHECK(errno_if(ftruncate(file.fd(), 0)) == 0);
    }
    mounted.unmount();
    mounted.check();
}

TEST_CASE("DAX mode is told, and set", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    const TestFile file{mounted.path("f")};
    const TestFile directory{mounted.root(), O_RDONLY | O_DIRECTORY};
    CHECK(pinfs_dax_get(file.fd()) == (PINFS_DAX_FLAG | PINFS_DAX_ACTIVE));
    CHECK(pinfs_dax_get(directory.fd()) == PINFS_DAX_FLAG);
    CHECK(pinfs_dax_set(file.fd(), 0) == 0);
    CHECK(pinfs_dax_get(file.fd()) == PINFS_DAX_ACTIVE);  // while it is open
    CHECK(pinfs_dax_set(file.fd(), 1) == 0);
    CHECK(pinfs_dax_set(directory.fd(), 0) == 0);
    const TestFile cached{mounted.path("g")};
    CHECK(pinfs_dax_get(cached.fd()) == 0);
    cached.resize(kBlock);
    Context context{mounted.root()};
    struct pinfs_lease lease = PINFS_INIT(struct pinfs_lease);
    lease.flags = PINFS_LEASE_LAYOUT;
    CHECK(pinfs_lease_set(context.get(), cached.fd(), &lease) == -EOPNOTSUPP);
    CHECK(std::string{pinfs_last_error()}.find("DAX") != std::string::npos);
}

TEST_CASE("a lease tells its kind, range and holders", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    const TestFile file{mounted.path("f")};
    Context context{mounted.root()};
    struct pinfs_lease got = PINFS_INIT(struct pinfs_lease);
    CHECK(pinfs_lease_get(context.get(), file.fd(), &got) == -ENOENT);
    const unsigned flags = PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE | PINFS_LEASE_SHARED;
    const Lease lease{context, file.fd(), flags, kBlock + 1, kBlock, 4711};
    CHECK(lease.get().offset_bytes == kBlock);
    CHECK(lease.get().length_bytes == 2 * kBlock);
    const TestFile second{mounted.path("f")};
    const Lease other{context, second.fd(), flags, 0, PINFS_TO_END};
    got.offset_bytes = kBlock;
    got.length_bytes = kBlock;
    REQUIRE(pinfs_lease_get(context.get(), file.fd(), &got) == 0);
    CHECK(got.flags == flags);
    CHECK(got.offset_bytes == kBlock);
    CHECK(got.length_bytes == 2 * kBlock);
    CHECK(got.id == lease.get().id);
    CHECK(got.holders == 2);
    CHECK(pinfs_lease_drop(context.get(), file.fd(), 0, PINFS_TO_END) == 0);
    CHECK(pinfs_lease_get(context.get(), file.fd(), &got) == -ENOENT);
    struct pinfs_lease wrong = PINFS_INIT(struct pinfs_lease);
    wrong.flags = 8;
    CHECK(pinfs_lease_set(context.get(), file.fd(), &wrong) == -EINVAL);
    wrong.flags = PINFS_LEASE_SHARED;
    CHECK(pinfs_lease_set(context.get(), file.fd(), &wrong) == -EINVAL);
}

// SPDX-License-Identifier: Apache-2.0
//
// Pins of libpinfs on a mount: their pieces and extents, how they change hands, and that they
// outlive the daemon.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <pinfs.hpp>
#include <string>
#include <vector>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs::test;
using pinfs::Context;
using pinfs::Lease;
using pinfs::Map;
using pinfs::Pin;

namespace {

constexpr std::uint64_t kBlock = 4096;
constexpr std::uint32_t kExclusive = PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE;

/// From the last piece to the first, so that hardly two of them are one extent.
void write_scattered(const TestFile& file, std::uint64_t pieces, std::uint64_t bytes) {
    file.resize(pieces * bytes);
    for (std::uint64_t piece = pieces; piece-- > 0;)
        file.write(piece * bytes, std::string(bytes, static_cast<char>('a' + piece % 26)));
}

std::uint64_t bytes_of(const std::vector<iovec>& pieces) {
    std::uint64_t sum = 0;
    for (const iovec& piece : pieces) sum += piece.iov_len;
    return sum;
}

}  // namespace

TEST_CASE("a pin tells its extents in pages, the file's layout its own", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    const std::uint64_t unit = mounted.map_unit();
    const std::uint64_t units = unit == kBlock ? 1000 : 20;
    const TestFile file{mounted.path("f")};
    write_scattered(file, units, unit);
    Context context{mounted.root()};
    const Lease lease{context, file.fd(), kExclusive};
    const std::uint64_t first = units / 100 * unit;
    const std::uint64_t bytes = units * 9 / 10 * unit;
    const Pin pin{context, file.fd(), first + 1, bytes};
    CHECK(pin.get().offset_bytes == first);
    CHECK(pin.get().length_bytes == bytes + kBlock);
    const auto extents = pin.extents();
    const auto layout = context.layout(file.fd(), first, bytes + kBlock);
    REQUIRE(extents.size() > units / 2);
    REQUIRE(extents.size() == layout.size());
    CHECK(std::equal(extents.begin(), extents.end(), layout.begin(),
                     [](const pinfs_extent& a, const pinfs_extent& b) {
                         return a.file_offset_bytes == b.file_offset_bytes &&
                                a.region_offset_bytes == b.region_offset_bytes &&
                                a.length_bytes == b.length_bytes && a.flags == 0;
                     }));
    std::vector<pinfs_extent> some(unit == kBlock ? 7 : 3);
    const std::uint64_t from = units * 3 / 10;
    REQUIRE(pinfs_pin_extents(context.get(), pin.get().id, pin.get().generation, from, some.data(),
                              some.size()) == static_cast<ssize_t>(some.size()));
    CHECK(some.back().region_offset_bytes == extents[from + some.size() - 1].region_offset_bytes);
    CHECK(pinfs_pin_extents(context.get(), pin.get().id, pin.get().generation, extents.size(),
                            some.data(), some.size()) == 0);
    CHECK(pinfs_pin_extents(context.get(), pin.get().id, pin.get().generation + 1, 0, some.data(),
                            7) == -ENOENT);
}

TEST_CASE("the pieces of a pin are what the maps show of it", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    const std::uint64_t unit = mounted.map_unit();
    const std::uint64_t tenth = (unit == kBlock ? 10 : 1) * unit;  // of the file
    const TestFile file{mounted.path("f")};
    if (GENERATE(true, false))
        write_scattered(file, 10 * tenth / unit, unit);
    else
        file.write(0, std::string(10 * tenth, 'a'));  // one extent
    Context context{mounted.root()};
    const Lease lease{context, file.fd(), kExclusive};
    const Pin pin{context, file.fd(), 2 * tenth, 4 * tenth};
    CHECK(pin.pieces().empty());

    const Map reader{context, file.fd(), 0, 10 * tenth, PROT_READ};
    auto pieces = pin.pieces();
    REQUIRE(pieces.size() == 1);  // contiguous, however they lie
    CHECK(pieces[0].iov_base == reader.data() + 2 * tenth);
    CHECK(pieces[0].iov_len == 4 * tenth);

    // A writable map counts first, where it is; the other shows the rest.
    const Map writer{context, file.fd(), 3 * tenth, tenth};
    pieces = pin.pieces();
    REQUIRE(bytes_of(pieces) == 4 * tenth);
    CHECK(std::any_of(pieces.begin(), pieces.end(), [&](const iovec& piece) {
        return piece.iov_base == writer.data() && piece.iov_len == tenth;
    }));

    pieces = pin.pieces(tenth * 4 / 5 / kBlock * kBlock);
    CHECK(bytes_of(pieces) == 4 * tenth);
    CHECK(std::all_of(pieces.begin(), pieces.end(),
                      [&](const iovec& piece) { return piece.iov_len <= tenth * 4 / 5; }));
    CHECK(pinfs_pin_iovec(context.get(), pin.get().id, pin.get().generation, 100, nullptr, 0) ==
          -EINVAL);
    // Short of room it counts all the same, and touches no more than there is.
    std::vector<iovec> one(2, iovec{nullptr, 4711});
    const auto count =
        pinfs_pin_iovec(context.get(), pin.get().id, pin.get().generation, kBlock, one.data(), 1);
    CHECK(count == static_cast<ssize_t>(4 * tenth / kBlock));
    CHECK(one[0].iov_len == kBlock);
    CHECK(one[1].iov_len == 4711);

    // Of another file nothing.
    const TestFile other{mounted.path("g")};
    other.resize(10 * tenth);
    const Lease other_lease{context, other.fd(), kExclusive};
    const Pin other_pin{context, other.fd(), 0, 10 * tenth};
    CHECK(other_pin.pieces().empty());
}

TEST_CASE("a pin that is not allowed says why", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    const TestFile file{mounted.path("f")};
    file.resize(kBlock);
    Context context{mounted.root()};
    struct pinfs_pin pin = PINFS_PIN_INIT;
    pin.length_bytes = kBlock;
    errno = 4711;
    CHECK(pinfs_pin(context.get(), file.fd(), &pin) == -EPERM);
    CHECK(std::string{pinfs_last_error()}.find("lease") != std::string::npos);
    const Lease lease{context, file.fd(), kExclusive};
    pin.length_bytes = kBlock + 1;
    CHECK(pinfs_pin(context.get(), file.fd(), &pin) == -EINVAL);
    pin.length_bytes = 0;
    CHECK(pinfs_pin(context.get(), file.fd(), &pin) == -EINVAL);
    pin.length_bytes = kBlock;
    pin.flags = 2;
    CHECK(pinfs_pin(context.get(), file.fd(), &pin) == -EINVAL);
    pin.flags = PINFS_PIN_READ;
    pin.owner = 2;
    CHECK(pinfs_pin(context.get(), file.fd(), &pin) == -EINVAL);
    pin.owner = PINFS_OWNER_CONTEXT;
    CHECK(pin.id == 0);
    CHECK(pinfs_pin(context.get(), file.fd(), &pin) == 0);
    CHECK(errno == 4711);
    CHECK(pinfs_unpin(context.get(), pin.id, pin.generation + 1) == -ENOENT);
    CHECK(pinfs_unpin(context.get(), pin.id, pin.generation) == 0);
    CHECK(pinfs_unpin(context.get(), pin.id, pin.generation) == -ENOENT);
    CHECK(pinfs_pin_transfer(context.get(), 1, 1, file.fd()) == -ENOTTY);
    CHECK(pinfs_pin_transfer(context.get(), 1, 1, -1) == -EBADF);
}

TEST_CASE("contexts of two mounts have pins of their own, whatever their numbers",
          "[mount][library]") {
    std::array<KernelMount, 2> mounts;
    std::array<pinfs_context*, 2> contexts{};
    for (std::size_t i = 0; i < 2; ++i) {
        mounts[i].mount();
        const TestFile file{mounts[i].path("f")};
        file.resize(4 * kBlock);
        REQUIRE(pinfs_context_open(mounts[i].root().c_str(), 0, &contexts[i]) == 0);
        struct pinfs_lease lease = PINFS_INIT(struct pinfs_lease);
        lease.flags = kExclusive;
        REQUIRE(pinfs_lease_set(contexts[i], file.fd(), &lease) == 0);
        struct pinfs_pin pin = PINFS_PIN_INIT;
        pin.length_bytes = 4 * kBlock;
        REQUIRE(pinfs_pin(contexts[i], file.fd(), &pin) == 0);
    }
    for (std::size_t i = 0; i < 2; ++i) {
        const TestFile file{mounts[i].path("f")};
        CHECK(ftruncate(file.fd(), 0) == -1);
        CHECK(errno == EBUSY);
        pinfs_context_close(contexts[i]);
        CHECK(becomes_true([&] { return ftruncate(file.fd(), 0) == 0; }));
    }
}

TEST_CASE("a pin goes to another context, and ends with that one", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    const TestFile file{mounted.path("f")};
    file.resize(10 * kBlock);
    Context giver{mounted.root()};
    Lease lease{giver, file.fd(), kExclusive};
    Pin pin{giver, file.fd(), 0, 10 * kBlock};
    const struct pinfs_pin name = pin.get();
    lease.drop();
    {
        Context taker{mounted.root()};
        pin.transfer(taker.fd());
        CHECK(pinfs_unpin(giver.get(), name.id, name.generation) == -ENOENT);
        giver = Context{mounted.root()};
        CHECK(errno_if(ftruncate(file.fd(), 0)) == EBUSY);
    }
    CHECK(errno_if(ftruncate(file.fd(), 0)) == 0);
}

TEST_CASE("a pin outlives the daemon, and is adopted", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    struct pinfs_pin name = PINFS_PIN_INIT;
    name.length_bytes = 10 * kBlock;
    {
        const TestFile file{mounted.path("f")};
        file.resize(10 * kBlock);
        Context context{mounted.root()};
        const Lease lease{context, file.fd(), kExclusive};
        REQUIRE(pinfs_pin(context.get(), file.fd(), &name) == 0);
        mounted.kill_daemon();
        struct pinfs_event event = PINFS_INIT(struct pinfs_event);
        CHECK(pinfs_context_next_event(context.get(), &event, 0) == -ENOTCONN);
    }
    mounted.mount();
    CHECK(errno_if(truncate(mounted.path("f").c_str(), 0)) == EBUSY);
    Context context{mounted.root()};
    // Another process needs the secret.
    CHECK(in_child([&] {
              Context other{mounted.root()};
              std::uint8_t wrong[16] = {1};
              if (pinfs_pin_adopt(other.get(), name.id, name.generation, wrong) != -EPERM) return 1;
              if (pinfs_pin_adopt(other.get(), name.id, name.generation, nullptr) != -EPERM)
                  return 2;
              return 0;
          }) == 0);
    CHECK(pinfs_pin_adopt(context.get(), name.id + 1, name.generation, name.secret) == -ENOENT);
    REQUIRE(pinfs_pin_adopt(context.get(), name.id, name.generation, name.secret) == 0);
    CHECK(pinfs_unpin(context.get(), name.id, name.generation) == 0);
    context = Context{mounted.root()};
    CHECK(errno_if(truncate(mounted.path("f").c_str(), 0)) == 0);
    context = Context{std::move(context)};
}

TEST_CASE("3.1: who is killed while holes get blocks goes at once",
          "[mount][library][large region]") {
    KernelMount mounted{2048, {"--sparse"}};
    mounted.mount();
    constexpr std::uint64_t kBytes = std::uint64_t{1800} << 20;
    TestFile{mounted.path("f")}.resize(kBytes);
    int begins[2];
    REQUIRE(pipe2(begins, O_CLOEXEC) == 0);
    const pid_t child = fork();
    if (child == 0) {
        const TestFile file{mounted.path("f")};
        Context context{mounted.root()};
        const Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE};
        const bool told = write(begins[1], "b", 1) == 1;
        const Pin pin{context, file.fd(), 0, kBytes};
        _exit(told ? 0 : 1);
    }
    char byte = 0;
    REQUIRE(read(begins[0], &byte, 1) == 1);
    close(begins[0]);
    close(begins[1]);
    usleep(20'000);
    REQUIRE(kill(child, SIGKILL) == 0);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    // Zeros in what got blocks, nothing else.
    struct stat st {};
    REQUIRE(stat(mounted.path("f").c_str(), &st) == 0);
    CHECK(static_cast<std::uint64_t>(st.st_blocks) * 512 < kBytes);
    // Its lease goes when the kernel says that its file is closed, a little later.
    bool cut = false;
    for (int i = 0; i < 1000 && !cut; ++i) {
        cut = truncate(mounted.path("f").c_str(), 0) == 0;
        if (!cut) usleep(10'000);
    }
    CHECK(cut);
    mounted.unmount();
    mounted.check();
}

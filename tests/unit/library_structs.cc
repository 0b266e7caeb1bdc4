// SPDX-License-Identifier: Apache-2.0
//
// Structs that say their size, the sentence of the last failure, errors and durability: what the
// library does without a mount.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <climits>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "lib/durable.h"
#include "lib/failure.h"
#include "lib/pinfs/pinfs.h"
#include "tests/support/again.h"

using namespace pinfs::client;

TEST_CASE("a struct that is shorter than the library's is filled up with zeros", "[library]") {
    struct pinfs_lease lease = PINFS_INIT(struct pinfs_lease);
    lease.flags = PINFS_LEASE_LAYOUT;
    lease.offset_bytes = 4096;
    lease.length_bytes = 8192;
    lease.size_bytes = offsetof(struct pinfs_lease, length_bytes);
    struct pinfs_lease taken {};
    REQUIRE(take(&lease, taken) == 0);
    CHECK(taken.offset_bytes == 4096);
    CHECK(taken.length_bytes == 0);

    taken.offset_bytes = 1;
    taken.length_bytes = 2;
    give(taken, &lease);
    CHECK(lease.offset_bytes == 1);
    CHECK(lease.length_bytes == 8192);
    CHECK(lease.size_bytes == offsetof(struct pinfs_lease, length_bytes));
}

TEST_CASE("a longer struct is taken if its tail is zero", "[library]") {
    std::vector<unsigned char> bytes(sizeof(struct pinfs_event) + 24, 0);
    const auto size = static_cast<std::uint32_t>(bytes.size());
    std::memcpy(bytes.data(), &size, sizeof(size));
    auto* const event = reinterpret_cast<struct pinfs_event*>(bytes.data());
    struct pinfs_event taken {};
    CHECK(take(event, taken) == 0);
    taken.id = 5;
    give(taken, event);
    CHECK(event->id == 5);
    CHECK(event->size_bytes == size);

    bytes.back() = 1;
    CHECK(take(event, taken) == -E2BIG);
    CHECK(std::string{pinfs_last_error()}.find("Byte") == 0);
}

TEST_CASE("a struct without a size, or with a senseless one, is refused", "[library]") {
    struct pinfs_lease lease {};
    struct pinfs_lease taken {};
    CHECK(take(&lease, taken) == -EINVAL);
    lease.size_bytes = 4;
    CHECK(take(&lease, taken) == -EINVAL);
    lease.size_bytes = UINT32_MAX;
    CHECK(take(&lease, taken) == -E2BIG);
    CHECK(take(static_cast<struct pinfs_lease*>(nullptr), taken) == -EINVAL);
}

TEST_CASE("a pin starts without a descriptor that names it", "[library]") {
    const struct pinfs_pin pin = PINFS_PIN_INIT;
    CHECK(pin.size_bytes == sizeof(pin));
    CHECK(pin.owner == PINFS_OWNER_CONTEXT);
    CHECK(pin.owner_fd == -1);
    CHECK(pin.length_bytes == 0);
}

TEST_CASE("no call takes a null pointer for a context", "[library]") {
    void* address = nullptr;
    struct pinfs_pin pin = PINFS_PIN_INIT;
    struct pinfs_lease lease = PINFS_INIT(struct pinfs_lease);
    struct pinfs_event event = PINFS_INIT(struct pinfs_event);
    struct pinfs_region_info info = PINFS_INIT(struct pinfs_region_info);
    errno = 4711;
    CHECK(pinfs_context_fd(nullptr) == -EINVAL);
    CHECK(pinfs_context_next_event(nullptr, &event, 0) == -EINVAL);
    CHECK(pinfs_region_info(nullptr, &info) == -EINVAL);
    CHECK(pinfs_lease_set(nullptr, 0, &lease) == -EINVAL);
    CHECK(pinfs_lease_get(nullptr, 0, &lease) == -EINVAL);
    CHECK(pinfs_lease_drop(nullptr, 0, 0, 0) == -EINVAL);
    CHECK(pinfs_map(nullptr, 0, 0, 4096, PROT_READ, 0, &address) == -EINVAL);
    CHECK(pinfs_unmap(nullptr, nullptr, 0) == -EINVAL);
    CHECK(pinfs_layout(nullptr, 0, 0, 1, nullptr, 0, nullptr) == -EINVAL);
    CHECK(pinfs_msync(nullptr, nullptr, 1) == -EINVAL);
    CHECK(pinfs_pin(nullptr, 0, &pin) == -EINVAL);
    CHECK(pinfs_unpin(nullptr, 1, 1) == -EINVAL);
    CHECK(pinfs_pin_adopt(nullptr, 1, 1, nullptr) == -EINVAL);
    CHECK(pinfs_pin_transfer(nullptr, 1, 1, 0) == -EINVAL);
    struct pinfs_extent extent {};
    CHECK(pinfs_pin_extents(nullptr, 1, 1, 0, &extent, 1) == -EINVAL);
    CHECK(pinfs_pin_iovec(nullptr, 1, 1, 0, nullptr, 0) == -EINVAL);
    CHECK(pinfs_context_open(nullptr, 0, nullptr) == -EINVAL);
    pinfs_context_close(nullptr);
    CHECK(errno == 4711);
}

TEST_CASE("a context is refused where there is no pinfs, in one sentence", "[library]") {
    struct pinfs_context* context = nullptr;
    errno = 4711;
    CHECK(pinfs_context_open("/proc/self/status", 0, &context) == -ENODEV);
    CHECK(pinfs_context_open("/", 0, &context) == -ENODEV);
    CHECK(std::string{pinfs_last_error()} ==
          "/ is in no pinfs mount, or not the whole mount is seen here.");
    CHECK(pinfs_context_open("/no/such/file", 0, &context) == -ENOENT);
    CHECK(std::string{pinfs_last_error()} ==
          "/no/such/file cannot be opened: No such file or directory.");
    CHECK(pinfs_context_open("/", 1, &context) == -EINVAL);
    CHECK(context == nullptr);
    CHECK(errno == 4711);
}

TEST_CASE("a descriptor of another file system says so", "[library]") {
    const int other = memfd_create("other", MFD_CLOEXEC);
    CHECK(pinfs_dax_get(other) == -ENOTTY);
    CHECK(std::string{pinfs_last_error()} ==
          "Descriptor " + std::to_string(other) + " is no file of a pinfs mount that can do this.");
    close(other);
    CHECK(pinfs_dax_get(other) == -EBADF);
    CHECK(pinfs_dax_set(other, 1) == -EBADF);
}

TEST_CASE("each thread has its own last failure", "[library][concurrency]") {
    CHECK(pinfs_context_fd(nullptr) == -EINVAL);
    const std::string mine = pinfs_last_error();
    std::string theirs = "unset";
    std::string theirs_later;
    std::thread other{[&] {
        theirs = pinfs_last_error();
        pinfs_dax_get(-1);
        theirs_later = pinfs_last_error();
    }};
    other.join();
    CHECK(theirs == "");
    CHECK(theirs_later == "Descriptor -1 is not open.");
    CHECK(pinfs_last_error() == mine);
}

TEST_CASE("errors have words, whatever their sign", "[library]") {
    CHECK(std::string{pinfs_strerror(-EBUSY)} == pinfs_strerror(EBUSY));
    CHECK(std::string{pinfs_strerror(EBUSY)} == "Pinned or leased exclusively by another");
    CHECK(std::string{pinfs_strerror(EFBIG)} == "File too large");
    CHECK(std::string{pinfs_strerror(0)} == "Success");
    CHECK(std::string{pinfs_strerror(INT_MAX)} == "Unknown error");
    CHECK(std::string{pinfs_strerror(INT_MIN)} == "Unknown error");
    CHECK(pinfs_version() == (PINFS_VERSION_MAJOR << 16 | PINFS_VERSION_MINOR));
}

TEST_CASE("persist is msync where a map is flushed by pages", "[library]") {
    const int file = memfd_create("file", MFD_CLOEXEC);
    REQUIRE(ftruncate(file, 65536) == 0);
    auto* const memory =
        static_cast<std::byte*>(mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    REQUIRE(memory != MAP_FAILED);
    durable_begin(PINFS_FLUSH_PAGE, memory, 65536);
    CHECK(pinfs_persist(memory + 100, 5000) == 0);
    CHECK(pinfs_memcpy_persist(memory + 4000, "words", 5) == 0);
    CHECK(std::memcmp(memory + 4000, "words", 5) == 0);
    // msync alone knows that the range is not mapped: so it was asked.
    REQUIRE(munmap(memory + 32768, 4096) == 0);
    errno = 4711;
    CHECK(pinfs_persist(memory + 30000, 8000) == -EINVAL);
    CHECK(errno == 4711);
    durable_end(PINFS_FLUSH_PAGE, memory);
    munmap(memory, 65536);
    close(file);
}

TEST_CASE("persist on cache lines stores what it is given", "[library]") {
    std::vector<std::byte> memory(1 << 16);
    std::vector<std::byte> source(1 << 16);
    for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7 + 1);
    durable_begin(PINFS_FLUSH_LINE, memory.data(), memory.size());
    for (const std::size_t length : {0UL, 1UL, 7UL, 64UL, 100UL, 4096UL, 65000UL}) {
        CAPTURE(length);
        std::fill(memory.begin(), memory.end(), std::byte{0});
        CHECK(pinfs_memcpy_persist(memory.data() + 3, source.data() + 5, length) == 0);
        CHECK(std::memcmp(memory.data() + 3, source.data() + 5, length) == 0);
        CHECK(std::all_of(memory.begin() + 3 + static_cast<long>(length), memory.end(),
                          [](std::byte byte) { return byte == std::byte{0}; }));
        CHECK(pinfs_flush(memory.data(), length) == 0);
        CHECK(pinfs_drain() == 0);
        CHECK(pinfs_persist(memory.data(), length) == 0);
    }
    durable_end(PINFS_FLUSH_LINE, memory.data());
}

TEST_CASE("PMEM_IS_PMEM_FORCE is heeded as libpmem does (run again)", "[.]") {
    const char* const set = std::getenv("PMEM_IS_PMEM_FORCE");
    const std::string value = set != nullptr ? set : "";
    for (const std::uint32_t flush : {PINFS_FLUSH_PAGE, PINFS_FLUSH_LINE, PINFS_FLUSH_NONE}) {
        if (value == "1")
            CHECK(flush_in_force(flush) == PINFS_FLUSH_LINE);
        else if (value == "0")
            CHECK(flush_in_force(flush) == PINFS_FLUSH_PAGE);
        else
            CHECK(flush_in_force(flush) == flush);
    }
}

TEST_CASE("PMEM_IS_PMEM_FORCE is heeded as libpmem does", "[library]") {
    const std::string value = GENERATE("0", "1", "other");
    CAPTURE(value);
    CHECK(pinfs::test::run_again("PMEM_IS_PMEM_FORCE is heeded as libpmem does (run again)",
                                 "PMEM_IS_PMEM_FORCE", value.c_str()) == 0);
}

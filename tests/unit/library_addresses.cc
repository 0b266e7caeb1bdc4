// SPDX-License-Identifier: Apache-2.0
//
// Ranges of addresses over the extents of a file, on a memfd that plays the region.
#include "lib/address_space.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

using namespace pinfs::client;

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kHuge = 2 << 20;

/// A region of pages, each full of its own number.
class PlayedRegion {
public:
    explicit PlayedRegion(std::uint64_t pages) : fd_(memfd_create("region", MFD_CLOEXEC)) {
        REQUIRE(ftruncate(fd_, static_cast<off_t>(pages * kPage)) == 0);
        for (std::uint64_t page = 0; page < pages; ++page) write(page, page);
    }
    ~PlayedRegion() { close(fd_); }
    PlayedRegion(const PlayedRegion&) = delete;
    PlayedRegion& operator=(const PlayedRegion&) = delete;

    void write(std::uint64_t page, std::uint64_t number) const {
        REQUIRE(pwrite(fd_, &number, sizeof(number), static_cast<off_t>(page * kPage)) ==
                sizeof(number));
    }
    [[nodiscard]] Memory memory(std::uint64_t huge_bytes = kPage) const {
        return {.fd = fd_, .map_sync = false, .unit_bytes = kPage, .huge_bytes = huge_bytes};
    }

private:
    int fd_;
};

/// In pages.
Extent extent(std::uint64_t file, std::uint64_t region, std::uint64_t count) {
    return {file * kPage, region * kPage, count * kPage};
}

std::uint64_t number_at(const AddressRange& range, std::uint64_t page) {
    std::uint64_t number = 0;
    std::memcpy(&number, range.address() + page * kPage, sizeof(number));
    return number;
}

/// The signal that reading the page ends a child with; 0 if it can be read. The child makes its
/// mapping inheritable first, for once.
int signal_of_reading(const AddressRange& range, std::uint64_t page) {
    madvise(range.address(), range.bytes(), MADV_DOFORK);
    const pid_t child = fork();
    if (child == 0) {
        std::signal(SIGBUS, SIG_DFL);
        std::signal(SIGSEGV, SIG_DFL);
        const volatile std::byte* const at = range.address() + page * kPage;
        static_cast<void>(*at);
        _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    madvise(range.address(), range.bytes(), MADV_DONTFORK);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

std::size_t mapping_count() {
    std::ifstream maps{"/proc/self/maps"};
    std::size_t count = 0;
    for (std::string line; std::getline(maps, line);)
        if (line.find("memfd:region") != std::string::npos) ++count;
    return count;
}

}  // namespace

TEST_CASE("a range shows scattered extents in the file's order", "[library]") {
    const PlayedRegion region{64};
    AddressRange range;
    const std::vector<Extent> extents{extent(8, 40, 2), extent(10, 3, 1), extent(11, 50, 5)};
    REQUIRE(range.reserve(region.memory(), 8 * kPage, 8 * kPage, extents.data()) == 0);
    REQUIRE(range.show(region.memory(), PROT_READ | PROT_WRITE, 8 * kPage, 16 * kPage, extents) ==
            0);
    const std::uint64_t expected[] = {40, 41, 3, 50, 51, 52, 53, 54};
    for (std::uint64_t page = 0; page < 8; ++page) CHECK(number_at(range, page) == expected[page]);
    range.release();
    CHECK(mapping_count() == 0);
}

TEST_CASE("neighbours in file and region are one mapping", "[library]") {
    const PlayedRegion region{64};
    AddressRange range;
    std::vector<Extent> extents;
    for (std::uint64_t page = 0; page < 32; ++page) extents.push_back(extent(page, page + 5, 1));
    REQUIRE(joined(extents, 0, 32 * kPage).size() == 1);
    const std::vector<Extent> part = joined(extents, 3 * kPage, 5 * kPage);
    REQUIRE(part.size() == 1);
    CHECK(part[0].file_offset_bytes == 3 * kPage);
    CHECK(part[0].region_offset_bytes == 8 * kPage);
    CHECK(part[0].length_bytes == 2 * kPage);
    CHECK(joined(extents, 40 * kPage, 50 * kPage).empty());
    REQUIRE(range.reserve(region.memory(), 0, 32 * kPage, extents.data()) == 0);
    REQUIRE(range.show(region.memory(), PROT_READ, 0, 32 * kPage, extents) == 0);
    CHECK(mapping_count() == 1);
    range.release();
}

TEST_CASE("holes and what lies beyond the end raise SIGBUS", "[library]") {
    const PlayedRegion region{16};
    AddressRange range;
    const std::vector<Extent> extents{extent(0, 4, 1), extent(2, 6, 1)};
    REQUIRE(range.reserve(region.memory(), 0, 4 * kPage, extents.data()) == 0);
    REQUIRE(range.show(region.memory(), PROT_READ, 0, 4 * kPage, extents) == 0);
    CHECK(signal_of_reading(range, 0) == 0);
    CHECK(signal_of_reading(range, 1) == SIGBUS);
    CHECK(signal_of_reading(range, 2) == 0);
    CHECK(signal_of_reading(range, 3) == SIGBUS);
    range.release();
}

TEST_CASE("a part is shown anew, and the rest stays", "[library]") {
    const PlayedRegion region{64};
    AddressRange range;
    REQUIRE(range.reserve(region.memory(), 0, 8 * kPage, nullptr) == 0);
    REQUIRE(range.show(region.memory(), PROT_READ, 0, 8 * kPage, {extent(0, 10, 8)}) == 0);
    REQUIRE(range.show(region.memory(), PROT_READ, 2 * kPage, 4 * kPage, {extent(2, 30, 1)}) == 0);
    CHECK(number_at(range, 1) == 11);
    CHECK(number_at(range, 2) == 30);
    CHECK(signal_of_reading(range, 3) == SIGBUS);
    CHECK(number_at(range, 4) == 14);
    range.release();
}

TEST_CASE("huge pages of the region lie in huge pages of addresses", "[library]") {
    const PlayedRegion region{4 * kHuge / kPage};
    const std::uint64_t first_region_page = GENERATE(0, 7, 511, 513);
    const std::uint64_t file_page = GENERATE(0, 100);
    AddressRange range;
    const std::vector<Extent> extents{extent(file_page + 3, first_region_page, 1024)};
    const Memory memory = region.memory(kHuge);
    REQUIRE(range.reserve(memory, file_page * kPage, 1027 * kPage, extents.data()) == 0);
    const auto address = reinterpret_cast<std::uintptr_t>(range.address()) + 3 * kPage;
    CHECK(address % kHuge == first_region_page * kPage % kHuge);
    REQUIRE(range.show(memory, PROT_READ, file_page * kPage, (file_page + 1027) * kPage, extents) ==
            0);
    CHECK(number_at(range, 3) == first_region_page);
    range.release();
}

TEST_CASE("a map unit beyond the page is mapped whole", "[library]") {
    const PlayedRegion region{64};
    Memory memory = region.memory();
    memory.unit_bytes = 8 * kPage;
    AddressRange range;
    const std::vector<Extent> extents{extent(0, 16, 3)};
    REQUIRE(range.reserve(memory, 0, 3 * kPage, extents.data()) == 0);
    CHECK(range.bytes() == 8 * kPage);
    CHECK(reinterpret_cast<std::uintptr_t>(range.address()) % (8 * kPage) == 0);
    REQUIRE(range.show(memory, PROT_READ, 0, 3 * kPage, extents) == 0);
    CHECK(number_at(range, 2) == 18);
    CHECK(number_at(range, 7) == 23);
    range.release();
}

TEST_CASE("a child of fork has ranges of its own", "[library]") {
    const PlayedRegion region{8};
    const pid_t child = fork();
    if (child == 0) {
        AddressRange range;
        const std::vector<Extent> extents{extent(0, 3, 1)};
        if (range.reserve(region.memory(), 0, kPage, extents.data()) != 0) _exit(1);
        if (range.show(region.memory(), PROT_READ, 0, kPage, extents) != 0) _exit(2);
        if (number_at(range, 0) != 3) _exit(3);
        range.release();
        _exit(address_lock().try_lock() ? 0 : 4);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

TEST_CASE("a child of fork has nothing of a range, whenever it was forked",
          "[library][concurrency]") {
    const PlayedRegion region{64};
    std::atomic<bool> done{false};
    std::thread maps{[&] {
        while (!done) {
            AddressRange range;
            if (range.reserve(region.memory(), 0, 8 * kPage, nullptr) != 0) std::abort();
            if (range.show(region.memory(), PROT_READ, 0, 8 * kPage, {extent(0, 1, 8)}) != 0)
                std::abort();
            range.release();
        }
    }};
    const std::uint64_t before = fork_count();
    for (int round = 0; round < 200; ++round) {
        const pid_t child = fork();
        if (child == 0) _exit(fork_count() == before + 1 ? static_cast<int>(mapping_count()) : 99);
        int status = 0;
        waitpid(child, &status, 0);
        if (WEXITSTATUS(status) != 0) {
            CAPTURE(round);
            CHECK(WEXITSTATUS(status) == 0);
            break;
        }
    }
    done = true;
    maps.join();
    CHECK(fork_count() == before);
}

// SPDX-License-Identifier: Apache-2.0
//
// What a region does when memory fails below it.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "fs/pmem/region.h"
#include "tests/support/again.h"
#include "tests/support/temporary.h"

namespace {

using namespace pinfs;
using namespace pinfs::pmem;
using namespace pinfs::unit_literals;
using pinfs::test::run_again;
using pinfs::test::TemporaryDirectory;

std::vector<std::byte> pattern(std::size_t bytes) {
    std::vector<std::byte> result(bytes);
    for (std::size_t i = 0; i < bytes; ++i) result[i] = static_cast<std::byte>(i % 251 + 1);
    return result;
}

/// A file region of `bytes`, made and opened.
std::unique_ptr<Region> made(const std::string& path, std::uint64_t bytes) {
    REQUIRE(Region::create_file(path, bytes, 0600));
    auto region = Region::open(path, {});
    REQUIRE(region);
    return std::move(*region);
}

TEST_CASE("region: a file truncated under us fails the one access, with its place",
          "[pmem][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    const auto region = made(path, 4_MiB);
    REQUIRE(region->copy_in(0, pattern(2_MiB)));
    REQUIRE(truncate(path.c_str(), 1_MiB) == 0);
    std::vector<std::byte> out(100'000);
    // Of a range that goes from `missing` on, which part is met first is the processor's choice.
    const auto check = [&](const Expected<void>& result, std::uint64_t missing) {
        REQUIRE_FALSE(result);
        CHECK(result.error().cause == Cause::media_error);
        CHECK(result.error().offset >= missing);
        CHECK(result.error().offset < missing + out.size());
    };
    for (int round = 0; round < 3; ++round) {
        check(region->read(1_MiB - 4096, out), 1_MiB);
        check(region->copy_out(2_MiB + 5, out), 2_MiB + 5);
        check(region->copy_in(1_MiB - 4096, out), 1_MiB);
        check(region->zero(1_MiB - 4096, out.size()), 1_MiB);
        check(region->store_flush(1_MiB - 64, std::span(out).first(128)), 1_MiB);
        check(region->store8_flush(3_MiB, 1), 3_MiB);
        region->fence();
        CHECK(region->copy_in(0, pattern(4096)));
        CHECK(region->read(0, std::span(out).first(4096)));
    }
    REQUIRE(truncate(path.c_str(), 4_MiB) == 0);
    CHECK(region->read(1_MiB - 4096, out));
}

TEST_CASE("region: threads fail each for itself", "[pmem][unit][concurrency]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    const auto region = made(path, 2_MiB);
    REQUIRE(truncate(path.c_str(), 1_MiB) == 0);
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (std::uint64_t t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            std::vector<std::byte> out(4096);
            for (int i = 0; i < 500; ++i) {
                if (region->read(1_MiB + t * 8192, out)) ++wrong;
                if (!region->read(t * 8192, out)) ++wrong;
                if (region->copy_in(1_MiB + t * 8192, out)) ++wrong;
                if (!region->copy_in(t * 8192, out)) ++wrong;
            }
        });
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
}

// Newer than the oldest headers this builds with.
struct PoisonRequest {
    std::uint64_t start, length, mode;
    std::int64_t updated;
};
constexpr std::uint64_t kFeaturePoison = 1 << 14;

/// Pages whose access raises SIGBUS, as those of failed memory do, while this lives.
class Poison {
public:
    Poison(std::uintptr_t place, std::size_t bytes)
        : faults_{static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC))} {
        uffdio_api api{};
        api.api = UFFD_API;
        api.features = kFeaturePoison;
        if (faults_ < 0 || ioctl(faults_, UFFDIO_API, &api) != 0) {
            WARN(
                "skipped: this kernel does not let a test poison a page: " << std::strerror(errno));
            return;
        }
        REQUIRE(madvise(reinterpret_cast<void*>(place), bytes, MADV_DONTNEED) == 0);
        uffdio_register registration{};
        registration.range = {place, bytes};
        registration.mode = UFFDIO_REGISTER_MODE_MISSING;
        REQUIRE(ioctl(faults_, UFFDIO_REGISTER, &registration) == 0);
        PoisonRequest poison{place, bytes, 0, 0};
        REQUIRE(ioctl(faults_, _IOWR(UFFDIO, 0x08, PoisonRequest), &poison) == 0);
        works_ = true;
    }
    ~Poison() {
        if (faults_ >= 0) close(faults_);
    }
    Poison(const Poison&) = delete;
    Poison& operator=(const Poison&) = delete;
    [[nodiscard]] bool works() const { return works_; }

private:
    int faults_;
    bool works_ = false;
};

TEST_CASE("region: a poisoned page fails the one access, with its place", "[pmem][unit]") {
    void* const pages =
        mmap(nullptr, 1_MiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(pages != MAP_FAILED);
    auto* const memory = static_cast<std::byte*>(pages);
    Region region(std::span(memory, 1_MiB), {}, nullptr);

    const Poison poison{reinterpret_cast<std::uintptr_t>(memory) + 512_KiB, 4096};
    if (!poison.works()) {
        munmap(pages, 1_MiB);
        return;
    }

    std::vector<std::byte> out(16'384);
    for (const std::uint64_t offset : {512_KiB, 512_KiB + 100, 512_KiB - 4096}) {
        CAPTURE(offset);
        const auto result = region.read(offset, out);
        REQUIRE_FALSE(result);
        CHECK(result.error().cause == Cause::media_error);
        CHECK(result.error().offset == std::max<std::uint64_t>(offset, 512_KiB));
    }
    CHECK(region.read(512_KiB - 16'384, out));
    CHECK(region.read(512_KiB + 4096, out));
    munmap(pages, 1_MiB);
}

/// Where the process has a file mapped, from its first byte on.
std::uintptr_t mapped_at(const std::string& path) {
    std::ifstream maps{"/proc/self/maps"};
    for (std::string line; std::getline(maps, line);)
        if (line.ends_with(path)) return std::stoull(line, nullptr, 16);
    return 0;
}

TEST_CASE("region: a bad block is known until it was written whole, and gets new memory then",
          "[pmem][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    const auto region = made(path, 4_MiB);
    CHECK(region->copy_in(0, pattern(4_MiB)));
    const auto bad = [&] {
        return region->bad_blocks().runs();
    };
    CHECK(bad().empty());
    const Poison poison{mapped_at(path) + 512_KiB, 4096};
    if (!poison.works()) return;
    std::vector<std::byte> out(16'384);
    CHECK_FALSE(region->read(512_KiB - 100, out));
    CHECK(bad() == std::vector<BlockRun>{{128, 1}});
    CHECK_FALSE(region->copy_in(512_KiB + 1, pattern(4096)));  // not all of it
    CHECK_FALSE(region->zero(512_KiB - 4096, 8191));
    CHECK_FALSE(region->store8_flush(512_KiB, 1));
    CHECK(bad() == std::vector<BlockRun>{{128, 1}});
    // Nor while somebody may have the old memory.
    CHECK_FALSE(region->copy_in(512_KiB - 100, pattern(16'384), Region::Renew::never));
    CHECK(bad() == std::vector<BlockRun>{{128, 1}});
    CHECK(region->copy_in(512_KiB - 100, pattern(16'384)));
    CHECK(bad().empty());
    REQUIRE(region->read(512_KiB - 100, out));
    CHECK(out == pattern(16'384));

    // Not where the file was cut: what it has lost would come back as zeros.
    REQUIRE(truncate(path.c_str(), 1_MiB) == 0);
    CHECK_FALSE(region->zero(1_MiB + 8192, 8192));
    CHECK(bad() == std::vector<BlockRun>{{258, 1}});
    struct stat status {};
    REQUIRE(stat(path.c_str(), &status) == 0);
    CHECK(status.st_size == 1_MiB);
}

TEST_CASE("region: what is flushed and not there fails the one flush", "[pmem][unit]") {
    if (std::getenv("PINFS_IN_GUEST") != nullptr) {
        WARN("skipped: an emulated processor touches nothing when it flushes");
        return;
    }
    const TemporaryDirectory directory;
    CHECK(run_again("region: flushing a file that was cut", "PMEM_IS_PMEM_FORCE", "1") == 0);
}

TEST_CASE("region: flushing a file that was cut", "[.again]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    const auto region = made(path, 4_MiB);
    REQUIRE(region->capabilities().flush == Flush::line);
    CHECK(region->flush(0, 4_MiB));
    REQUIRE(truncate(path.c_str(), 1_MiB) == 0);
    const auto failed = region->flush(512_KiB, 1_MiB);
    REQUIRE_FALSE(failed);
    CHECK(failed.error().cause == Cause::media_error);
    CHECK(failed.error().offset == 1_MiB);
    CHECK(region->flush(0, 1_MiB));
}

// Run by the last case, in a process of its own.

sigjmp_buf own_jump;
volatile int own_faults = 0;

/// A page of a mapping behind the end of its file: to touch it is a fault.
volatile char* missing_page(const TemporaryDirectory& directory) {
    const std::string path = directory.file("other");
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void* const page = mmap(nullptr, 8192, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    REQUIRE(page != MAP_FAILED);
    return static_cast<volatile char*>(page) + 4096;
}

TEST_CASE("region: hidden: another handler was there first", "[.again]") {
    struct sigaction action {};
    action.sa_handler = [](int) {
        own_faults = own_faults + 1;
        siglongjmp(own_jump, 1);
    };
    action.sa_flags = SA_NODEFER;
    sigaction(SIGBUS, &action, nullptr);
    const TemporaryDirectory directory;
    const auto region = made(directory.file("region"), 2_MiB);
    REQUIRE(truncate(directory.file("region").c_str(), 1_MiB) == 0);
    std::vector<std::byte> out(64);
    CHECK_FALSE(region->read(1_MiB, out));
    CHECK(own_faults == 0);
    volatile char* const page = missing_page(directory);
    if (sigsetjmp(own_jump, 1) == 0) (void)*page;
    CHECK(own_faults == 1);
    CHECK_FALSE(region->read(1_MiB, out));
    CHECK(own_faults == 1);
}

TEST_CASE("region: a fault outside its copies goes to whoever handled the signal before",
          "[pmem][unit]") {
    CHECK(run_again("region: hidden: another handler was there first", "PMEM_IS_PMEM_FORCE", "0") ==
          0);
#ifndef __SANITIZE_THREAD__  // which keeps a child from dying of its signal
    // Nobody: the process ends as it would have.
    const TemporaryDirectory directory;
    const auto region = made(directory.file("region"), 2_MiB);
    const pid_t child = fork();
    if (child == 0) {
        struct sigaction by_default {};
        by_default.sa_handler = SIG_DFL;
        struct rlimit no_core {};
        setrlimit(RLIMIT_CORE, &no_core);
        for (const int signal : {SIGSEGV, SIGABRT}) sigaction(signal, &by_default, nullptr);
        (void)*missing_page(directory);
        _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
#ifdef __SANITIZE_ADDRESS__
    CHECK(status != 0);  // the sanitizer handled it before us
#else
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGBUS);
#endif
#endif
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
//
// Threads and mappings that the system refuses: what needs them fails with an errno, or does
// without, and works the next time.
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <new>
#include <string>

#include "fs/memory_reserve.h"
#include "tests/support/mounted.h"
#include "tests/support/temporary.h"

namespace {

/// Calls until one fails; 0: none does.
std::atomic<int> thread_to_fail{0};
std::atomic<int> mapping_to_fail{0};
std::atomic<bool> happened{false};

bool is_to_fail(std::atomic<int>& which) {
    if (which.load() == 0 || which.fetch_sub(1) != 1) return false;
    happened = true;
    return true;
}

template <class Function>
Function* next_of(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*run)(void*), void* argument) noexcept {
    static auto* const kReal = next_of<decltype(pthread_create)>("pthread_create");
    return is_to_fail(thread_to_fail) ? EAGAIN : kReal(thread, attributes, run, argument);
}

extern "C" void* mmap(void* address, std::size_t bytes, int protection, int flags, int fd,
                      off_t offset) noexcept {
    static auto* const kReal = next_of<decltype(mmap)>("mmap");
    if (is_to_fail(mapping_to_fail)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return kReal(address, bytes, protection, flags, fd, offset);
}

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

TEST_CASE("a mount whose threads cannot be had fails, and the next one works", "[volume][fault]") {
    Mounted fs{{.bytes = 1_MiB}};
    fs.make_file("/file", 5000, 1);
    fs.unmount();
    int failures = 0;
    for (int number = 1;; ++number) {
        MountOptions options = mount_options();
        options.background = true;
        happened = false;
        thread_to_fail = number;
        const auto mounted = Volume::mount(fs.region(), options);
        thread_to_fail = 0;
        if (!happened) {
            REQUIRE(mounted);
            CHECK((*mounted)->lookup(kRootIno, "file"));
            REQUIRE((*mounted)->unmount());
            break;
        }
        ++failures;
        REQUIRE_FALSE(mounted);
        CHECK(mounted.error().number() == EAGAIN);
    }
    CHECK(failures == 2);
    fs.check_clean();
}

TEST_CASE("a region whose mapping is refused does not open, and then does", "[pmem][fault]") {
    const TemporaryDirectory directory;
    const std::string path = directory.path() + "/region";
    REQUIRE(pmem::Region::create_file(path, 4_MiB, 0600));
    int failures = 0;
    for (int number = 1;; ++number) {
        happened = false;
        mapping_to_fail = number;
        const auto region = pmem::Region::open(path, {});
        mapping_to_fail = 0;
        if (!happened) {
            REQUIRE(region);
            break;
        }
        ++failures;
        // A larger page, or MAP_SYNC, is asked for first and can be done without.
        if (!region) CHECK(region.error().number() != 0);
    }
    CHECK(failures > 0);
}

TEST_CASE("while the memory reserve cannot be filled, changes are refused and nothing else is",
          "[volume][fault]") {
    Mounted fs{{.bytes = 1_MiB}};
    const Ino file = fs.make_file("/file", 5000, 1);
    REQUIRE(fill_memory_reserve());
    {
        const MustFinish finish;
        std::get_new_handler()();  // as if an allocation had failed
    }
    mapping_to_fail = 1;
    const auto refused = fs->make(kRootIno, "new", {.mode = S_IFREG | 0644}, {});
    mapping_to_fail = 0;
    REQUIRE_FALSE(refused);
    CHECK(refused.error().number() == ENOMEM);
    CHECK(fs.read(file, 0, 5000) == pattern(0, 5000, 1));
    CHECK(fs->make(kRootIno, "new", {.mode = S_IFREG | 0644}, {}));
    CHECK_THROWS_AS(std::get_new_handler()(), std::bad_alloc);  // where refusing is possible
}

}  // namespace

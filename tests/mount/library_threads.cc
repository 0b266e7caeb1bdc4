// SPDX-License-Identifier: Apache-2.0
//
// One context of libpinfs for sixteen threads: what they map, pin and store in one file while the
// layout of another changes under their maps and yet another thread follows the events.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <pinfs.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/seed.h"

using namespace pinfs::test;
using pinfs::Context;
using pinfs::Lease;

namespace {

constexpr std::uint64_t kBlock = 4096;
constexpr int kThreads = 16;
constexpr std::chrono::seconds kDuration{4};

/// The first thing that went wrong, in any thread.
class Trouble {
public:
    void note(const std::string& what) {
        const std::lock_guard hold{mutex_};
        if (first_ == "") first_ = what;
    }
    /// Whether a call did what it may do.
    bool expect(long result, std::initializer_list<int> allowed, const char* what) {
        for (const int error : allowed)
            if (result == -error) return result >= 0;
        if (result < 0)
            note(std::string{what} + ": " + pinfs_strerror(static_cast<int>(result)) + ": " +
                 pinfs_last_error());
        return result >= 0;
    }
    [[nodiscard]] std::string first() {
        const std::lock_guard hold{mutex_};
        return first_;
    }

private:
    std::mutex mutex_;
    std::string first_;
};

struct Shared {
    pinfs_context* context;
    std::uint64_t unit;  ///< of direct maps
    int steady;          ///< leased exclusively; every thread has an area of it
    int changing;        ///< leased for its layout alone
    std::atomic<bool> done{false};
    std::atomic<std::uint64_t> rounds{0};
    Trouble trouble{};

    // In units, of which a region has room for fewer if they are large.
    [[nodiscard]] std::uint64_t area() const { return unit == kBlock ? 32 : 2; }
    [[nodiscard]] std::uint64_t changing_length() const { return unit == kBlock ? 72 : 9; }
    [[nodiscard]] std::uint64_t changing_map() const { return changing_length() / 9; }
};

/// Maps a part of the thread's area, pins it, stores, and sees it by read(2).
void use_area(Shared& shared, std::uint64_t area, std::mt19937_64& random) {
    const std::uint64_t first = random() % shared.area();
    const std::uint64_t offset = (area * shared.area() + first) * shared.unit;
    const std::uint64_t length = (1 + random() % (shared.area() - first)) * shared.unit;
    void* address = nullptr;
    if (!shared.trouble.expect(pinfs_map(shared.context, shared.steady, offset, length,
                                         PROT_READ | PROT_WRITE, 0, &address),
                               {}, "map"))
        return;
    struct pinfs_pin pin = PINFS_PIN_INIT;
    pin.offset_bytes = offset;
    pin.length_bytes = length;
    const bool pinned =
        shared.trouble.expect(pinfs_pin(shared.context, shared.steady, &pin), {}, "pin");
    const std::uint64_t stored = random();
    const std::uint64_t inside = random() % (length / kBlock) * kBlock;
    auto* const at = static_cast<std::byte*>(address) + inside;
    shared.trouble.expect(pinfs_memcpy_persist(at, &stored, sizeof(stored)), {}, "persist");
    std::uint64_t read = 0;
    const auto place = static_cast<off_t>(offset + inside);
    if (pread(shared.steady, &read, sizeof(read), place) != sizeof(read) || read != stored)
        shared.trouble.note("read(2) does not see what was stored");
    if (pinned) {
        iovec pieces[4];
        const ssize_t count = pinfs_pin_iovec(shared.context, pin.id, pin.generation, 0, pieces, 4);
        if (shared.trouble.expect(count, {}, "pieces") && count < 1)
            shared.trouble.note("a mapped pin has no pieces");
        shared.trouble.expect(pinfs_msync(shared.context, at, 8), {}, "msync");
        shared.trouble.expect(pinfs_unpin(shared.context, pin.id, pin.generation), {}, "unpin");
    }
    shared.trouble.expect(pinfs_unmap(shared.context, address, length), {}, "unmap");
}

/// Maps what somebody cuts off all the time.
void map_changing(Shared& shared, std::mt19937_64& random) {
    const std::uint64_t length = shared.changing_map() * shared.unit;
    const std::uint64_t first = random() % (shared.changing_length() - shared.changing_map());
    void* address = nullptr;
    const int mapped = pinfs_map(shared.context, shared.changing, first * shared.unit, length,
                                 PROT_READ, 0, &address);
    // It may have ended before; and a large unit that was cut moves only if nobody has it mapped.
    if (!shared.trouble.expect(mapped, {EINVAL, shared.unit == kBlock ? EINVAL : EBUSY},
                               "map what changes"))
        return;
    pinfs_extent extents[8];
    shared.trouble.expect(
        pinfs_layout(shared.context, shared.changing, 0,
                     (shared.changing_length() - shared.changing_map()) * shared.unit, extents, 8,
                     nullptr),
        {EAGAIN}, "layout");
    shared.trouble.expect(pinfs_unmap(shared.context, address, length), {}, "unmap what changes");
}

void work(Shared& shared, std::uint64_t area, std::uint64_t seed) {
    std::mt19937_64 random{seed + area};
    while (!shared.done) {
        use_area(shared, area, random);
        map_changing(shared, random);
        ++shared.rounds;
    }
}

void change(Shared& shared, std::uint64_t seed) {
    std::mt19937_64 random{seed};
    while (!shared.done) {
        const auto bytes = static_cast<off_t>(random() % (shared.changing_length() * shared.unit));
        if (ftruncate(shared.changing, bytes) != 0) shared.trouble.note("truncate");
    }
}

void follow(Shared& shared) {
    while (!shared.done) {
        struct pinfs_event event = PINFS_INIT(struct pinfs_event);
        shared.trouble.expect(pinfs_context_next_event(shared.context, &event, 50), {}, "event");
    }
}

}  // namespace

TEST_CASE("sixteen threads share a context while a file changes under its maps",
          "[mount][library][concurrency]") {
    const std::uint64_t seed = seed_of_test("library_threads", 7);
    CAPTURE(seed);
    KernelMount mounted{256};
    mounted.mount();
    {
        const TestFile steady{mounted.path("steady")};
        const TestFile changing{mounted.path("changing")};
        Context context{mounted.root()};
        const Lease exclusive{context, steady.fd(), PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE};
        const Lease layout{context, changing.fd(), PINFS_LEASE_LAYOUT};
        Shared shared{.context = context.get(),
                      .unit = mounted.map_unit(),
                      .steady = steady.fd(),
                      .changing = changing.fd()};
        steady.resize(kThreads * shared.area() * shared.unit);
        std::vector<std::thread> threads;
        for (std::uint64_t area = 0; area < kThreads; ++area)
            threads.emplace_back([&shared, area, seed] { work(shared, area, seed); });
        threads.emplace_back([&] { change(shared, seed + kThreads); });
        threads.emplace_back([&] { follow(shared); });
        std::this_thread::sleep_for(kDuration);
        shared.done = true;
        for (std::thread& thread : threads) thread.join();
        CHECK(shared.trouble.first() == "");
        // An emulated processor is slow.
        CHECK(shared.rounds > (std::getenv("PINFS_IN_GUEST") != nullptr ? 10 : 100));
        INFO(shared.rounds);
        // All ended: nothing is in the way.
    }
    CHECK(errno_if(truncate(mounted.path("steady").c_str(), 0)) == 0);
    mounted.unmount();
    mounted.check();
}

// SPDX-License-Identifier: Apache-2.0
//
// The collision that pinfs exists to prevent: somebody has a file mapped, or has given it to a
// device, another truncates it, and a third gets the blocks (SPEC 2.5, 3.8, 3.9). The old mapping
// must never show another file's bytes, nor change them; nor must the device.
//
// PINFS_ROUNDS says how often; the long demonstration of scripts/soak runs 10,000.
#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <pinfs.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs::test;
using pinfs::Context;
using pinfs::Lease;
using pinfs::Map;
using pinfs::Pin;

constexpr std::size_t kFileBytes = 256 * 1024;
constexpr char kMine = 'M';    // what the mapped file has
constexpr char kStored = 'S';  // what its mapping stores
constexpr char kTheirs = 'T';  // what other files have
constexpr char kDevice = 'D';  // what the device writes

unsigned rounds(unsigned otherwise) {
    const char* const wanted = std::getenv("PINFS_ROUNDS");
    return wanted == nullptr ? otherwise : static_cast<unsigned>(std::stoul(wanted));
}

/// Small, and some units of maps where those may be of 2 MiB.
std::uint64_t region_mib() { return std::getenv("PINFS_TEST_REGIONS") == nullptr ? 4 : 8; }

/// Half of the region, but what is held where the mapped file had a whole unit of maps.
std::uint64_t least_to_fill(const KernelMount& mounted) {
    const std::uint64_t unit = mounted.map_unit();
    return ((region_mib() << 20) - (unit > kFileBytes ? unit : 0)) / 2;
}

/// Files that take every free block; each full of kTheirs.
class Filling {
public:
    explicit Filling(const KernelMount& mounted) : mounted_{mounted} {
        const std::string bytes(1 << 20, kTheirs);
        for (int i = 0; i < 64; ++i) {
            names_.push_back(mounted.path("other" + std::to_string(i)));
            const int fd = open(names_.back().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
            if (fd < 0) {
                names_.pop_back();
                break;
            }
            ssize_t count = 0;
            std::size_t written = 0;
            while (written < bytes.size() &&
                   (count = write(fd, bytes.data(), bytes.size() - written)) > 0)
                written += static_cast<std::size_t>(count);
            close(fd);
            written_.push_back(written);
            if (written < bytes.size()) break;
        }
    }
    ~Filling() {
        for (const std::string& name : names_) unlink(name.c_str());
    }
    Filling(const Filling&) = delete;
    Filling& operator=(const Filling&) = delete;

    /// Whether all of them have what was written, and nothing else.
    [[nodiscard]] bool whole() const {
        for (std::size_t i = 0; i < written_.size(); ++i)
            if (contents(names_[i]) != std::string(written_[i], kTheirs)) return false;
        return true;
    }
    [[nodiscard]] std::size_t bytes() const {
        std::size_t sum = 0;
        for (const std::size_t each : written_) sum += each;
        return sum;
    }

private:
    const KernelMount& mounted_;
    std::vector<std::string> names_;
    std::vector<std::size_t> written_;
};

bool shows(const Map& map, char byte) {
    return std::memchr(map.data(), byte, map.size()) != nullptr;
}

}  // namespace

TEST_CASE("3.8: an old mapping never meets another file's bytes", "[mount][pin][concurrency]") {
    KernelMount mounted{region_mib()};
    mounted.mount();
    const bool pinned = GENERATE(false, true);
    CAPTURE(pinned);
    std::mt19937_64 random{seed_of_test("collision", 1)};
    Context context{mounted.root()};
    for (unsigned round = 0; round < rounds(20); ++round) {
        CAPTURE(round);
        const TestFile file{mounted.path("mine")};
        file.write(0, std::string(kFileBytes, kMine));
        std::optional<Lease> lease{
            std::in_place, context, file.fd(),
            pinned ? PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE : PINFS_LEASE_LAYOUT};
        Map map{context, file.fd(), 0, kFileBytes, PROT_READ | PROT_WRITE};
        std::optional<Pin> pin;
        if (pinned) pin.emplace(context, file.fd(), 0, kFileBytes);

        const auto pause = std::chrono::microseconds{random() % 2000};
        std::thread other{[&] {
            std::this_thread::sleep_for(pause);
            for (;;) {
                if (truncate(mounted.path("mine").c_str(), 0) == 0) break;
                std::this_thread::sleep_for(std::chrono::microseconds{200});
            }
        }};
        if (pinned) {
            std::this_thread::sleep_for(std::chrono::microseconds{random() % 3000});
            CHECK(std::memchr(map.data(), kTheirs, map.size()) == nullptr);
            CHECK(file.read(0, 1) == std::string(1, kMine));  // EBUSY until the pin has ended
            pin.reset();
            lease.reset();
        }
        const auto stop = std::chrono::microseconds{random() % 1000};
        std::memset(map.data(), kStored, map.size() / 2);
        std::this_thread::sleep_for(stop);
        other.join();
        {
            const Filling filling{mounted};
            CHECK(filling.bytes() > least_to_fill(mounted));
            CHECK_FALSE(shows(map, kTheirs));
            std::memset(map.data(), kStored, map.size());
            CHECK(filling.whole());
        }
        map.unmap();
    }
}

namespace {

/// A process that maps and pins a file, registers the mapping as a buffer of an io_uring, and has a
/// child that reads from a file full of kDevice into that buffer again and again: a device that
/// outlives its owner. `ready` is written when it does.
int run_device(const KernelMount& mounted, int ready) {
    const TestFile file{mounted.path("mine"), O_RDWR};
    Context context{mounted.root()};
    const Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE};
    const Map map{context, file.fd(), 0, kFileBytes, PROT_READ | PROT_WRITE};
    const Pin pin{context, file.fd(), 0, kFileBytes};
    io_uring ring{};
    if (io_uring_queue_init(8, &ring, 0) != 0) return 10;
    iovec buffer{map.data(), map.size()};
    if (io_uring_register_buffers(&ring, &buffer, 1) != 0) return 11;
    const int source = open(mounted.outside("device").c_str(), O_RDONLY | O_CLOEXEC);
    if (source < 0) return 12;
    const int owners_context = context.fd();
    const pid_t device = fork();
    if (device == 0) {
        // The ring is all it keeps: with the context it would keep the pin.
        close(owners_context);
        close(file.fd());
        for (bool first = true;; first = false) {
            io_uring_sqe* const request = io_uring_get_sqe(&ring);
            io_uring_prep_read_fixed(request, source, map.data(), kFileBytes, 0, 0);
            io_uring_cqe* done = nullptr;
            if (io_uring_submit_and_wait(&ring, 1) < 0 || io_uring_wait_cqe(&ring, &done) != 0)
                _exit(1);
            const bool whole = done->res == static_cast<int>(kFileBytes);
            io_uring_cqe_seen(&ring, done);
            if (!whole) _exit(2);
            const pid_t self = getpid();
            if (first && write(ready, &self, sizeof self) != sizeof self) _exit(3);
        }
    }
    for (;;) pause();
}

}  // namespace

TEST_CASE("3.9: a device that outlives its owner writes into no other file",
          "[mount][pin][concurrency]") {
    KernelMount mounted{region_mib()};
    mounted.mount();
    write_file(mounted.outside("device"), std::string(kFileBytes, kDevice));
    for (unsigned round = 0; round < rounds(3); ++round) {
        CAPTURE(round);
        write_file(mounted.path("mine"), std::string(kFileBytes, kMine));
        int ready[2];
        REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
        const pid_t owner = fork();
        if (owner == 0) {
            alarm(60);
            _exit(run_device(mounted, ready[1]));
        }
        close(ready[1]);
        pid_t device = 0;
        REQUIRE(read(ready[0], &device, sizeof device) == sizeof device);
        close(ready[0]);
        CHECK(truncate(mounted.path("mine").c_str(), 0) == -1);
        CHECK(errno == EBUSY);

        REQUIRE(kill(owner, SIGKILL) == 0);
        REQUIRE(waitpid(owner, nullptr, 0) == owner);
        if (round % 2 == 1) {
            // The file keeps its content. Where pages can be taken from a device, it gets other
            // blocks: what the device has is nobody's. Else they are its own as long as that goes
            // on.
            const bool can_be_taken = mounted.region_kind() != "devdax";
            const auto is_over = [&] {
                return contents(mounted.path(".file_pins")).find("/mine") == std::string::npos;
            };
            CHECK((!can_be_taken || becomes_true(is_over)));
            const TestFile file{mounted.path("mine")};
            CHECK(file.read(0, kFileBytes).find_first_not_of({kMine, kDevice}) ==
                  std::string::npos);
            file.write(0, std::string(kFileBytes, kMine));
            std::this_thread::sleep_for(std::chrono::milliseconds{50});
            CHECK((!can_be_taken || file.read(0, kFileBytes) == std::string(kFileBytes, kMine)));
        }
        // Its pin refuses nothing any more, once the kernel has said that it is gone.
        const bool cut =
            becomes_true([&] { return truncate(mounted.path("mine").c_str(), 0) == 0; });
        CHECK(cut);
        const auto has_room = [&] {
            struct statvfs room {};
            return statvfs(mounted.root().c_str(), &room) == 0 &&
                   room.f_bfree * room.f_frsize > least_to_fill(mounted);
        };
        for (int fills = 0; fills < 3; ++fills) {
            CHECK(becomes_true(has_room));
            const Filling filling{mounted};
            CHECK(filling.bytes() > least_to_fill(mounted));
            std::this_thread::sleep_for(std::chrono::milliseconds{20});
            CHECK(filling.whole());
        }
        REQUIRE(kill(device, 0) == 0);  // it went on all the time
        kill(device, SIGKILL);
        const auto is_free = [&] {
            return contents(mounted.path(".pinfs/pins.json")).find("\"hold\"") == std::string::npos;
        };
        CHECK(becomes_true(is_free));
    }
    mounted.unmount();
    mounted.check();
}

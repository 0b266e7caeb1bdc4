// SPDX-License-Identifier: Apache-2.0
//
// A pin is only real if the kernel lets a device keep the pages (SPEC 1.4, 3.1): an io_uring that
// registers a mapped and pinned range as a fixed buffer takes a long-term pin, which the kernel
// counts. On an ordinary file it refuses, and so does pinfs, before anybody relies on it.
#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <fstream>
#include <pinfs.hpp>
#include <string>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"

namespace {

using namespace pinfs::test;
using pinfs::Context;
using pinfs::Lease;
using pinfs::Map;
using pinfs::Pin;

constexpr std::size_t kBytes = 4 << 20;

/// A counter of /proc/vmstat, every core's part of it included.
long long counted(const std::string& wanted) {
    const int refresh = open("/proc/sys/vm/stat_refresh", O_WRONLY | O_CLOEXEC);
    REQUIRE(refresh >= 0);
    REQUIRE(write(refresh, "1", 1) == 1);
    close(refresh);
    std::ifstream file{"/proc/vmstat"};
    std::string name;
    long long value = 0;
    while (file >> name >> value)
        if (name == wanted) return value;
    return -1;
}

/// A tmpfs of its own, as long as the test lasts.
class Tmpfs {
public:
    explicit Tmpfs(const std::string& options) {
        REQUIRE(mount("tmpfs", directory_.path().c_str(), "tmpfs", 0, options.c_str()) == 0);
    }
    ~Tmpfs() { umount2(directory_.path().c_str(), MNT_DETACH); }
    Tmpfs(const Tmpfs&) = delete;
    Tmpfs& operator=(const Tmpfs&) = delete;
    [[nodiscard]] const std::string& path() const { return directory_.path(); }

private:
    TemporaryDirectory directory_;
};

}  // namespace

TEST_CASE("1.4: on tmpfs a device pins a mapped range for long, and the kernel counts it",
          "[mount][pin]") {
    const std::string huge = GENERATE("never", "always");
    CAPTURE(huge);
    const Tmpfs tmpfs{"size=256m,huge=" + huge};
    KernelMount mounted{64, {}, tmpfs.path()};
    mounted.mount();
    const TestFile file{mounted.path("f")};
    file.resize(kBytes);
    Context context{mounted.root()};
    CHECK(context.region_info().pinnable == 1);
    Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE};
    Map map{context, file.fd(), 0, kBytes, PROT_READ | PROT_WRITE};
    Pin pin{context, file.fd(), 0, kBytes};
    io_uring ring{};
    REQUIRE(io_uring_queue_init(4, &ring, 0) == 0);
    const auto acquired = counted("nr_foll_pin_acquired");
    REQUIRE(acquired >= 0);
    iovec buffer{map.data(), map.size()};
    REQUIRE(io_uring_register_buffers(&ring, &buffer, 1) == 0);
    CHECK(counted("nr_foll_pin_acquired") > acquired);
    const auto released = counted("nr_foll_pin_released");
    REQUIRE(io_uring_unregister_buffers(&ring) == 0);
    CHECK(counted("nr_foll_pin_released") > released);
    io_uring_queue_exit(&ring);
}

TEST_CASE("1.4: on an ordinary file a pin is refused, and says why", "[mount][pin]") {
    KernelMount mounted{64, {}, "/var/tmp"};
    mounted.mount();
    Context context{mounted.root()};
    const auto info = context.region_info();
    if (info.kind != PINFS_KIND_FILE) {
        WARN("/var/tmp is no ordinary file system here: kind " << info.kind);
        return;
    }
    CHECK(info.pinnable == 0);
    const TestFile file{mounted.path("f")};
    file.resize(kBytes);
    Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE};
    Map map{context, file.fd(), 0, kBytes, PROT_READ | PROT_WRITE};
    map.data()[0] = std::byte{1};
    struct pinfs_pin wanted = PINFS_INIT(struct pinfs_pin);
    wanted.owner_fd = -1;
    wanted.length_bytes = kBytes;
    CHECK(pinfs_pin(context.get(), file.fd(), &wanted) == -EOPNOTSUPP);
    CHECK(std::string{pinfs_last_error()}.find("tmpfs and hugetlbfs can be pinned") !=
          std::string::npos);
    // The kernel agrees.
    io_uring ring{};
    REQUIRE(io_uring_queue_init(4, &ring, 0) == 0);
    iovec buffer{map.data(), map.size()};
    const int registered = io_uring_register_buffers(&ring, &buffer, 1);
    CHECK((registered == -EFAULT || registered == -EOPNOTSUPP));  // the latter before Linux 6.5
    io_uring_queue_exit(&ring);
}

// SPDX-License-Identifier: Apache-2.0
#include "fs/pmem/region.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

#include "fs/pmem/capabilities.h"
#include "tests/support/again.h"
#include "tests/support/temporary.h"

namespace {

using namespace pinfs;
using namespace pinfs::pmem;
using namespace pinfs::unit_literals;
using pinfs::test::run_again;
using pinfs::test::TemporaryDirectory;

std::vector<std::byte> pattern(std::size_t bytes, unsigned salt = 1) {
    std::vector<std::byte> result(bytes);
    for (std::size_t i = 0; i < bytes; ++i)
        result[i] = static_cast<std::byte>((i * 167 + i / 256 + salt) % 251 + 1);
    return result;
}

/// A file region of `bytes`, made and opened.
std::unique_ptr<Region> made(const std::string& path, std::uint64_t bytes) {
    REQUIRE(Region::create_file(path, bytes, 0600));
    auto region = Region::open(path, {});
    REQUIRE(region);
    return std::move(*region);
}

/// Every way to store and load, over the borders of pages, lines and words.
void exercise(Region& region) {
    for (const std::size_t bytes : {1u, 7u, 8u, 63u, 64u, 255u, 256u, 4096u, 70'000u, 524'288u}) {
        for (const std::uint64_t offset : {0u, 8u, 61u, 4096u - 32u}) {
            CAPTURE(bytes, offset);
            std::vector<std::byte> out(bytes);
            const auto in = pattern(bytes, static_cast<unsigned>(offset));
            REQUIRE(region.copy_in(offset, in));
            region.fence();
            REQUIRE(region.copy_out(offset, out));
            REQUIRE(out == in);
            REQUIRE(region.zero(offset, bytes));
            region.fence();
            REQUIRE(region.read(offset, out));
            REQUIRE(out == std::vector<std::byte>(bytes));
            REQUIRE(region.store_flush(offset, in));
            region.fence();
            REQUIRE(region.read(offset, out));
            REQUIRE(out == in);
        }
    }
    REQUIRE(region.store8_flush(4096, 0x0123456789abcdef));
    region.fence();
    std::uint64_t value = 0;
    REQUIRE(region.read(4096, std::as_writable_bytes(std::span(&value, 1))));
    CHECK(value == 0x0123456789abcdef);
}

Cause cause_of_open(const std::string& path, const OpenOptions& options = {}) {
    const auto region = Region::open(path, options);
    REQUIRE_FALSE(region);
    return region.error().cause;
}

void write_file(const std::string& path, const std::string& text) {
    std::ofstream(path) << text << '\n';
}

std::string read_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

TEST_CASE("region: a file on tmpfs is volatile, pinnable, and allocated whole", "[pmem][unit]") {
    const TemporaryDirectory directory;
    if (directory.file_system_type() != TMPFS_MAGIC) {
        WARN("skipped: /dev/shm is not tmpfs here");
        return;
    }
    const std::string path = directory.file("region");
    const mode_t old_mask = umask(0777);
    const auto region = made(path, 3_MiB + 4_KiB);
    umask(old_mask);
    struct stat status {};
    REQUIRE(stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
    CHECK(status.st_size == 3_MiB + 4_KiB);
    CHECK(status.st_blocks * 512 >= status.st_size);
    const Capabilities& can = region->capabilities();
    CHECK(can.kind == Kind::tmpfs);
    CHECK(can.flush == Flush::none);
    CHECK_FALSE(can.persistent);
    CHECK_FALSE(can.map_sync);
    CHECK(can.pinnable);
    CHECK(can.map_unit_bytes == kBlockBytes);
    CHECK(region->bytes() == 3_MiB + 4_KiB);
    CHECK(region->path() == path);
    exercise(*region);
}

TEST_CASE("region: on a tmpfs that gives huge pages it has them from the start", "[pmem][unit]") {
    const TemporaryDirectory directory;
    if (mount("none", directory.path().c_str(), "tmpfs", 0, "huge=advise,size=16M") != 0) {
        WARN("skipped: such a tmpfs cannot be mounted: " << std::strerror(errno));
        return;
    }
    {
        const auto region = made(directory.file("region"), 8_MiB);
        CHECK(region->capabilities().huge_bytes == 2_MiB);
        CHECK(region->capabilities().map_unit_bytes == kBlockBytes);
        exercise(*region);
    }
    umount2(directory.path().c_str(), MNT_DETACH);
}

TEST_CASE("region: a sparse file on tmpfs is allocated on demand, its contents kept",
          "[pmem][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    write_file(path, "content");
    REQUIRE(truncate(path.c_str(), 4_MiB) == 0);
    REQUIRE(Region::allocate_file(path));
    struct stat status {};
    REQUIRE(stat(path.c_str(), &status) == 0);
    CHECK(status.st_size == 4_MiB);
    CHECK(status.st_blocks * 512 >= status.st_size);
    CHECK(read_line(path) == "content");
}

TEST_CASE("region: a file on an ordinary file system is flushed by pages and not pinnable",
          "[pmem][unit]") {
    const TemporaryDirectory directory("/var/tmp");
    if (directory.file_system_type() == TMPFS_MAGIC) {
        WARN("skipped: /var/tmp is tmpfs here");
        return;
    }
    const auto region = made(directory.file("region"), 2_MiB);
    const Capabilities& can = region->capabilities();
    if (can.kind == Kind::fsdax) {
        WARN("skipped: /var/tmp is a DAX file system here");
        return;
    }
    CHECK(can.kind == Kind::file);
    CHECK(can.flush == Flush::page);
    CHECK(can.persistent);
    CHECK_FALSE(can.pinnable);
    exercise(*region);
}

TEST_CASE("region: a file on hugetlbfs is mapped in units of its pages", "[pmem][unit]") {
    // Takes four huge pages for its time, if it may.
    const TemporaryDirectory directory;
    const std::string pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    const std::string pages_before = read_line(pool);
    write_file(pool, std::to_string(std::atoi(pages_before.c_str()) + 4));
    const bool mounted =
        mount("none", directory.path().c_str(), "hugetlbfs", 0, "pagesize=2M,size=8M") == 0;
    struct Restore {
        const std::string &pool, &before, &mountpoint;
        bool mounted;
        ~Restore() {
            if (mounted) umount2(mountpoint.c_str(), MNT_DETACH);
            if (!before.empty()) write_file(pool, before);
        }
    } const restore{pool, pages_before, directory.path(), mounted};
    if (!mounted) {
        WARN("skipped: hugetlbfs cannot be mounted: " << std::strerror(errno));
        return;
    }
    const std::string path = directory.file("region");
    const auto created = Region::create_file(path, 4_MiB, 0600);
    if (!created) {
        WARN("skipped: no huge pages: " << created.error().message());
        return;
    }
    {
        const auto region = Region::open(path, {});
        REQUIRE(region);
        const Capabilities& can = (*region)->capabilities();
        CHECK(can.kind == Kind::hugetlb);
        CHECK(can.flush == Flush::none);
        CHECK(can.pinnable);
        CHECK_FALSE(can.persistent);
        CHECK(can.map_unit_bytes == 2_MiB);
        CHECK(can.huge_bytes == 2_MiB);
        exercise(**region);
    }
    // Not a multiple of the page, and more than there is: no file stays.
    CHECK_FALSE(Region::create_file(directory.file("odd"), 3_MiB, 0600));
    CHECK_FALSE(Region::create_file(directory.file("large"), 64_MiB, 0600));
    CHECK(access(directory.file("odd").c_str(), F_OK) != 0);
    CHECK(access(directory.file("large").c_str(), F_OK) != 0);
    unlink(path.c_str());
}

/// A tree as sysfs has for device DAX nodes.
struct stat dax_node(const TemporaryDirectory& sysfs, const std::string& parents,
                     const std::string& size, const std::string& align) {
    const std::string device = sysfs.file("devices/" + parents + "/dax0.0");
    std::filesystem::create_directories(device);
    std::filesystem::create_directories(sysfs.file("dev/char"));
    if (!size.empty()) write_file(device + "/size", size);
    if (!align.empty()) write_file(device + "/align", align);
    std::filesystem::create_directory_symlink(device, sysfs.file("dev/char/252:5"));
    struct stat status {};
    status.st_mode = S_IFCHR | 0600;
    status.st_rdev = makedev(252, 5);
    return status;
}

TEST_CASE("region: a DAX device's size, alignment and persistence are what sysfs says",
          "[pmem][unit]") {
    const TemporaryDirectory sysfs;
    SECTION("on an NVDIMM, caches are flushed") {
        const auto status = dax_node(sysfs, "ndbus0/region0/dax0.0", "1075838976", "2097152");
        write_file(sysfs.file("devices/ndbus0/region0/persistence_domain"), "memory_controller");
        const auto found = find_capabilities(-1, status, sysfs.path());
        REQUIRE(found);
        CHECK(found->capabilities.kind == Kind::devdax);
        CHECK(found->capabilities.persistent);
        CHECK(found->capabilities.flush == Flush::line);
        CHECK(found->capabilities.pinnable);
        CHECK(found->capabilities.map_unit_bytes == 2_MiB);
        CHECK(found->bytes == 1024_MiB + 2_MiB);
    }
    SECTION("where a power cut spares the caches, they are not") {
        const auto status = dax_node(sysfs, "ndbus0/region0/dax0.0", "1073741824", "4096");
        write_file(sysfs.file("devices/ndbus0/region0/persistence_domain"), "cpu_cache");
        const auto found = find_capabilities(-1, status, sysfs.path());
        REQUIRE(found);
        CHECK(found->capabilities.persistent);
        CHECK(found->capabilities.flush == Flush::none);
        CHECK(found->capabilities.map_unit_bytes == 4_KiB);
        CHECK(found->mapping_align_bytes == 2_MiB);
    }
    SECTION("soft-reserved memory is volatile") {
        const auto status =
            dax_node(sysfs, "platform/hmem.0/dax_region", "4294967296", "1073741824");
        const auto found = find_capabilities(-1, status, sysfs.path());
        REQUIRE(found);
        CHECK_FALSE(found->capabilities.persistent);
        CHECK(found->capabilities.flush == Flush::none);
        CHECK(found->capabilities.map_unit_bytes == 1_GiB);
        CHECK(found->bytes == 4_GiB);
    }
    SECTION("a device that says no size cannot be mapped") {
        const auto status = dax_node(sysfs, "platform/hmem.0", "", "4096");
        const auto found = find_capabilities(-1, status, sysfs.path());
        REQUIRE_FALSE(found);
        CHECK(found.error().cause == Cause::region_not_mappable);
    }
}

TEST_CASE("region: a DAX device that another driver has is refused before it is opened",
          "[pmem][unit]") {
    const TemporaryDirectory sysfs;
    const auto status = dax_node(sysfs, "ndbus0/region0/dax0.0", "1073741824", "2097152");
    const std::string device = sysfs.file("devices/ndbus0/region0/dax0.0/dax0.0");
    const auto cause = [&] {
        const auto mappable = check_mappable(status, sysfs.path());
        return mappable ? std::nullopt : std::optional(mappable.error().cause);
    };
    const auto link = [&](const std::string& to, const std::string& name) {
        std::filesystem::create_directories(sysfs.file(to));
        std::filesystem::create_directory_symlink(sysfs.file(to), device + "/" + name);
    };
    CHECK(cause() == Cause::region_not_mappable);
    SECTION("on today's kernels, where it has a driver") {
        link("bus/dax", "subsystem");
        CHECK(cause() == Cause::device_not_bound);
        link("bus/dax/drivers/kmem", "driver");
        CHECK(cause() == Cause::device_not_bound);
        std::filesystem::remove(device + "/driver");
        link("bus/dax/drivers/device_dax", "driver");
        CHECK(cause() == std::nullopt);
    }
    SECTION("on those where a class of devices has none") {
        link("class/dax", "subsystem");
        CHECK(cause() == std::nullopt);
    }
}

TEST_CASE("region: what is no region is refused by its reason", "[pmem][unit]") {
    const TemporaryDirectory directory;
    CHECK(cause_of_open(directory.path()) == Cause::region_not_mappable);
    CHECK(cause_of_open("/dev/null") == Cause::region_not_mappable);

    const std::string fifo = directory.file("fifo");
    REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
    CHECK(cause_of_open(fifo) == Cause::region_not_mappable);
    CHECK(cause_of_open(fifo, {.read_only = true}) == Cause::region_not_mappable);

    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string socket_path = directory.file("socket");
    socket_path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    CHECK(cause_of_open(socket_path) == Cause::region_not_mappable);
    close(listener);

    const std::string file = directory.file("file");
    write_file(file, "");
    CHECK(cause_of_open(file) == Cause::region_too_small);
    REQUIRE(truncate(file.c_str(), 1_MiB - 1) == 0);
    CHECK(cause_of_open(file) == Cause::region_too_small);
    REQUIRE(truncate(file.c_str(), 0) == 0);
    CHECK(cause_of_open(file) == Cause::region_too_small);

    REQUIRE(symlink("nowhere", directory.file("dangling").c_str()) == 0);
    for (const char* name : {"absent", "dangling", "file/below"}) {
        const auto region = Region::open(directory.file(name), {});
        REQUIRE_FALSE(region);
        CHECK(region.error().cause == Cause::system);
        CHECK(region.error().number() ==
              (std::string_view(name) == "file/below" ? ENOTDIR : ENOENT));
    }
}

TEST_CASE("region: a length that is no multiple of a page is rounded down", "[pmem][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    write_file(path, "");
    REQUIRE(truncate(path.c_str(), 1_MiB + 4_KiB + 17) == 0);
    const auto region = Region::open(path, {});
    REQUIRE(region);
    CHECK((*region)->bytes() == 1_MiB + 4_KiB);
}

TEST_CASE("region: making a file fails where one exists, or without room, and leaves nothing",
          "[pmem][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    write_file(path, "precious");
    const auto exists = Region::create_file(path, 1_MiB, 0600);
    REQUIRE_FALSE(exists);
    CHECK(exists.error().number() == EEXIST);
    CHECK(read_line(path) == "precious");

    const TemporaryDirectory small;
    if (mount("none", small.path().c_str(), "tmpfs", 0, "size=2M") != 0) {
        WARN("skipped: a small tmpfs cannot be mounted");
        return;
    }
    const auto full = Region::create_file(small.file("region"), 3_MiB, 0600);
    const bool left = access(small.file("region").c_str(), F_OK) == 0;
    umount2(small.path().c_str(), MNT_DETACH);
    REQUIRE_FALSE(full);
    CHECK(full.error().number() == ENOSPC);
    CHECK_FALSE(left);
}

TEST_CASE("region: one process writes at a time, and the others are told which", "[pmem][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    auto region = made(path, 1_MiB);
    CHECK(cause_of_open(path) == Cause::region_in_use);
    CHECK(cause_of_open(path, {.read_only = true}) == Cause::region_in_use);
    CHECK(Region::open(path, {.read_only = true, .locked_out_is_fine = true}));
    CHECK(Region::lock_holders(path) ==
          "process " + std::to_string(getpid()) + " (" + read_line("/proc/self/comm") + ")");
    CHECK(cause_of_open(path) == Cause::region_in_use);
    region.reset();
    CHECK(Region::lock_holders(path).empty());

    const auto reader = Region::open(path, {.read_only = true});
    REQUIRE(reader);
    CHECK(Region::open(path, {.read_only = true}));
    CHECK(cause_of_open(path) == Cause::region_in_use);
}

TEST_CASE("region: the lock dies with its holder", "[pmem][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    made(path, 1_MiB).reset();
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    const pid_t child = fork();
    if (child == 0) {
        const auto held = Region::open(path, {});
        const char answer = held ? 'y' : 'n';
        if (write(ready[1], &answer, 1) == 1) pause();
        _exit(1);
    }
    char answer = 0;
    REQUIRE(read(ready[0], &answer, 1) == 1);
    CHECK(answer == 'y');
    CHECK(cause_of_open(path) == Cause::region_in_use);
    CHECK(Region::lock_holders(path).find(std::to_string(child)) != std::string::npos);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    close(ready[0]);
    close(ready[1]);
    CHECK(Region::open(path, {}));
}

TEST_CASE("region: a read-only region needs no permission to write and maps none", "[pmem][unit]") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("region");
    REQUIRE(made(path, 1_MiB)->copy_in(4096, pattern(4096)));
    REQUIRE(chmod(path.c_str(), 0400) == 0);
    const auto region = Region::open(path, {.read_only = true});
    REQUIRE(region);
    std::vector<std::byte> out(4096);
    REQUIRE((*region)->copy_out(4096, out));
    CHECK(out == pattern(4096));
    std::ifstream maps("/proc/self/maps");
    std::string protection;
    for (std::string line; std::getline(maps, line);)
        if (line.find(path) != std::string::npos) protection = line.substr(line.find(' ') + 1, 4);
    CHECK(protection == "r--s");
}

TEST_CASE("region: nothing outside the region is loaded or stored", "[pmem][unit]") {
    const TemporaryDirectory directory;
    const auto region = made(directory.file("region"), 1_MiB);
    std::vector<std::byte> two(2);
    const auto check = [](const Expected<void>& result, std::uint64_t offset) {
        REQUIRE_FALSE(result);
        CHECK(result.error().cause == Cause::media_corrupt);
        CHECK(result.error().offset == offset);
    };
    for (const std::uint64_t offset :
         {1_MiB - 1, 1_MiB, 1_MiB + 1, ~std::uint64_t{0}, ~std::uint64_t{7}}) {
        CAPTURE(offset);
        check(region->read(offset, two), offset);
        check(region->copy_out(offset, two), offset);
        check(region->copy_in(offset, two), offset);
        check(region->store_flush(offset, two), offset);
        check(region->zero(offset, 2), offset);
    }
    check(region->zero(1, ~std::uint64_t{0}), 1);
    check(region->store8_flush(1_MiB, 1), 1_MiB);
    CHECK(region->read(1_MiB, {}));
    CHECK(region->read(1_MiB - 2, two));
}

// Run by the next case, in a process of its own.
TEST_CASE("region: hidden: forced persistent memory", "[.again]") {
    for (const char* parent : {"/dev/shm", "/var/tmp"}) {
        const TemporaryDirectory directory(parent);
        const auto region = made(directory.file("region"), 2_MiB);
        CHECK(region->capabilities().flush == Flush::line);
        exercise(*region);
        REQUIRE(truncate(directory.file("region").c_str(), 1_MiB) == 0);
        const auto result = region->copy_in(1_MiB - 4096, pattern(8192));
        REQUIRE_FALSE(result);
        CHECK(result.error().offset == 1_MiB);
    }
}

TEST_CASE("region: PMEM_IS_PMEM_FORCE=1 takes the path of persistent memory", "[pmem][unit]") {
    CHECK(run_again("region: hidden: forced persistent memory", "PMEM_IS_PMEM_FORCE", "1") == 0);
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
//
// SPEC 6.7 through the kernel: the region's file loses its end under the daemon, as memory fails.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

constexpr std::uint64_t kBlock = 4096;
constexpr std::uint64_t kFileBytes = 40 << 20;

nlohmann::json info(const KernelMount& mounted) {
    const Ran ran = run({"pinfs", "info", "--json", mounted.region()});
    REQUIRE(ran.status == 0);
    return nlohmann::json::parse(ran.out);
}

}  // namespace

TEST_CASE("6.7: memory that fails costs one request, is told, and is forgotten when written",
          "[mount][media][resizes region]") {
    KernelMount mounted;
    mounted.mount();
    const std::string data = noise(1, kFileBytes);
    write_file(mounted.path("f"), data);
    write_file(mounted.path("other"), "other");
    auto file = std::make_unique<TestFile>(mounted.path("f"));

    // All of the region from the middle of the file's last extent on is gone.
    const Ran extents = run({"pinfs", "extents", "--json", mounted.path("f")});
    REQUIRE(extents.status == 0);
    const auto listed = nlohmann::json::parse(extents.out);
    CAPTURE(extents.out);
    std::uint64_t lost_file_offset = 0;
    std::uint64_t lost_region_offset = 0;
    for (const auto& extent : listed[0]["extents"]) {
        if (extent["region_offset"] < lost_region_offset) continue;
        const std::uint64_t half = extent["bytes"].get<std::uint64_t>() / 2 / kBlock * kBlock;
        lost_region_offset = extent["region_offset"].get<std::uint64_t>() + half;
        lost_file_offset = extent["file_offset"].get<std::uint64_t>() + half;
    }
    struct stat status {};
    REQUIRE(stat(mounted.region().c_str(), &status) == 0);
    REQUIRE(truncate(mounted.region().c_str(), static_cast<off_t>(lost_region_offset)) == 0);

    std::string buffer(3 * kBlock, '\0');
    CHECK(pread(file->fd(), buffer.data(), kBlock, static_cast<off_t>(lost_file_offset)) == -1);
    CHECK(errno == EIO);
    CHECK(errno_if(pwrite(file->fd(), "x", 1, static_cast<off_t>(lost_file_offset + 5 * kBlock))) ==
          EIO);
    // Everything else goes on.
    CHECK(file->read(lost_file_offset - kBlock, kBlock) ==
          data.substr(lost_file_offset - kBlock, kBlock));
    CHECK(contents(mounted.path("other")) == "other");
    write_file(mounted.path("third"), "third");
    CHECK(contents(mounted.path("third")) == "third");

    // The memory is back, its content is not.
    REQUIRE(truncate(mounted.region().c_str(), status.st_size) == 0);
    const std::uint64_t bad = lost_region_offset / kBlock;
    const nlohmann::json expected = {{{"block", bad}, {"count", 1}},
                                     {{"block", bad + 5}, {"count", 1}}};
    CHECK(becomes_true([&] { return info(mounted)["bad_blocks"] == expected; }));
    file->write(lost_file_offset, std::string(kBlock, 'x'));
    const nlohmann::json one_left = {{{"block", bad + 5}, {"count", 1}}};
    CHECK(becomes_true([&] { return info(mounted)["bad_blocks"] == one_left; }));
    file.reset();
    mounted.unmount();
    const Ran judged = run({"fsck.pinfs", "-n", mounted.region()});
    CAPTURE(judged.out);
    CHECK(judged.status == 0);
    CHECK(judged.out.find("block " + std::to_string(bad + 5) +
                          " raised media errors: the data of inode ") != std::string::npos);

    mounted.mount();
    REQUIRE(unlink(mounted.path("f").c_str()) == 0);
    mounted.unmount();
    CHECK(info(mounted)["bad_blocks"].empty());
    mounted.check();
}

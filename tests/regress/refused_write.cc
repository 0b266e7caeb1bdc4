// SPDX-License-Identifier: Apache-2.0
//
// A write over a hole and a written block, where the new extent needs a tree node that a full
// region does not have: it was refused, but had changed the written block.
#include <catch2/catch.hpp>

#include "tests/support/mounted.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

TEST_CASE("regress: a write that is refused for want of a tree node changes nothing",
          "[volume][regress]") {
    Mounted fs{{.bytes = 1_MiB}};
    const Ino file = fs.make_file("/file");
    for (const std::uint64_t block : {0, 2, 4, 6})  // as many extents as an inode holds
        fs.write(file, block * kBlockBytes, pattern(block * kBlockBytes, kBlockBytes, 1));
    const Ino filler = fs.make_file("/filler");
    std::uint64_t end = 0;
    while (fs->statistics().blocks_available > 1) {
        fs.write(filler, end, pattern(end, kBlockBytes, 2));
        end += kBlockBytes;
    }
    REQUIRE(fs->statistics().blocks_available == 1);
    const Snapshot before = fs.snapshot();
    const std::uint64_t offset = 5 * kBlockBytes;
    const auto written = fs->write(file, offset, pattern(offset, 2 * kBlockBytes, 3));
    REQUIRE_FALSE(written);
    CHECK(written.error().cause == Cause::no_space);
    CHECK(difference(fs.snapshot(), before) == "");
    fs.check_clean();
}

}  // namespace

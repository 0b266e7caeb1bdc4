// SPDX-License-Identifier: Apache-2.0
//
// A tree that a repair wrote anew had the lowest key of that day as its lower bound: names that
// came later with lower keys were found outside of it.
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <string>

#include "fs/format/tree.h"
#include "fs/format/unit.h"
#include "tests/support/mounted.h"
#include "tests/support/repaired.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

TEST_CASE("regress: a directory that was repaired takes names of every key", "[repair][regress]") {
    const Memory memory{4_MiB};
    pmem::Region region{memory.bytes(), {}, nullptr};
    {
        Mounted fs{region, memory.bytes(), {.bytes = 4_MiB}};
        fs.make_directory("/d");
        for (int i = 0; i < 300; ++i)
            fs.make_file("/d/" + std::string(40, 'n') + std::to_string(i));
        fs.unmount();
    }
    int damaged = 0;
    for (std::uint64_t at = 0; at < memory.bytes().size(); at += kBlockBytes) {
        media::BlockHeader header;
        std::memcpy(&header, memory.bytes().data() + at, sizeof header);
        if (header.magic != media::kBlockMagic || header.level < 2 ||
            header.kind != static_cast<media::le16>(media::BlockKind::directory_tree))
            continue;
        memory.bytes()[at + sizeof header] ^= std::byte{0x15};
        ++damaged;
    }
    REQUIRE(damaged > 0);
    REQUIRE(repair_all(region).report.left.clean());
    Mounted fs{region};
    for (int i = 0; i < 300; ++i) fs.make_file("/d/" + std::to_string(i));
    fs.unmount();
    fs.check_clean();
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
//
// An index node's first key may be above what the node may hold: after the node before it went, or
// as another writer of the format has it. A record below that key was put there all the same.
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/support/hand_image.h"
#include "tests/support/mounted.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;

std::vector<std::string> names_in(Volume& volume, Ino directory) {
    std::vector<std::string> names;
    must(volume.read_directory(directory, 2, [&](const DirectoryItem& item) {
        names.emplace_back(item.name);
        return true;
    }));
    return names;
}

TEST_CASE("regress: a directory takes names below the lowest key of its tree", "[inode][regress]") {
    HandImage image{{.bytes = std::uint64_t{4} << 20, .leaf_bytes_max = 300, .fan_out_max = 3}};
    const std::uint64_t directory = image.add(HandImage::kRoot, "d", S_IFDIR | 0755);
    for (int i = 0; i < 300; ++i) image.add(directory, "old " + std::to_string(i), S_IFREG | 0644);
    image.write();
    Mounted fs{image.region()};
    // In the order of keys: whole index nodes go.
    const std::size_t removed = GENERATE(0u, 30u, 150u, 290u);
    CAPTURE(removed);
    std::vector<std::string> names = names_in(fs.volume(), Ino{directory});
    REQUIRE(names.size() == 300);
    names.resize(removed);
    for (const std::string& name : names) must(fs->unlink(Ino{directory}, name));
    for (int i = 0; i < 200; ++i) fs.make_file("/d/new " + std::to_string(i));
    CHECK(names_in(fs.volume(), Ino{directory}).size() == 500 - removed);
    fs.unmount();
    fs.check_clean();
}

TEST_CASE("regress: a file takes blocks before the first of its tree", "[inode][regress]") {
    HandImage image{{.bytes = std::uint64_t{4} << 20, .leaf_bytes_max = 96, .fan_out_max = 3}};
    const std::uint64_t file = image.add(HandImage::kRoot, "f", S_IFREG | 0644);
    for (std::uint64_t i = 0; i < 60; ++i) image.extend(file, 100 + 2 * i, 1);
    image.inode(file).size = 300 * media::kBlockBytes;
    image.write();
    Mounted fs{image.region()};
    const std::uint64_t cut = GENERATE(0u, 20u, 100u, 118u);
    CAPTURE(cut);
    if (cut > 0)
        must(fs->punch_hole(Ino{file}, 100 * media::kBlockBytes, cut * media::kBlockBytes));
    // From high to low, so that records grow downwards and stand alone.
    for (const std::uint64_t block : {99, 98, 90, 51, 30, 29, 2, 0})
        fs.write(Ino{file}, block * media::kBlockBytes, pattern(0, media::kBlockBytes, block + 1));
    fs.unmount();
    fs.check_clean();
}

}  // namespace

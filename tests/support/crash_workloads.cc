// SPDX-License-Identifier: Apache-2.0
#include "tests/support/crash_workloads.h"

#include "tests/support/operations.h"

namespace pinfs::test {

using namespace operations;
using namespace unit_literals;

namespace {

std::string numbered(const std::string& start, std::size_t number) {
    return start + std::to_string(number);
}

/// A name of `bytes` bytes.
std::string long_name(const std::string& directory, std::size_t number, std::size_t bytes = 250) {
    std::string name = numbered("n", number) + "-";
    name.resize(bytes, 'x');
    return directory + "/" + name;
}

Operations fill_directory(const std::string& directory, std::size_t entries) {
    Operations list{make_directory(directory)};
    for (std::size_t i = 0; i < entries; ++i) list.push_back(create(long_name(directory, i)));
    return list;
}

/// A file of `pieces` extents: every second block, so that none joins another.
Operations scattered_file(const std::string& path, std::size_t pieces) {
    Operations list{create(path)};
    for (std::size_t i = 0; i < pieces; ++i)
        list.push_back(write(path, 2 * i * kBlockBytes + 100, 600, i));
    return list;
}

}  // namespace

std::vector<Workload> name_workloads() {
    std::vector<Workload> list;
    const auto add = [&](std::string name, Operations before, Operations recorded) {
        list.push_back({.name = std::move(name),
                        .before = std::move(before),
                        .recorded = std::move(recorded)});
    };
    add("create in the root", {}, {create("/a")});
    add("create the second and third file", {create("/a")}, {create("/b"), create("/c")});
    add("create in a directory", {make_directory("/d")}, {create("/d/a"), create("/d/b")});
    add("make a directory", {}, {make_directory("/d"), make_directory("/d/e")});
    add("make nodes", {},
        {make_node("/fifo", S_IFIFO | 0600), make_node("/socket", S_IFSOCK | 0666),
         make_node("/device", S_IFCHR | 0644, 10, 229)});
    add("make a file without a name", {}, {make_unnamed("/", 1), release(1), finish_pending()});
    add("make a file without a name, fill it, link it", {make_directory("/d")},
        {make_unnamed("/d", 1), write("#1", 0, 9000), link("#1", "/d/a"), link("#1", "/b"),
         release(1), unlink("/b"), unlink("/d/a"), finish_pending()});
    add("make a short symbolic link", {}, {symbolic_link("/s", "some/where")});
    add("make a symbolic link that just fits its inode", {},
        {symbolic_link("/s", std::string(96, 't')), symbolic_link("/t", std::string(97, 't'))});
    add("make a long symbolic link", {}, {symbolic_link("/s", std::string(3000, 'l'))});
    add("link", {create("/a"), write("/a", 0, 5000), make_directory("/d")},
        {link("/a", "/b"), link("/b", "/d/c")});
    add("unlink a file with data", {create("/a"), write("/a", 0, 9000)},
        {unlink("/a"), finish_pending()});
    add("unlink one of two names", {create("/a"), write("/a", 0, 9000), link("/a", "/b")},
        {unlink("/a"), finish_pending(), unlink("/b"), finish_pending()});
    add("unlink symbolic links",
        {symbolic_link("/s", "x"), symbolic_link("/l", std::string(500, 'l'))},
        {unlink("/s"), unlink("/l"), finish_pending()});
    add("unlink a file with extended attributes",
        {create("/a"), set_attribute("/a", "user.x", 9000), write("/a", 0, 5000)},
        {unlink("/a"), finish_pending()});
    add("unlink an open file, write it, close it",
        {create("/a"), write("/a", 0, 9000), open("/a", 1)},
        {unlink("/a"), write("#1", 4000, 9000, 2), truncate("#1", 100), release(1),
         finish_pending()});
    add("remove a directory", {make_directory("/d"), make_directory("/d/e")},
        {remove_directory("/d/e"), remove_directory("/d"), finish_pending()});
    add("unlink and create the same name", {create("/a"), write("/a", 0, 5000, 1)},
        {unlink("/a"), create("/a"), finish_pending(), write("/a", 0, 3000, 2)});
    add("a directory leaves its inode", {make_directory("/d"), create("/d/first-name")},
        {create(long_name("/d", 1, 80)), create(long_name("/d", 2, 80))});
    add("a directory goes back into its inode",
        {make_directory("/d"), create(long_name("/d", 1, 80)), create(long_name("/d", 2, 80))},
        {unlink(long_name("/d", 1, 80)), unlink(long_name("/d", 2, 80)), remove_directory("/d")});
    add("a leaf of a directory splits", fill_directory("/d", 15),
        {create(long_name("/d", 100)), create(long_name("/d", 101))});
    add("leaves of a directory empty", fill_directory("/d", 18),
        {unlink(long_name("/d", 3)), unlink(long_name("/d", 7)), unlink(long_name("/d", 0)),
         unlink(long_name("/d", 1)), unlink(long_name("/d", 2)), unlink(long_name("/d", 4)),
         unlink(long_name("/d", 5)), unlink(long_name("/d", 6))});
    list.push_back({.name = "names that share one hash",
                    .fs = {.name_hash_bits = 1},
                    .before = {create("/a"), create("/b"), create("/c")},
                    .recorded = {create("/d"), unlink("/b"), rename("/c", "/e"), create("/f")}});
    return list;
}

std::vector<Workload> rename_workloads() {
    std::vector<Workload> list;
    const Operations tree{make_directory("/d"),      make_directory("/e"), create("/a"),
                          write("/a", 0, 5000, 1),   create("/b"),         write("/b", 0, 9000, 2),
                          make_directory("/d/sub"),  create("/d/sub/x"),   create("/e/y"),
                          make_directory("/e/empty")};
    const auto add = [&](const std::string& name, Operations recorded) {
        list.push_back({.name = "rename " + name, .before = tree, .recorded = std::move(recorded)});
    };
    add("in a directory", {rename("/a", "/c")});
    add("across directories", {rename("/a", "/d/c"), rename("/d/c", "/e/a")});
    add("over a file", {rename("/a", "/b"), finish_pending()});
    add("over a file of another directory", {rename("/b", "/e/y"), finish_pending()});
    add("over an open file", {open("/b", 1), rename("/a", "/b"), release(1), finish_pending()});
    add("over one of two names", {link("/b", "/z"), rename("/a", "/b"), finish_pending()});
    add("over another name of the same file", {link("/a", "/z"), rename("/a", "/z")});
    add("over an empty directory", {rename("/d/sub", "/e/empty"), finish_pending()});
    add("a directory", {rename("/d", "/f")});
    add("a directory into another", {rename("/d", "/e/f"), rename("/e/f/sub", "/g")});
    add("with exchange in a directory", {rename("/a", "/b", kRenameExchange)});
    add("with exchange across directories", {rename("/a", "/e/y", kRenameExchange)});
    add("with exchange of a directory and a file", {rename("/d/sub", "/e/y", kRenameExchange)});
    add("with exchange of a file and a directory", {rename("/a", "/e/empty", kRenameExchange)});
    add("with exchange of directories", {rename("/d/sub", "/e/empty", kRenameExchange)});
    add("without replacing", {rename("/a", "/d/z", kRenameNoReplace)});
    add("and leave a whiteout", {rename("/a", "/c", kRenameWhiteout)});
    add("and leave a whiteout in another directory",
        {rename("/d/sub", "/e/sub", kRenameWhiteout | kRenameNoReplace), unlink("/d/sub")});
    add("over a file and leave a whiteout",
        {rename("/a", "/b", kRenameWhiteout), finish_pending()});
    add("over an empty directory and leave a whiteout",
        {rename("/d/sub", "/e/empty", kRenameWhiteout), finish_pending()});
    list.push_back({.name = "rename between large directories",
                    .before = fill_directory("/d", 16) + fill_directory("/e", 15),
                    .recorded = {rename(long_name("/d", 5), long_name("/e", 100)),
                                 rename(long_name("/d", 6), long_name("/e", 6)),
                                 rename(long_name("/e", 1), long_name("/e", 101)),
                                 rename(long_name("/d", 7), long_name("/e", 102), kRenameWhiteout),
                                 finish_pending()}});
    return list;
}

std::vector<Workload> content_workloads() {
    std::vector<Workload> list;
    const auto add = [&](const std::string& name, const Operations& before, Operations recorded) {
        list.push_back({.name = "write: " + name,
                        .before = Operations{create("/a")} + before,
                        .recorded = std::move(recorded)});
    };
    add("first block, whole", {}, {write("/a", 0, 4096)});
    add("three blocks", {}, {write("/a", 0, 12288)});
    add("part of a block", {}, {write("/a", 100, 77)});
    add("unaligned over three blocks", {}, {write("/a", 4000, 5000)});
    add("append in a block", {write("/a", 0, 100)}, {append("/a", 50, 2), append("/a", 6, 3)});
    add("append over the end of a block", {write("/a", 0, 4000)}, {append("/a", 200, 2)});
    add("append block by block", {write("/a", 0, 4096)},
        {append("/a", 4096, 2), append("/a", 4096, 3), append("/a", 8192, 4)});
    add("append past the preallocation", {write("/a", 0, 4096), append("/a", 4096, 2)},
        {append("/a", 40000, 3), append("/a", 4096, 4)});
    add("into a hole, whole blocks", {truncate("/a", 40960)}, {write("/a", 8192, 8192)});
    add("into a hole, parts", {truncate("/a", 40960)},
        {write("/a", 8300, 100), write("/a", 20000, 6000)});
    add("holes and blocks in one", {write("/a", 4096, 4096), write("/a", 16384, 4096, 2)},
        {write("/a", 2000, 20000, 3)});
    add("into preallocated blocks, parts",
        {write("/a", 0, 8192), append("/a", 10, 2), truncate("/a", 24000)},
        {write("/a", 17000, 100, 3), write("/a", 12288, 4096, 4)});
    add("over blocks in place", {write("/a", 0, 12288)}, {write("/a", 4096, 4096, 2)});
    add("over parts in place", {write("/a", 0, 12288)},
        {write("/a", 3, 21, 2), write("/a", 4090, 13, 3), write("/a", 100, 9000, 4)});
    add("over the end", {write("/a", 0, 5000)}, {write("/a", 4000, 6000, 2)});
    add("beyond the end, in its block",
        {write("/a", 0, 100), write("/a", 0, 3000, 2), truncate("/a", 50)},
        {write("/a", 1000, 100, 3)});
    add("beyond the end, with a hole", {write("/a", 0, 5000), truncate("/a", 4500)},
        {write("/a", 30000, 100, 2)});
    add("beyond the end of preallocated blocks", {write("/a", 0, 4096), append("/a", 100, 2)},
        {write("/a", 20000, 100, 3)});
    add("at the largest offset", {}, {write("/a", kFileBytesMax - 100, 100)});
    add("a sparse file backwards", {},
        {write("/a", 1_GiB, 10, 1), write("/a", 1_MiB, 10, 2), write("/a", 0, 10, 3)});
    add("and join extents", {write("/a", 0, 4096), write("/a", 8192, 4096, 2)},
        {write("/a", 4096, 4096, 3)});
    add("the fifth extent leaves the inode", scattered_file("/b", 4),
        {write("/b", 40960, 10, 2), write("/b", 200000, 10, 3)});
    add("a leaf of extents splits", scattered_file("/b", 168),
        {write("/b", 4096 * 335, 10, 2), write("/b", 4096 * 101, 10, 3),
         write("/b", 4096 * 400, 10, 4)});
    add("times at sync", {write("/a", 0, 5000), write("/a", 0, 100, 2)},
        {write("/a", 10, 30, 3), sync("/a"), write("/a", 10, 30, 4), sync("/a")});
    add("times by themselves", {write("/a", 0, 5000)},
        {write("/a", 10, 30, 3), finish_pending(), write("/a", 0, 3, 4), change_mode("/a", 0600)});
    add("times at release", {write("/a", 0, 5000), open("/a", 1)},
        {write("#1", 10, 30, 3), release(1)});
    add("release gives preallocated blocks back",
        {open("/a", 1), write("/a", 0, 20000), append("/a", 20000, 2)},
        {append("#1", 20000, 3), release(1)});
    list.push_back({.name = "write: privileges go",
                    .before = {create("/a"), write("/a", 0, 5000), change_mode("/a", 06755)},
                    .recorded = {{.what = Do::write,
                                  .path = "/a",
                                  .offset = 100,
                                  .length = 100,
                                  .seed = 3,
                                  .number = 1}}});
    // Blocks that were another file's, and this one's before it was cut.
    list.push_back(
        {.name = "write: into blocks of an unlinked file",
         .before = {create("/old"), write("/old", 0, 700000, 9), unlink("/old"), finish_pending(),
                    create("/a"), write("/a", 0, 60000, 1), truncate("/a", 3)},
         .recorded = {write("/a", 70, 10, 2), write("/a", 20000, 5000, 3), truncate("/a", 30000),
                      append("/a", 10, 4)}});
    return list;
}

std::vector<Workload> allocate_workloads() {
    std::vector<Workload> list;
    const Operations file{create("/a"), write("/a", 0, 20000)};
    const auto add = [&](const std::string& name, Operations before, Operations recorded) {
        list.push_back(
            {.name = name, .before = file + std::move(before), .recorded = std::move(recorded)});
    };
    add("allocate: at the end", {}, {allocate("/a", 20000, 30000), write("/a", 25000, 100, 2)});
    add("allocate: beyond the end, size kept", {},
        {allocate("/a", 0, 60000, true), append("/a", 5000, 2), truncate("/a", 22000)});
    add("allocate: holes", {truncate("/a", 80000), write("/a", 40960, 10, 2)},
        {allocate("/a", 10000, 60000), write("/a", 50000, 9000, 3)});
    add("allocate: and extend from inside a block", {truncate("/a", 19000)},
        {allocate("/a", 18000, 9000)});
    add("allocate: between extents", scattered_file("/b", 60), {allocate("/b", 100000, 300000)});
    add("punch: inside a block", {}, {punch_hole("/a", 100, 300), punch_hole("/a", 4090, 12)});
    add("punch: whole blocks", {}, {punch_hole("/a", 4096, 8192), write("/a", 6000, 100, 2)});
    add("punch: blocks and parts", {}, {punch_hole("/a", 1000, 15000)});
    add("punch: up to the end", {}, {punch_hole("/a", 9000, 11000), append("/a", 10, 2)});
    add("punch: unwritten blocks beyond the end", {allocate("/a", 20000, 50000, true)},
        {punch_hole("/a", 24576, 8192), punch_hole("/a", 0, 90000)});
    add("punch: many extents, in steps", scattered_file("/b", 150),
        {punch_hole("/b", 5000, 1'000'000)});
    add("zero: inside a block", {}, {zero_range("/a", 100, 300)});
    add("zero: blocks and parts", {}, {zero_range("/a", 1000, 15000), write("/a", 5000, 100, 2)});
    add("zero: holes and the end", {truncate("/a", 60000)},
        {zero_range("/a", 15000, 60000), zero_range("/a", 70000, 20000, true)});
    add("zero: many extents", scattered_file("/b", 60), {zero_range("/b", 3000, 450'000)});
    add("copy: into a new file", {create("/b")},
        {copy("/a", 100, "/b", 0, 9000), copy("/a", 0, "/b", 30000, 20000)});
    add("copy: over written blocks", {create("/b"), write("/b", 0, 20000, 2)},
        {copy("/a", 0, "/b", 500, 9000)});
    add("copy: inside a file", {}, {copy("/a", 0, "/a", 30000, 8000)});
    return list;
}

std::vector<Workload> pin_workloads() {
    std::vector<Workload> list;
    const Operations file{create("/a"), write("/a", 0, 20000), open("/a", 0)};
    const auto add = [&](const std::string& name, Operations before, Operations recorded) {
        list.push_back({.name = "pins: " + name,
                        .before = file + std::move(before),
                        .recorded = std::move(recorded)});
    };
    add("a pin comes and goes", {}, {pin("#0", 100, 9000, 1), drop(1)});
    add("a map comes and goes", {}, {map("#0", 0, 20480, 1), drop(1)});
    add("holes are filled first", {truncate("/a", 60000)},
        {pin("#0", 10000, 40000, 1), map("#0", 0, 61440, 2), drop(1), drop(2)});
    add("unwritten blocks are written first", {allocate("/a", 20000, 30000)},
        {map("#0", 0, 40960, 1), truncate("/a", 100), drop(1)});
    add("a pinned block grows with its file", {truncate("/a", 18000)},
        {pin("#0", 0, 18000, 1), truncate("/a", 30000), drop(1)});
    add("a mapped file is cut", {map("#0", 0, 20480, 1)},
        {truncate("/a", 0), write("/a", 0, 5000, 2), drop(1), finish_pending()});
    add("a mapped block is cut in part", {map("#0", 0, 20480, 1)},
        {truncate("/a", 9000), truncate("/a", 20000), drop(1)});
    add("a mapped file is punched", {map("#0", 4096, 8192, 1)},
        {punch_hole("/a", 0, 10000), write("/a", 6000, 100, 2), drop(1)});
    add("a mapped file is zeroed", {map("#0", 0, 20480, 1)},
        {zero_range("/a", 100, 15000), drop(1), finish_pending()});
    add("a scattered file is cut under a map", scattered_file("/b", 60) + Operations{open("/b", 1)},
        {map("#1", 0, 100 * 4096, 1), truncate("/b", 5000), drop(1), finish_pending()});
    add("two maps of one block", {map("#0", 0, 8192, 1), map("#0", 4096, 8192, 2)},
        {truncate("/a", 0), drop(1), finish_pending(), drop(2), finish_pending()});
    add("a pinned file loses its name", {pin("#0", 0, 20000, 1)},
        {unlink("/a"), release(0), drop(1), finish_pending()});
    add("a mapped file loses its name and is cut", {map("#0", 0, 20480, 1)},
        {unlink("/a"), release(0), drop(1), finish_pending()});
    add("a map is shown anew", {map("#0", 0, 20480, 1), punch_hole("/a", 4096, 8192)},
        {reload(1), punch_hole("/a", 0, 4096), reload(1), drop(1)});
    add("the owner of a pin goes", {pin("#0", 0, 20000, 1)},
        {lose_owner(), truncate("/a", 0), finish_pending()});
    add("the owner of a map goes", {map("#0", 0, 20480, 1), truncate("/a", 8192)},
        {lose_owner(), finish_pending(), truncate("/a", 0)});
    add("the owner and the name go", {pin("#0", 0, 20000, 1), map("#0", 0, 20480, 2)},
        {lose_owner(), unlink("/a"), release(0), finish_pending()});
    list.push_back({.name = "pins: a file moves into whole units of the map",
                    .fs = {.bytes = 8_MiB, .map_unit_bytes = 2_MiB},
                    .before = file + Operations{truncate("/a", 300_KiB)},
                    .recorded = {map("#0", 0, 300_KiB, 1), drop(1)},
                    .per_fence_max = 8});
    const auto unit = [&](const std::string& name, Operations before, Operations recorded) {
        list.push_back({.name = "pins: a unit of the map that was cut " + name,
                        .fs = {.bytes = 8_MiB, .map_unit_bytes = 2_MiB},
                        .before = file +
                                  Operations{truncate("/a", 300_KiB), map("#0", 0, 300_KiB, 1)} +
                                  std::move(before),
                        .recorded = std::move(recorded),
                        .per_fence_max = 8});
    };
    unit("becomes whole", {punch_hole("/a", 8192, 50000)}, {reload(1), drop(1)});
    unit("in several places becomes whole",
         {punch_hole("/a", 100, 10000), write("/a", 5000, 6000, 2), punch_hole("/a", 100000, 4096)},
         {reload(1), drop(1)});
    unit("at its end becomes whole", {truncate("/a", 5000)},
         {reload(1), truncate("/a", 300_KiB), drop(1)});
    unit("becomes whole for the last that learns of it",
         {map("#0", 0, 100_KiB, 2), punch_hole("/a", 8192, 50000)},
         {reload(1), reload(2), reload(1), drop(1), drop(2)});
    Operations many;
    for (std::uint32_t i = 0; i < 40; ++i) many.push_back(pin("#0", i % 5 * 4096, 3000, i + 1));
    Operations dropped;
    for (std::uint32_t i = 0; i < 40; ++i) dropped.push_back(drop(i + 1));
    list.push_back({.name = "pins: many come and go",
                    .before = file,
                    .recorded = many + dropped,
                    .per_fence_max = 4});
    return list;
}

std::vector<Workload> truncate_workloads() {
    std::vector<Workload> list;
    const auto add = [&](const std::string& name, Operations before, Operations recorded) {
        list.push_back({.name = "truncate: " + name,
                        .before = std::move(before),
                        .recorded = std::move(recorded)});
    };
    const Operations file{create("/a"), write("/a", 0, 20000)};
    add("to nothing", file, {truncate("/a", 0)});
    add("down to a block", file, {truncate("/a", 8192)});
    add("down inside a block", file, {truncate("/a", 5000), truncate("/a", 4998)});
    add("down and up", file, {truncate("/a", 5000), truncate("/a", 8000), truncate("/a", 19000)});
    add("up", file, {truncate("/a", 20001), truncate("/a", 50000), truncate("/a", 1_TiB)});
    add("to the same size", file + Operations{append("/a", 10)}, {truncate("/a", 20010)});
    add("up and write in the gap", file,
        {truncate("/a", 10), truncate("/a", 40000), write("/a", 12000, 10, 2)});
    add("away preallocated blocks", file + Operations{append("/a", 10)},
        {truncate("/a", 20010), truncate("/a", 19000)});
    add("a sparse file", {create("/a"), write("/a", 1_TiB, 5000), write("/a", 1_GiB, 5000, 2)},
        {truncate("/a", 1_GiB + 100), truncate("/a", 10)});
    add("a scattered file, in steps", scattered_file("/a", 120),
        {truncate("/a", 10000), finish_pending()});
    add("a scattered file to nothing", scattered_file("/a", 180), {truncate("/a", 0)});
    add("steps and growth", scattered_file("/a", 80),
        {truncate("/a", 3), truncate("/a", 300000), write("/a", 100000, 5000, 7)});
    add("a scattered file unlinked", scattered_file("/a", 120), {unlink("/a"), finish_pending()});
    add("an extent tree shrinks", scattered_file("/a", 170),
        {truncate("/a", 4096 * 334), truncate("/a", 4096 * 8), truncate("/a", 4096 * 3)});
    return list;
}

std::vector<Workload> attribute_workloads() {
    std::vector<Workload> list;
    const auto add = [&](const std::string& name, const Operations& before, Operations recorded) {
        list.push_back({.name = "attributes: " + name,
                        .before = Operations{create("/a"), make_directory("/d")} + before,
                        .recorded = std::move(recorded)});
    };
    add("change mode", {}, {change_mode("/a", 04711), change_mode("/d", 02770)});
    add("change owner", {}, {change_owner("/a", 5, 6), change_owner("/d", 7, 8)});
    add("set times", {}, {set_times("/a", 100, 200), set_times("/d", 1ull << 33, 1ull << 34)});
    add("of a group directory", {change_owner("/d", 1, 77), change_mode("/d", 02777)},
        {create("/d/f"), make_directory("/d/e")});
    add("first extended one", {}, {set_attribute("/a", "user.x", 10)});
    add("extended ones", {set_attribute("/a", "user.x", 10)},
        {set_attribute("/a", "user.y", 500, 2), set_attribute("/a", "user.x", 20, 3),
         remove_attribute("/a", "user.y"), remove_attribute("/a", "user.x")});
    add("an access list", {},
        {set_list("/a", false, 012345), change_mode("/a", 0640), set_list("/a", false, 0100123),
         set_list("/a", false, 054321), remove_attribute("/a", "system.posix_acl_access")});
    add("a default list", {set_list("/d", true, 076567)},
        {create("/d/f"), make_directory("/d/e"), make_unnamed("/d", 1), link("#1", "/d/g"),
         symbolic_link("/d/s", "x"), make_directory("/d/e/e"), set_list("/d/e", true, 0100777),
         create("/d/e/f")});
    add("an extended one of 64 KiB", {set_attribute("/d", "trusted.small", 30)},
        {set_attribute("/d", "user.large", 65536, 2)});
    add("replace 64 KiB", {set_attribute("/a", "user.large", 65536, 2)},
        {set_attribute("/a", "user.large", 65536, 3)});
    add("remove 64 KiB",
        {set_attribute("/a", "user.large", 65536, 2), set_attribute("/a", "security.x", 5000)},
        {remove_attribute("/a", "user.large")});
    add("extended ones of a long symbolic link", {symbolic_link("/s", std::string(200, 's'))},
        {set_attribute("/s", "trusted.x", 5000), unlink("/s"), finish_pending()});
    return list;
}

std::vector<Workload> mount_workloads() {
    std::vector<Workload> list;
    const Operations tree{create("/a"), write("/a", 0, 10000), make_directory("/d"), create("/d/b"),
                          set_attribute("/d/b", "user.x", 100)};
    const auto add = [&](const std::string& name, const Operations& before, Operations recorded) {
        list.push_back({.name = name, .before = tree + before, .recorded = std::move(recorded)});
    };
    add("unmount", {}, {unmount()});
    add("unmount with times in memory", {write("/a", 0, 10, 2)}, {unmount()});
    add("unmount with open files",
        {open("/a", 1), append("/a", 10, 2), create("/c"), write("/c", 0, 9000), open("/c", 2),
         unlink("/c")},
        {unmount()});
    add("mount what was unmounted", {unmount()}, {mount(), create("/new")});
    add("mount what was not unmounted", {abandon()}, {mount(), create("/new"), unmount()});
    add("mount with orphans",
        {create("/c"), write("/c", 0, 30000), open("/c", 1), unlink("/c"), create("/e"),
         symbolic_link("/s", std::string(300, 's')), unlink("/e"), unlink("/s"),
         make_directory("/x"), remove_directory("/x"), abandon()},
        {mount(), finish_pending(), create("/new")});
    add("mount with a scattered orphan",
        scattered_file("/c", 90) + Operations{open("/c", 1), unlink("/c"), abandon()},
        {mount(), finish_pending()});
    return list;
}

std::vector<Workload> growth_workloads() {
    std::vector<Workload> list;
    Operations inodes;
    for (std::size_t i = 0; i < 13; ++i) inodes.push_back(create(numbered("/f", i)));
    list.push_back({.name = "the inode table grows a second chunk and an index block",
                    .before = inodes,
                    .recorded = {create("/14"), create("/15"), create("/16"), unlink("/15"),
                                 unlink("/16"), finish_pending()}});
    list.push_back({.name = "a chunk of inodes empties",
                    .before = inodes + Operations{create("/14"), create("/15"), unmount(), mount()},
                    .recorded = {unlink("/14"), unlink("/15"), finish_pending(), create("/z")}});
    // 504 chunks of 15 inodes fill an index block of level 1; the root directory has one of them.
    Operations many{make_directory("/d")};
    constexpr std::size_t kInodes = 504 * 15 - 2;
    for (std::size_t i = 0; i < kInodes - 1; ++i) many.push_back(create(numbered("/d/f", i)));
    for (std::size_t i = 0; i < kInodes - 10; ++i) many.push_back(unlink(numbered("/d/f", i)));
    many.push_back(finish_pending());
    list.push_back({.name = "the inode table grows a second level and loses it",
                    .fs = {.bytes = 16_MiB},
                    .before = std::move(many),
                    .recorded = {create("/a"), create("/b"), create("/c"), unlink("/b"),
                                 unlink("/c"), finish_pending()},
                    .per_fence_max = 16});
    // Each thread allocates in another group; one change then frees in two, and takes from two.
    const auto elsewhere = [](Operation operation) {
        operation.elsewhere = true;
        return operation;
    };
    const MountedOptions two_groups{.bytes = 66_MiB};
    const Operations both{create("/a"),
                          elsewhere(write("/a", 0, 4096, 1)),
                          elsewhere(write("/a", 1_MiB, 4096, 2)),
                          elsewhere(write("/a", 2_MiB, 4096, 3)),
                          elsewhere(write("/a", 3_MiB, 4096, 4)),
                          unmount(),
                          mount()};
    list.push_back({.name = "blocks of two groups are freed in one change",
                    .fs = two_groups,
                    .before = both,
                    .recorded = {truncate("/a", 100), unlink("/a"), finish_pending()},
                    .per_fence_max = 24});
    Operations holes{create("/a")};
    for (std::uint64_t i = 0; i < 4; ++i)
        holes.push_back(elsewhere(write("/a", 2 * i * kBlockBytes, 4096, i)));
    list.push_back({.name = "blocks of two groups are taken in one change",
                    .fs = two_groups,
                    .before = holes,
                    .recorded = {write("/a", 100, 8 * kBlockBytes, 9)},
                    .per_fence_max = 24});
    return list;
}

std::vector<Workload> all_workloads() {
    std::vector<Workload> all;
    for (const auto& some : {name_workloads(), rename_workloads(), content_workloads(),
                             truncate_workloads(), allocate_workloads(), pin_workloads(),
                             attribute_workloads(), mount_workloads(), growth_workloads()})
        all.insert(all.end(), some.begin(), some.end());
    return all;
}

}  // namespace pinfs::test

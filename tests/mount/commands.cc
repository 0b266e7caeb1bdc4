// SPDX-License-Identifier: Apache-2.0
//
// What pinfs shows and changes beside mounting: df, dax, extents, tune, info.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/kernel_mount.h"
#include "tests/support/region_bytes.h"

using namespace pinfs::test;

namespace {

using nlohmann::json;

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

Ran succeed(const std::vector<std::string>& words) {
    const Ran ran = run(words);
    CAPTURE(words, ran.out, ran.err);
    REQUIRE(ran.status == 0);
    return ran;
}
json json_of(const std::vector<std::string>& words) { return json::parse(succeed(words).out); }

}  // namespace

TEST_CASE("df tells of the mounts that are named, or of all", "[mount][commands]") {
    KernelMount mounted;
    mounted.mount();
    const auto empty = json_of({"pinfs", "df", "--json", mounted.root()})[0];
    CHECK(empty["region"] == mounted.region());
    CHECK(empty["mounted_on"] == mounted.root());
    CHECK(empty["bytes"] == mounted.region_bytes());
    write_file(mounted.path("f"), std::string(8 << 20, 'x'));
    for (const std::string& target : {mounted.root(), mounted.region(), mounted.path("f")}) {
        CAPTURE(target);
        const auto usage = json_of({"pinfs", "df", "--json", target});
        REQUIRE(usage.size() == 1);
        CHECK(usage[0]["used_bytes"].get<long>() - empty["used_bytes"].get<long>() >= 8 << 20);
        CHECK(usage[0]["inodes_used"] == 2);
    }
    CHECK(has(succeed({"pinfs", "df", "--json"}).out, mounted.root()));
    const Ran text = succeed({"pinfs", "df", mounted.root()});
    std::ostringstream mib;  // to a hundredth
    mib << std::round(static_cast<double>(mounted.region_bytes()) / (1 << 20) * 100) / 100;
    CHECK(text.out.starts_with("Region\tSize\tUsed\tAvail\tUse%\tInodes\tMounted on\n" +
                               mounted.region() + "\t" + mib.str() + " MiB\t"));
    CHECK(!has(text.out, "\033"));
    const Ran wrong = run({"pinfs", "df", "--json", "/proc", mounted.root()});
    CHECK(wrong.status == 32);
    CHECK(has(wrong.err, "/proc is on no mounted pinfs"));
    CHECK(json::parse(wrong.out).size() == 1);
}

TEST_CASE("dax shows and changes the flag, also below directories", "[mount][commands]") {
    KernelMount mounted;
    mounted.mount();
    const std::string directory = mounted.path("d");
    const std::string below = directory + "/e";
    REQUIRE(mkdir(directory.c_str(), 0755) == 0);
    REQUIRE(mkdir(below.c_str(), 0755) == 0);
    write_file(below + "/f", "x");
    REQUIRE(symlink("/etc/passwd", (below + "/link").c_str()) == 0);
    REQUIRE(mkfifo((below + "/fifo").c_str(), 0600) == 0);
    CHECK(succeed({"pinfs", "dax", "show", below + "/f"}).out == "on  " + below + "/f\n");
    CHECK(succeed({"pinfs", "dax", "off", "-R", directory}).out.empty());
    const auto shown = json_of({"pinfs", "dax", "show", "-R", "--json", directory});
    CHECK(shown.size() == 3);
    for (const auto& one : shown) CHECK(one["dax"] == false);
    write_file(below + "/g", "inherits");
    CHECK(succeed({"pinfs", "dax", "show", below + "/g"}).out.starts_with("off "));
    CHECK(json_of({"pinfs", "dax", "on", "--json", below + "/f"})[0]["dax"] == true);
    CHECK(json_of({"pinfs", "dax", "show", "--json", below})[0]["dax"] == false);
    const Ran wrong = run({"pinfs", "dax", "show", mounted.path("none"), "/proc", below + "/f"});
    CHECK(wrong.status == 32);
    CHECK(has(wrong.err, "No such file"));
    CHECK(has(wrong.err, "/proc is on a file system without a DAX flag"));
    CHECK(has(wrong.out, "on  " + below + "/f\n"));
    CHECK(run({"pinfs", "dax", "sideways", below}).status == 1);
    CHECK(run({"pinfs", "dax", "on"}).status == 1);
}

TEST_CASE("extents lists all of a file, also more than one attribute holds", "[mount][commands]") {
    KernelMount mounted{128};
    mounted.mount();
    constexpr int kExtents = 9000;
    const std::string file = mounted.path("f");
    const int descriptor = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(descriptor >= 0);
    const std::string block(4096, 'x');
    for (off_t i = 0; i < kExtents; ++i)
        REQUIRE(pwrite(descriptor, block.data(), block.size(), i * 3 * 4096) == 4096);
    close(descriptor);
    CHECK(run({"getfattr", "-n", "user.pinfs.extents", file}).status != 0);
    const auto listed = json_of({"pinfs", "extents", "--json", file});
    REQUIRE(listed.size() == 1);
    CHECK(listed[0]["size_bytes"] == ((kExtents - 1) * 3 + 1) * 4096);
    const auto& extents = listed[0]["extents"];
    REQUIRE(extents.size() == kExtents);
    for (int i = 0; i < kExtents; ++i) {
        REQUIRE(extents[i]["file_offset"] == i * 3 * 4096);
        REQUIRE(extents[i]["bytes"] == 4096);
        REQUIRE(extents[i]["unwritten"] == false);
    }
    const Ran text = succeed({"pinfs", "extents", file});
    CHECK(has(text.out, file + ": 9000 extents found\n"));
    CHECK(has(text.out, "\n8999:    26997..   26997: "));
    CHECK(text.out.ends_with("1: eof\n" + file + ": 9000 extents found\n"));
}

TEST_CASE("extents joins what lies together, far apart in a sparse file too", "[mount][commands]") {
    KernelMount mounted;
    mounted.mount();
    const std::string file = mounted.path("f");
    write_file(file, std::string(1 << 20, 'x'));
    REQUIRE(truncate(file.c_str(), off_t{1} << 43) == 0);
    const int descriptor = open(file.c_str(), O_WRONLY | O_CLOEXEC);
    REQUIRE(pwrite(descriptor, "y", 1, (off_t{1} << 43) - 1) == 1);
    close(descriptor);
    const auto extents = json_of({"pinfs", "extents", "--json", file})[0]["extents"];
    REQUIRE(extents.size() == 2);
    CHECK(extents[0]["bytes"] == 1 << 20);
    CHECK(extents[1]["file_offset"].get<long>() == (1L << 43) - 4096);
    write_file(mounted.path("empty"), "");
    CHECK(has(succeed({"pinfs", "extents", mounted.path("empty")}).out, ": 0 extents found"));
    for (const std::string& wrong : {mounted.root(), std::string{"/etc/passwd"}})
        CHECK(has(run({"pinfs", "extents", wrong}).err, "is no regular file on a pinfs"));
}

TEST_CASE("tune gives a copy a uuid of its own, and both are mounted", "[mount][commands]") {
    KernelMount mounted{64, {"--label", "first"}};
    mounted.mount();
    write_file(mounted.path("f"), "text");
    mounted.unmount();
    const std::string copy = mounted.outside("copy");
    const std::string other = mounted.outside("other");
    REQUIRE(mkdir(other.c_str(), 0755) == 0);
    write_file(copy, RegionBytes{mounted.region()}.copy());
    mounted.mount();
    CHECK(run({"pinfs", "mount", copy, other}).status == 32);
    const auto tuned =
        json_of({"pinfs", "tune", "--json", "--uuid", "random", "--label", "second", copy});
    CHECK(tuned["label"] == "second");
    CHECK(tuned["uuid"] != json_of({"pinfs", "info", "--json", mounted.region()})["uuid"]);
    REQUIRE(run({"pinfs", "mount", copy, other}).status == 0);
    CHECK(contents(other + "/f") == "text");
    write_file(other + "/g", "more");
    const Ran busy = run({"pinfs", "tune", "--label", "x", copy});
    CHECK(busy.status == 32);
    CHECK(has(busy.err, "mounted on " + other));
    REQUIRE(run({"pinfs", "umount", other}).status == 0);
    REQUIRE(run({"fsck.pinfs", "-n", copy}).status == 0);

    const std::string uuid = "01234567-89ab-cdef-0123-456789abcdef";
    const Ran text = succeed({"pinfs", "tune", "--uuid", uuid, "--label", "", copy});
    CHECK(text.out == copy + ": uuid " + uuid + ", no label\n");
    REQUIRE(run({"fsck.pinfs", "-n", copy}).status == 0);
    REQUIRE(run({"pinfs", "mount", copy, other}).status == 0);
    CHECK(contents(other + "/g") == "more");
    REQUIRE(run({"pinfs", "umount", other}).status == 0);
    CHECK(run({"pinfs", "tune", copy}).status == 1);
    CHECK(run({"pinfs", "tune", "--uuid", "5", copy}).status == 1);
    CHECK(run({"pinfs", "tune", "--label", std::string(65, 'x'), copy}).status == 1);
    CHECK(run({"pinfs", "tune", "--label", "x", mounted.outside("none")}).status == 32);
}

TEST_CASE("info names a region as udev rules import it, mounted or not", "[mount][commands]") {
    KernelMount mounted{64, {"--label", "a b/c", "--uuid", "01234567-89ab-cdef-0123-456789abcdef"}};
    const std::string expected =
        "ID_FS_TYPE=pinfs\nID_FS_USAGE=filesystem\n"
        "ID_FS_UUID_ENC=01234567-89ab-cdef-0123-456789abcdef\n"
        "ID_FS_UUID=01234567-89ab-cdef-0123-456789abcdef\n"
        "ID_FS_LABEL_ENC=a\\x20b\\x2fc\nID_FS_LABEL=a_b/c\n";
    CHECK(succeed({"pinfs", "info", "--udev", mounted.region()}).out == expected);
    mounted.mount("dax=always");
    CHECK(succeed({"pinfs", "info", "--udev", mounted.region()}).out == expected);
    const auto info = json_of({"pinfs", "info", "--json", mounted.root()});
    CHECK(info["options_in_force"] ==
          "rw,dax=always,kernel_mmap=on,durability=sync,confine=on,allow_other");
    write_file(mounted.outside("blank"), std::string(1 << 20, '\0'));
    const Ran none = run({"pinfs", "info", "--udev", mounted.outside("blank")});
    CHECK(none.status == 32);
    CHECK(none.out.empty());
}

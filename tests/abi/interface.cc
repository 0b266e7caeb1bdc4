// SPDX-License-Identifier: Apache-2.0
//
// What programs that were compiled long ago rely on: the library's symbols and their versions, the
// sizes of structs, and headers that compile wherever they are included.
#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "tests/abi/seen.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/temporary.h"

using namespace pinfs::test;

namespace {

const std::string kHeaders = PINFS_SOURCE_DIR "/lib/pinfs";

/// The functions that pinfs.h declares.
std::set<std::string> declared() {
    const std::string header = contents(kHeaders + "/pinfs.h");
    const std::regex declaration{R"(PINFS_API[^;{]*?\b(pinfs_\w+)\()"};
    std::set<std::string> names;
    for (std::sregex_iterator at{header.begin(), header.end(), declaration}, end; at != end; ++at)
        names.insert((*at)[1]);
    return names;
}

/// Compiles a program that includes the header; the compiler's words, none if it is content.
std::string compiled(const std::string& compiler, const std::string& standard,
                     const std::string& header) {
    const TemporaryDirectory directory;
    const bool is_c = compiler == "gcc";
    const std::string source = directory.file(is_c ? "a.c" : "a.cc");
    write_file(source, "#include <" + header + ">\n#include <" + header +
                           ">\n"
                           "int main(void) {\n"
                           "    struct pinfs_event event = PINFS_INIT(struct pinfs_event);\n"
                           "    struct pinfs_pin pin = PINFS_PIN_INIT;\n"
                           "    return pinfs_context_next_event(0, &event, 0) + pin.owner_fd;\n"
                           "}\n");
    std::vector<std::string> words{
        compiler,        "-std=" + standard, "-Wall",    "-Wextra",
        "-Werror",       "-pedantic",        "-Wshadow", "-Wmissing-declarations",
        "-I" + kHeaders, "-fsyntax-only",    source};
    if (!is_c) words.insert(words.begin() + 2, "-Wold-style-cast");
    const Ran ran = run(words);
    return ran.status == 0 ? "" : ran.err + ran.out;
}

}  // namespace

TEST_CASE("the library shows what the header declares, in version PINFS_1.0", "[abi]") {
    const Ran ran = run({"nm", "-D", "--defined-only", PINFS_LIBRARY});
    REQUIRE(ran.status == 0);
    std::set<std::string> shown;
    std::istringstream lines{ran.out};
    for (std::string line; std::getline(lines, line);) {
        const std::string symbol = line.substr(line.rfind(' ') + 1);
        if (symbol == "PINFS_1.0") continue;
        CAPTURE(line);
        const std::size_t version = symbol.find("@@");
        REQUIRE(version != std::string::npos);
        CHECK(symbol.substr(version) == "@@PINFS_1.0");
        shown.insert(symbol.substr(0, version));
    }
    CHECK(shown.size() == 27);
    CHECK(shown == declared());
}

TEST_CASE("the library is called libpinfs.so.1", "[abi]") {
    const Ran ran = run({"objdump", "-p", PINFS_LIBRARY});
    REQUIRE(ran.status == 0);
    CHECK(std::regex_search(ran.out, std::regex{R"(SONAME +libpinfs\.so\.1\n)"}));
    CHECK(PINFS_VERSION_MAJOR == 1);
}

TEST_CASE("structs have the size and shape they were released with, in C as in C++", "[abi]") {
    std::map<std::string, std::size_t> in_c;
    for (const seen* entry = seen_in_c; entry->name != nullptr; ++entry)
        in_c[entry->name] = entry->bytes;
#define SEE(type, field, expected_bytes, expected_offset)         \
    {                                                             \
        INFO(#type "." #field);                                   \
        CHECK(sizeof(struct type) == (expected_bytes));           \
        CHECK(offsetof(struct type, field) == (expected_offset)); \
        CHECK(in_c.at(#type) == (expected_bytes));                \
        CHECK(in_c.at(#type "." #field) == (expected_offset));    \
    }
    EVERY_STRUCT(SEE)
#undef SEE
}

TEST_CASE("structs start alike in C and C++", "[abi]") {
    const struct pinfs_pin pin = PINFS_PIN_INIT;
    const struct pinfs_lease lease = PINFS_INIT(struct pinfs_lease);
    CHECK(std::memcmp(&pin, &pin_in_c, sizeof(pin)) == 0);
    CHECK(std::memcmp(&lease, &lease_in_c, sizeof(lease)) == 0);
    CHECK(pin.owner_fd == -1);
    CHECK(lease.size_bytes == 48);
}

TEST_CASE("the headers compile without a warning", "[abi]") {
    for (const std::string standard : {"c11", "c17", "gnu2x"}) {
        CAPTURE(standard);
        CHECK(compiled("gcc", standard, "pinfs.h") == "");
    }
    for (const std::string standard : {"c++11", "c++17", "c++20", "gnu++2b"}) {
        CAPTURE(standard);
        CHECK(compiled("g++", standard, "pinfs.h") == "");
        if (standard != "c++11") CHECK(compiled("g++", standard, "pinfs.hpp") == "");
    }
}

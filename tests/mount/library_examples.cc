// SPDX-License-Identifier: Apache-2.0
//
// The programs of lib/examples do what they say, on a mount.
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <map>
#include <sstream>
#include <string>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

std::string example(const std::string& name) { return PINFS_EXAMPLE_DIR "/example_" + name; }

Ran run_shown(const std::vector<std::string>& words) {
    Ran ran = run(words);
    UNSCOPED_INFO(words[0] << ": " << ran.status << "\n" << ran.out << ran.err);
    return ran;
}

/// Starts `words` with its output in a pipe, of which the end to read from is returned.
int start(const std::vector<std::string>& words, pid_t& child) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    child = fork();
    if (child == 0) {
        std::vector<char*> arguments;
        for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
        arguments.push_back(nullptr);
        dup2(ends[1], STDOUT_FILENO);
        execv(arguments[0], arguments.data());
        _exit(127);
    }
    close(ends[1]);
    return ends[0];
}

/// One line, without its end; empty at the end of output.
std::string line_from(int fd) {
    std::string line;
    char byte = 0;
    while (read(fd, &byte, 1) == 1 && byte != '\n') line += byte;
    return line;
}

}  // namespace

TEST_CASE("uring_fixed reads into a pinned range that nobody can cut off", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    const Ran ran = run_shown({example("uring_fixed"), mounted.path("f")});
    REQUIRE(ran.status == 0);
    CHECK(ran.out.find("truncate: Device or resource busy\n") != std::string::npos);
    CHECK(ran.out.find("punch a hole: Device or resource busy\n") != std::string::npos);
    CHECK(ran.out.find("truncate: done\n") != std::string::npos);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("kv keeps what it said was durable, whenever it is killed", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    const std::string table = mounted.path("table");
    CHECK(run_shown({example("kv"), table, "put", "name", "first"}).status == 0);
    CHECK(run_shown({example("kv"), table, "put", "name", "second"}).status == 0);
    CHECK(run_shown({example("kv"), table, "get", "name"}).out == "second\n");
    CHECK(run_shown({example("kv"), table, "get", "other"}).status == 1);
    for (int round = 0; round < 5; ++round) {
        pid_t child = 0;
        const int output = start({example("kv"), table, "many", "1000000"}, child);
        long last = -1;
        const int lines = 50 + round * 997;
        for (int i = 0; i < lines; ++i) last = std::stol(line_from(output));
        REQUIRE(kill(child, SIGKILL) == 0);
        for (std::string line = line_from(output); line != ""; line = line_from(output))
            last = std::stol(line);
        close(output);
        waitpid(child, nullptr, 0);
        // The one that was under way may be there too.
        std::map<std::string, long> found;
        std::istringstream listed{run({example("kv"), table, "list"}).out};
        for (std::string line; std::getline(listed, line);) {
            const std::size_t tab = line.find('\t');
            const std::string value = line.substr(tab + 1);
            CHECK(found.count(line.substr(0, tab)) == 0);
            found[line.substr(0, tab)] =
                value.starts_with("value ") ? std::stol(value.substr(6)) : 0;
        }
        CAPTURE(round, last);
        for (long i = std::max(0L, last - 999); i <= last; ++i) {
            const std::string key = "key " + std::to_string(i % 1000);
            if (found[key] == i || (i == last - 999 && found[key] == last + 1)) continue;
            CAPTURE(key, i);
            CHECK(found[key] == i);
            break;
        }
        if (round == 2) mounted.remount();
    }
    CHECK(run_shown({example("kv"), table, "get", "name"}).out == "second\n");
    mounted.unmount();
    mounted.check();
}

TEST_CASE("watch follows a file until it is empty", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "beginning " + std::string(100'000, 'x'));
    pid_t child = 0;
    const int output = start({example("watch"), mounted.path("f")}, child);
    CHECK(line_from(output) == "100010 bytes: beginning xxxxxxxxxx");
    REQUIRE(truncate(mounted.path("f").c_str(), 5) == 0);
    while (true) {
        const std::string line = line_from(output);
        REQUIRE(line != "");
        CAPTURE(line);
        if (line == "5 bytes: begin") break;
        CHECK(line.starts_with("changed: "));
    }
    REQUIRE(truncate(mounted.path("f").c_str(), 0) == 0);
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    close(output);
}

TEST_CASE("counters.py counts in the file itself", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    const std::string library = "PINFS_LIBRARY=" PINFS_LIBRARY;
    const std::string module = "PYTHONPATH=" PINFS_SOURCE_DIR "/lib/python";
    const std::string program = PINFS_SOURCE_DIR "/lib/examples/counters.py";
    const auto count = [&](const std::string& number) {
        return run_shown({"env", library, module, "python3", "-B", program,
                          mounted.path("counters"), number})
            .out;
    };
    CHECK(count("3") == "1\n");
    CHECK(count("3") == "2\n");
    CHECK(count("511") == "1\n");
    mounted.remount();
    CHECK(count("3") == "3\n");
    CHECK(contents(mounted.path("counters")).substr(24, 2) == std::string{"\3\0", 2});
    mounted.unmount();
}

TEST_CASE("refused.sh: truncate is refused what is pinned", "[mount][library]") {
    KernelMount mounted;
    mounted.mount();
    const std::string path = "PATH=" PINFS_COMMAND_DIR ":/usr/bin:/bin";
    const std::string program = PINFS_SOURCE_DIR "/lib/examples/refused.sh";
    const Ran ran = run_shown({"env", path, program, mounted.path("f")});
    REQUIRE(ran.status == 0);
    CHECK(ran.err.find("Device or resource busy") != std::string::npos);
    CHECK(ran.out == "pinned, " + mounted.path("f") + " keeps its 1048576 bytes\nunpinned, " +
                         mounted.path("f") + " has 0 bytes\n");
}

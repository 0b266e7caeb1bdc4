// SPDX-License-Identifier: Apache-2.0
//
// -o trace: a line for each request, in a file of bounded size.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <utility>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

using Fields = std::map<std::string, std::string>;

/// The lines of a trace, each checked: fields "time" and "operation", and the others.
std::vector<Fields> lines_of(const std::string& text) {
    static const std::regex kLine{
        R"((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d) ([a-z_]+) n=\d+ us=\d+\.\d )"
        R"(waited_us=\d+\.\d result=(\d+|E[A-Z0-9]+) pid=\d+ uid=\d+ ino=\d+)"
        R"(( offset=\d+)?( size=\d+)?)"};
    std::vector<Fields> lines;
    std::istringstream all{text};
    for (std::string line; std::getline(all, line);) {
        CAPTURE(line);
        std::smatch parts;
        REQUIRE(std::regex_match(line, parts, kLine));
        Fields fields{{"time", parts[1]}, {"operation", parts[2]}};
        std::istringstream words{line};
        for (std::string word; words >> word;)
            if (const auto mark = word.find('='); mark != std::string::npos)
                fields[word.substr(0, mark)] = word.substr(mark + 1);
        lines.push_back(std::move(fields));
    }
    return lines;
}

/// As the requests came: a line is written when its answer was sent, by when another thread may
/// have answered the next.
std::vector<Fields> of_operation(const std::vector<Fields>& lines, const std::string& operation) {
    std::vector<Fields> found;
    for (const Fields& line : lines)
        if (line.at("operation") == operation) found.push_back(line);
    std::ranges::stable_sort(found, {}, [](const Fields& line) { return line.at("time"); });
    return found;
}

std::string options_of(const KernelMount& mounted) {
    std::string options(4096, '\0');
    const ssize_t count =
        getxattr(mounted.root().c_str(), "user.pinfs.options", options.data(), options.size());
    REQUIRE(count > 0);
    options.resize(static_cast<std::size_t>(count));
    return options;
}

off_t size_of(const std::string& path) {
    struct stat st {};
    REQUIRE(stat(path.c_str(), &st) == 0);
    return st.st_size;
}

}  // namespace

TEST_CASE("each kind of operation has its line in the trace", "[mount][trace]") {
    KernelMount mounted;
    const std::string trace = mounted.outside("trace");
    mounted.mount("trace=" + trace);
    CHECK(options_of(mounted).find(",trace=" + trace) != std::string::npos);
    const std::string f = mounted.path("f");
    const std::string d = mounted.path("d");
    ino_t ino = 0;
    {
        const TestFile file{f};
        file.write(4096, std::string(8192, 'x'));
        CHECK(file.read(8192, 4096).size() == 4096);
        CHECK(fallocate(file.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096) == 0);
        CHECK(lseek(file.fd(), 8192, SEEK_HOLE) == 12288);
        CHECK(ftruncate(file.fd(), 10000) == 0);
        CHECK(fsync(file.fd()) == 0);
        const TestFile other{mounted.path("copy")};
        off_t begin = 0;
        CHECK(copy_file_range(file.fd(), &begin, other.fd(), nullptr, 4096, 0) == 4096);
        struct stat st {};
        REQUIRE(fstat(file.fd(), &st) == 0);
        ino = st.st_ino;
        CHECK(errno_if(ioctl(file.fd(), _IO('z', 1))) == ENOTTY);
    }
    CHECK(mkdir(d.c_str(), 0755) == 0);
    CHECK(symlink("f", mounted.path("s").c_str()) == 0);
    CHECK(access(mounted.path("s").c_str(), F_OK) == 0);
    CHECK(link(f.c_str(), mounted.path("l").c_str()) == 0);
    CHECK(mknod(mounted.path("p").c_str(), S_IFIFO | 0600, 0) == 0);
    CHECK(rename(f.c_str(), (d + "/g").c_str()) == 0);
    CHECK(setxattr(d.c_str(), "user.a", "b", 1, 0) == 0);
    char value[16];
    CHECK(getxattr(d.c_str(), "user.a", value, sizeof(value)) == 1);
    CHECK(listxattr(d.c_str(), value, sizeof(value)) == 7);
    CHECK(removexattr(d.c_str(), "user.a") == 0);
    CHECK(run({"ls", "-la", mounted.root()}).status == 0);
    struct statvfs space {};
    CHECK(statvfs(mounted.root().c_str(), &space) == 0);
    CHECK(errno_if(rmdir(d.c_str())) == ENOTEMPTY);
    CHECK(unlink(mounted.path("l").c_str()) == 0);
    CHECK(unlink((d + "/g").c_str()) == 0);
    CHECK(rmdir(d.c_str()) == 0);
    CHECK(in_child([&] {
              if (setresuid(1000, 1000, 1000) != 0) return 100;
              return open(mounted.path(".file_pins").c_str(), O_RDONLY) >= 0 ? 0 : 1;
          }) == 0);
    mounted.unmount();  // what waits is written by then

    const auto lines = lines_of(contents(trace));
    std::set<std::string> numbers;
    for (const Fields& line : lines) CHECK(numbers.insert(line.at("n")).second);
    CHECK(numbers.size() == lines.size());
    CHECK(numbers.contains(std::to_string(lines.size())));
    for (const char* operation :
         {"lookup",    "create",      "write",   "read",        "fallocate",
          "lseek",     "setattr",     "fsync",   "ioctl",       "copy_file_range",
          "flush",     "release",     "mkdir",   "symlink",     "readlink",
          "link",      "mknod",       "rename",  "setxattr",    "getxattr",
          "listxattr", "removexattr", "opendir", "readdirplus", "releasedir",
          "statfs",    "rmdir",       "unlink",  "open"}) {
        CAPTURE(operation);
        CHECK(!of_operation(lines, operation).empty());
    }
    CHECK(!(of_operation(lines, "forget").empty() && of_operation(lines, "forget_multi").empty()));
    const std::string number = std::to_string(ino);
    const Fields write = of_operation(lines, "write").at(0);
    CHECK(write.at("ino") == number);
    CHECK(write.at("offset") == "4096");
    CHECK(write.at("size") == "8192");
    CHECK(write.at("result") == "8192");
    CHECK(write.at("pid") == std::to_string(getpid()));
    CHECK(write.at("uid") == "0");
    const Fields read = of_operation(lines, "read").at(0);
    CHECK(read.at("offset") == "8192");
    CHECK(read.at("size") == "4096");
    CHECK(read.at("result") == "4096");
    const Fields punch = of_operation(lines, "fallocate").at(0);
    CHECK(punch.at("offset") == "4096");
    CHECK(punch.at("size") == "4096");
    CHECK(of_operation(lines, "lseek").at(0).at("offset") == "8192");
    CHECK(of_operation(lines, "copy_file_range").at(0).at("result") == "4096");
    CHECK(of_operation(lines, "ioctl").at(0).at("result") == "ENOTTY");
    CHECK(of_operation(lines, "rmdir").at(0).at("result") == "ENOTEMPTY");
    CHECK(of_operation(lines, "rmdir").at(1).at("result") == "0");
    bool cut = false;
    for (const Fields& line : of_operation(lines, "setattr"))
        cut = cut || (line.contains("size") && line.at("size") == "10000");
    CHECK(cut);
    bool by_user = false;  // a report, which another thread made
    for (const Fields& line : of_operation(lines, "open")) by_user |= line.at("uid") == "1000";
    CHECK(by_user);
}

TEST_CASE("the files of a trace together stay below twice its size, and go on after a mount",
          "[mount][trace]") {
    KernelMount mounted;
    const std::string trace = mounted.outside("trace");
    mounted.mount("trace_size=64K,trace=" + trace);
    constexpr int kTimes = 3000;
    {
        const TestFile file{mounted.path("f")};
        for (int i = 0; i < kTimes; ++i) file.write(0, "x");
    }
    mounted.unmount();
    CHECK(size_of(trace) <= 65536);
    CHECK(size_of(trace + ".old") <= 65536);
    CHECK(size_of(trace + ".old") > 60000);
    struct stat st {};
    REQUIRE(stat(trace.c_str(), &st) == 0);
    CHECK((st.st_mode & 0777) == 0600);
    // What was lost is the oldest, and nothing in between.
    const auto lines = lines_of(contents(trace + ".old") + contents(trace));
    REQUIRE(lines.size() > 500);
    std::set<int> numbers;
    for (const Fields& line : lines) numbers.insert(std::stoi(line.at("n")));
    CHECK(numbers.size() == lines.size());
    CHECK(*numbers.rbegin() >= kTimes);
    // A thread that took its number may be late with its line: then that stands behind the cut, and
    // higher numbers before it. One line of each thread; from there on none is missing.
    constexpr int kThreadsMax = 64;
    int seen = 0;
    int seen_before_gap = 0;
    for (int last = *numbers.begin() - 1; const int number : numbers) {
        if (number != std::exchange(last, number) + 1) seen_before_gap = seen;
        ++seen;
    }
    CHECK(seen_before_gap <= kThreadsMax);

    const std::string before = contents(trace);
    mounted.mount("trace_size=64K,trace=" + trace);
    CHECK(access(mounted.path("f").c_str(), F_OK) == 0);
    mounted.unmount();
    CHECK(contents(trace).size() > before.size());
    CHECK(contents(trace).starts_with(before));
}

TEST_CASE("a trace without a file goes to the daemon's log", "[mount][trace]") {
    KernelMount mounted;
    mounted.mount_in_foreground("trace");
    CHECK(options_of(mounted).find(",trace") != std::string::npos);
    write_file(mounted.path("f"), "text");
    CHECK(becomes_true([&] {
        return std::regex_search(mounted.log(),
                                 std::regex{"info: write n=[0-9]+ us=.* result=4 pid=.* size=4\n"});
    }));
    const std::string shown = contents(mounted.path(".pinfs/log"));
    CHECK(shown.find(" is mounted on " + mounted.root()) != std::string::npos);
    CHECK(shown.find("write n=") == std::string::npos);
    mounted.unmount();
    CHECK(mounted.wait_for_daemon() == 0);
}

TEST_CASE("another daemon of a supervised mount goes on with the trace", "[mount][trace]") {
    KernelMount mounted;
    const std::string trace = mounted.outside("trace");
    mounted.mount();
    if (!mounted.kernel_has("resend")) return;
    mounted.unmount();
    mounted.mount("supervise,trace=" + trace);
    write_file(mounted.path("f"), "text");
    REQUIRE(run({"pinfs", "upgrade", mounted.root()}).status == 0);
    write_file(mounted.path("f"), "longer text");
    mounted.unmount();
    const auto writes = of_operation(lines_of(contents(trace)), "write");
    REQUIRE(writes.size() == 2);
    CHECK(writes[0].at("result") == "4");
    CHECK(writes[1].at("result") == "11");
}

TEST_CASE("a trace that cannot be is refused in one sentence", "[mount][trace]") {
    KernelMount mounted;
    const std::string link = mounted.outside("link");
    REQUIRE(symlink("/etc/hostname", link.c_str()) == 0);
    const auto refused = [&](const std::string& options, const std::string& sentence) {
        const Ran ran = mounted.try_mount(options);
        CAPTURE(options, ran.err);
        CHECK((ran.status == 1 || ran.status == 32));
        CHECK(ran.err.find(sentence) != std::string::npos);
        CHECK(ran.err.find('\n') == ran.err.size() - 1);
        CHECK(!mounted.is_mounted());
    };
    refused("trace=relative", "wants an absolute path");
    refused("trace=", "wants an absolute path");
    refused("trace=/none/t", "/none");
    refused("trace=" + mounted.path("t"), "names a file below the mount point");
    refused("trace=" + mounted.outside("/"), "wants an absolute path");
    refused("trace=/dev/null", "not a regular file");
    refused("trace=" + link, link);
    refused("trace_size=1", "wants a size of 64K or more");
    refused("trace=" + mounted.outside("t") + ",trace_size=many", "wants a size");
    mounted.mount();
    CHECK(mounted.try_mount("remount,trace").err.find("cannot be changed while mounted") !=
          std::string::npos);
}

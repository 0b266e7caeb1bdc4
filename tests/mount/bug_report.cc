// SPDX-License-Identifier: Apache-2.0
//
// `pinfs report`: what is in the archive, and what is not.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/raw_protocol.h"

using namespace pinfs::test;
using Json = nlohmann::json;

namespace {

constexpr const char* kSecret = "payroll-of-2026";

using Archive = std::map<std::string, std::string>;

/// Its files, without the directory that all are in.
Archive unpacked(const std::string& path) {
    const TemporaryDirectory directory;
    REQUIRE(run({"tar", "-xzf", path, "-C", directory.file(""), "--strip-components=1"}).status ==
            0);
    std::istringstream names{run({"ls", directory.file("")}).out};
    Archive archive;
    for (std::string name; std::getline(names, name);)
        archive[name] = contents(directory.file(name));
    return archive;
}

Archive report(const KernelMount& mounted, const std::string& target,
               const std::vector<std::string>& options = {}) {
    const std::string path = mounted.outside("report.tar.gz");
    unlink(path.c_str());
    std::vector<std::string> words{"pinfs", "report", target, "-o", path};
    words.insert(words.end(), options.begin(), options.end());
    const Ran ran = run(words);
    CAPTURE(ran.err);
    REQUIRE(ran.status == 0);
    CHECK(ran.out == path + "\n");
    CHECK(ran.err.empty());
    struct stat st {};
    REQUIRE(stat(path.c_str(), &st) == 0);
    CHECK((st.st_mode & 0777) == 0600);
    return unpacked(path);
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a report of a mount has what the mount tells, and no names unless they are wanted",
          "[mount][report]") {
    KernelMount mounted;
    const std::string trace = mounted.outside("trace");
    mounted.mount("trace=" + trace);
    const std::string file_path = mounted.path(kSecret);
    write_file(file_path, std::string(8192, 'x') + kSecret);
    const RawContext context{mounted.root()};
    const Descriptor file{file_path, O_RDWR};
    REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
    pinfs_ioc_pin of_descriptor{};
    of_descriptor.owner_fd = file.get();
    REQUIRE(context.pin(file.get(), 0, kBlock, of_descriptor).error == 0);
    REQUIRE(context.pin(file.get(), kBlock, kBlock).error == 0);
    CHECK(errno_if(truncate(file_path.c_str(), 0)) == EBUSY);

    const Archive archive = report(mounted, mounted.root());
    for (const auto& [name, text] : archive) {
        CAPTURE(name);
        CHECK(!text.empty());
        CHECK(!has(text, kSecret));
        CHECK(!has(text, "xxxx"));
    }
    CHECK(has(archive.at("about.txt"), std::string{"A report of pinfs "} + PINFS_VERSION));
    CHECK(has(archive.at("about.txt"), "--names"));
    CHECK(!has(archive.at("about.txt"), "Not answered"));
    CHECK(has(archive.at("system.txt"), "Linux "));
    CHECK(has(archive.at("system.txt"), "clocksource "));
    CHECK(has(archive.at("mount.txt"), mounted.region() + " on " + mounted.root() + ": "));
    CHECK(Json::parse(archive.at("info.json"))["mounted_on"] == mounted.root());
    CHECK(has(archive.at("info.json"), "trace=" + trace));
    CHECK(Json::parse(archive.at("region.json"))["mount"] == mounted.root());
    CHECK(has(archive.at("metrics.txt"), "\npinfs_pins 2\n"));
    CHECK(has(archive.at("stats.txt"), "\nwrite\t"));
    CHECK(has(archive.at("trace.txt"), " write n="));
    CHECK(has(archive.at("log.txt"), " of /... was refused: "));
    CHECK(has(archive.at("process-" + std::to_string(mounted.daemon()) + ".txt"), "wchan="));
    const Json pins = Json::parse(archive.at("pins.json"));
    REQUIRE(pins["items"].size() == 3);
    for (const Json& item : pins["items"]) {
        CHECK(item["file"] == "/...");
        CHECK(item["pid"] == getpid());
    }
    const std::string text = archive.at("file_pins.txt");
    CHECK(text.starts_with("pid " + std::to_string(getpid()) + " ("));
    CHECK(has(text, "\n" + std::to_string(file.get()) + ": /...\n\t/...\ncontext "));

    REQUIRE(unlink(file_path.c_str()) == 0);
    CHECK(has(report(mounted, mounted.region()).at("file_pins.txt"), "\t/... (deleted)\n"));
    const Archive named = report(mounted, mounted.root(), {"--names"});
    for (const char* name : {"pins.json", "file_pins.txt", "log.txt"}) {
        CAPTURE(name);
        CHECK(has(named.at(name), kSecret));
    }
}

TEST_CASE("a report of a region that is not mounted says what fsck finds", "[mount][report]") {
    KernelMount mounted;
    const Archive archive = report(mounted, mounted.region());
    CHECK(has(archive.at("fsck.txt"), ": clean, "));
    CHECK(archive.at("fsck.txt").ends_with("exit status 0\n"));
    CHECK(Json::parse(archive.at("info.json"))["state"] == "clean");
    CHECK(!archive.contains("metrics.txt"));
}

TEST_CASE("a report is made of a mount whose daemon does not answer", "[mount][report]") {
    KernelMount mounted;
    mounted.mount();
    const pid_t daemon = mounted.daemon();
    REQUIRE(kill(daemon, SIGSTOP) == 0);
    const Archive archive = report(mounted, mounted.root());
    REQUIRE(kill(daemon, SIGCONT) == 0);
    CHECK(has(archive.at("about.txt"), "The mount does not answer"));
    CHECK(has(archive.at("process-" + std::to_string(daemon) + ".txt"), "State:\tT"));
    CHECK(archive.contains("mount.txt"));
    CHECK(!archive.contains("metrics.txt"));
}

TEST_CASE("a report that cannot be made is refused in one sentence", "[mount][report]") {
    KernelMount mounted;
    write_file(mounted.outside("there"), "mine");
    const auto refused = [&](const std::vector<std::string>& words, int status,
                             const std::string& sentence) {
        std::vector<std::string> all{"pinfs", "report"};
        all.insert(all.end(), words.begin(), words.end());
        const Ran ran = run(all);
        CAPTURE(words, ran.err);
        CHECK(ran.status == status);
        CHECK(ran.out.empty());
        CHECK(has(ran.err, sentence));
        CHECK(ran.err.find('\n') == ran.err.size() - 1);
    };
    refused({"/none"}, 32, "/none: No such file");
    refused({"/proc"}, 32, "/proc is on no mounted pinfs");
    refused({mounted.region(), "-o", mounted.outside("there")}, 32, "File exists");
    refused({mounted.region(), "-o", "/none/x"}, 32, "/none/x");
    refused({}, 1, "TARGET");
    CHECK(contents(mounted.outside("there")) == "mine");
}

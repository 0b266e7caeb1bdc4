// SPDX-License-Identifier: Apache-2.0
//
// pinfs lease, pin, pins and holds, and what unmounting says to those who have any.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

using nlohmann::json;

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

/// A mounted pinfs with one file of 2 MiB, and `pinfs WORDS... -- sh -c SCRIPT` in it: the script
/// sees the file as $f, the mount as $m and our command as $pinfs.
struct Holding {
    Holding() {
        mounted.mount();
        write_file(file, noise(1, 2 << 20));
    }
    Ran operator()(std::vector<std::string> words, const std::string& script) {
        setenv("f", file.c_str(), 1);
        setenv("m", mounted.root().c_str(), 1);
        setenv("pinfs", PINFS_COMMAND_DIR "/pinfs", 1);
        words.insert(words.begin(), "pinfs");
        words.insert(words.end(), {"--", "sh", "-c", script});
        return run(words);
    }
    [[nodiscard]] json items() const {
        return json::parse(run({"pinfs", "pins", "--json", mounted.root()}).out);
    }

    KernelMount mounted;
    std::string file = mounted.path("f");
};

}  // namespace

TEST_CASE("pin keeps a file's blocks while a command runs", "[mount][holding]") {
    Holding with;
    const std::string before = contents(with.file);
    const Ran refused = with({"pin", "--range", "0:1M", with.file}, "truncate -s 0 $f");
    CHECK(refused.status == 1);
    CHECK(has(refused.err, "Device or resource busy"));
    CHECK(contents(with.file) == before);
    CHECK(with({"pin", "--range", "0:1M", with.file}, "truncate -s 1M $f; exit 5").status == 5);
    CHECK(contents(with.file) == before.substr(0, 1 << 20));
    CHECK(with({"pin", "--read", with.file}, "truncate -s 1048575 $f").status == 1);
    CHECK(with({"pin", "--range", "4K:", with.file}, "truncate -s 4096 $f").status == 1);
    const Ran shown = with({"pin", with.file}, "$pinfs pins $f; ls -l /proc/self/fd");
    CHECK(has(shown.out, "\tpin\tlive\t0\t1 MiB\t"));
    CHECK(!has(shown.out, with.mounted.root() + "/.pinfs/context"));  // close-on-exec
    CHECK(with.items().empty());
    CHECK(run({"truncate", "-s", "0", with.file}).status == 0);
}

TEST_CASE("lease tells of changes, or forbids them, while a command runs", "[mount][holding]") {
    Holding with;
    CHECK(with({"lease", with.file}, "truncate -s 1M $f").status == 0);
    CHECK(with({"lease", "--exclusive", with.file}, "truncate -s 0 $f").status == 1);
    CHECK(
        with({"lease", "--exclusive", "--range", "0:4K", with.file}, "truncate -s 4K $f").status ==
        0);
    const std::string again = "$pinfs lease --exclusive --shared $f -- true";
    CHECK(with({"lease", "--exclusive", "--shared", with.file}, again).status == 0);
    const Ran alone = with({"lease", "--exclusive", with.file}, again);
    CHECK(alone.status == 125);
    CHECK(has(alone.err, "f: "));
    const Ran told = with({"lease", "--on-event", "USR1", with.file},
                          "trap 'exit 9' USR1; truncate -s 0 $f; sleep 5 & wait; exit 1");
    CHECK(told.status == 9);
    const Ran kind = with({"lease", "--exclusive", "--shared", with.file}, "$pinfs pins $f");
    CHECK(has(kind.out, "\tshared lease\tlive\t0\tto the end\t"));
    CHECK(with.items().empty());
}

TEST_CASE("what cannot be held is said in one sentence", "[mount][holding]") {
    Holding with;
    mkdir(with.mounted.path("d").c_str(), 0755);
    write_file(with.mounted.path("empty"), "");
    write_file(with.mounted.path("cached"), "x");
    CHECK(run({"pinfs", "dax", "off", with.mounted.path("cached")}).status == 0);
    const auto refused = [&](const std::vector<std::string>& words, const std::string& why) {
        const Ran ran = with(words, "echo ran");
        CAPTURE(words, ran.out, ran.err);
        CHECK(ran.status == 125);
        CHECK(has(ran.err, why));
        CHECK(ran.err.find('\n') == ran.err.size() - 1);
        CHECK(ran.out.empty());
    };
    refused({"pin", "--range", "1M", with.file}, "'1M' is no range");
    refused({"pin", "--range", "0:0", with.file}, "'0:0' is no range");
    refused({"pin", "--range", "0:3M", with.file}, "f: ");
    refused({"pin", "--range", "4G:1K", with.file}, "f: ");
    refused({"pin", with.mounted.path("empty")}, "nothing of it can be pinned");
    refused({"pin", with.mounted.path("none")}, "No such file or directory");
    refused({"pin", with.mounted.path("d")}, "d: ");
    refused({"pin", with.mounted.path("cached")}, "DAX");
    refused({"pin", "/etc/passwd"}, "/etc/passwd");
    refused({"pin"}, "FILE is required");
    refused({"lease", "--shared", with.file}, "--exclusive --shared");
    refused({"lease", "--on-event", "SIGNOTHING", with.file}, "neither ack nor a signal");
    CHECK(run({"pinfs", "pin", with.file}).status == 125);
    CHECK(run({"pinfs", "pin", with.file, "--", "/no/such"}).status == 127);
    CHECK(run({"pinfs", "lease", with.file, "--", "/etc/passwd"}).status == 126);
}

TEST_CASE("pins shows what is below a path, or of a process", "[mount][holding]") {
    Holding with;
    mkdir(with.mounted.path("d").c_str(), 0755);
    write_file(with.mounted.path("d/g"), "x");
    // Other mounts of the machine may have some too.
    const std::string script =
        "$pinfs pin $m/d/g -- sh -c '$pinfs pins --json $WHICH | grep -cF \": \\\"$m\\\",\"'";
    const auto count = [&](const std::string& which) {
        const Ran ran = with({"pin", with.file}, "export WHICH=\"" + which + "\"; " + script);
        CAPTURE(which, ran.err);
        return ran.out;
    };
    CHECK(count("$m") == "4\n");
    CHECK(count("$m/d") == "2\n");
    CHECK(count("$m/d/g") == "2\n");
    CHECK(count("$f") == "2\n");
    CHECK(count("") == "4\n");
    CHECK(count("--pid $PPID") == "2\n");
    CHECK(count("--pid 1") == "0\n");
    const Ran nowhere = run({"pinfs", "pins", "/proc"});
    CHECK(nowhere.status == 32);
    CHECK(nowhere.err == "pinfs pins: /proc is on no mounted pinfs\n");
}

TEST_CASE("an administrator ends pins, also with their owner", "[mount][holding]") {
    Holding with;
    const std::string id =
        "id=$($pinfs pins $f | awk -F'\\t' '$2 == \"pin\" { print $1 }'); "
        "lease=$($pinfs pins $f | awk -F'\\t' '$2 ~ /lease/ { print $1 }'); ";
    const Ran revoked = with({"pin", with.file}, id + "$pinfs pins --revoke $lease --grace 0 $m && "
                                                      "$pinfs pins --revoke $id --grace 0.2 $m && "
                                                      "truncate -s 0 $f");
    CAPTURE(revoked.out, revoked.err);
    CHECK(revoked.status == 0);
    CHECK(has(revoked.out, " is ended\n"));

    write_file(with.file, noise(1, 1 << 20));
    const Ran killed = with({"pin", with.file},
                            "trap '' TERM; " + id + "$pinfs pins --revoke $id --kill --grace 1 $m");
    CAPTURE(killed.out, killed.err);
    CHECK((killed.status == 128 + SIGKILL || killed.status == 128 + SIGTERM));
    for (int i = 0; i < 500 && !with.items().empty(); ++i) usleep(10'000);
    CHECK(with.items().empty());
    CHECK(run({"truncate", "-s", "0", with.file}).status == 0);

    const Ran none = run({"pinfs", "pins", "--revoke", "12345", with.mounted.root()});
    CHECK(none.status == 32);
    CHECK(none.err == "pinfs pins: there is no lease, map or pin 12345\n");
    CHECK(run({"pinfs", "holds", "--release", "12345", "--yes"}).status == 32);
    CHECK(run({"pinfs", "pins", "--kill"}).status == 1);
    CHECK(run({"pinfs", "pins", "--revoke", "x"}).status == 1);
}

TEST_CASE("unmounting is refused while files are pinned, and names who has them",
          "[mount][holding]") {
    Holding with;
    for (const char* command : {"$pinfs umount $m", "umount $m"}) {
        const Ran ran = with({"pin", with.file}, command);
        CAPTURE(command, ran.err);
        CHECK(ran.status == 32);
        CHECK(with.mounted.is_mounted());
    }
    const Ran ran = with({"pin", with.file}, "$pinfs umount $m");
    CHECK(has(ran.err, "is in use: pin "));
    CHECK(has(ran.err, "(pinfs) on " + with.file));
    with.mounted.unmount();
    with.mounted.check();
}

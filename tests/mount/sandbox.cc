// SPDX-License-Identifier: Apache-2.0
//
// pinfs sandbox: a mount for the life of one command, gone afterwards whatever happens.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <thread>

#include "fs/fuse/mount_table.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

/// Runs the script with a sandbox's mount in $PINFS_MOUNT, which it also writes to $NAME.
Ran sandbox(const std::string& script, const std::vector<std::string>& options = {}) {
    std::vector<std::string> words{"pinfs", "sandbox"};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {"--", "sh", "-c", script});
    return run(words);
}

bool is_gone(const std::string& mountpoint) {
    return !pinfs::fuse::mount_at(mountpoint) &&
           !std::filesystem::exists(std::filesystem::path{mountpoint}.parent_path());
}

bool is_gone_soon(const std::string& mountpoint) {
    for (int i = 0; i < 1000 && !is_gone(mountpoint); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
    return is_gone(mountpoint);
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

TEST_CASE("a sandbox is a mount as long as its command runs", "[mount][sandbox]") {
    const Ran ran = sandbox(
        "echo $PINFS_MOUNT; stat -f -c %b $PINFS_MOUNT; echo text > $PINFS_MOUNT/f &&"
        "cat $PINFS_MOUNT/f; stat -c %a $(dirname $PINFS_MOUNT)/region; exit 7",
        {"--size", "32M", "-o", "noexec", "-o", "kernel_mmap=off"});
    CAPTURE(ran.out, ran.err);
    CHECK(ran.status == 7);
    CHECK(ran.err.empty());
    CHECK(has(ran.out, "\n8192\ntext\n600\n"));
    CHECK(is_gone(first_line(ran.out)));
}

TEST_CASE("a sandbox ends with its command's status, or one of env's", "[mount][sandbox]") {
    CHECK(sandbox("kill -KILL $$").status == 128 + SIGKILL);
    CHECK(run({"pinfs", "sandbox", "--", "/etc/passwd"}).status == 126);
    const Ran missing = run({"pinfs", "sandbox", "--", "/no/such/program", "--help"});
    CHECK(missing.status == 127);
    CHECK(missing.err == "pinfs sandbox: /no/such/program: No such file or directory\n");
    const auto refused = [](std::vector<std::string> words, const std::string& why) {
        words.insert(words.begin(), {"pinfs", "sandbox"});
        const Ran ran = run(words);
        CAPTURE(words, ran.err);
        CHECK(ran.status == 125);
        CHECK(has(ran.err, why));
        CHECK(ran.err.find('\n') == ran.err.size() - 1);
    };
    refused({"true"}, "there is no command to run: write it behind --");
    refused({"--size", "1M", "--"}, "there is no command to run: write it behind --");
    refused({"--size", "1X", "--", "true"}, "'1X' is no size");
    refused({"--size", "1K", "--", "true"}, "a region has 1 MiB to 64 TiB");
    refused({"--size", "60T", "--", "true"}, "no room in /dev/shm");
    refused({"-o", "strange", "--", "true"}, "unknown option 'strange'");
    refused({"--strange", "--", "true"}, "--strange");
}

TEST_CASE("a sandbox passes signals on and is gone after them", "[mount][sandbox]") {
    const std::string command = "trap 'echo got it; exit 9' INT; echo $PINFS_MOUNT; sleep 9 & wait";
    const Ran ran = run({"timeout", "-s", "INT", "3", std::string{PINFS_COMMAND_DIR} + "/pinfs",
                         "sandbox", "--", "sh", "-c", command});
    CAPTURE(ran.out, ran.err);
    CHECK(ran.status == 124);  // timeout's own
    CHECK(has(ran.out, "\ngot it\n"));
    CHECK(is_gone_soon(first_line(ran.out)));
}

TEST_CASE("a sandbox that is killed is gone all the same", "[mount][sandbox]") {
    const Ran ran = sandbox("echo $PINFS_MOUNT; kill -KILL $PPID; exec >&- 2>&-; sleep 9");
    CAPTURE(ran.out, ran.err);
    CHECK(ran.status == 128 + SIGKILL);
    CHECK(is_gone_soon(first_line(ran.out)));
}

TEST_CASE("a sandbox whose daemon died is gone all the same", "[mount][sandbox]") {
    const Ran ran = sandbox(
        "echo $PINFS_MOUNT; kill -KILL $(grep -sl -F $(dirname $PINFS_MOUNT)/region "
        "/proc/[0-9]*/maps | head -1 | cut -d/ -f3); while stat -f $PINFS_MOUNT/. 2>&-; do :; "
        "done");
    CAPTURE(ran.out, ran.err);
    CHECK(ran.status == 0);
    CHECK(is_gone(first_line(ran.out)));
}

TEST_CASE("a sandbox is taken away from what its command left running", "[mount][sandbox]") {
    const Ran ran = sandbox(
        "echo $PINFS_MOUNT; cd $PINFS_MOUNT; (exec >&- 2>&- 3<.; echo x > f; exec sleep 3) & "
        "until [ -s f ]; do :; done; exit 3");
    CAPTURE(ran.out, ran.err);
    CHECK(ran.status == 3);
    CHECK(has(ran.err, "programs still use the sandbox: it is taken away from them"));
    CHECK(is_gone(first_line(ran.out)));
}

// SPDX-License-Identifier: Apache-2.0
//
// What processes share through a file system: locks, a log that all append to, pipes and sockets by
// name.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

/// A child process that runs `work` and ends with its result.
class Child {
public:
    explicit Child(const std::function<int()>& work) : pid_{fork()} {
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            for (const int signal : {SIGALRM, SIGTERM, SIGINT, SIGHUP})
                std::signal(signal, SIG_DFL);
            _exit(work());
        }
    }
    ~Child() {
        if (pid_ != 0) end();
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    int result() {
        int status = 0;
        waitpid(pid_, &status, 0);
        pid_ = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    void end() {
        kill(pid_, SIGKILL);
        result();
    }

private:
    pid_t pid_;
};

enum class Lock { flock, posix, ofd };

/// Takes the first byte, or all; 0 or an errno. Never waits.
int take(int file, Lock kind, short type) {
    if (kind == Lock::flock)
        return errno_if(flock(file, (type == F_WRLCK ? LOCK_EX : LOCK_SH) | LOCK_NB));
    struct flock range {};
    range.l_type = type;
    range.l_whence = SEEK_SET;
    range.l_len = 1;
    return errno_if(fcntl(file, kind == Lock::posix ? F_SETLK : F_OFD_SETLK, &range));
}

int opened(const std::string& path, int flags = O_RDWR) {
    return open(path.c_str(), flags | O_CLOEXEC);
}

std::string dax_option() { return GENERATE(false, true) ? "dax=never" : "dax=inode"; }

}  // namespace

TEST_CASE("locks keep other processes out, and end with their owner", "[mount][sharing]") {
    KernelMount mounted;
    mounted.mount(dax_option());
    const std::string f = mounted.path("f");
    write_file(f, "content");
    const Lock kind = GENERATE(Lock::flock, Lock::posix, Lock::ofd);
    const auto try_take = [&](short type) {
        return Child{[&] {
                   return take(opened(f), kind, type);
               }}
            .result();
    };
    CAPTURE(static_cast<int>(kind));
    int ready[2];
    REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
    {
        Child holder{[&] {
            const int file = opened(f);
            const int result = take(file, kind, F_WRLCK);
            if (result != 0 || write(ready[1], "", 1) != 1) return 1;
            pause();
            return 0;
        }};
        char byte = 0;
        REQUIRE(read(ready[0], &byte, 1) == 1);
        CHECK(try_take(F_WRLCK) == EAGAIN);
        CHECK(try_take(F_RDLCK) == EAGAIN);
        holder.end();
    }
    CHECK(try_take(F_WRLCK) == 0);
    // Readers share.
    const int reader = opened(f);
    REQUIRE(take(reader, kind, F_RDLCK) == 0);
    CHECK(try_take(F_RDLCK) == 0);
    CHECK(try_take(F_WRLCK) == EAGAIN);
    close(reader);
    CHECK(try_take(F_WRLCK) == 0);
    for (const int end : ready) close(end);
}

TEST_CASE("locks of ranges: others get the rest, a waiter gets it when it is free",
          "[mount][sharing]") {
    KernelMount mounted;
    mounted.mount();
    const std::string f = mounted.path("f");
    write_file(f, std::string(100, 'x'));
    const int file = opened(f);
    struct flock range {};
    range.l_type = F_WRLCK;
    range.l_start = 10;
    range.l_len = 10;
    REQUIRE(fcntl(file, F_SETLK, &range) == 0);
    CHECK(Child{[&] {
              const int other = opened(f);
              struct flock asked {};
              asked.l_type = F_WRLCK;
              asked.l_start = 20;
              asked.l_len = 5;
              if (fcntl(other, F_SETLK, &asked) != 0) return 1;
              asked.l_start = 15;
              if (fcntl(other, F_GETLK, &asked) != 0 || asked.l_type != F_WRLCK) return 2;
              return asked.l_start == 10 && asked.l_len == 10 && asked.l_pid == getppid() ? 0 : 3;
          }}.result() == 0);
    Child waiter{[&] {
        const int other = opened(f);
        struct flock asked {};
        asked.l_type = F_WRLCK;
        asked.l_start = 15;
        asked.l_len = 1;
        return fcntl(other, F_SETLKW, &asked) == 0 ? 0 : 1;
    }};
    usleep(20000);
    range.l_type = F_UNLCK;
    REQUIRE(fcntl(file, F_SETLK, &range) == 0);
    CHECK(waiter.result() == 0);
    close(file);
}

TEST_CASE("what several processes append is all there, each record whole, each writer's in order",
          "[mount][sharing]") {
    KernelMount mounted;
    mounted.mount(dax_option());
    const std::string f = mounted.path("log");
    write_file(f, "");
    constexpr int kWriters = 4;
    constexpr int kRecords = 1500;
    constexpr std::size_t kRecordBytes = 61;  // across blocks
    const auto record = [](int writer, int number) {
        std::string text = std::to_string(writer) + " " + std::to_string(number) + " ";
        text.resize(kRecordBytes - 1, static_cast<char>('a' + writer));
        return text + "\n";
    };
    {
        std::vector<std::unique_ptr<Child>> writers;
        for (int writer = 0; writer < kWriters; ++writer)
            writers.push_back(std::make_unique<Child>([&, writer] {
                const int file = opened(f, O_WRONLY | O_APPEND);
                for (int number = 0; number < kRecords; ++number)
                    if (write(file, record(writer, number).data(), kRecordBytes) != kRecordBytes)
                        return 1;
                return 0;
            }));
        for (const auto& writer : writers) CHECK(writer->result() == 0);
    }
    for (int round = 0; round < 2; ++round) {
        const std::string text = contents(f);
        REQUIRE(text.size() == kWriters * kRecords * kRecordBytes);
        std::vector<int> next(kWriters, 0);
        std::size_t wrong = 0;
        for (std::size_t at = 0; at < text.size(); at += kRecordBytes) {
            const std::string found = text.substr(at, kRecordBytes);
            const int writer = found[0] - '0';
            if (writer < 0 || writer >= kWriters || found != record(writer, next[writer]++))
                ++wrong;
        }
        CHECK(wrong == 0);
        if (round == 0) mounted.remount();
    }
    mounted.unmount();
    mounted.check();
}

TEST_CASE("pipes and sockets connect processes by their names", "[mount][sharing]") {
    KernelMount mounted;
    mounted.mount();
    const std::string fifo = mounted.path("fifo");
    REQUIRE(mkfifo(fifo.c_str(), 0644) == 0);
    {
        Child writer{[&] {
            const int file = opened(fifo, O_WRONLY);
            return write(file, "through", 7) == 7 ? 0 : 1;
        }};
        CHECK(contents(fifo) == "through");
        CHECK(writer.result() == 0);
    }
    struct stat st {};
    REQUIRE(stat(fifo.c_str(), &st) == 0);
    CHECK(st.st_size == 0);

    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof(address.sun_path), "%s", mounted.path("s").c_str());
    const auto* name = reinterpret_cast<const sockaddr*>(&address);
    const int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(bind(server, name, sizeof(address)) == 0);
    REQUIRE(listen(server, 1) == 0);
    CHECK(errno_if(bind(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), name, sizeof(address))) ==
          EADDRINUSE);
    REQUIRE(stat(address.sun_path, &st) == 0);
    CHECK(S_ISSOCK(st.st_mode));
    CHECK(errno_if(opened(address.sun_path)) == ENXIO);
    const auto connect_as = [&](uid_t uid) {
        return Child{[&, uid] {
                   if (setuid(uid) != 0) return -1;
                   const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                   return errno_if(connect(client, name, sizeof(address)));
               }}
            .result();
    };
    CHECK(connect_as(0) == 0);
    REQUIRE(chmod(address.sun_path, 0600) == 0);
    CHECK(connect_as(1000) == EACCES);
    close(server);
    CHECK(connect_as(0) == ECONNREFUSED);
    mounted.remount();
    REQUIRE(lstat(address.sun_path, &st) == 0);
    CHECK(S_ISSOCK(st.st_mode));
    CHECK(unlink(address.sun_path) == 0);
    mounted.unmount();
    mounted.check();
}

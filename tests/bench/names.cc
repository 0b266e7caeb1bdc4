// SPDX-License-Identifier: Apache-2.0
//
// bench_names time DIRECTORY COUNT: creates, stats, writes 4 KiB to, renames and unlinks COUNT
// files in a directory and prints the operations a second of each phase, as JSON. What else the
// directory holds stays.
//
// bench_names fill DIRECTORY COUNT BYTES DIRECTORIES: makes COUNT files of BYTES, spread over
// DIRECTORIES new directories (0: in DIRECTORY itself), with two threads.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

/// The result of a call, or the end of the program.
int must(int result, const char* call, const std::string& path) {
    if (result >= 0) return result;
    std::fprintf(stderr, "bench_names: %s of %s: %s\n", call, path.c_str(), strerror(errno));
    std::exit(1);
}

int open_directory(const std::string& path) {
    return must(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open", path);
}

void write_bytes(int file, const std::vector<char>& bytes, const std::string& name) {
    if (bytes.empty()) return;
    const ssize_t count = write(file, bytes.data(), bytes.size());
    if (count >= 0 && static_cast<std::size_t>(count) != bytes.size()) errno = ENOSPC;
    must(static_cast<std::size_t>(count) == bytes.size() ? 0 : -1, "write", name);
}

void make_file(int directory, const std::string& name, const std::vector<char>& bytes) {
    constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    const int file = must(openat(directory, name.c_str(), kFlags, 0644), "create", name);
    write_bytes(file, bytes, name);
    must(close(file), "close", name);
}

// --- time
// -----------------------------------------------------------------------------------------

class Phases {
public:
    Phases(const std::string& directory, unsigned count)
        : directory_(open_directory(directory)), count_(count) {}

    template <class Operation>
    void run(const char* phase, Operation operation) {
        const auto begin = std::chrono::steady_clock::now();
        for (unsigned i = 0; i < count_; ++i) operation("file" + std::to_string(i));
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        std::printf("%s\"%s\": %.1f", printed_++ == 0 ? "{" : ", ", phase, count_ / took.count());
    }
    [[nodiscard]] int directory() const { return directory_; }

private:
    const int directory_;
    const unsigned count_;
    int printed_ = 0;
};

void time_phases(const std::string& path, unsigned count) {
    const std::vector<char> block(4096, 'b');
    Phases phases(path, count);
    const int at = phases.directory();
    phases.run("create", [&](const std::string& name) { make_file(at, name, {}); });
    phases.run("stat", [&](const std::string& name) {
        struct stat status {};
        must(fstatat(at, name.c_str(), &status, 0), "stat", name);
    });
    phases.run("write", [&](const std::string& name) {
        const int file = must(openat(at, name.c_str(), O_WRONLY | O_CLOEXEC), "open", name);
        write_bytes(file, block, name);
        must(close(file), "close", name);
    });
    phases.run("rename", [&](const std::string& name) {
        must(renameat(at, name.c_str(), at, ("new" + name).c_str()), "rename", name);
    });
    phases.run("unlink", [&](const std::string& name) {
        must(unlinkat(at, ("new" + name).c_str(), 0), "unlink", name);
    });
    std::printf("}\n");
}

// --- fill
// -----------------------------------------------------------------------------------------

void fill(const std::string& path, unsigned count, std::size_t bytes, unsigned directories) {
    constexpr unsigned kThreads = 2;
    const std::vector<char> content(bytes, 'f');
    const auto fill_part = [&](unsigned part) {
        const unsigned groups = directories == 0 ? kThreads : directories;
        for (unsigned group = part; group < groups; group += kThreads) {
            std::string below = path;
            if (directories != 0) {
                below += "/directory" + std::to_string(group);
                must(mkdir(below.c_str(), 0755), "mkdir", below);
            }
            const int at = open_directory(below);
            for (unsigned i = group; i < count; i += groups)
                make_file(at, "filled" + std::to_string(i), content);
            close(at);
        }
    };
    std::thread other{[&] {
        fill_part(1);
    }};
    fill_part(0);
    other.join();
}

unsigned number(const char* text) { return static_cast<unsigned>(std::strtoul(text, nullptr, 10)); }

}  // namespace

int main(int count, char** words) {
    const std::string task = count > 1 ? words[1] : "";
    if (task == "time" && count == 4) {
        time_phases(words[2], number(words[3]));
    } else if (task == "fill" && count == 6) {
        fill(words[2], number(words[3]), number(words[4]), number(words[5]));
    } else {
        std::fprintf(stderr,
                     "usage: bench_names time DIRECTORY COUNT\n"
                     "       bench_names fill DIRECTORY COUNT BYTES DIRECTORIES\n");
        return 2;
    }
}

// SPDX-License-Identifier: Apache-2.0
//
// watch FILE: maps a file on a pinfs mount, says what it begins with, and says so again whenever
// somebody changes its layout, until it is empty. Nobody waits for this program: until it has
// handled the event its map shows the old blocks, which nobody else is given.
//
//     c++ -std=c++17 watch.cc $(pkg-config --cflags --libs libpinfs)
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <pinfs.hpp>
#include <string>

namespace {

/// A descriptor that is closed at the end.
class File {
public:
    explicit File(const char* path) : fd_(open(path, O_RDONLY | O_CLOEXEC)) {
        if (fd_ < 0) throw std::system_error(errno, std::generic_category(), path);
    }
    ~File() { close(fd_); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    int fd() const { return fd_; }
    /// As the daemon knows it: an event may be here before the truncate it is about has returned.
    std::size_t bytes() const {
        struct statx status {};
        if (statx(fd_, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_SIZE, &status) != 0)
            throw std::system_error(errno, std::generic_category());
        return static_cast<std::size_t>(status.stx_size);
    }

private:
    int fd_;
};

void show(const pinfs::Map& map, std::size_t bytes) {
    const auto* const text = map.at<const char>(0);
    const std::string beginning(text, text + std::min<std::size_t>(bytes, 20));
    std::printf("%zu bytes: %s\n", bytes, beginning.c_str());
    std::fflush(stdout);
}

void watch(const char* path) {
    const File file{path};
    pinfs::Context context{path};
    const pinfs::Lease lease{context, file.fd(), PINFS_LEASE_LAYOUT};
    const std::size_t mapped = file.bytes();
    const pinfs::Map map{context, file.fd(), 0, mapped, PROT_READ};
    show(map, mapped);
    while (const auto event = context.next_event()) {
        // The lease has events too; a map's have its address.
        const bool is_map = event->user_data == reinterpret_cast<std::uintptr_t>(map.data());
        if (event->type != PINFS_EVENT_GONE || !is_map) continue;
        // The map shows the file as it is now: behind its end there is SIGBUS.
        const std::size_t bytes = std::min(mapped, file.bytes());
        std::printf("changed: %llu bytes at %llu\n",
                    static_cast<unsigned long long>(event->length_bytes),
                    static_cast<unsigned long long>(event->offset_bytes));
        if (bytes == 0) return;
        show(map, bytes);
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc != 2) throw std::runtime_error("usage: watch FILE");
        watch(argv[1]);
    } catch (const std::exception& exception) {
        std::fprintf(stderr, "watch: %s\n", exception.what());
        return 1;
    }
}

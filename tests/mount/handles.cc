// SPDX-License-Identifier: Apache-2.0
//
// File handles, as an NFS server uses them: name_to_handle_at and open_by_handle_at.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

class Handle {
public:
    explicit Handle(const std::string& path) : bytes_(sizeof(file_handle) + MAX_HANDLE_SZ) {
        get()->handle_bytes = MAX_HANDLE_SZ;
        int mount = 0;
        CAPTURE(path);
        REQUIRE(name_to_handle_at(AT_FDCWD, path.c_str(), get(), &mount, 0) == 0);
    }
    file_handle* get() { return reinterpret_cast<file_handle*>(bytes_.data()); }
    /// A descriptor, or -1 and errno.
    int open_on(const KernelMount& mounted, int flags = O_RDONLY) {
        const int root = open(mounted.root().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const int file = open_by_handle_at(root, get(), flags | O_CLOEXEC);
        const int error = errno;
        close(root);
        errno = error;
        return file;
    }

private:
    std::vector<char> bytes_;
};

/// The kernel forgets what nobody uses: handles then come to us.
void drop_caches() { std::ofstream{"/proc/sys/vm/drop_caches"} << "2\n"; }

std::uint64_t ino_of(const std::string& path) {
    struct stat st {};
    REQUIRE(stat(path.c_str(), &st) == 0);
    return st.st_ino;
}

std::string read_all(int file) {
    std::string text(100, '\0');
    const ssize_t bytes = read(file, text.data(), text.size());
    text.resize(bytes < 0 ? 0 : static_cast<std::size_t>(bytes));
    close(file);
    return text;
}

}  // namespace

TEST_CASE("a handle finds its file without a name, with cold caches and after a remount",
          "[mount][handles]") {
    KernelMount mounted;
    mounted.mount();
    REQUIRE(mkdir(mounted.path("d").c_str(), 0755) == 0);
    write_file(mounted.path("d/f"), "content");
    Handle file{mounted.path("d/f")};
    Handle directory{mounted.path("d")};
    Handle root{mounted.root()};
    REQUIRE(rename(mounted.path("d/f").c_str(), mounted.path("d/g").c_str()) == 0);
    for (const char* step : {"warm", "cold", "remounted"}) {
        CAPTURE(step);
        if (step == std::string{"cold"}) drop_caches();
        if (step == std::string{"remounted"}) mounted.remount();
        CHECK(read_all(file.open_on(mounted)) == "content");
        const int opened = directory.open_on(mounted, O_RDONLY | O_DIRECTORY);
        REQUIRE(opened >= 0);
        // Found without a path: the way up is asked for by "..".
        struct stat above {};
        CHECK(fstatat(opened, "..", &above, 0) == 0);
        CHECK(above.st_ino == ino_of(mounted.root()));
        CHECK(faccessat(opened, "g", F_OK, 0) == 0);
        close(opened);
        const int top = root.open_on(mounted, O_RDONLY | O_DIRECTORY);
        CHECK(top >= 0);
        close(top);
    }
}

TEST_CASE("a handle of what is gone is stale, also when its number comes back",
          "[mount][handles]") {
    KernelMount mounted{1};
    mounted.mount();
    const std::string f = mounted.path("f");
    write_file(f, "old");
    const std::uint64_t number = ino_of(f);
    Handle old{f};
    const int held = open(f.c_str(), O_RDONLY | O_CLOEXEC);
    REQUIRE(unlink(f.c_str()) == 0);
    close(held);
    CHECK(becomes_true([&] {
        const int file = old.open_on(mounted);
        if (file >= 0) close(file);
        return file < 0;
    }));
    CHECK(errno == ESTALE);
    drop_caches();
    CHECK(old.open_on(mounted) < 0);
    CHECK(errno == ESTALE);
    bool came_back = false;
    for (int i = 0; i < 20000 && !came_back; ++i) {
        write_file(f, "new");
        came_back = ino_of(f) == number;
        if (!came_back) REQUIRE(unlink(f.c_str()) == 0);
    }
    REQUIRE(came_back);
    for (int round = 0; round < 2; ++round) {
        CHECK(old.open_on(mounted) < 0);
        CHECK(errno == ESTALE);
        drop_caches();
    }
    Handle fresh{f};
    drop_caches();
    CHECK(read_all(fresh.open_on(mounted)) == "new");
    mounted.unmount();
    mounted.check();
}

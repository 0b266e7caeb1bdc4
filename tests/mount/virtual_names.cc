// SPDX-License-Identifier: Apache-2.0
//
// The names that pinfs itself provides: there, not listed, not anybody's to change.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "fs/volume/volume.h"
#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/raw_protocol.h"

using namespace pinfs::test;
using Json = nlohmann::json;

namespace {

std::set<std::string> listed(const std::string& path) {
    std::set<std::string> names;
    DIR* directory = opendir(path.c_str());
    REQUIRE(directory != nullptr);
    while (const dirent* entry = readdir(directory)) names.insert(entry->d_name);
    closedir(directory);
    return names;
}

struct stat status_of(const std::string& path) {
    struct stat st {};
    CAPTURE(path);
    REQUIRE(lstat(path.c_str(), &st) == 0);
    return st;
}

long open_and_close(const std::string& path, int flags) {
    return Descriptor{path, flags}.is_open() ? 0 : -1;
}

}  // namespace

TEST_CASE("the virtual names are found and not listed", "[mount][virtual]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("f"), "x");
    CHECK(listed(mounted.root()) == std::set<std::string>{".", "..", "f"});
    CHECK(listed(mounted.path(".pinfs")) == std::set<std::string>{".", "..", "context", "log",
                                                                  "metrics", "pid", "pins.json",
                                                                  "region"});
    CHECK(status_of(mounted.path(".file_pins")).st_mode == (S_IFREG | 0444));
    CHECK(status_of(mounted.path(".pinfs")).st_mode == (S_IFDIR | 0555));
    CHECK(status_of(mounted.path(".pinfs/context")).st_mode == (S_IFREG | 0666));
    CHECK(status_of(mounted.path(".pinfs/metrics")).st_size == 0);
    const std::string pid = std::to_string(getpid());
    CHECK(listed(mounted.path(".pinfs/pid/" + pid)) ==
          std::set<std::string>{".", "..", "file_pins"});
    // Below the root alone, and no other process' numbers.
    CHECK(access(mounted.path(".pinfs/.file_pins").c_str(), F_OK) != 0);
    CHECK(access(mounted.path(".pinfs/pid/0").c_str(), F_OK) != 0);
    CHECK(access(mounted.path(".pinfs/pid/4294967295").c_str(), F_OK) != 0);
    CHECK(access(mounted.path(".pinfs/pid/0" + pid).c_str(), F_OK) != 0);
    CHECK(access(mounted.path(".pinfs/pid/" + pid + "x").c_str(), F_OK) != 0);
    REQUIRE(mkdir(mounted.path("d").c_str(), 0755) == 0);
    write_file(mounted.path("d/.file_pins"), "a file as any other");
    CHECK(contents(mounted.path("d/.file_pins")) == "a file as any other");
    CHECK(listed(mounted.path("d")) == std::set<std::string>{".", "..", ".file_pins"});
    CHECK(status_of(mounted.path(".pinfs/..")).st_ino == status_of(mounted.root()).st_ino);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("virtual names cannot be made, removed, renamed, linked or changed", "[mount][virtual]") {
    KernelMount mounted;
    mounted.mount(GENERATE("", "dax=never"));
    write_file(mounted.path("f"), "x");
    const std::string f = mounted.path("f");
    const std::string pins = mounted.path(".file_pins");
    const std::string directory = mounted.path(".pinfs");
    const std::string context = mounted.path(".pinfs/context");
    const std::string other = mounted.path("other");
    const timespec past[2] = {{5, 0}, {6, 0}};
    // clang-format off
    const std::map<std::string, std::function<long()>> calls{
        {"unlink", [&] { return unlink(pins.c_str()); }},
        {"unlink context", [&] { return unlink(context.c_str()); }},
        {"rmdir", [&] { return rmdir(directory.c_str()); }},
        {"rmdir pid", [&] { return rmdir((directory + "/pid").c_str()); }},
        {"rename", [&] { return rename(pins.c_str(), other.c_str()); }},
        {"rename directory", [&] { return rename(directory.c_str(), other.c_str()); }},
        {"rename over", [&] { return rename(f.c_str(), pins.c_str()); }},
        {"rename over context", [&] { return rename(f.c_str(), context.c_str()); }},
        {"exchange", [&] { return renameat2(AT_FDCWD, f.c_str(), AT_FDCWD, pins.c_str(), RENAME_EXCHANGE); }},
        {"link", [&] { return link(pins.c_str(), other.c_str()); }},
        {"link into", [&] { return link(f.c_str(), (directory + "/f").c_str()); }},
        {"symlink into", [&] { return symlink("f", (directory + "/f").c_str()); }},
        {"mkdir into", [&] { return mkdir((directory + "/f").c_str(), 0755); }},
        {"mknod into", [&] { return mknod((directory + "/f").c_str(), S_IFIFO | 0644, 0); }},
        {"create into", [&] { return open_and_close(directory + "/f", O_WRONLY | O_CREAT); }},
        {"create into pid", [&] { return open_and_close(directory + "/pid/1/f", O_WRONLY | O_CREAT); }},
        {"O_TMPFILE", [&] { return open_and_close(directory, O_WRONLY | O_TMPFILE); }},
        {"truncate", [&] { return truncate(pins.c_str(), 0); }},
        {"truncate context", [&] { return truncate(context.c_str(), 0); }},
        {"O_TRUNC", [&] { return open_and_close(context, O_RDWR | O_TRUNC); }},
        {"chmod", [&] { return chmod(pins.c_str(), 0600); }},
        {"chmod directory", [&] { return chmod(directory.c_str(), 0777); }},
        {"chown", [&] { return chown(context.c_str(), 1, 1); }},
        {"times", [&] { return utimensat(AT_FDCWD, pins.c_str(), past, 0); }},
        {"setxattr", [&] { return setxattr(pins.c_str(), "user.a", "1", 1, 0); }},
        {"removexattr", [&] { return removexattr(context.c_str(), "user.a"); }},
    };
    // clang-format on
    for (const auto& [name, call] : calls) {
        CAPTURE(name);
        CHECK(errno_if(call()) == EPERM);
    }
    CHECK(errno_if(open_and_close(pins, O_RDWR)) == EACCES);
    CHECK(errno_if(open_and_close(directory + "/region", O_WRONLY)) == EACCES);
    CHECK(errno_if(open_and_close(pins, O_WRONLY | O_CREAT | O_EXCL)) == EEXIST);
    CHECK(errno_if(mkdir(directory.c_str(), 0755)) == EEXIST);
    const Descriptor opened{context, O_RDWR};
    CHECK(errno_if(write(opened.get(), "x", 1)) == EPERM);
    CHECK(errno_if(fallocate(opened.get(), 0, 0, 4096)) == EPERM);
    CHECK(fsync(opened.get()) == 0);
    CHECK(contents(f) == "x");
    CHECK(errno_if(access(other.c_str(), F_OK)) == ENOENT);
}

TEST_CASE("an entry that has a virtual name, from before there were any, is hidden",
          "[mount][virtual]") {
    KernelMount mounted;
    {
        const auto region = pinfs::pmem::Region::open(mounted.region(), {});
        REQUIRE(region);
        auto volume = pinfs::Volume::mount(**region, pinfs::MountOptions{});
        REQUIRE(volume);
        pinfs::NewInode inode;
        inode.mode = S_IFREG | 0644;
        REQUIRE((*volume)->make(pinfs::kRootIno, ".file_pins", inode, {}));
        inode.mode = S_IFDIR | 0755;
        REQUIRE((*volume)->make(pinfs::kRootIno, ".pinfs", inode, {}));
        REQUIRE((*volume)->unmount());
    }
    mounted.mount();
    CHECK(listed(mounted.root()) == std::set<std::string>{".", ".."});
    CHECK(run({"ls", "-la", mounted.root()}).out.find("pins") == std::string::npos);
    CHECK(status_of(mounted.path(".file_pins")).st_mode == (S_IFREG | 0444));
    CHECK(access(mounted.path(".pinfs/context").c_str(), F_OK) == 0);
    CHECK(errno_if(unlink(mounted.path(".file_pins").c_str())) == EPERM);
    mounted.unmount();
    mounted.check();
}

TEST_CASE("what is asked of files is answered of virtual ones too", "[mount][virtual]") {
    KernelMount mounted;
    mounted.mount();
    const std::string region = mounted.path(".pinfs/region");
    const Descriptor file{region, O_RDONLY};
    REQUIRE(file.is_open());
    CHECK(errno_if(getxattr(region.c_str(), "user.a", nullptr, 0)) == ENODATA);
    CHECK(errno_if(getxattr(region.c_str(), "user.pinfs.extents", nullptr, 0)) == ENODATA);
    CHECK(listxattr(region.c_str(), nullptr, 0) == 0);
    CHECK(errno_if(lseek(file.get(), 0, SEEK_DATA)) == ENXIO);
    int flags = 0;
    CHECK(errno_if(ioctl(file.get(), FS_IOC_GETFLAGS, &flags)) == ENOTTY);
    CHECK(isatty(file.get()) == 0);
    struct statx times {};
    CHECK(statx(AT_FDCWD, region.c_str(), 0, STATX_BASIC_STATS | STATX_BTIME, &times) == 0);
    CHECK(times.stx_mode == (S_IFREG | 0444));
    CHECK(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, file.get(), 0) != nullptr);
    CHECK(run({"stat", "-f", region}).status == 0);
    // A copy takes what a reader gets.
    CHECK(run({"cp", region, mounted.path("copy")}).status == 0);
    CHECK(contents(mounted.path("copy")) == contents(region));
    // And one that reads in small pieces.
    std::string pieces;
    char byte = 0;
    for (off_t at = 0; pread(file.get(), &byte, 1, at) == 1; ++at) pieces += byte;
    CHECK(pieces == contents(region));
}

TEST_CASE("region says what the kernel lacks, and so it is", "[mount][virtual]") {
    KernelMount mounted;
    mounted.mount();
    const Json kernel = Json::parse(contents(mounted.path(".pinfs/region")))["kernel"];
    CAPTURE(kernel.dump());
    utsname system{};
    REQUIRE(uname(&system) == 0);
    CHECK(kernel["release"] == system.release);

    write_file(mounted.path("f"), "content");
    {
        const Descriptor file{mounted.path("f"), O_RDWR};
        void* const map = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, file.get(), 0);
        CHECK((map != MAP_FAILED) == kernel["kernel_mmap"]);
        if (map == MAP_FAILED)
            CHECK(errno == ENODEV);
        else
            munmap(map, 4096);
        struct statx status {};
        REQUIRE(statx(file.get(), "", AT_EMPTY_PATH, STATX_BTIME, &status) == 0);
        CHECK(((status.stx_mask & STATX_BTIME) != 0) == kernel["birth_times"]);
    }
    mounted.unmount();
    CHECK((mounted.try_mount("supervise").status == 0) == kernel["resend"]);
}

TEST_CASE("region says what the region can do, metrics what is left", "[mount][virtual]") {
    KernelMount mounted;
    mounted.mount("region_path=/elsewhere/region");
    const Json region = Json::parse(contents(mounted.path(".pinfs/region")));
    CHECK(region["kind"] == mounted.region_kind());
    CHECK(region["pinnable"] == true);
    CHECK(region["path"] == "/elsewhere/region");
    CHECK(region["length_bytes"] == mounted.region_bytes());
    CHECK(region["mount"] == mounted.root());
    CHECK(region["uuid"].get<std::string>().size() == 36);

    const auto value = [&](const std::string& name) {
        const std::string text = "\n" + contents(mounted.path(".pinfs/metrics"));
        const std::size_t at = text.find("\n" + name + " ");
        return at == text.npos ? 0 : std::stoull(text.substr(at + name.size() + 2));
    };
    const auto free_before = value("pinfs_free_bytes");
    CHECK(free_before > 0);
    const auto writes = value("pinfs_requests_total{operation=\"write\"}");
    write_file(mounted.path("f"), std::string(1 << 20, 'x'));
    CHECK(value("pinfs_free_bytes") <= free_before - (1 << 20));
    // A request is counted a moment after its caller has the answer.
    CHECK(
        becomes_true([&] { return value("pinfs_requests_total{operation=\"write\"}") > writes; }));
    CHECK(value("pinfs_inodes") == 2);
    CHECK(errno_if(unlink(mounted.path(".file_pins").c_str())) == EPERM);
    CHECK(becomes_true([&] { return value("pinfs_errors_total{errno=\"EPERM\"}") >= 1; }));
    // Each name is explained once, before its values.
    const std::string text = contents(mounted.path(".pinfs/metrics"));
    std::set<std::string> explained;
    const std::set<std::string> parts{"_bucket", "_sum", "_count"};  // of a histogram
    std::size_t begin = 0;
    while (begin < text.size()) {
        const std::string line = text.substr(begin, text.find('\n', begin) - begin);
        begin += line.size() + 1;
        CAPTURE(line);
        const std::string word = line.substr(0, line.find_first_of("{ "));
        if (line.starts_with("# TYPE "))
            CHECK(explained.insert(line.substr(7, line.find(' ', 7) - 7)).second);
        else if (!line.starts_with("# HELP "))
            CHECK((explained.contains(word) ||
                   (parts.contains(word.substr(word.rfind('_'))) &&
                    explained.contains(word.substr(0, word.rfind('_'))))));
    }
}

TEST_CASE("options of limits and reports are taken, shown, and refused where they are wrong",
          "[mount][options]") {
    KernelMount mounted;
    mounted.mount("user_records=10K,user_bytes=1G,report_gid=7,release_grace=5,takeover");
    std::string options(4096, '\0');
    const ssize_t count =
        getxattr(mounted.root().c_str(), "user.pinfs.options", options.data(), options.size());
    REQUIRE(count > 0);
    options.resize(static_cast<std::size_t>(count));
    for (const char* word : {",user_records=10K", ",user_bytes=1G", ",report_gid=7",
                             ",release_grace=5", ",takeover"}) {
        CAPTURE(word, options);
        CHECK(options.find(word) != options.npos);
    }
    mounted.unmount();
    for (const auto& [word, said] : std::map<std::string, std::string>{
             {"user_bytes=lots", "wants a size"},
             {"user_records=", "wants a number"},
             {"region_path=relative", "wants an absolute path"},
             {"report_gid=no-such-group", "wants a group"},
             {"inject=unpin_delay=x", "wants a number of milliseconds"},
             {"inject=other", "unknown option"}}) {
        CAPTURE(word);
        const Ran ran = mounted.try_mount(word);
        CHECK(ran.status == 1);
        CHECK(ran.err.find(said) != ran.err.npos);
    }
}

// SPDX-License-Identifier: Apache-2.0
//
// What users who are not root reach of others' files, maps and pins: what their permissions give
// them, and nothing more, by whatever way they ask.
#include <fcntl.h>
#include <grp.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/raw_protocol.h"

using namespace pinfs::test;

namespace {

constexpr uid_t kUser = 1000;

/// A mount by root that others reach, with files of root and of kUser.
struct Shared : KernelMount {
    Shared() {
        mount();
        REQUIRE(chmod(outside("").c_str(), 0755) == 0);
        REQUIRE(chmod(root().c_str(), 0777) == 0);
        make("secret", 0600, 0);
        make("public", 0644, 0);
        make("shared", 0666, 0);
        make("own", 0644, kUser);
    }
    void make(const std::string& name, mode_t mode, uid_t uid) const {
        write_file(path(name), std::string(4 * kBlock, 's'));
        REQUIRE(chown(path(name).c_str(), uid, uid) == 0);
        REQUIRE(chmod(path(name).c_str(), mode) == 0);
    }
};

/// What was not as expected; a child has no test to fail.
class Findings {
public:
    void expect(const std::string& what, long found, long expected) {
        if (found != expected)
            text_ +=
                what + ": " + std::to_string(found) + ", not " + std::to_string(expected) + "\n";
    }
    void expect(const std::string& what, bool holds) { expect(what, holds ? 1 : 0, 1); }
    [[nodiscard]] const std::string& text() const { return text_; }

private:
    std::string text_;
};

/// What a process of kUser, of no other group, found wrong; empty if nothing was.
std::string found_by_user(const std::function<void(Findings&)>& body) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    const int status = in_child([&] {
        if (setgroups(0, nullptr) != 0 || setresgid(kUser, kUser, kUser) != 0 ||
            setresuid(kUser, kUser, kUser) != 0)
            return 1;
        Findings findings;
        body(findings);
        const std::string& text = findings.text();
        return write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0
                                                                                             : 2;
    });
    close(ends[1]);
    std::string text(65536, '\0');
    const ssize_t count = read(ends[0], text.data(), text.size());
    close(ends[0]);
    text.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
    return status == 0 ? text : text + "the process ended with " + std::to_string(status);
}

int errno_of_open(const std::string& path, int flags) {
    const Descriptor file{path, flags};
    return file.is_open() ? 0 : errno;
}

int errno_of_ioctl(int file, unsigned long command, void* argument) {
    return errno_if(ioctl(file, command, argument));
}

std::string text_of(const std::string& path) {
    const Descriptor file{path, O_RDONLY};
    std::string text(65536, '\0');
    const ssize_t count = read(file.get(), text.data(), text.size());
    text.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
    return text;
}

}  // namespace

TEST_CASE("neither a handle nor a path to it opens a file past its permissions",
          "[mount][security]") {
    const Shared mounted;
    CHECK(found_by_user([&](Findings& found) {
              const std::string secret = mounted.path("secret");
              found.expect("open", errno_of_open(secret, O_RDONLY), EACCES);
              alignas(file_handle) char bytes[sizeof(file_handle) + MAX_HANDLE_SZ]{};
              auto* const handle = reinterpret_cast<file_handle*>(bytes);
              handle->handle_bytes = MAX_HANDLE_SZ;
              int mount = 0;
              found.expect("name_to_handle_at",
                           errno_if(name_to_handle_at(AT_FDCWD, secret.c_str(), handle, &mount, 0)),
                           0);
              const Descriptor root{mounted.root(), O_RDONLY | O_DIRECTORY};
              found.expect("open_by_handle_at",
                           errno_if(open_by_handle_at(root.get(), handle, O_RDONLY)), EPERM);
              const Descriptor place{secret, O_PATH};
              found.expect("O_PATH", place.is_open());
              found.expect("through /proc",
                           errno_of_open("/proc/self/fd/" + std::to_string(place.get()), O_RDONLY),
                           EACCES);
              pinfs_ioc_layout layout{};
              layout.length_bytes = kBlock;
              found.expect("ioctl on O_PATH", ask(place.get(), PINFS_IOC_LAYOUT, layout).error,
                           EBADF);
              char value[64];
              for (const char* name : {"user.pinfs.extents", "user.pinfs.pins"})
                  found.expect(name, errno_if(getxattr(secret.c_str(), name, value, sizeof(value))),
                               EACCES);
              found.expect("O_NOATIME", errno_of_open(mounted.path("public"), O_RDONLY | O_NOATIME),
                           EPERM);
          }) == "");
}

TEST_CASE("what a descriptor is open for bounds leases, maps and pins", "[mount][security]") {
    const Shared mounted;
    CHECK(found_by_user([&](Findings& found) {
              const RawContext context{mounted.root()};
              found.expect("hello", context.hello().error, 0);
              std::uint64_t guard_id = 0;
              const Descriptor guard = context.guard(guard_id);
              pinfs_ioc_map map{};
              pinfs_ioc_pin pin{};
              pin.owner_fd = -1;

              const Descriptor theirs{mounted.path("public"), O_RDONLY};
              found.expect("layout lease", context.lease(theirs.get(), kLayoutLease, 0, 0).error,
                           0);
              found.expect("exclusive lease of another's",
                           context.lease(theirs.get(), kExclusiveLease, 0, 0).error, EACCES);
              map.flags = PINFS_IOC_MAP_WRITE;
              found.expect("writable map through a reader",
                           context.map(theirs.get(), guard_id, 0, kBlock, map).error, EACCES);
              map = {};
              found.expect("map", context.map(theirs.get(), guard_id, 0, kBlock, map).error, 0);
              found.expect("pin without an exclusive lease",
                           context.pin(theirs.get(), 0, kBlock, pin).error, EACCES);
              pin.flags = PINFS_IOC_PIN_READ;
              found.expect("reading pin without an exclusive lease",
                           context.pin(theirs.get(), 0, kBlock, pin).error, EPERM);

              const Descriptor writer{mounted.path("own"), O_WRONLY};
              found.expect("layout lease of who only writes",
                           context.lease(writer.get(), kLayoutLease, 0, 0).error, EACCES);
              const Descriptor own{mounted.path("own"), O_RDONLY};
              found.expect("exclusive lease of the owner",
                           context.lease(own.get(), kExclusiveLease, 0, 0).error, 0);
              map.flags = PINFS_IOC_MAP_WRITE;
              found.expect("owner's writable map through a reader",
                           context.map(own.get(), guard_id, 0, kBlock, map).error, EACCES);
              pin.flags = 0;
              found.expect("owner's pin for writing through a reader",
                           context.pin(own.get(), 0, kBlock, pin).error, EACCES);
              // Whoever may write may not shut others out: that is the owner's.
              const Descriptor shared{mounted.path("shared"), O_RDWR};
              found.expect("exclusive lease of who may write",
                           context.lease(shared.get(), kSharedLease, 0, 0).error, EACCES);
              long flags = FS_IMMUTABLE_FL;
              found.expect("chattr", errno_of_ioctl(own.get(), FS_IOC_SETFLAGS, &flags), EPERM);
              flags = FS_NODUMP_FL;
              found.expect("chattr of another's",
                           errno_of_ioctl(shared.get(), FS_IOC_SETFLAGS, &flags) != 0);
          }) == "");
}

TEST_CASE("what was opened before a chmod is used as before it", "[mount][security]") {
    const Shared mounted;
    CHECK(found_by_user([&](Findings& found) {
              const RawContext context{mounted.root()};
              std::uint64_t guard_id = 0;
              const Descriptor guard = context.guard(guard_id);
              const Descriptor own{mounted.path("own"), O_RDWR};
              found.expect("chmod", errno_if(chmod(mounted.path("own").c_str(), 0)), 0);
              found.expect("open", errno_of_open(mounted.path("own"), O_RDONLY), EACCES);
              found.expect("lease", context.lease(own.get(), kExclusiveLease, 0, 0).error, 0);
              pinfs_ioc_map map{};
              map.flags = PINFS_IOC_MAP_WRITE;
              found.expect("map", context.map(own.get(), guard_id, 0, kBlock, map).error, 0);
              found.expect("pin", context.pin(own.get(), 0, kBlock).error, 0);
              // The name may lead elsewhere meanwhile: the descriptor does not.
              found.expect(
                  "rename",
                  errno_if(rename(mounted.path("own").c_str(), mounted.path("moved").c_str())), 0);
              found.expect("symlink", errno_if(symlink("secret", mounted.path("own").c_str())), 0);
              found.expect("open through the link", errno_of_open(mounted.path("own"), O_RDONLY),
                           EACCES);
              found.expect("pin again", context.pin(own.get(), kBlock, kBlock).error, 0);
          }) == "");
    CHECK(contents(mounted.path("secret")) == std::string(4 * kBlock, 's'));
}

TEST_CASE("others' contexts and pins answer to neither guesses nor numbers", "[mount][security]") {
    const Shared mounted;
    const RawContext context{mounted.root()};
    const Descriptor secret{mounted.path("secret"), O_RDWR};
    REQUIRE(context.lease(secret.get(), kExclusiveLease, 0, 0).error == 0);
    pinfs_ioc_pin pin{};
    pin.owner_fd = -1;
    REQUIRE(context.pin(secret.get(), 0, kBlock, pin).error == 0);
    const std::uint64_t id = context.id();
    CHECK(found_by_user([&](Findings& found) {
              const RawContext mine{mounted.root()};
              const Descriptor own{mounted.path("own"), O_RDWR};
              std::mt19937_64 random{20261121};
              for (int i = 0; i < 500; ++i) {
                  pinfs_ioc_lease lease{};
                  lease.flags = kLayoutLease;
                  pinfs_ioc_guard guard{};
                  pinfs_ioc_adopt receive{};
                  receive.id = pin.id;
                  receive.generation = pin.generation;
                  for (std::uint8_t& byte : lease.token) byte = static_cast<std::uint8_t>(random());
                  std::memcpy(guard.token, lease.token, sizeof(guard.token));
                  std::memcpy(receive.secret, lease.token, sizeof(receive.secret));
                  if (i % 2 == 0)  // its number is not its token
                      std::memcpy(lease.token, &id, sizeof(id));
                  found.expect("lease", ask(own.get(), PINFS_IOC_LEASE_SET, lease).error, EBADF);
                  const Descriptor file{mounted.path(".pinfs/context"), O_RDWR};
                  found.expect("guard", ask(file.get(), PINFS_IOC_GUARD, guard).error, EBADF);
                  found.expect("receive", ask(mine.get(), PINFS_IOC_RECEIVE, receive).error, EBADF);
                  found.expect("adopt", ask(mine.get(), PINFS_IOC_ADOPT, receive).error != 0);
              }
              found.expect("unpin", mine.unpin(pin.id, pin.generation).error, ENOENT);
              pinfs_ioc_layout layout{};
              layout.id = pin.id;
              layout.generation = pin.generation;
              found.expect("extents of the pin",
                           ask(mine.get(), PINFS_IOC_PIN_EXTENTS, layout).error, ENOENT);
              layout.generation = 0;
              found.expect("reload", ask(mine.get(), PINFS_IOC_RELOAD, layout).error != 0);

              const auto refused = [&](const std::string& who) {
                  pinfs_ioc_revoke revoke{};
                  revoke.id = pin.id;
                  found.expect(who + " revoke", ask(mine.get(), PINFS_IOC_REVOKE, revoke).error,
                               EPERM);
                  pinfs_ioc_pin_name hold{};
                  hold.id = pin.id;
                  found.expect(who + " release",
                               ask(mine.get(), PINFS_IOC_RELEASE_HOLD, hold).error, EPERM);
                  pinfs_ioc_scrub scrub{};
                  found.expect(who + " scrub", ask(mine.get(), PINFS_IOC_SCRUB, scrub).error,
                               EPERM);
                  const Descriptor root{mounted.root(), O_RDONLY | O_DIRECTORY};
                  std::uint32_t how = 0;
                  found.expect(who + " shutdown",
                               errno_of_ioctl(root.get(), _IOR('X', 125, std::uint32_t), &how),
                               EPERM);
                  const Descriptor others{mounted.path("shared"), O_RDWR};
                  found.expect(who + " exclusive lease",
                               mine.lease(others.get(), kExclusiveLease, 0, 0).error != 0);
              };
              refused("a user's");
              // All capabilities of a user namespace are none of ours.
              if (unshare(CLONE_NEWUSER) == 0) refused("a container's root's");
          }) == "");
    CHECK(context.unpin(pin.id, pin.generation).error == 0);
}

TEST_CASE("reports tell a user nothing of others' pins", "[mount][security]") {
    const Shared mounted;
    const RawContext context{mounted.root()};
    const Descriptor file{mounted.path("public"), O_RDWR};
    REQUIRE(context.lease(file.get(), kExclusiveLease, 0, 0).error == 0);
    REQUIRE(context.pin(file.get(), 0, kBlock).error == 0);
    const std::string pid = std::to_string(getpid());
    REQUIRE(text_of(mounted.path(".file_pins")).find("public") != std::string::npos);
    CHECK(found_by_user([&](Findings& found) {
              for (const std::string& report :
                   {std::string{".file_pins"}, std::string{".pinfs/pins.json"},
                    ".pinfs/pid/" + pid + "/file_pins"})
                  found.expect(report,
                               text_of(mounted.path(report)).find("public") == std::string::npos);
              char value[4096];
              const ssize_t length =
                  getxattr(mounted.path("public").c_str(), "user.pinfs.pins", value, sizeof(value));
              found.expect("user.pinfs.pins", length <= 0);
              for (const char* report : {".file_pins", ".pinfs/pins.json", ".pinfs/metrics"})
                  found.expect(report, errno_of_open(mounted.path(report), O_RDWR) != 0);
              found.expect("unlink", errno_if(unlink(mounted.path(".file_pins").c_str())) != 0);
              found.expect("rename", errno_if(rename(mounted.path("own").c_str(),
                                                     mounted.path(".file_pins").c_str())) != 0);
          }) == "");
}

TEST_CASE("who stores past the kernel, or copies, takes setuid away", "[mount][security]") {
    const Shared mounted;
    const std::string path = mounted.path("own");
    const auto mode = [&] {
        struct stat st {};
        REQUIRE(stat(path.c_str(), &st) == 0);
        return st.st_mode & 07777;
    };
    const auto use = [&](const std::function<void(Findings&, const RawContext&, int)>& body) {
        REQUIRE(chmod(path.c_str(), 06755) == 0);
        CHECK(found_by_user([&](Findings& found) {
                  const RawContext context{mounted.root()};
                  const Descriptor own{path, O_RDWR};
                  body(found, context, own.get());
              }) == "");
        return mode();
    };
    const auto map = [](std::uint32_t flags) {
        return [flags](Findings& found, const RawContext& context, int file) {
            std::uint64_t guard_id = 0;
            const Descriptor guard = context.guard(guard_id);
            found.expect("lease", context.lease(file, kLayoutLease, 0, 0).error, 0);
            pinfs_ioc_map words{};
            words.flags = flags;
            found.expect("map", context.map(file, guard_id, 0, kBlock, words).error, 0);
        };
    };
    const auto pin = [](std::uint32_t flags) {
        return [flags](Findings& found, const RawContext& context, int file) {
            // The lease of who came before ends a little after that process.
            found.expect("lease", becomes_true([&] {
                             return context.lease(file, kExclusiveLease, 0, 0).error == 0;
                         }));
            pinfs_ioc_pin words{};
            words.owner_fd = -1;
            words.flags = flags;
            found.expect("pin", context.pin(file, 0, kBlock, words).error, 0);
            found.expect("unpin", context.unpin(words.id, words.generation).error, 0);
        };
    };
    CHECK(use(map(PINFS_IOC_MAP_WRITE)) == 0755);
    CHECK(use(map(0)) == 06755);
    CHECK(use(pin(0)) == 0755);
    CHECK(use(pin(PINFS_IOC_PIN_READ)) == 06755);
    CHECK(use([&](Findings& found, const RawContext&, int file) {
              const Descriptor from{mounted.path("public"), O_RDONLY};
              found.expect("copy", copy_file_range(from.get(), nullptr, file, nullptr, kBlock, 0),
                           kBlock);
          }) == 0755);
    CHECK(use([](Findings& found, const RawContext&, int file) {
              found.expect("write", write(file, "x", 1), 1);
          }) == 0755);
    CHECK(use([](Findings& found, const RawContext&, int file) {
              found.expect("fallocate", errno_if(fallocate(file, 0, 0, 16 * kBlock)), 0);
          }) == 0755);
}

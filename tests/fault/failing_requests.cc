// SPDX-License-Identifier: Apache-2.0
//
// Every kind of request at the kernel's edge with each of its allocations failing in turn, and with
// its answer lost, as of a process that was killed: it is answered once, with success or ENOMEM,
// the daemon lives, and no reference, open file, context or block stays behind.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fs/fuse/virtual_nodes.h"
#include "fs/memory_reserve.h"
#include "lib/pinfs/protocol.h"
#include "tests/support/failing_new.h"
#include "tests/support/mounted.h"
#include "tests/support/served.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;
using namespace std::string_literals;

/// Files of which the kernel knows one, which it has open.
struct Mount {
    Mount() : empty_blocks_free{fs->statistics().blocks_free}, served{fs.volume()} {
        const Ino file = fs.make_file("/file", 30000, 1);
        must(fs->set_attribute(file, "user.x", pattern(0, 100, 1), SetAttribute::create));
        fs.make_directory("/directory");
        for (int i = 0; i < 20; ++i)
            fs.make_file("/directory/" + std::string(60, 'n') + std::to_string(i));
        fs.make_directory("/empty");
        const Entry symbolic =
            must(fs->make(kRootIno, "symbolic", {.mode = S_IFLNK | 0777, .target = "there"}, {}));
        fs->forget(symbolic.attributes.ino, 1);
        const Ino kept = fs.make_file("/kept", 5000, 2);
        must(fs->lookup(kRootIno, "kept"));
        fuse_open_in wanted{};
        wanted.flags = O_RDWR;
        served.send(FUSE_OPEN, kept.value, wanted);
        node = kept.value;
        handle = served.answer_as<fuse_open_out>().fh;
    }
    [[nodiscard]] std::uint64_t node_of(const char* name) const {
        return fs.ino("/"s + name).value;
    }

    Mounted fs{{.bytes = 2_MiB}};
    const std::uint64_t empty_blocks_free;
    Served served;
    std::uint64_t node = 0;
    std::uint64_t handle = 0;
};

struct Request {
    std::string name;
    std::function<void(Mount&)> send;
    /// What the kernel does when it had the answer: forgets and releases what that gave it.
    std::function<void(Mount&)> undo = {};
};

void forget_entry(Mount& mount) {
    const auto entry = mount.served.answer_as<fuse_entry_out>();
    fuse_forget_in forgotten{};
    forgotten.nlookup = 1;
    mount.served.send(FUSE_FORGET, entry.nodeid, forgotten);
}

void release_and_forget_created(Mount& mount) {
    const auto entry = mount.served.answer_as<fuse_entry_out>();
    fuse_open_out opened{};
    std::memcpy(&opened, mount.served.answer().data() + sizeof entry, sizeof opened);
    fuse_release_in released{};
    released.fh = opened.fh;
    mount.served.send(FUSE_RELEASE, entry.nodeid, released);
    fuse_forget_in forgotten{};
    forgotten.nlookup = 1;
    mount.served.send(FUSE_FORGET, entry.nodeid, forgotten);
}

template <class Head>
std::function<void(Mount&)> message(std::uint32_t operation, const char* name, Head head,
                                    std::string behind) {
    return [=](Mount& mount) {
        const std::uint64_t node =
            name == nullptr ? std::uint64_t{FUSE_ROOT_ID} : mount.node_of(name);
        mount.served.send(operation, node, head, behind.data(), behind.size());
    };
}

std::vector<Request> requests() {
    std::vector<Request> list;
    const auto zero = "\0"s;
    const auto plain = [](std::uint32_t operation, const char* node, std::string behind) {
        return [=](Mount& mount) {
            const std::uint64_t number =
                node == nullptr ? std::uint64_t{FUSE_ROOT_ID} : mount.node_of(node);
            mount.served.send(operation, number, nullptr, 0, behind.data(), behind.size());
        };
    };
    list.push_back({"lookup", plain(FUSE_LOOKUP, nullptr, "file" + zero), forget_entry});
    list.push_back({"lookup of what is virtual", plain(FUSE_LOOKUP, nullptr, ".pinfs" + zero)});
    fuse_mkdir_in directory{};
    directory.mode = 0755;
    list.push_back({"mkdir", message(FUSE_MKDIR, nullptr, directory, "new" + zero), forget_entry});
    fuse_mknod_in pipe{};
    pipe.mode = S_IFIFO | 0600;
    list.push_back({"mknod", message(FUSE_MKNOD, nullptr, pipe, "new" + zero), forget_entry});
    list.push_back(
        {"symlink", plain(FUSE_SYMLINK, nullptr, "new" + zero + "there" + zero), forget_entry});
    list.push_back({"link",
                    [=](Mount& mount) {
                        fuse_link_in link{};
                        link.oldnodeid = mount.node;
                        mount.served.send(FUSE_LINK, FUSE_ROOT_ID, link, "new", 4);
                    },
                    forget_entry});
    fuse_create_in created{};
    created.flags = O_RDWR;
    created.mode = S_IFREG | 0644;
    list.push_back({"create", message(FUSE_CREATE, nullptr, created, "new" + zero),
                    release_and_forget_created});
    list.push_back(
        {"tmpfile", message(FUSE_TMPFILE, nullptr, created, zero), release_and_forget_created});
    list.push_back({"unlink", plain(FUSE_UNLINK, nullptr, "file" + zero)});
    list.push_back({"rmdir", plain(FUSE_RMDIR, nullptr, "empty" + zero)});
    fuse_rename2_in renamed{};
    renamed.newdir = FUSE_ROOT_ID;
    list.push_back(
        {"rename", message(FUSE_RENAME2, nullptr, renamed, "file" + zero + "moved" + zero)});
    list.push_back({"readlink", plain(FUSE_READLINK, "symbolic", "")});
    list.push_back({"getattr", message(FUSE_GETATTR, "file", fuse_getattr_in{}, "")});
    fuse_setattr_in cut{};
    cut.valid = FATTR_SIZE;
    cut.size = 5000;
    list.push_back({"truncate", message(FUSE_SETATTR, "file", cut, "")});
    fuse_open_in opened{};
    opened.flags = O_RDWR;
    const auto release = [](Mount& mount, std::uint64_t node, std::uint32_t operation) {
        fuse_release_in released{};
        released.fh = mount.served.answer_as<fuse_open_out>().fh;
        mount.served.send(operation, node, released);
    };
    list.push_back({"open", message(FUSE_OPEN, "file", opened, ""), [=](Mount& mount) {
                        release(mount, mount.node_of("file"), FUSE_RELEASE);
                    }});
    static constexpr std::uint64_t kContext = fuse::number_of({fuse::VirtualKind::context});
    list.push_back({"open a context",
                    [=](Mount& mount) { mount.served.send(FUSE_OPEN, kContext, opened); },
                    [=](Mount& mount) {
                        release(mount, kContext, FUSE_RELEASE);
                    }});
    fuse_open_in listed{};
    listed.flags = O_RDONLY | O_DIRECTORY;
    list.push_back({"opendir", message(FUSE_OPENDIR, "directory", listed, ""), [=](Mount& mount) {
                        release(mount, mount.node_of("directory"), FUSE_RELEASEDIR);
                    }});
    fuse_read_in much{};
    much.size = 8192;
    list.push_back({"readdir", message(FUSE_READDIR, "directory", much, "")});
    list.push_back({"statfs", plain(FUSE_STATFS, nullptr, "")});
    fuse_getxattr_in wanted{};
    wanted.size = 1000;
    list.push_back({"getxattr", message(FUSE_GETXATTR, "file", wanted, "user.x" + zero)});
    list.push_back({"listxattr", message(FUSE_LISTXATTR, "file", wanted, "")});
    list.push_back({"removexattr", plain(FUSE_REMOVEXATTR, "file", "user.x" + zero)});
    struct {
        std::uint32_t size = 5;
        std::uint32_t flags = 0;
    } value;  // without what later kernels have behind it
    list.push_back({"setxattr", message(FUSE_SETXATTR, "file", value, "user.y" + zero + "value")});
    list.push_back({"read", [=](Mount& mount) {
                        fuse_read_in read = much;
                        read.fh = mount.handle;
                        mount.served.send(FUSE_READ, mount.node, read);
                    }});
    list.push_back({"write", [](Mount& mount) {
                        static const Bytes kBytes = pattern(0, 9000, 3);
                        fuse_write_in written{};
                        written.fh = mount.handle;
                        written.offset = 3000;
                        written.size = static_cast<std::uint32_t>(kBytes.size());
                        written.flags = O_RDWR;
                        mount.served.send(FUSE_WRITE, mount.node, written, kBytes.data(),
                                          kBytes.size());
                    }});
    list.push_back({"fallocate", [](Mount& mount) {
                        fuse_fallocate_in hole{};
                        hole.fh = mount.handle;
                        hole.length = 4096;
                        hole.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
                        mount.served.send(FUSE_FALLOCATE, mount.node, hole);
                    }});
    list.push_back({"fsync", [](Mount& mount) {
                        fuse_fsync_in synced{};
                        synced.fh = mount.handle;
                        mount.served.send(FUSE_FSYNC, mount.node, synced);
                    }});
    return list;
}

/// The kernel lets everything go and removes everything: every block comes back.
void require_nothing_kept(Mount& mount) {
    fuse_release_in released{};
    released.fh = mount.handle;
    mount.served.send(FUSE_RELEASE, mount.node, released);
    fuse_forget_in forgotten{};
    forgotten.nlookup = 1;
    mount.served.send(FUSE_FORGET, mount.node, forgotten);
    REQUIRE(mount.fs->pinned_totals().contexts == 0);
    mount.fs.remove_all();
    must(mount.fs->finish_pending());
    REQUIRE(mount.fs->statistics().blocks_free == mount.empty_blocks_free);
    REQUIRE(mount.fs->statistics().inodes == 1);
    mount.fs.check_clean();
}

TEST_CASE("a request whose allocation fails is answered with ENOMEM, and leaves nothing behind",
          "[fuse][fault]") {
    std::uint64_t failures = 0;
    std::uint64_t not_minded = 0;
    for (const Request& request : requests())
        for (std::uint64_t number = 1;; ++number) {
            INFO(request.name << " with allocation " << number << " failing");
            Mount mount;
            const Snapshot before = mount.fs.snapshot();
            REQUIRE(fill_memory_reserve());
            bool happened = false;
            mount.served.handle_next_in([&](const std::function<void()>& handle) {
                const FailingAllocation failing{number, /*no_more_memory=*/false};
                handle();
                happened = failing.happened();
            });
            request.send(mount);
            if (happened) ++failures;
            if (mount.served.error() == 0) {
                if (happened) ++not_minded;
                if (request.undo) request.undo(mount);
            } else {
                REQUIRE(happened);
                REQUIRE(mount.served.error() == ENOMEM);
                REQUIRE(difference(mount.fs.snapshot(), before) == "");
            }
            require_nothing_kept(mount);
            if (!happened) break;
        }
    std::printf("requests: %zu, %llu allocations failed, %llu of them not minded\n",
                requests().size(), static_cast<unsigned long long>(failures),
                static_cast<unsigned long long>(not_minded));
    CHECK(failures > requests().size());
}

TEST_CASE("an answer that the kernel does not take leaves nothing behind", "[fuse][fault]") {
    for (const Request& request : requests()) {
        INFO(request.name);
        Mount mount;
        mount.served.lose_answers(true);
        request.send(mount);
        mount.served.lose_answers(false);
        require_nothing_kept(mount);
    }
}

}  // namespace

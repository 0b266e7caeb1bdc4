// SPDX-License-Identifier: Apache-2.0
//
// A daemon of a supervised mount dies somewhere in a request that would do another thing the second
// time, and the kernel sends it again: cut at every fence, it succeeds, and was done once.
#include <sys/stat.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdio>
#include <functional>
#include <string>

#include "fs/volume/finished_requests.h"
#include "fs/volume/volume.h"
#include "tests/support/crash_region.h"
#include "tests/support/mounted.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

constexpr std::uint64_t kNumber = 4242;
constexpr std::array kValue{std::byte{1}, std::byte{2}};

struct Request {
    const char* name;
    std::function<Expected<void>(Volume&)> make;
};

/// Of a request that answers with an inode: it is there, and the kernel may know it.
Expected<void> known(Volume& volume, const Expected<Entry>& entry) {
    if (!entry) return std::unexpected(entry.error());
    TRY(volume.attributes(entry->attributes.ino));
    return {};
}

Ino ino_of(Volume& volume, const char* name) {
    const Entry entry = must(volume.lookup(kRootIno, name));
    volume.forget(entry.attributes.ino, 1);
    return entry.attributes.ino;
}

const std::array kRequests{
    Request{"create",
            [](Volume& volume) {
                return known(volume,
                             volume.make(kRootIno, "new", {.mode = S_IFREG | 0644}, Caller{}));
            }},
    Request{"mkdir",
            [](Volume& volume) {
                return known(volume,
                             volume.make(kRootIno, "new", {.mode = S_IFDIR | 0755}, Caller{}));
            }},
    Request{"symlink",
            [](Volume& volume) {
                return known(volume,
                             volume.make(kRootIno, "new",
                                         {.mode = S_IFLNK | 0777, .target = "target"}, Caller{}));
            }},
    Request{"tmpfile",
            [](Volume& volume) {
                return known(volume,
                             volume.make_unnamed(kRootIno, {.mode = S_IFREG | 0600}, Caller{}));
            }},
    Request{"link",
            [](Volume& volume) {
                return known(volume, volume.link(ino_of(volume, "file"), kRootIno, "new"));
            }},
    Request{"unlink",
            [](Volume& volume) {
                return volume.unlink(kRootIno, "gone");
            }},
    Request{"rmdir",
            [](Volume& volume) {
                return volume.remove_directory(kRootIno, "directory");
            }},
    Request{"rename",
            [](Volume& volume) {
                return volume.rename(kRootIno, "gone", kRootIno, "new", kRenameNoReplace);
            }},
    Request{"rename over",
            [](Volume& volume) {
                return volume.rename(kRootIno, "gone", kRootIno, "file", 0);
            }},
    Request{"exchange",
            [](Volume& volume) {
                return volume.rename(kRootIno, "directory", kRootIno, "file", kRenameExchange);
            }},
    Request{"setxattr",
            [](Volume& volume) {
                return volume.set_attribute(ino_of(volume, "file"), "user.new", kValue,
                                            SetAttribute::create);
            }},
    Request{"removexattr",
            [](Volume& volume) {
                return volume.remove_attribute(ino_of(volume, "file"), "user.old");
            }},
};

/// What a second request would change, and no times.
Snapshot names_of(Volume& volume) {
    Snapshot names = snapshot_of(volume);
    for (auto& [path, state] : names) {
        state.atime = state.mtime = state.ctime = state.btime = std::nullopt;
        state.ino = state.generation = std::nullopt;
    }
    return names;
}

MountOptions supervised(const Survivors* survivors) {
    MountOptions options = mount_options();
    options.supervision.session = 7;
    options.supervision.survivors = survivors;
    return options;
}

}  // namespace

TEST_CASE("crash: a request that comes again to the next daemon was done once", "[volume][crash]") {
    const std::uint64_t seed = seed_of_test("finished requests", 1);
    std::uint64_t images = 0;
    for (const Request& request : kRequests) {
        CAPTURE(request.name);
        CrashRegion crash{1_MiB};
        {
            Mounted fs{crash.region(), crash.memory(), {.bytes = 1_MiB}};
            const Ino file = fs.make_file("/file", 5000, 1);
            fs.make_file("/gone", 9000, 2);
            fs.make_directory("/directory");
            must(fs->set_attribute(file, "user.old", kValue, SetAttribute::create));
            fs.unmount();
        }
        Snapshot after;
        {
            const auto volume = must(Volume::mount(crash.region(), supervised(nullptr)));
            served_request() = {.number = kNumber, .resent = false};
            crash.record([&] {
                must(request.make(*volume));
                crash.mark(1);
            });
            served_request() = {};
            after = names_of(*volume);
        }
        crash.for_each_image({.per_fence_max = 12, .seed = seed}, [&](CrashImage& image) {
            Survivors survivors;
            survivors.start = {1, 1};
            survivors.unanswered = {kNumber};
            const auto volume = must(Volume::mount(image.region, supervised(&survivors)));
            served_request() = {.number = kNumber, .resent = true};
            const auto done = request.make(*volume);
            served_request() = {};
            INFO((done ? std::string{} : done.error().message()));
            REQUIRE(done.has_value());
            REQUIRE(difference(names_of(*volume), after).empty());
            // Another one of the same number is no repetition.
            REQUIRE(volume->make(kRootIno, "another", {.mode = S_IFREG | 0644}, Caller{}));
            REQUIRE(volume->unmount());
            ++images;
        });
    }
    std::printf("%zu requests, cut at every fence and made again: %llu images, seed %llu\n",
                kRequests.size(), static_cast<unsigned long long>(images),
                static_cast<unsigned long long>(seed));
    CHECK(images > 100);
}

// SPDX-License-Identifier: Apache-2.0
//
// Metadata that is wrong although its checksum is right, under every operation: an operation may
// fail, but nothing crashes, hangs, or trips an assertion. And failing loads and stores.
#include <catch2/catch.hpp>
#include <cstring>
#include <random>

#include "fs/checksum.h"
#include "fs/format/inode.h"
#include "fs/format/lane.h"
#include "fs/format/state.h"
#include "fs/format/superblock.h"
#include "fs/format/table.h"
#include "tests/support/crash_region.h"
#include "tests/support/exercise.h"
#include "tests/support/mounted.h"
#include "tests/support/seed.h"

using namespace pinfs;
using namespace pinfs::unit_literals;
using test::Bytes;
using test::CrashRegion;
using test::exercise;
using test::must;
using test::pattern;

namespace {

constexpr Caller kUser{.uid = 1000, .gid = 100};

/// Files of every kind: inline and deep trees, links, attributes, an orphan, a preallocated tail.
void fill(Volume& volume) {
    const auto make = [&](Ino parent, const std::string& name, std::uint32_t mode) {
        return must(volume.make(parent, name, {.mode = mode}, kUser)).attributes.ino;
    };
    const Ino directory = make(kRootIno, "directory", S_IFDIR | 0755);
    for (int i = 0; i < 150; ++i)
        make(directory, "name-in-directory-" + std::to_string(i), S_IFREG | 0644);
    const Ino holes = make(kRootIno, "holes", S_IFREG | 0644);
    for (std::uint64_t i = 0; i < 100; ++i)
        must(volume.write(holes, i * 8192, pattern(i * 8192, 4096, 1)));
    const Ino plain = make(kRootIno, "plain", S_IFREG | 0644);
    must(volume.write(plain, 0, pattern(0, 20000, 2)));
    must(volume.write(plain, 20000, pattern(20000, 5000, 2)));
    must(volume.set_attribute(plain, "user.large", Bytes(9000), SetAttribute::create));
    must(volume.make(kRootIno, "short", {.mode = S_IFLNK | 0777, .target = "target"}, kUser));
    const std::string target(2000, 't');
    must(volume.make(kRootIno, "long", {.mode = S_IFLNK | 0777, .target = target}, kUser));
    make(kRootIno, "orphan", S_IFREG | 0644);
    must(volume.unlink(kRootIno, "orphan"));
}

struct Unit {
    std::uint64_t offset;
    std::size_t bytes;
};

std::vector<Unit> units_of(std::span<const std::byte> memory) {
    std::vector<Unit> units;
    for (std::uint64_t at = 0; at < memory.size(); at += media::kSlotBytes) {
        std::uint32_t magic;
        std::memcpy(&magic, memory.data() + at, sizeof magic);
        if (magic == media::kBlockMagic && at % kBlockBytes == 0)
            units.push_back({at, kBlockBytes});
        if (magic == media::kInodeMagic || magic == media::kChunkMagic ||
            magic == media::kLaneStateMagic)
            units.push_back({at, media::kSlotBytes});
    }
    return units;
}

#ifdef __SANITIZE_ADDRESS__
constexpr int kRounds = 300;
#else
constexpr int kRounds = 1500;
#endif

/// A filled file system, cleanly unmounted.
Bytes filled(pmem::Region& region, std::span<std::byte> memory) {
    test::make_empty(region, memory, {.bytes = memory.size()});
    const auto volume = must(Volume::mount(region, test::mount_options()));
    fill(*volume);
    must(volume->unmount());
    return {memory.begin(), memory.end()};
}

}  // namespace

TEST_CASE("damage under a right checksum fails operations, never the program", "[volume][fault]") {
    std::mt19937_64 random{test::seed_of_test("damaged_metadata", 21)};
    test::Memory memory{2_MiB};
    pmem::Region region{memory.bytes(), pmem::Capabilities{}, nullptr};
    const Bytes clean = filled(region, memory.bytes());
    media::Superblock super;
    std::memcpy(&super, clean.data(), sizeof super);
    const auto units = units_of(clean);
    REQUIRE(units.size() > 150);
    int mounted = 0;
    for (int round = 0; round < kRounds; ++round) {
        std::ranges::copy(clean, memory.bytes().begin());
        for (std::size_t damages = random() % 3 + 1; damages > 0; --damages) {
            const Unit unit = units[random() % units.size()];
            const auto bytes = memory.bytes().subspan(unit.offset, unit.bytes);
            // Mostly near the head, where the fields are.
            const std::size_t at = 8 + random() % ((random() % 2 == 0 ? 200 : unit.bytes) - 8);
            const auto value = static_cast<std::byte>(random() % 3 == 0 ? 0xff : random());
            const std::size_t count = random() % 8 + 1;
            for (std::size_t i = 0; i < count && at + i < unit.bytes; ++i) bytes[at + i] = value;
            const std::uint32_t sum = unit_checksum(super.checksum_seed, bytes);
            std::memcpy(bytes.data() + 4, &sum, sizeof sum);
        }
        INFO("round " << round);
        (void)check(region);
        const auto volume = Volume::mount(region, test::mount_options());
        if (!volume) continue;
        ++mounted;
        exercise(**volume);
    }
    CHECK(mounted > kRounds / 2);
}

TEST_CASE("a load that fails, fails its operation with EIO and nothing else", "[volume][fault]") {
    CrashRegion crash{2_MiB};
    const Bytes clean = filled(crash.region(), crash.memory());
    std::uint64_t failed = 0;
    for (std::uint64_t n = 1; n < 4000; n += n < 40 ? 1 : 97) {
        std::ranges::copy(clean, crash.memory().begin());
        crash.fail_load(n);
        const auto volume = Volume::mount(crash.region(), test::mount_options());
        if (!volume) {
            CHECK(volume.error().number() == EIO);
            ++failed;
            continue;
        }
        exercise(**volume);
        crash.fail_load(UINT64_MAX / 2);
        const auto found = must(check(crash.region()));
        INFO("load " << n << "\n" << found.text());
        CHECK(found.clean());
    }
    CHECK(failed > 3);
}

TEST_CASE("a store that fails loses nothing that had returned", "[volume][fault]") {
    CrashRegion crash{2_MiB};
    const Bytes clean = filled(crash.region(), crash.memory());
    for (std::uint64_t n = 1; n < 3000; n += n < 60 ? 1 : 61) {
        std::ranges::copy(clean, crash.memory().begin());
        crash.fail_store(n);
        {
            const auto volume = Volume::mount(crash.region(), test::mount_options());
            if (volume) exercise(**volume);
        }
        // Past the commit point the volume stops as after a power cut; the next mount replays.
        const auto again = must(Volume::mount(crash.region(), test::mount_options()));
        must(again->finish_pending());
        const auto found = must(check(crash.region()));
        INFO("store " << n << "\n" << found.text());
        CHECK(found.clean());
    }
}

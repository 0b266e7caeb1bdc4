// SPDX-License-Identifier: Apache-2.0
//
// Check and repair of many files: the time follows the metadata. Prints what it took.
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>

#include "fs/format/unit.h"
#include "tests/support/repaired.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kDirectories = 20;
#else
constexpr std::uint64_t kDirectories = 1000;
#endif
constexpr std::uint64_t kFilesEach = 1000;
constexpr std::uint64_t kWithData = 10;  // every tenth

double seconds_of(const std::function<void()>& work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void make_files(Mounted& fs) {
    const Bytes data = pattern(0, kBlockBytes, 5);
    for (std::uint64_t i = 0; i < kDirectories; ++i) {
        const Ino directory = fs.make_directory("/" + std::to_string(i));
        for (std::uint64_t j = 0; j < kFilesEach; ++j) {
            const Ino file = must(fs->make(directory, "file " + std::to_string(j),
                                           {.mode = S_IFREG | 0644}, Caller{}))
                                 .attributes.ino;
            if (j % kWithData == 0) must(fs->write(file, 0, data));
            fs->forget(file, 1);
        }
    }
}

// Changes two bytes in every `n`-th block of metadata, of chunks in one of their slots.
std::uint64_t damage(std::span<std::byte> memory, std::uint64_t n) {
    std::uint64_t met = 0;
    std::uint64_t damaged = 0;
    for (std::uint64_t at = 0; at < memory.size(); at += kBlockBytes) {
        media::le32 magic;
        std::memcpy(&magic, memory.data() + at, sizeof magic);
        if ((magic != media::kBlockMagic && magic != media::kChunkMagic) || ++met % n != 0)
            continue;
        const std::uint64_t slot = magic == media::kChunkMagic ? met / n % 15 + 1 : 0;
        for (const std::uint64_t byte : {100, 120})
            memory[at + slot * media::kSlotBytes + byte] ^= std::byte{4};
        ++damaged;
    }
    return damaged;
}

TEST_CASE("model: a million files are checked, and repaired, in seconds", "[repair][model]") {
    constexpr std::uint64_t kBytes = 2_GiB;
    const Memory memory{kBytes};
    pmem::Region region{memory.bytes(), pmem::Capabilities{}, nullptr};
    {
        Mounted fs{region, memory.bytes(), {.bytes = kBytes, .poison = false}};
        make_files(fs);
        fs.unmount();
    }
    std::uint64_t files = 0;
    const double checked = seconds_of([&] {
        const auto report = must(check(region));
        CHECK(report.clean());
        files = report.totals.files;
    });
    CHECK(files == kDirectories * kFilesEach);
    const std::uint64_t damaged = damage(memory.bytes(), 500);
    CHECK(damaged > 0);
    Repaired done;
    const double repaired = seconds_of([&] { done = repair_all(region); });
    INFO(done.report.left.text());
    CHECK(done.report.left.clean());
    const auto after = must(check(region));
    CHECK(after.clean());
    // What they may cost: an inode. Leaves and indexes are found again.
    CHECK(after.totals.files + damaged >= files);
    std::printf(
        "%llu files: checked in %.2f s; %llu damaged places repaired in %.2f s, %zu repairs, "
        "%llu files left\n",
        static_cast<unsigned long long>(files), checked, static_cast<unsigned long long>(damaged),
        repaired, done.sentences.size(), static_cast<unsigned long long>(after.totals.files));
    CHECK(checked < 10);
    CHECK(repaired < 60);
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
//
// Several threads at once: on trees of their own, where each has its own model, and all over the
// same few names and files, where the judge and a few invariants decide.
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/operations.h"
#include "tests/support/random_operations.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

#if defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kScale = 8;
#elif defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kScale = 4;
#else
constexpr std::uint64_t kScale = 1;
#endif

constexpr std::size_t kThreads = 4;

/// Runs `work(thread)` on all threads; the first exception's text, or none.
template <class Work>
std::string run_threads(const Work& work) {
    std::mutex mutex;
    std::string wrong;
    std::vector<std::thread> threads;
    for (std::size_t thread = 0; thread < kThreads; ++thread)
        threads.emplace_back([&, thread] {
            try {
                work(thread);
            } catch (const std::exception& error) {
                const std::scoped_lock lock{mutex};
                if (wrong.empty()) wrong = "thread " + std::to_string(thread) + ": " + error.what();
            }
        });
    for (std::thread& thread : threads) thread.join();
    return wrong;
}

/// Empties it, and compares with what it was.
void check_emptied(Mounted& fs, const Statistics& empty) {
    must(fs->finish_pending());
    fs.check_clean();
    fs.remount();
    fs.remove_all();
    fs.check_clean();
    CHECK(fs->statistics().blocks_free == empty.blocks_free);
    CHECK(fs->statistics().inodes == 1);
}

TEST_CASE("threads: on trees of their own, each as its model has it",
          "[volume][model][concurrency]") {
    const std::uint64_t seed = seed_of_test("threads", 1);
    const std::uint64_t bytes = GENERATE(16_MiB, 200_MiB);
    Mounted fs{{.bytes = bytes}};
    const Statistics empty = fs->statistics();
    std::array<ModelFiles, kThreads> models;
    for (std::size_t thread = 0; thread < kThreads; ++thread) {
        fs.make_directory("/t" + std::to_string(thread), 0750);
        for (std::size_t other = 0; other < kThreads; ++other)
            models[other].apply(operations::make_directory("/t" + std::to_string(thread)));
    }
    const std::string wrong = run_threads([&](std::size_t thread) {
        const std::string top = "/t" + std::to_string(thread);
        RandomOperations random{
            seed * 100 + thread,
            {.names = 10, .write_bytes_max = 60'000, .removals = 8, .top = top}};
        Compared both{fs, models[thread]};
        for (std::uint64_t i = 0; i < 3000 / kScale; ++i) {
            const Operation operation = random.next();
            if (both.run(operation)) random.was_done(operation);
        }
    });
    INFO(wrong);
    REQUIRE(wrong.empty());
    const Snapshot found = fs.snapshot();
    for (std::size_t thread = 0; thread < kThreads; ++thread) {
        const std::string top = "/t" + std::to_string(thread);
        const auto part = [&](const Snapshot& all) {
            Snapshot some;
            for (const auto& [path, file] : all)
                if (path.starts_with(top + "/")) some.insert({path, file});
            return some;
        };
        CHECK(difference(part(found), part(models[thread].snapshot())) == "");
    }
    check_emptied(fs, empty);
}

TEST_CASE("threads: all over the same names, the file system stays whole",
          "[volume][model][concurrency]") {
    const std::uint64_t seed = seed_of_test("shared names", 1);
    const bool background = GENERATE(false, true);
    Mounted fs{{.bytes = 24_MiB, .name_hash_bits = 5}};
    const Statistics empty = fs->statistics();
    if (background) {
        fs.unmount();
        fs.mount(true);
    }
    std::atomic<std::uint64_t> succeeded{0};
    const std::string wrong = run_threads([&](std::size_t thread) {
        RandomOperations random{seed * 100 + thread,
                                {.names = 6, .write_bytes_max = 60'000, .far_offsets = false}};
        Runner runner{fs};
        for (std::uint64_t i = 0; i < 4000 / kScale; ++i) {
            const Operation operation = random.next();
            const auto done = runner.run(operation);
            if (done) {
                ++succeeded;
                random.was_done(operation);
                continue;
            }
            // What other threads did explains these, and nothing else.
            const int number = done.error().number();
            static const std::set<int> kAllowed{ENOENT, EEXIST, ENOTDIR, EISDIR,    ENOTEMPTY,
                                                EINVAL, ENOSPC, ESTALE,  EPERM,     ENODATA,
                                                EFBIG,  EMLINK, EACCES,  EOPNOTSUPP};
            if (!kAllowed.contains(number))
                throw std::runtime_error(operation.text() + ": " + done.error().message());
        }
        for (std::uint32_t handle = 0; handle < 4; ++handle)
            if (random.is_open(handle)) must(runner.run(operations::release(handle)));
    });
    INFO(wrong);
    REQUIRE(wrong.empty());
    CHECK(succeeded > 1000 / kScale);
    // The background thread may be about to free a file: the judge looks when it has ended.
    if (background) fs.remount();
    check_emptied(fs, empty);
}

TEST_CASE("threads: appends to one file are each whole, none lost",
          "[volume][model][concurrency]") {
    Mounted fs{{.bytes = 64_MiB}};
    const Statistics empty = fs->statistics();
    const Ino file = fs.make_file("/file");
    const std::uint64_t appends = 1200 / kScale;
    constexpr std::size_t kBytes = 700;
    const std::string wrong = run_threads([&](std::size_t thread) {
        must(fs->open(file));
        for (std::uint64_t i = 0; i < appends; ++i)
            must(fs->write(file, 0, pattern(0, kBytes, thread * appends + i), true));
        fs->release(file);
    });
    INFO(wrong);
    REQUIRE(wrong.empty());
    const Bytes all = fs.read(file, 0, kThreads * appends * kBytes + 1);
    REQUIRE(all.size() == kThreads * appends * kBytes);
    std::set<Bytes> left;
    for (std::uint64_t i = 0; i < kThreads * appends; ++i) left.insert(pattern(0, kBytes, i));
    for (std::size_t at = 0; at < all.size(); at += kBytes) {
        const Bytes piece{all.begin() + static_cast<std::ptrdiff_t>(at),
                          all.begin() + static_cast<std::ptrdiff_t>(at + kBytes)};
        if (left.erase(piece) != 1) FAIL("a piece at " << at << " is torn, or there twice");
    }
    check_emptied(fs, empty);
}

TEST_CASE("threads: writers, readers and truncates of one file never show foreign bytes",
          "[volume][model][concurrency]") {
    Mounted fs{{.bytes = 16_MiB}};
    const Statistics empty = fs->statistics();
    const Ino file = fs.make_file("/file");
    constexpr std::uint64_t kSize = 200'000;
    // Every byte is zero or of the one pattern, which depends on its place.
    const Bytes expected = pattern(0, kSize, 1);
    const std::string wrong = run_threads([&](std::size_t thread) {
        std::mt19937_64 random{thread + 1};
        for (std::uint64_t i = 0; i < 3000 / kScale; ++i) {
            const std::uint64_t offset = random() % kSize;
            const std::uint64_t length = 1 + random() % (kSize - offset) % 30'000;
            switch (thread) {
                case 0:
                case 1:
                    must(fs->write(file, offset, std::span{expected}.subspan(offset, length)));
                    break;
                case 2:
                    fs.truncate(file, random() % kSize);
                    break;
                default: {
                    const Bytes found = fs.read(file, offset, length);
                    for (std::size_t at = 0; at < found.size(); ++at)
                        if (found[at] != std::byte{0} && found[at] != expected[offset + at])
                            throw std::runtime_error("foreign byte at " +
                                                     std::to_string(offset + at));
                    break;
                }
            }
        }
    });
    INFO(wrong);
    REQUIRE(wrong.empty());
    check_emptied(fs, empty);
}

TEST_CASE("threads: renames across directories make no loops and lose nothing",
          "[volume][model][concurrency]") {
    Mounted fs{{.bytes = 8_MiB}};
    const Statistics empty = fs->statistics();
    constexpr std::size_t kDirectories = 8;
    for (std::size_t i = 0; i < kDirectories; ++i) fs.make_directory("/d" + std::to_string(i));
    const std::string wrong = run_threads([&](std::size_t thread) {
        std::mt19937_64 random{thread + 7};
        // Each moves directories by their numbers, wherever they are now.
        for (std::uint64_t i = 0; i < 2000 / kScale; ++i) {
            std::vector<Ino> places{kRootIno};
            std::vector<std::string> names;
            for (int depth = 0; depth < 3; ++depth) {
                const std::string name = "d" + std::to_string(random() % kDirectories);
                const auto found = fs->lookup(places.back(), name);
                if (!found) continue;
                fs->forget(found->attributes.ino, 1);
                places.push_back(found->attributes.ino);
                names.push_back(name);
            }
            const std::string moved = "d" + std::to_string(random() % kDirectories);
            const Ino from = places[random() % places.size()];
            const Ino to = places[random() % places.size()];
            const auto flags = random() % 4 == 0 ? kRenameExchange : kRenameNoReplace;
            const auto done = fs->rename(from, moved, to, moved, flags);
            if (!done && done.error().number() != ENOENT && done.error().number() != EEXIST &&
                done.error().number() != EINVAL)
                throw std::runtime_error(done.error().message());
        }
    });
    INFO(wrong);
    REQUIRE(wrong.empty());
    fs.check_clean();
    const Snapshot found = fs.snapshot();
    CHECK(found.size() == kDirectories + 1);
    check_emptied(fs, empty);
}

}  // namespace

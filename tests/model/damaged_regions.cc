// SPDX-License-Identifier: Apache-2.0
//
// Whole file systems with much of their metadata damaged at once, repaired. What must hold of every
// file, whatever was hit:
//   - one that could be read before can be read after, with the same content, size and attributes;
//   - one whose own metadata was not hit has what was written to it, under some name;
//   - one that is not as it was written is told;
//   - a name that is kept is that of the same file;
//   - no file shows what was written to another.
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>

#include "tests/support/random_damage.h"
#include "tests/support/repaired.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

constexpr std::uint64_t kRegionBytes = 64_MiB;
using Files = std::map<std::string, FileState>;

// Many files of each form that metadata takes; data tells its file and place.
void make_files(Mounted& fs, Random& random) {
    std::vector<std::string> directories{""};
    std::uint64_t seed = 1;
    for (int i = 0; i < 40; ++i) {
        std::string path =
            directories[below(random, directories.size())] + "/d" + std::to_string(i);
        fs.make_directory(path);
        directories.push_back(path);
    }
    // Mount looks at all chunks that have ever had an orphan: they are few.
    for (int i = 0; i < 40; ++i)
        fs.make_file("/gone" + std::to_string(i), below(random, 40000), ++seed);
    fs.make_directory("/many");
    for (int i = 0; i < 400; ++i)
        fs.make_file("/many/" + std::string(30, 'm') + std::to_string(i), 100, ++seed);
    for (int i = 0; i < 800; ++i) {
        const std::string& directory = directories[below(random, directories.size())];
        const std::string path = directory + "/f" + std::to_string(i);
        const std::uint64_t kind = below(random, 20);
        const Ino file = fs.make_file(path, kind < 3 ? 0 : below(random, 40000), ++seed);
        if (kind == 4)
            must(fs->link(file, fs.ino(directory.empty() ? "/" : directory),
                          "l" + std::to_string(i)));
        if (kind == 5 || kind == 6)
            must(fs->set_attribute(file, "user.a", pattern(0, kind == 5 ? 50 : 6000, seed),
                                   SetAttribute::create_or_replace));
        if (kind == 8) fs.truncate(file, below(random, 80000));
    }
    for (int i = 0; i < 40; ++i) must(fs->unlink(kRootIno, "gone" + std::to_string(i)));
    // Trees: every other block of some files.
    for (int i = 0; i < 60; ++i) {
        const Ino file = fs.make_file("/tree" + std::to_string(i));
        ++seed;
        const std::uint64_t blocks = i < 4 ? 400 : 5 + below(random, 20);
        for (std::uint64_t block = 0; block < blocks; ++block)
            fs.write(file, block * 2 * kBlockBytes,
                     pattern(block * 2 * kBlockBytes, kBlockBytes, seed));
        if (i % 5 == 0) fs.truncate(file, blocks * 2 * kBlockBytes + 100000);
    }
    for (int i = 0; i < 60; ++i)
        must(fs->make(
            fs.ino(directories[1 + i % 2]), "s" + std::to_string(i),
            {.mode = S_IFLNK | 0777,
             .target = std::string(i % 3 == 0 ? 300 : 20, static_cast<char>('a' + i % 26))},
            Caller{}));
}

enum class How : std::uint8_t { bit, byte, line, unit };

void damage(std::span<std::byte> unit, How how, Random& random) {
    const auto garble = [&](std::uint64_t begin, std::uint64_t bytes) {
        for (std::byte& byte : unit.subspan(begin, bytes)) byte = static_cast<std::byte>(random());
    };
    switch (how) {
        case How::bit:
            unit[below(random, unit.size())] ^= std::byte{1} << below(random, 8);
            break;
        case How::byte:
            unit[below(random, unit.size())] ^= static_cast<std::byte>(1 + below(random, 255));
            break;
        case How::line:
            garble(below(random, unit.size() / 64) * 64, 64);
            break;
        case How::unit:
            garble(0, unit.size());
            break;
    }
}

// Blocks of `found` that were never written to it, at any place.
bool shows_others(const FileState& found, const FileState& right) {
    // As far as both go: the last one may have become longer, by zeros, or shorter.
    const auto is_like = [](const Bytes& block, const Bytes& own) {
        const auto [in_block, in_own] = std::ranges::mismatch(block, own);
        return std::all_of(in_block, block.end(),
                           [](std::byte byte) { return byte == std::byte{0}; }) &&
               (in_own == own.end() || in_block == block.end());
    };
    return std::ranges::any_of(found.blocks, [&](const auto& block) {
        const auto there = right.blocks.find(block.first);
        if (there != right.blocks.end() && is_like(block.second, there->second)) return false;
        return std::ranges::none_of(
            right.blocks, [&](const auto& own) { return is_like(block.second, own.second); });
    });
}

struct Counts {
    std::uint64_t files = 0, readable = 0, after = 0, whole = 0;
};

class Experiment {
public:
    explicit Experiment(std::uint64_t seed) {
        Random random{seed};
        {
            pmem::Region region{memory_.bytes(), {}, nullptr};
            Mounted fs{region, memory_.bytes(), {.bytes = kRegionBytes, .poison = false}};
            make_files(fs, random);
            fs.unmount();
            fs.check_clean();
        }
        pristine_memory_.assign(memory_.bytes().begin(), memory_.bytes().end());
        pristine_ = readable(memory_.bytes());
        for (const auto& [path, file] : pristine_) by_ino_.emplace(*file.ino, &file);
        units_ = units_of(memory_.bytes());
    }

    // One unit in `n` is damaged.
    Counts run(How how, std::uint64_t n, Random& random) {
        std::ranges::copy(pristine_memory_, memory_.bytes().begin());
        std::set<std::uint64_t> hit;
        for (const Unit& unit : units_) {
            if (below(random, n) != 0) continue;
            damage(memory_.bytes().subspan(unit.offset, unit.bytes), how, random);
            hit.insert(unit.ino);
        }
        const Files before = readable(memory_.bytes());
        pmem::Region region{memory_.bytes(), {}, nullptr};
        const Repaired done = repair_all(region);
        INFO(done.text());
        CHECK(done.report.left.clean());
        const Files after = readable(memory_.bytes());
        judge(before, after, hit, done.report.doubted);
        return {pristine_.size(), before.size(), after.size(), whole_};
    }

private:
    void judge(const Files& before, const Files& after, const std::set<std::uint64_t>& hit,
               const std::map<std::uint64_t, std::string>& told) {
        std::map<std::uint64_t, const FileState*> found;
        whole_ = 0;
        for (const auto& [path, file] : after) {
            INFO(path);
            found.emplace(*file.ino, &file);
            const auto right = by_ino_.find(*file.ino);
            CHECK(right != by_ino_.end());
            if (right == by_ino_.end()) continue;
            const bool is_whole = reads_as(file, *right->second);
            whole_ += is_whole;
            if (!is_whole) CHECK(told.contains(*file.ino));
            CHECK_FALSE(shows_others(file, *right->second));
            const auto namesake = pristine_.find(path);
            CHECK((namesake == pristine_.end() || namesake->second.ino == file.ino));
        }
        for (const auto& [path, was] : before) {
            INFO("before: " << path);
            const auto is = found.find(*was.ino);
            CHECK(is != found.end());
            if (is == found.end()) continue;
            const bool was_right = reads_as(was, *by_ino_.at(*was.ino));
            CHECK((reads_as(*is->second, was) || (!was_right && told.contains(*was.ino))));
        }
        for (const auto& [ino, was] : by_ino_) {
            if (hit.contains(ino)) continue;
            INFO("not hit: inode " << ino);
            const auto is = found.find(ino);
            CHECK(is != found.end());
            if (is != found.end()) CHECK(reads_as(*is->second, *was));
        }
    }

    Memory memory_{kRegionBytes};
    Bytes pristine_memory_;
    Files pristine_;
    std::map<std::uint64_t, const FileState*> by_ino_;
    std::vector<Unit> units_;
    std::uint64_t whole_ = 0;
};

TEST_CASE("model: of a region with much damage every file is repaired, or told",
          "[repair][model]") {
    const std::uint64_t seed = seed_of_test("model: damaged regions", 11);
    Random random{seed};
    Experiment experiment{seed};
    for (const auto& [how, name] : {std::pair{How::bit, "bit"},
                                    {How::byte, "byte"},
                                    {How::line, "line"},
                                    {How::unit, "unit"}})
        for (const std::uint64_t n : {100, 20, 7, 3}) {
            INFO("one unit in " << n << ", a " << name << " of each");
            const Counts counts = experiment.run(how, n, random);
            std::printf(
                "one unit in %3lu, a %s of each: %lu of %lu files readable; repaired %lu, "
                "%lu of them whole\n",
                n, name, counts.readable, counts.files, counts.after, counts.whole);
        }
}

}  // namespace

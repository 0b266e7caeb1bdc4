// SPDX-License-Identifier: Apache-2.0
//
// A repair that a crash cuts off: whatever that left, a second one makes the region clean, and
// every file is there, with the content that it has after a repair that nothing cut off. And a
// second repair that a crash cuts off again.
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/support/crash_region.h"
#include "tests/support/damage.h"
#include "tests/support/flush_places.h"
#include "tests/support/repaired.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;

using Files = std::map<std::string, FileState>;

struct Fault {
    const char* name;
    std::function<void(Sample&)> damage;
};

// More than one byte: which one it was, a checksum tells.
void flip(Sample& sample, std::uint64_t offset) { sample.image.at<media::le16>(offset) ^= 0x1515; }

std::uint64_t top_of(const Sample& sample, std::uint64_t ino) {
    return sample.image.tree_of(ino).back().offset;
}

std::vector<Fault> faults() {
    return {
        {"the superblock",
         [](Sample& s) {
             flip(s, 100);
         }},
        {"the superblock's copy",
         [](Sample& s) {
             flip(s, media::kSuperCopyOffset + 100);
         }},
        {"reserved bytes of both superblocks",
         [](Sample& s) {
             for (const std::uint64_t offset : {std::uint64_t{0}, media::kSuperCopyOffset}) {
                 s.image.at<media::Superblock>(offset).reserved[200] = 1;
                 s.image.seal_superblock(offset);
             }
         }},
        {"the state block",
         [](Sample& s) {
             flip(s, s.image.state_at() + 100);
         }},
        {"an index block of the inode table",
         [](Sample& s) {
             flip(s, s.image.inode_index_at(1) + 100);
         }},
        {"the header of a chunk",
         [](Sample& s) {
             flip(s, s.image.chunk_at(1) + 40);
         }},
        {"the root's inode",
         [](Sample& s) {
             flip(s, s.image.inode_at(1) + 100);
         }},
        {"a file's inode",
         [](Sample& s) {
             flip(s, s.image.inode_at(s.file) + 160);
         }},
        {"the root of a directory's tree",
         [](Sample& s) {
             flip(s, top_of(s, s.directory) + 90);
         }},
        {"the root of a file's tree",
         [](Sample& s) {
             flip(s, top_of(s, s.tree_file) + 90);
         }},
        {"leaves of both",
         [](Sample& s) {
             flip(s, s.image.node_at(s.directory, 1) + 90);
             flip(s, s.image.node_at(s.tree_file, 1, 2) + 90);
         }},
        {"attributes",
         [](Sample& s) {
             flip(s, s.image.attributes_at(s.attributed, 0) + 90);
         }},
        {"two files with the same blocks, and a link count",
         [](Sample& s) {
             const auto taken = s.image.copy_at<media::Inode>(s.image.inode_at(s.file));
             change_inode(s, s.cut, [&](media::Inode& inode) {
                 std::memcpy(inode.inline_map, taken.inline_map, sizeof(media::Extent));
             });
             change_inode(s, s.linked, [](media::Inode& inode) { inode.nlink = 7; });
         }},
        {"a bitmap, with logs to be replayed",
         [](Sample& s) {
             flip(s, s.image.group_at(0) + 300);
             for (const std::uint64_t lane : {0, 1}) {
                 const std::uint64_t ino = lane == 0 ? s.file : s.attributed;
                 auto inode = s.image.copy_at<media::Inode>(s.image.inode_at(ino));
                 inode.mode ^= 0111;
                 inode.crc32c = unit_checksum(s.image.seed(), std::as_bytes(std::span(&inode, 1)));
                 const auto bytes = std::as_bytes(std::span(&inode, 1));
                 s.image.seal_log(lane, lane + 1,
                                  {{s.image.inode_at(ino), {bytes.begin(), bytes.end()}}});
             }
         }},
        {"a record, a hold and the bitmap",
         [](Sample& s) {
             flip(s, s.image.record_at(s.hold_record) + 90);
             flip(s, s.image.record_at(s.map_record) + 90);
             flip(s, s.image.group_at(0) + 300);
         }},
    };
}

// A repair of one fault, recorded, and what it came to.
class RecordedRepairOf {
public:
    explicit RecordedRepairOf(const Fault& fault) {
        Sample sample;
        fault.damage(sample);
        crash_ = std::make_unique<CrashRegion>(sample.image.memory().size());
        std::ranges::copy(sample.image.memory(), crash_->memory().begin());
        crash_->record([&] { CHECK(repair_all(crash_->region()).report.left.clean()); });
        files_ = readable(crash_->memory());
    }
    CrashRegion& crash() { return *crash_; }

    // Repairs what a crash left. Empty, or what is not as it is without the crash.
    std::string judge(CrashImage& image) const {
        const auto left = must(check(image.region));
        if (left.has(FindingKind::seal_damaged)) return left.text();
        const Repaired done = repair_all(image.region);
        if (!done.report.left.clean()) return done.text();
        const auto found = must(check(image.region));
        if (!found.clean()) return found.text();
        return missing(readable(image.memory));
    }
    std::string missing(const Files& files) const {
        for (const auto& [path, file] : files_) {
            const auto is = files.find(path);
            if (is == files.end()) return path + " is not there";
            if (!reads_as(is->second, file)) return path + " has another content";
            if (is->second.mode != file.mode) return path + " has another mode";
        }
        return {};
    }

private:
    std::unique_ptr<CrashRegion> crash_;
    Files files_;
};

TEST_CASE("repair: a crash at any fence, and another repair, come to the same", "[repair][crash]") {
    std::size_t images = 0;
    for (const Fault& fault : faults()) {
        INFO(fault.name);
        RecordedRepairOf repair{fault};
        repair.crash().for_each_image({.per_fence_max = 16, .seed = 11}, [&](CrashImage& image) {
            ++images;
            INFO(image.label);
            if (image.index % 32 != 0) {
                CHECK(repair.judge(image) == "");
                return;
            }
            // Cut off again.
            CrashRegion again{image};
            again.record([&] { CHECK(repair_all(again.region()).report.left.clean()); });
            again.for_each_image({.per_fence_max = 2, .seed = 12}, [&](CrashImage& second) {
                ++images;
                INFO(second.label);
                CHECK(repair.judge(second) == "");
            });
        });
    }
    std::printf("repair: %zu faults, %zu images\n", faults().size(), images);
    CHECK(images > 1000);
}

TEST_CASE("repair: no flush and no fence can be left out", "[repair][crash]") {
    struct Caught {};
    std::set<Site> sites;
    std::set<Site> caught;
    for (const Fault& fault : faults()) {
        RecordedRepairOf repair{fault};
        for (const auto& [site, count] : repair.crash().sites()) {
            if (!site.file.starts_with("fs/repair/")) continue;
            sites.insert(site);
            if (caught.contains(site)) continue;
            try {
                repair.crash().for_each_image({.per_fence_max = 16, .seed = 13, .without = site},
                                              [&](CrashImage& image) {
                                                  if (!repair.judge(image).empty()) throw Caught{};
                                              });
            } catch (const Caught&) {
                caught.insert(site);
            }
        }
    }
    // What the sources have, reached or not.
    std::set<Place> reached;
    for (const Site& site : sites) reached.emplace(site.file, site.line);
    CHECK(reached == places_that_flush("fs/repair"));
    std::printf("repair: %zu places flush or fence, %zu are caught\n", sites.size(), caught.size());
    for (const Site& site : sites) {
        INFO(site.text());
        CHECK(caught.contains(site));
    }
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
//
// A damaged file system under the judge, a mount, every operation and a repair. An input is a list
// of edits; a bit of its first byte says whether checksums are put right behind them.
#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>
#include <set>

#include "fs/check/check.h"
#include "fs/repair/repair.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/targets.h"
#include "tests/support/mounted.h"
#include "tests/support/random_damage.h"
#include "tests/support/sample_image.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;

constexpr std::size_t kEditsMax = 16;
constexpr std::size_t kNamesMax = 100;
constexpr std::size_t kNamesOfDirectoryMax = 24;

/// One of everything, and what of it a run has changed.
class Image : public pmem::Observer {
public:
    Image() : pristine_(memory().begin(), memory().end()), region_{memory(), {}, this} {
        for (std::uint64_t at = 0; at < pristine_.size(); at += kBlockBytes) {
            const auto block = std::span{pristine_}.subspan(at, kBlockBytes);
            if (std::ranges::any_of(block, [&](std::byte byte) { return byte != block[0]; }))
                blocks_.push_back(at);
        }
    }
    [[nodiscard]] pmem::Region& region() { return region_; }

    void edit(fuzz::Input& input, bool seal) {
        const std::uint64_t block = blocks_[input.take<std::uint16_t>() % blocks_.size()];
        const auto at = input.take<std::uint16_t>() % kBlockBytes;
        const auto what = input.take<std::uint8_t>();
        touched_.insert(block);
        std::byte* const bytes = memory().data() + block;
        if (what == 0) {
            const std::uint64_t from = blocks_[at % blocks_.size()];
            std::memmove(bytes, memory().data() + from, kBlockBytes);
        } else {
            const auto value = input.take<std::uint64_t>();
            std::memcpy(bytes + at, &value,
                        std::min<std::size_t>(std::size_t{1} << (what & 3), kBlockBytes - at));
        }
        if (seal) seal_block(sample_.image, block);
    }
    void restore() {
        for (const std::uint64_t block : touched_)
            std::memcpy(memory().data() + block, pristine_.data() + block, kBlockBytes);
        touched_.clear();
    }

private:
    [[nodiscard]] std::span<std::byte> memory() { return sample_.image.memory(); }
    bool before_load(std::uint64_t, std::uint64_t) override { return true; }
    bool before_store(std::uint64_t offset, std::uint64_t bytes) override {
        for (std::uint64_t at = round_down(offset, kBlockBytes); at < offset + bytes;
             at += kBlockBytes)
            touched_.insert(at);
        return true;
    }
    void stored(std::uint64_t, std::uint64_t) override {}
    void flushed(std::uint64_t, std::uint64_t, const std::source_location&) override {}
    void fenced(const std::source_location&) override {}

    Sample sample_;
    const std::vector<std::byte> pristine_;
    pmem::Region region_;
    std::vector<std::uint64_t> blocks_;
    std::set<std::uint64_t> touched_;
};

/// Every operation on everything that can be found; results do not matter.
void exercise(Volume& volume) {
    std::vector<std::pair<Ino, std::string>> names;
    std::vector<Ino> directories{kRootIno};
    for (std::size_t i = 0; i < directories.size() && names.size() < kNamesMax; ++i) {
        const std::size_t end = std::min(kNamesMax, names.size() + kNamesOfDirectoryMax);
        (void)volume.read_directory(directories[i], 2, [&](const DirectoryItem& item) {
            names.emplace_back(directories[i], item.name);
            if (S_ISDIR(item.mode)) directories.push_back(item.ino);
            return names.size() < end;
        });
    }
    Bytes buffer(20000);
    for (std::size_t i = 0; i < names.size(); ++i) {
        const auto& [parent, name] = names[i];
        const auto entry = volume.lookup(parent, name);
        if (!entry) continue;
        const Ino ino = entry->attributes.ino;
        (void)volume.read_link(ino);
        if (const auto attributes = volume.attribute_names(ino))
            for (const std::string& each : *attributes) (void)volume.attribute(ino, each);
        (void)volume.extents(ino, 0, kFileBytesMax, 1000);
        (void)volume.seek(ino, 5000, SeekTo::hole);
        (void)volume.read(ino, 0, buffer);
        (void)volume.write(ino, 4000, std::span{buffer}.first(300));
        (void)volume.write(ino, 0, std::span{buffer}.first(300), /*append=*/true);
        (void)volume.punch_hole(ino, 3000, 9000);
        (void)volume.set_attribute(ino, "user.new", std::span{buffer}.first(100),
                                   SetAttribute::create_or_replace);
        AttributeChange change;
        change.size_bytes = 5000;
        change.mode = 0600;
        (void)volume.change_attributes(ino, change);
        const std::string other = "new " + std::to_string(i);
        (void)volume.link(ino, kRootIno, other);
        (void)volume.rename(parent, name, kRootIno, "moved", 0);
        if (i % 2 == 0) (void)volume.unlink(kRootIno, "moved");
        volume.forget(ino, 2);
        (void)volume.make(parent, other, {.mode = S_IFREG | 0644}, {});
    }
    (void)volume.finish_pending();
    (void)volume.pinned();
    (void)volume.unmount();
}

void require(bool holds, const char* what, const std::string& why) {
    if (holds) return;
    std::fprintf(stderr, "%s\n%s\n", what, why.c_str());
    std::abort();
}

}  // namespace

void pinfs::fuzz::try_image(std::span<const std::uint8_t> bytes) {
    static Image image;
    Input input{bytes};
    const auto how = input.take<std::uint8_t>();
    const bool seal = (how & 1) == 0;
    for (std::size_t edits = 0; edits < kEditsMax && !input.empty(); ++edits)
        image.edit(input, seal);
    const auto found = check(image.region());
    const bool repairs_first = (how & 2) != 0;
    const auto mount_and_use = [&] {
        const auto volume = Volume::mount(image.region(), mount_options());
        if (volume) exercise(**volume);
    };
    if (!repairs_first) mount_and_use();
    RepairOptions options;
    options.allow = [](const RepairQuestion&) {
        return true;
    };
    options.tell = [](const std::string&) {
    };
    // Without a superblock that can be used, of no blocks, there is nothing to repair by.
    if (const auto repaired = repair(image.region(), options);
        repaired && found && repaired->left.totals.blocks != 0) {
        require(repaired->left.clean(), "a repair leaves", repaired->left.text());
        mount_and_use();
        const auto after = check(image.region());
        require(after.has_value(), "after a repair and a mount the judge fails", "");
        require(after->clean(), "after a repair and a mount the judge finds", after->text());
    }
    image.restore();
}

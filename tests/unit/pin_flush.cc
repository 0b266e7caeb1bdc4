// SPDX-License-Identifier: Apache-2.0
//
// What fsync, unmap and unpin flush (SPEC 6.3), counted where it is done: in the region.
#include <unistd.h>

#include <catch2/catch.hpp>
#include <mutex>

#include "fs/pin/process.h"
#include "fs/pin/range_set.h"
#include "tests/support/mounted.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

/// Notes what is flushed without having been stored by the file system.
class Flushes final : public pmem::Observer {
public:
    bool before_load(std::uint64_t, std::uint64_t) override { return true; }
    bool before_store(std::uint64_t, std::uint64_t) override { return true; }
    void stored(std::uint64_t offset, std::uint64_t) override {
        const std::scoped_lock lock{mutex_};
        last_stored_ = offset;
    }
    void flushed(std::uint64_t offset, std::uint64_t bytes, const std::source_location&) override {
        const std::scoped_lock lock{mutex_};
        if (offset == last_stored_) return;  // its own store
        bytes_ += bytes;
        ranges_.add(offset, offset + bytes);
    }
    void fenced(const std::source_location&) override {}

    void forget() {
        const std::scoped_lock lock{mutex_};
        bytes_ = 0;
        ranges_ = {};
        last_stored_ = UINT64_MAX;
    }
    [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
    [[nodiscard]] bool all_of(const Extent& extent) const {
        return ranges_.covers(extent.region_offset, extent.region_offset + extent.bytes);
    }

private:
    std::mutex mutex_;
    std::uint64_t last_stored_ = UINT64_MAX;
    std::uint64_t bytes_ = 0;
    pin::RangeSet ranges_;
};

struct Flushing {
    explicit Flushing(pmem::Flush flush = pmem::Flush::line)
        : memory{16_MiB},
          region{memory.bytes(), capabilities(flush), &flushes},
          fs{region, memory.bytes(), {.bytes = 16_MiB}} {
        file = {fs.make_file("/f", kBytes, 1), 7};
        REQUIRE(must(fs->open(file.ino, OpenFor::writing)));
        owner.process = {
            .pid = static_cast<std::uint32_t>(::getpid()), .start_ticks = 1, .pid_namespace = 1};
        owner.context = must(fs->open_context(owner));
        guard = must(fs->open_guard(owner.context));
        must(fs->set_lease(file, {.kind = pin::LeaseKind::exclusive,
                                  .offset_bytes = 0,
                                  .length_bytes = 0,
                                  .owner = owner,
                                  .user_data = 0,
                                  .may_exclude = true}));
        must(fs->sync(file.ino));
        flushes.forget();
    }
    static pmem::Capabilities capabilities(pmem::Flush flush) {
        pmem::Capabilities found;
        found.kind = pmem::Kind::tmpfs;
        found.flush = flush;
        found.pinnable = true;
        return found;
    }
    MapAnswer map(bool writable, bool self_flushed = false) {
        auto answer = must(fs->map(file, {.offset_bytes = 0,
                                          .length_bytes = kBytes,
                                          .writable = writable,
                                          .self_flushed = self_flushed,
                                          .owner = owner,
                                          .guard = guard}));
        flushes.forget();
        return answer;
    }
    /// Bytes that fsync flushes of the file's own; its times come on top.
    std::uint64_t sync() {
        must(fs->sync(file.ino));  // times, first
        flushes.forget();
        must(fs->sync(file.ino));
        return flushes.bytes();
    }

    static constexpr std::uint64_t kBytes = 1_MiB;
    Flushes flushes;
    Memory memory;
    pmem::Region region;
    Mounted fs;
    OpenFile file;
    pin::Owner owner;
    std::uint64_t guard = 0;
};

}  // namespace

TEST_CASE("6.3: nothing mapped, nothing flushed", "[pin][volume]") {
    Flushing f;
    CHECK(f.sync() == 0);
}

TEST_CASE("6.3: fsync flushes what is mapped for writing and not declared clean", "[pin][volume]") {
    Flushing f;
    const auto map = f.map(true);
    REQUIRE(map.extents.size() == 1);
    CHECK(f.sync() >= f.kBytes);
    CHECK(f.flushes.all_of(map.extents[0]));

    must(f.fs->declare_clean(f.owner.context, map.id, 0, f.kBytes / 2));
    const std::uint64_t half = f.sync();
    CHECK(half >= f.kBytes / 2);
    CHECK(half < f.kBytes);
    Extent first = map.extents[0];
    first.bytes = f.kBytes / 2;
    CHECK_FALSE(f.flushes.all_of(first));

    must(f.fs->declare_clean(f.owner.context, map.id, f.kBytes / 2, f.kBytes / 2));
    CHECK(f.sync() == 0);
    f.flushes.forget();
    must(f.fs->unmap(f.owner.context, map.id));
    CHECK(f.flushes.all_of(map.extents[0]));  // what was stored and never said
}

TEST_CASE("6.3: what is read only, or its owner's to flush, is left alone", "[pin][volume]") {
    Flushing f;
    const auto read_only = f.map(false);
    CHECK(f.sync() == 0);
    const auto own = f.map(true, /*self_flushed=*/true);
    CHECK(f.sync() == 0);
    f.flushes.forget();
    must(f.fs->unmap(f.owner.context, own.id));
    must(f.fs->unmap(f.owner.context, read_only.id));
    CHECK_FALSE(f.flushes.all_of(own.extents[0]));
}

TEST_CASE("6.3: what a device may write is flushed, by fsync and by the end of the pin",
          "[pin][volume]") {
    Flushing f;
    const auto layout = must(f.fs->layout(f.file.ino, 0, f.kBytes));
    const auto pinned = must(f.fs->pin(f.file, {.offset_bytes = 0,
                                                .length_bytes = f.kBytes,
                                                .device_writes = true,
                                                .owner = f.owner,
                                                .label = {}}));
    CHECK(f.sync() >= f.kBytes);
    f.flushes.forget();
    must(f.fs->unpin(f.owner, pinned.id, pinned.generation));
    CHECK(f.flushes.all_of(layout.extents[0]));
}

TEST_CASE("6.3: where a flush is nothing, none is made", "[pin][volume]") {
    Flushing f{pmem::Flush::none};
    (void)f.map(true);
    must(f.fs->sync(f.file.ino));
    f.flushes.forget();
    must(f.fs->sync(f.file.ino));
    CHECK(f.flushes.bytes() == 0);
}

TEST_CASE("6.3: a writable map advances the times of its file", "[pin][volume]") {
    Flushing f;
    const Time before = must(f.fs->attributes(f.file.ino)).mtime;
    const auto map = f.map(true);
    const Time mapped = must(f.fs->attributes(f.file.ino)).mtime;
    CHECK(mapped > before);
    must(f.fs->sync(f.file.ino));
    const Time synced = must(f.fs->attributes(f.file.ino)).mtime;
    CHECK(synced > mapped);
    must(f.fs->unmap(f.owner.context, map.id));
    CHECK(must(f.fs->attributes(f.file.ino)).mtime > synced);
}

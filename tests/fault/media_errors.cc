// SPDX-License-Identifier: Apache-2.0
//
// Memory that fails below a volume (SPEC 6.7): the one request fails, the place is written down,
// and is forgotten when it was written whole or its file was deleted.
#include <unistd.h>

#include <catch2/catch.hpp>
#include <map>

#include "fs/format/inode.h"
#include "fs/pin/process.h"
#include "fs/volume/describe.h"
#include "tests/support/failing_blocks.h"
#include "tests/support/mounted.h"

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

namespace {

constexpr std::uint64_t kFileBytes = 20 * kBlockBytes;

struct Damaged {
    Damaged() : memory{4_MiB}, region{memory.bytes(), pinnable(), &failing} {
        fs.emplace(region, memory.bytes(), MountedOptions{.bytes = 4_MiB});
        file = fs->make_file("/f", kFileBytes, 1);
        other = fs->make_file("/other", kFileBytes, 2);
    }
    static pmem::Capabilities pinnable() {
        pmem::Capabilities found;
        found.kind = pmem::Kind::tmpfs;
        found.pinnable = true;
        return found;
    }
    /// Region block of a block of the file.
    std::uint64_t place(std::uint64_t file_block) {
        AttributeChange dax;
        dax.flags = media::kInodeDax;
        must(fs->volume().change_attributes(file, dax));
        REQUIRE(must(fs->volume().open(file, OpenFor::reading)));
        const auto layout = must(fs->volume().layout(file, file_block * kBlockBytes, kBlockBytes));
        fs->volume().release(file);
        REQUIRE(layout.extents.size() == 1);
        return layout.extents[0].region_offset / kBlockBytes;
    }
    Expected<std::size_t> read(std::uint64_t file_block, std::uint64_t blocks) {
        Bytes out(blocks * kBlockBytes);
        return fs->volume().read(file, file_block * kBlockBytes, out);
    }
    std::vector<BlockRun> recorded() {
        must(fs->volume().finish_pending());
        return must(describe_state(region)).bad_blocks;
    }

    FailingBlocks failing;
    Memory memory;
    pmem::Region region;
    std::optional<Mounted> fs;
    Ino file, other;
};

}  // namespace

TEST_CASE("a media error fails the one request, and its block is written down", "[fault][media]") {
    Damaged d;
    const std::uint64_t bad = d.place(7);
    d.failing.fail(bad);
    const auto failed = d.read(7, 1);
    REQUIRE_FALSE(failed);
    CHECK(failed.error().cause == Cause::media_error);
    CHECK(failed.error().number() == EIO);
    CHECK(d.read(0, 7));
    CHECK(d.read(8, 12));
    CHECK(d.fs->read(d.other, 0, kFileBytes) == pattern(0, kFileBytes, 2));
    CHECK(d.recorded() == std::vector<BlockRun>{{bad, 1}});

    // Over a crash of the daemon, and to somebody who has not met it.
    d.fs->abandon();
    d.fs->mount();
    CHECK(d.recorded() == std::vector<BlockRun>{{bad, 1}});
    d.fs->check_clean();

    // A part of it mends nothing, all of it does.
    const Bytes part(100, std::byte{1});
    CHECK_FALSE(d.fs->volume().write(d.file, 7 * kBlockBytes + 50, part));
    CHECK(d.recorded() == std::vector<BlockRun>{{bad, 1}});
    d.fs->write(d.file, 7 * kBlockBytes, pattern(7 * kBlockBytes, kBlockBytes, 1));
    CHECK(d.fs->read(d.file, 0, kFileBytes) == pattern(0, kFileBytes, 1));
    CHECK(d.recorded().empty());
    d.fs->check_clean();
}

TEST_CASE("who has leased, mapped or pinned what is damaged is told", "[fault][media][pin]") {
    Damaged d;
    Volume& volume = d.fs->volume();
    const std::uint64_t bad = d.place(7);
    REQUIRE(must(volume.open(d.file, OpenFor::writing)));
    pin::Owner owner;
    owner.process = {
        .pid = static_cast<std::uint32_t>(::getpid()),
        .start_ticks = pin::start_ticks_of(static_cast<std::uint32_t>(::getpid())).value(),
        .pid_namespace = 1};
    owner.context = must(volume.open_context(owner));
    const OpenFile open{d.file, 1};
    const auto lease = [&](pin::LeaseKind kind, std::uint64_t begin, std::uint64_t blocks) {
        return must(volume.set_lease(open, {.kind = kind,
                                            .offset_bytes = begin * kBlockBytes,
                                            .length_bytes = blocks * kBlockBytes,
                                            .owner = owner,
                                            .user_data = begin,
                                            .may_exclude = true}))
            .id;
    };
    const std::uint64_t leased = lease(pin::LeaseKind::exclusive, 4, 8);
    const auto pinned = must(volume.pin(open, {.offset_bytes = 6 * kBlockBytes,
                                               .length_bytes = 4 * kBlockBytes,
                                               .owner = owner,
                                               .label = {},
                                               .user_data = 5}));
    d.failing.fail(bad);
    CHECK_FALSE(d.read(7, 1));
    std::map<std::uint64_t, pin::Event> told;
    while (const auto event = must(volume.next_event(owner.context))) told[event->id] = *event;
    REQUIRE(told.size() == 2);
    for (const std::uint64_t id : {leased, pinned.id}) {
        CHECK(told[id].type == pin::EventType::media_error);
        CHECK(told[id].begin == 7 * kBlockBytes);
        CHECK(told[id].end == 8 * kBlockBytes);
    }
    CHECK(d.read(13, 1));
    CHECK_FALSE(must(volume.next_event(owner.context)));
    must(volume.unpin(owner, pinned.id, pinned.generation));
    volume.close_context(owner.context);
    volume.drop_leases(open);
    volume.release(d.file);
    d.fs->check_clean();
}

TEST_CASE("deleting its file mends a bad block", "[fault][media]") {
    Damaged d;
    const std::uint64_t first = d.place(3);
    const std::uint64_t free = d.fs->volume().statistics().blocks_free;
    d.failing.fail(first);
    d.failing.fail(first + 1);
    CHECK_FALSE(d.read(3, 1));
    CHECK_FALSE(d.read(4, 1));
    CHECK(d.recorded() == std::vector<BlockRun>{{first, 2}});
    d.fs->remove_all();
    CHECK(d.recorded().empty());
    CHECK(d.fs->volume().statistics().blocks_free > free + 20);
    d.fs->check_clean();
}

TEST_CASE("a block that cannot be mended is given to nobody", "[fault][media]") {
    Damaged d;
    const std::uint64_t bad = d.place(3);
    d.failing.fail(bad);
    d.failing.kill();
    CHECK_FALSE(d.read(3, 1));
    d.fs->remove_all();
    for (const bool again : {false, true}) {
        CAPTURE(again);
        if (again) d.fs->remount();
        CHECK(d.recorded() == std::vector<BlockRun>{{bad, 1}});
        // All there is, and no error but the last one, that it is full.
        const Ino full = d.fs->make_file("/full");
        const Bytes piece(64_KiB, std::byte{1});
        std::uint64_t size = 0;
        for (;; size += piece.size()) {
            const auto written = d.fs->volume().write(full, size, piece);
            if (written && *written == piece.size()) continue;
            if (!written) CHECK(written.error().cause == Cause::no_space);
            break;
        }
        CHECK(size > 2_MiB);
        d.fs->remove_all();
        d.fs->check_clean();
    }
}

// SPDX-License-Identifier: Apache-2.0
//
// Lanes of the journal whose memory fails: each is left for the next one, and nothing that was
// asked for fails while one is left.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <optional>
#include <string>

#include "fs/format/lane.h"
#include "fs/format/superblock.h"
#include "tests/support/failing_blocks.h"
#include "tests/support/repaired.h"

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

namespace {

constexpr std::uint64_t kRegionBytes = 16_MiB;
constexpr std::size_t kFileBytes = 30'000;

struct Journaled {
    Journaled() : memory{kRegionBytes}, region{memory.bytes(), flushed_by_line(), &failing} {
        fs.emplace(region, memory.bytes(), MountedOptions{.bytes = kRegionBytes});
        fs->make_file("/before", kFileBytes, 1);
        must(region.read(0, std::as_writable_bytes(std::span{&super, 1})));
        REQUIRE(super.lane_count == 4);
    }
    static pmem::Capabilities flushed_by_line() {
        pmem::Capabilities found;
        found.flush = pmem::Flush::line;
        found.persistent = true;
        return found;
    }
    [[nodiscard]] std::uint64_t lane_at(std::uint64_t lane) const {
        return super.lanes_offset + lane * super.lane_bytes;
    }
    void fail_log(std::uint64_t lane) {
        failing.fail((lane_at(lane) + media::kLogOffset) / kBlockBytes);
    }
    void fail_seal(std::uint64_t lane) { failing.fail(lane_at(lane) / kBlockBytes); }
    // Whatever lane they take.
    void use(const std::string& name) {
        const Ino made = fs->make_file("/" + name, kFileBytes, 2);
        CHECK(fs->read(made, 0, kFileBytes) == pattern(0, kFileBytes, 2));
        fs->truncate(made, 100);
        must(fs->volume().rename(kRootIno, name, kRootIno, name + "!", 0));
    }
    void check_files() {
        CHECK(fs->read(fs->ino("/before"), 0, kFileBytes) == pattern(0, kFileBytes, 1));
    }

    FailingBlocks failing;
    Memory memory;
    pmem::Region region;
    std::optional<Mounted> fs;
    media::Superblock super{};
};

/// Error of a mount that must fail.
Error refusal(pmem::Region& region) {
    const auto volume = Volume::mount(region, mount_options());
    REQUIRE_FALSE(volume);
    return volume.error();
}

}  // namespace

TEST_CASE("lanes whose memory fails for good are left, one after the other", "[fault][journal]") {
    const bool is_seal = GENERATE(false, true);
    CAPTURE(is_seal);
    Journaled d;
    d.failing.kill();
    for (std::uint64_t lane = 0; lane + 1 < d.super.lane_count; ++lane) {
        CAPTURE(lane);
        if (is_seal)
            d.fail_seal(lane);
        else
            d.fail_log(lane);
        d.use("file" + std::to_string(lane));
        d.check_files();
    }
    if (!is_seal) d.fs->check_clean();
    if (is_seal)
        d.fail_seal(3);
    else
        d.fail_log(3);
    // None is left: changes fail, and change nothing; what is there can be read.
    for (int i = 0; i < 3; ++i) {
        const auto made = d.fs->volume().make(kRootIno, "late", {.mode = 0100644}, Caller{});
        REQUIRE_FALSE(made);
        CHECK(made.error().number() == EIO);
        CHECK_FALSE(d.fs->find("/late"));
    }
    d.check_files();
    CHECK(d.fs->read(d.fs->ino("/file1!"), 0, 100) == pattern(0, 100, 2));
    d.fs->abandon();
}

TEST_CASE("a lane that can be mended is used on", "[fault][journal]") {
    Journaled d;
    for (std::uint64_t lane = 0; lane < d.super.lane_count; ++lane) d.fail_log(lane);
    for (int i = 0; i < 10; ++i) d.use("file" + std::to_string(i));
    d.fs->check_clean();
    d.fs->remount();
    d.check_files();
    d.fs->unmount();
}

TEST_CASE("a mount does without a log that is not sealed", "[fault][journal]") {
    const bool is_dead = GENERATE(false, true);
    for (std::uint64_t lane = 0; lane < 4; ++lane) {
        CAPTURE(lane);
        Journaled d;
        d.fs->abandon();
        d.fail_log(lane);
        if (is_dead) d.failing.kill();
        d.fs->mount();
        d.check_files();
        d.use("file");
        d.fs->check_clean();
        d.fs->unmount();
    }
}

TEST_CASE("a lane whose seal or log is lost refuses the mount, and a repair writes it anew",
          "[fault][journal][repair]") {
    const bool is_seal = GENERATE(true, false);
    CAPTURE(is_seal);
    for (std::uint64_t lane = 0; lane < 4; ++lane) {
        CAPTURE(lane);
        Journaled d;
        d.use("file");
        d.fs->unmount();
        if (is_seal) {
            d.fail_seal(lane);
        } else {
            const media::Seal seal{.crc32c = 1, .log_bytes = 64};
            std::memcpy(d.memory.bytes().data() + d.lane_at(lane), &seal, sizeof seal);
            d.fail_log(lane);
        }
        const std::uint64_t place = d.lane_at(lane) + (is_seal ? 0 : media::kLogOffset);
        const Error refused = refusal(d.region);
        CHECK(refused.number() == EIO);
        CHECK(refused.offset == place);
        const auto report = must(check(d.region));
        CHECK(std::ranges::any_of(report.findings, [&](const Finding& finding) {
            return finding.kind == FindingKind::unreadable && finding.offset == place;
        }));

        // Where nothing works in its place, the repair says so.
        if (is_seal) {
            d.failing.kill();
            RepairOptions options;
            options.allow = [](const RepairQuestion&) {
                return true;
            };
            const auto failed = repair(d.region, options);
            REQUIRE_FALSE(failed);
            CHECK(failed.error().number() == EIO);
            d.failing.revive();
        }
        const Repaired done = repair_all(d.region);
        INFO(done.text());
        CHECK(done.report.left.clean());
        d.fs->mount();
        d.check_files();
        d.use("after");
        d.fs->check_clean();
        d.fs->unmount();
    }
}

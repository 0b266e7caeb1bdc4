// SPDX-License-Identifier: Apache-2.0
#include "tests/support/recording_mounts.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "fs/format/superblock.h"
#include "fs/volume/describe.h"

namespace pinfs::test {

namespace {

constexpr MountedOptions kOptions{};

Workload named(std::string name, std::uint64_t bytes) {
    return {.name = std::move(name), .fs = {.bytes = bytes}};
}

Snapshot without_times(Snapshot snapshot) {
    for (auto& [path, file] : snapshot)
        file.atime = file.mtime = file.ctime = file.btime = std::nullopt;
    return snapshot;
}

}  // namespace

RecordedMake::RecordedMake(bool over_file_system)
    : Recording{named(over_file_system ? "mkfs over a file system" : "mkfs over junk",
                      kOptions.bytes)},
      over_file_system_{over_file_system} {
    const auto make = [&](std::uint8_t uuid) {
        MakeOptions options;
        options.uuid.fill(uuid);
        must(make_file_system(crash().region(), options));
    };
    if (over_file_system) {
        make(1);
        Mounted fs{crash().region()};
        fs.make_file("/old", 5000, 1);
        fs.make_directory("/directory");
        fs.make_file("/directory/file", 9000, 2);
        old_ = without_times(fs.snapshot());
        fs.unmount();
    } else {
        std::ranges::fill(crash().memory(), kPoison);
    }
    crash().record([&] {
        make(2);
        crash().mark(1);
    });
    Mounted fs{crash().region()};
    set_free_when_empty(fs->statistics().blocks_free);
    new_ = without_times(fs.snapshot());
}

std::string RecordedMake::judge_state(const Snapshot& found, std::uint64_t completed) const {
    const std::string not_new = difference(found, new_);
    if (completed == 1 || not_new.empty() || !over_file_system_) return not_new;
    return difference(found, old_);
}

std::string RecordedMake::judge(CrashImage& image, Depth depth) {
    if (image.completed == 0) {
        const auto mounted = Volume::mount(image.region, mount_options());
        const bool no_superblock =
            !mounted &&
            (mounted.error().cause == Cause::no_superblock ||
             (mounted.error().cause == Cause::bad_checksum &&
              (mounted.error().offset == 0 || mounted.error().offset == media::kSuperCopyOffset)));
        if (no_superblock) return {};
        if (!mounted) return "neither a file system nor none: " + mounted.error().message();
        // Whatever was damaged of the superblocks is repaired now.
        if (auto done = (*mounted)->unmount(); !done) return done.error().message();
    }
    return Recording::judge(image, depth);
}

RecordedRepair::RecordedRepair(bool first_copy)
    : Recording{named("repair of a superblock", kOptions.bytes)} {
    {
        Mounted fs{crash().region(), crash().memory(), kOptions};
        set_free_when_empty(fs->statistics().blocks_free);
        fs.make_file("/file", 5000, 1);
        expected_ = without_times(fs.snapshot());
        fs.unmount();
    }
    const std::size_t copy = first_copy ? 0 : media::kSuperCopyOffset;
    std::memset(crash().memory().data() + copy + 100, 0x5a, 64);
    crash().record([&] {
        Mounted fs{crash().region()};
        crash().mark(1);
        fs.unmount();
    });
}

std::string RecordedRepair::judge(CrashImage& image, Depth depth) {
    try {
        // The next mount repairs what this one did not.
        if (image.completed == 0) Mounted{image.region}.unmount();
    } catch (const std::exception& error) {
        return error.what();
    }
    return Recording::judge(image, depth);
}

namespace {

constexpr std::array<std::uint8_t, 16> kNewUuid{9, 8, 7, 6};
const std::string kNewLabel(60, 'n');

}  // namespace

RecordedIdentity::RecordedIdentity(Damaged damaged)
    : Recording{named("change of identity", kOptions.bytes)} {
    {
        Mounted fs{crash().region(), crash().memory(), kOptions};
        set_free_when_empty(fs->statistics().blocks_free);
        fs.make_file("/file", 5000, 1);
        expected_ = without_times(fs.snapshot());
        old_uuid_ = fs->uuid();
        old_label_ = fs->label();
        fs.unmount();
    }
    if (damaged != Damaged::none) {
        const std::size_t copy = damaged == Damaged::first ? 0 : media::kSuperCopyOffset;
        std::memset(crash().memory().data() + copy + 100, 0x5a, 64);
    }
    crash().record([&] {
        must(change_identity(crash().region(), {.uuid = kNewUuid, .label = kNewLabel}));
        crash().mark(1);
    });
}

std::string RecordedIdentity::judge(CrashImage& image, Depth depth) {
    try {
        const Description found = must(describe_identity(image.region));
        const bool is_new = found.uuid == kNewUuid && found.label == kNewLabel;
        const bool is_old = found.uuid == old_uuid_ && found.label == old_label_;
        if (!is_new && (!is_old || image.completed == 1)) return "a wrong identity";
        // The next mount brings the copies together, unless all was done.
        if (image.completed == 0) Mounted{image.region}.unmount();
        if (std::string wrong = Recording::judge(image, depth); !wrong.empty()) return wrong;
        const Description after = must(describe_identity(image.region));
        if (after.uuid != found.uuid || after.label != found.label)
            return "a mount changed the identity";
        return {};
    } catch (const std::exception& error) {
        return error.what();
    }
}

RecordedRecovery::RecordedRecovery(const std::string& name, const CrashImage& image)
    : Recording{named("recovery of: " + name, image.memory.size())} {
    std::ranges::copy(image.memory, crash().memory().begin());
    crash().record([&] {
        Mounted fs{crash().region()};
        recovered_ = fs.snapshot();
        must(fs->finish_pending());
        fs.unmount();
    });
    Mounted fs{crash().region()};
    fs.remove_all();
    set_free_when_empty(fs->statistics().blocks_free);
}

std::vector<std::unique_ptr<Recording>> recoveries_of(Recording& recording, std::size_t most,
                                                      std::uint64_t lanes) {
    std::vector<std::unique_ptr<Recording>> recoveries;
    std::uint64_t seen = 0;
    recording.crash().for_each_image({.per_fence_max = 4}, [&](CrashImage& image) {
        if (recoveries.size() >= most) return;
        const auto report = check(image.region);
        // Not the first ones alone: logs of all of the workload.
        if (report && report->totals.lanes_sealed == lanes && seen++ % 3 == 0)
            recoveries.push_back(
                std::make_unique<RecordedRecovery>(recording.name() + ", " + image.label, image));
    });
    return recoveries;
}

}  // namespace pinfs::test

// SPDX-License-Identifier: Apache-2.0
#include "tests/support/recording_clients.h"

#include <utility>

namespace pinfs::test {

using namespace unit_literals;

namespace {

Workload workload_of(Flusher flusher) {
    switch (flusher) {
        case Flusher::sync:
            return {.name = "stores through a map, then fsync"};
        case Flusher::sync_by_threads:
            return {.name = "stores through a large map, then fsync",
                    .fs = {.bytes = 72_MiB, .poison = false},
                    .per_fence_max = 8};
        case Flusher::unmap:
            return {.name = "stores through a map, then unmap"};
        case Flusher::unpin:
            return {.name = "stores through a pin, then unpin"};
    }
    std::unreachable();
}

/// Where a byte of a mapped file lies.
std::uint64_t place_of(const MapAnswer& map, std::uint64_t file_offset) {
    for (const Extent& extent : map.extents)
        if (extent.file_offset <= file_offset && file_offset < extent.file_offset + extent.bytes)
            return extent.region_offset + (file_offset - extent.file_offset);
    throw std::runtime_error("a map has a hole");
}

}  // namespace

RecordedClient::RecordedClient(Flusher flusher) : Recording{workload_of(flusher)} {
    const std::uint64_t bytes = flusher == Flusher::sync_by_threads ? 64_MiB : 16_KiB;
    Mounted fs{crash().region(), crash().memory(), workload_of(flusher).fs};
    set_free_when_empty(fs->statistics().blocks_free);
    const OpenFile file{fs.make_file("/a"), 1};
    fs.truncate(file.ino, bytes);
    must(fs->open(file.ino, OpenFor::writing));
    pin::Owner owner{.context = 0,
                     .process = {.pid = (1u << 22) + 1, .start_ticks = 1, .pid_namespace = 1},
                     .uid = 0,
                     .command = "test"};
    owner.context = must(fs->open_context(owner));
    const std::uint64_t guard = must(fs->open_guard(owner.context));
    must(fs->set_lease(file, {.kind = pin::LeaseKind::exclusive,
                              .offset_bytes = 0,
                              .length_bytes = 0,
                              .owner = owner,
                              .user_data = 0,
                              .may_exclude = true}));
    // Mapped in any case, to know where it lies; flushed is what counts as writable.
    const MapAnswer map = must(fs->map(file, {.offset_bytes = 0,
                                              .length_bytes = bytes,
                                              .writable = flusher != Flusher::unpin,
                                              .owner = owner,
                                              .guard = guard}));
    PinAnswer pin;
    if (flusher == Flusher::unpin)
        pin = must(
            fs->pin(file, {.offset_bytes = 0, .length_bytes = bytes, .owner = owner, .label = {}}));

    // Times advance with what flushes, and are not what is looked at.
    const auto seen = [&] {
        Snapshot snapshot = fs.snapshot();
        snapshot.at("/a").mtime = snapshot.at("/a").ctime = std::nullopt;
        return snapshot;
    };
    timeline_.start(seen());
    crash().record([&] {
        // At both ends, inside a block each.
        for (const std::uint64_t at : {std::uint64_t{1000}, bytes - 3000})
            crash().store_past(place_of(map, at), pattern(at, 2000, 2));
        switch (flusher) {
            case Flusher::sync:
            case Flusher::sync_by_threads:
                must(fs->sync(file.ino));
                break;
            case Flusher::unmap:
                must(fs->unmap(owner.context, map.id));
                break;
            case Flusher::unpin:
                must(fs->unpin(owner, pin.id, pin.generation));
                break;
        }
        crash().mark(1);
    });
    timeline_.add(seen(), Timeline::Partly{});
}

}  // namespace pinfs::test

// SPDX-License-Identifier: Apache-2.0
//
// A file of a mounted volume that is leased, mapped and pinned, without the kernel.
#pragma once

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <utility>

#include "fs/format/inode.h"
#include "fs/pin/process.h"
#include "tests/support/mounted.h"

namespace pinfs::test {

using namespace unit_literals;

inline pin::Owner this_process() {
    const auto pid = static_cast<std::uint32_t>(::getpid());
    return {.context = 0,
            .process = {.pid = pid,
                        .start_ticks = pin::start_ticks_of(pid).value(),
                        .pid_namespace = 1},
            .uid = 0,
            .command = "test"};
}

template <class T>
Cause cause_of(const Expected<T>& result) {
    REQUIRE_FALSE(result.has_value());
    return result.error().cause;
}

/// A file in DAX mode, open, with a context and a guard.
struct Pinning {
    explicit Pinning(MountedOptions options = {.bytes = 64_MiB}) : fs(std::move(options)) {
        file = {fs.make_file("/f", 64 * 4096, 1), 7};
        open();
    }
    void open() {
        AttributeChange dax;
        dax.flags = media::kInodeDax;
        must(volume().change_attributes(file.ino, dax));
        must(volume().lookup(kRootIno, "f"));  // reports say the last name that was asked for
        REQUIRE(must(volume().open(file.ino, OpenFor::writing)));
        begin_context();
    }
    void begin_context() {
        context = must(volume().open_context(this_process()));
        guard = must(volume().open_guard(context));
        owner = this_process();
        owner.context = context;
    }
    Volume& volume() { return fs.volume(); }
    auto lease(pin::LeaseKind kind, std::uint64_t offset, std::uint64_t length,
               std::uint64_t handle = 7) {
        return volume().set_lease({file.ino, handle}, {.kind = kind,
                                                       .offset_bytes = offset,
                                                       .length_bytes = length,
                                                       .owner = owner,
                                                       .user_data = 11,
                                                       .may_exclude = true});
    }
    auto pin(std::uint64_t offset, std::uint64_t length, std::uint64_t handle = 7) {
        return volume().pin({file.ino, handle}, {.offset_bytes = offset,
                                                 .length_bytes = length,
                                                 .owner = owner,
                                                 .label = {},
                                                 .user_data = 12});
    }
    auto map(std::uint64_t offset, std::uint64_t length, std::uint64_t handle = 7) {
        return volume().map({file.ino, handle}, {.offset_bytes = offset,
                                                 .length_bytes = length,
                                                 .writable = true,
                                                 .owner = owner,
                                                 .guard = guard,
                                                 .user_data = 13});
    }
    Expected<void> truncate(std::uint64_t size) {
        AttributeChange change;
        change.size_bytes = size;
        const auto changed = volume().change_attributes(file.ino, change);
        return changed ? Expected<void>{} : std::unexpected(changed.error());
    }
    std::uint64_t free_blocks() { return volume().statistics().blocks_free; }
    std::uint64_t count(PinnedItem::Kind kind) {
        std::uint64_t found = 0;
        for (const PinnedItem& item : must(volume().pinned())) found += item.kind == kind ? 1 : 0;
        return found;
    }

    Mounted fs;
    OpenFile file;
    std::uint64_t context = 0;
    std::uint64_t guard = 0;
    pin::Owner owner;
};

}  // namespace pinfs::test

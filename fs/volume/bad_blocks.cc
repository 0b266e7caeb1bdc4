// SPDX-License-Identifier: Apache-2.0
//
// Blocks that raised media errors (SPEC 6.7). The region notes them when it meets them, and forgets
// them when they were written whole; here they are written down, and those that nobody owns are
// renewed, or else given to nobody until the next mount tries again.
#include "fs/volume/core.h"

namespace pinfs {

namespace {

constexpr journal::BlockIdentity kStateBlock{
    .kind = media::BlockKind::state, .owner = 0, .generation = 0};

}  // namespace

Expected<void> Volume::Core::load_bad_blocks() {
    media::State state;
    TRY(units_.read_block(super_.state_offset, kStateBlock,
                          std::as_writable_bytes(std::span{&state, 1})));
    const std::uint64_t blocks = allocator_.region_blocks();
    for (const media::BadRange& bad : state.bad) {
        if (bad.begin >= blocks || bad.blocks > blocks - bad.begin)
            return fail(Cause::media_corrupt, super_.state_offset);
        region_.add_bad_blocks({bad.begin, bad.blocks});
    }
    bad_blocks_written_ = region_.bad_blocks().version();
    region_.add_bad_blocks_of_device();
    return {};
}

/// The change that drops them from the list fences. A group that cannot be read gives nothing out.
void Volume::Core::renew_free_bad_blocks() {
    for (const BlockRun run : region_.bad_blocks().runs())
        for (std::uint64_t block = run.begin; block < run.end(); ++block)
            if (allocator_.reserve_exactly(block).value_or(false) &&
                region_.zero(block * kBlockBytes, kBlockBytes))
                allocator_.release({block, 1});
}

Expected<void> Volume::Core::settle_bad_blocks() {
    const std::scoped_lock lock{bad_blocks_mutex_};
    if (region_.bad_blocks().any()) renew_free_bad_blocks();
    const std::uint64_t version = region_.bad_blocks().version();
    if (version == bad_blocks_written_) return {};
    const auto runs = region_.bad_blocks().runs();
    TRY(edit_state([&](media::State& state) {
        const std::size_t listed = std::min(runs.size(), std::size(state.bad));
        state.bad_ranges = static_cast<std::uint32_t>(listed);
        state.bad_unlisted = runs.size() > listed ? 1 : 0;
        std::ranges::fill(state.bad, media::BadRange{});
        for (std::size_t i = 0; i < listed; ++i) {
            state.bad[i].begin = runs[i].begin;
            state.bad[i].blocks = static_cast<std::uint32_t>(runs[i].count);
        }
    }));
    bad_blocks_written_ = version;
    return {};
}

/// Whoever has the range leased, mapped or pinned may want to know before they meet it themselves.
void Volume::Core::tell_media_error(const InodeState& state, std::uint64_t begin_bytes,
                                    std::uint64_t end_bytes) {
    if (!state.watched.load()) return;
    {
        const PinsLock lock{pins_mutex_};
        const pin::FilePins* const file = registry_.find(state.ino.value);
        if (file == nullptr) return;
        const auto tell = [&](const auto& one, std::uint64_t context) {
            registry_.post(context, {.type = pin::EventType::media_error,
                                     .id = one.id,
                                     .user_data = one.user_data,
                                     .begin = std::max(begin_bytes, one.begin),
                                     .end = std::min(end_bytes, one.end)});
            return true;
        };
        const auto tell_owner = [&](const pin::Reference& reference) {
            return tell(reference, reference.owner.context);
        };
        file->maps.for_each(begin_bytes, end_bytes, tell_owner);
        file->pins.for_each(begin_bytes, end_bytes, tell_owner);
        file->leases.for_each([&](const pin::Lease& lease) {
            if (lease.begin < end_bytes && begin_bytes < lease.end) tell(lease, lease.context);
        });
    }
    wake_contexts();
}

}  // namespace pinfs

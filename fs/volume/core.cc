// SPDX-License-Identifier: Apache-2.0
#include "fs/volume/core.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <fstream>

namespace pinfs {

namespace {

constexpr std::uint64_t kGenerationBatch = 4096;

/// 32 hexadecimal digits, dashes ignored, as the kernel and systemd write ids.
void parse_id(const std::string& text, std::array<std::uint8_t, 16>& id) {
    id.fill(0);
    std::size_t digit = 0;
    for (const char c : text) {
        int value = -1;
        if (c >= '0' && c <= '9') value = c - '0';
        if (c >= 'a' && c <= 'f') value = c - 'a' + 10;
        if (value < 0 || digit >= 32) continue;
        id[digit / 2] = static_cast<std::uint8_t>(id[digit / 2] << 4 | value);
        ++digit;
    }
}

std::string first_line(const char* path) {
    std::string line;
    std::ifstream file{path};
    std::getline(file, line);
    return line;
}

/// What later code relies on without looking again.
Expected<void> check_inode(const media::Inode& inode, Ino ino, std::uint64_t offset) {
    if (inode.ino != ino.value) return fail(Cause::bad_magic, offset, ino.value);
    if (inode.size > kFileBytesMax || inode.map_level > media::kTreeLevelsMax ||
        inode.map_bytes > media::kInlineBytes || inode.cut_begin > inode::kFileBlocksMax ||
        inode.attributes_bytes > media::kAttributesBytesMax)
        return fail(Cause::media_corrupt, offset, ino.value);
    return {};
}

}  // namespace

Time now() {
    timespec time{};
    ::clock_gettime(CLOCK_REALTIME, &time);
    return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec)};
}

std::uint64_t monotonic_ns() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(time.tv_nsec);
}

Volume::Core::Core(pmem::Region& region, const media::Superblock& super,
                   const MountOptions& options)
    : region_{region},
      super_{super},
      options_{options},
      read_only_{options.read_only},
      atime_{options.atime},
      directory_atime_{options.directory_atime},
      units_{region, super.checksum_seed},
      journal_{units_,
               {.lanes_offset = super.lanes_offset,
                .lane_count = super.lane_count,
                .lane_bytes = super.lane_bytes}},
      allocator_{units_, super.region_bytes / kBlockBytes, super.zone_groups},
      inodes_{units_, media::kTableInodes, super.state_offset, offsetof(media::State, inodes),
              table_mutex_},
      records_{
          units_,       media::kTableRecords, super.state_offset, offsetof(media::State, records),
          table_mutex_, inode::Reuse::early},
      name_hash_{.seed = super.name_hash_seed, .bits = super.name_hash_bits},
      states_{[this](Ino ino) {
          abandoned(ino);
      }},
      finished_{units_, super.finished_offset, options.supervision.session},
      registry_{options.limits} {
    parse_id(options_.machine_id.empty() ? first_line("/etc/machine-id") : options_.machine_id,
             machine_id_);
    parse_id(
        options_.boot_id.empty() ? first_line("/proc/sys/kernel/random/boot_id") : options_.boot_id,
        boot_id_);
}

Volume::Core::~Core() { stop_background(); }

Expected<void> Volume::Core::mount() {
    const auto replay = TRY(journal_.replay(region_.read_only()));
    if (region_.read_only() && replay.lanes > 0) return fail(Cause::needs_replay);
    report_.lanes_replayed = replay.lanes;
    const auto totals = TRY(journal_.load_totals());
    if (totals.free_blocks > super_.region_bytes / kBlockBytes)
        return fail(Cause::media_corrupt, super_.lanes_offset);
    allocator_.set_free_blocks(totals.free_blocks);
    inodes_in_use_ = totals.inodes;
    inodes_.set_used(totals.inodes);
    TRY(mark_mounted());
    TRY(inodes_.load());
    if (const Survivors* const survivors = options_.supervision.survivors)
        TRY(finished_.load(survivors->unanswered));
    restore_contexts();
    TRY(load_records());
    TRY(restore_files());
    TRY(load_bad_blocks());
    if (!read_only_) {
        find_pending();
        TRY(settle_bad_blocks());
    }
    {
        const Use root = use(kRootIno);
        const Shared lock{root->mutex};
        TRY(read_directory_inode(*root));
    }
    report_.bytes_read = units_.bytes_read();
    if (options_.background && !read_only_) TRY(start_background());
    return {};
}

/// Edits the state block in a change of its own; the lock of the inode table is not held.
Expected<void> Volume::Core::edit_state(const std::function<void(media::State&)>& edit) {
    const TableLock lock{inodes_.mutex()};
    Change one = change(space::Reserve::use);
    const auto bytes = TRY(one.transaction().edit_block(
        super_.state_offset, {.kind = media::BlockKind::state, .owner = 0, .generation = 0}));
    edit(*reinterpret_cast<media::State*>(bytes.data()));
    return one.commit();
}

Expected<void> Volume::Core::mark_mounted() {
    media::State found;
    TRY(units_.read_block(super_.state_offset,
                          {.kind = media::BlockKind::state, .owner = 0, .generation = 0},
                          std::as_writable_bytes(std::span{&found, 1})));
    report_.was_clean = found.mounted == 0 && report_.lanes_replayed == 0;
    next_generation_ = generation_limit_ = found.generation_limit;
    next_record_id_ = record_id_limit_ = found.record_id_limit;
    if (options_.supervision.session != 0)
        next_volatile_id_ = (found.mount_count + 1) << 32 | 1;  // no two mounts have the same
    session_start_ = {next_volatile_id_, record_id_limit_};
    if (options_.supervision.survivors != nullptr)
        session_start_ = options_.supervision.survivors->start;
    if (read_only_) return {};
    // Cleanly unmounted and without records, a region may travel.
    const bool elsewhere =
        std::ranges::any_of(found.machine_id, [](std::uint8_t byte) { return byte != 0; }) &&
        !std::ranges::equal(found.machine_id, machine_id_);
    if (elsewhere && !options_.takeover && (found.mounted != 0 || found.records.root != 0))
        return fail(Cause::other_machine);
    return edit_state([&](media::State& state) {
        state.mounted = 1;
        ++state.mount_count;
        state.mount_seconds = now().seconds;
        std::ranges::copy(machine_id_, state.machine_id);
        std::ranges::copy(boot_id_, state.boot_id);
        std::memset(state.host_name, 0, sizeof state.host_name);
        ::gethostname(reinterpret_cast<char*>(state.host_name), sizeof state.host_name - 1);
        state.mount_pid = static_cast<std::uint64_t>(::getpid());
        state.session = options_.supervision.session;
    });
}

Expected<void> Volume::Core::unmount() {
    stop_background();
    if (read_only_ || journal_.failed()) return {};
    // Whoever still owns something has lost the way to say that it ended.
    abandon_all();
    TRY(finish_pending());
    // Unlinked files that were known to the kernel until now.
    states_.drop_all();
    find_pending();
    return mark_clean();
}

Expected<void> Volume::Core::hand_over() {
    stop_background();
    if (read_only_ || journal_.failed()) return {};
    return finish_pending();
}

/// What is pending is finished first. An unlinked file that is still open stays pending on media.
Expected<void> Volume::Core::mark_clean() {
    TRY(finish_pending());
    TRY(drop_idle_hints(0));
    return edit_state([](media::State& state) {
        state.mounted = 0;
        state.unmount_seconds = now().seconds;
    });
}

/// To read-only: no change is under way, as the kernel has it when it makes a file system
/// read-only; the region is marked clean, and nothing is stored until it is writable again.
Expected<void> Volume::Core::set_read_only(bool read_only) {
    if (read_only == read_only_) return {};
    if (journal_.failed()) return fail(Cause::shut_down);
    if (read_only) {
        stop_background();
        TRY(mark_clean());
        read_only_ = true;
        return {};
    }
    if (region_.read_only()) return fail_errno(EROFS);
    if ((super_.read_only & ~media::kReadOnlyKnown) != 0) return fail(Cause::feature_unknown);
    read_only_ = false;
    const auto marked = mark_mounted();
    if (!marked) read_only_ = true;
    TRY(marked);
    if (!records_known_) TRY(load_records());
    find_pending();
    if (!options_.background) return {};
    const auto started = start_background();
    if (!started) read_only_ = true;
    return started;
}

std::string_view Volume::Core::label() const {
    const auto* text = reinterpret_cast<const char*>(super_.label);
    return {text, strnlen(text, sizeof super_.label)};
}

Expected<void> Volume::Core::admit_read() const {
    return journal_.failed() ? fail(Cause::shut_down) : Expected<void>{};
}

Expected<void> Volume::Core::admit_change() const {
    if (read_only_) return fail(Cause::read_only);
    if (!fill_memory_reserve()) return fail(Cause::out_of_memory);
    return admit_read();
}

Expected<std::uint64_t> Volume::Core::locate(InodeState& state) {
    std::uint64_t offset = state.slot_offset.load(std::memory_order_acquire);
    if (offset != 0) return offset;
    const TableLock lock{inodes_.mutex()};
    offset = TRY(inodes_.locate(state.ino.value));
    state.slot_offset.store(offset, std::memory_order_release);
    return offset;
}

Expected<media::Inode> Volume::Core::read_inode(InodeState& state) {
    if (state.dead) return fail(Cause::stale_inode, 0, state.ino.value);
    const std::uint64_t offset = TRY(locate(state));
    media::Inode inode;
    TRY(units_.read(offset, media::kInodeMagic, std::as_writable_bytes(std::span{&inode, 1})));
    TRY(check_inode(inode, state.ino, offset));
    return inode;
}

Expected<media::Inode> Volume::Core::read_directory_inode(InodeState& state) {
    const auto inode = TRY(read_inode(state));
    if (!S_ISDIR(inode.mode)) return fail(Cause::not_a_directory);
    return inode;
}

Expected<media::Inode*> Volume::Core::edit_inode(Change& change, InodeState& state) {
    if (state.dead) return fail(Cause::stale_inode, 0, state.ino.value);
    const std::uint64_t offset = TRY(locate(state));
    const auto bytes =
        TRY(change.transaction().edit(offset, media::kInodeMagic, sizeof(media::Inode)));
    auto* inode = reinterpret_cast<media::Inode*>(bytes.data());
    TRY(check_inode(*inode, state.ino, offset));
    apply_lazy_times(change, *inode, state);
    return inode;
}

void Volume::Core::touch(media::Inode& inode, Time time) {
    inode.mtime = time.seconds;
    inode.mtime_ns = time.nanoseconds;
    set_ctime(inode, time);
}

void Volume::Core::set_ctime(media::Inode& inode, Time time) {
    inode.ctime = time.seconds;
    inode.ctime_ns = time.nanoseconds;
}

std::vector<Volume::Core::Exclusive> Volume::Core::lock_all(
    std::initializer_list<InodeState*> states) {
    std::vector<InodeState*> sorted{states};
    std::erase(sorted, nullptr);
    std::ranges::sort(sorted, {}, [](const InodeState* state) { return state->ino; });
    sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
    std::vector<Exclusive> locks;
    locks.reserve(sorted.size());
    for (InodeState* state : sorted) locks.emplace_back(state->mutex);
    return locks;
}

Expected<std::uint64_t> Volume::Core::next_generation() {
    for (;;) {
        if (next_generation_ == generation_limit_) {
            Change one = change(space::Reserve::use);
            const auto bytes = TRY(one.transaction().edit_block(
                super_.state_offset,
                {.kind = media::BlockKind::state, .owner = 0, .generation = 0}));
            auto& state = *reinterpret_cast<media::State*>(bytes.data());
            state.generation_limit += kGenerationBatch;
            const std::uint64_t limit = state.generation_limit;
            TRY(one.commit());
            generation_limit_ = limit;
        }
        const std::uint64_t generation = next_generation_++;
        if ((generation & UINT32_MAX) != 0) return generation;
    }
}

}  // namespace pinfs

// SPDX-License-Identifier: Apache-2.0
//
// The end of what nobody owns any more (SPEC 3.9, 3.11). Owner gone is not device gone: blocks that
// a device may still write are given to nobody else until it is proven that it cannot. One thread
// looks after that; nobody waits for it.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>

#include "fs/pin/process.h"
#include "fs/volume/core.h"

namespace pinfs {

namespace {

constexpr auto kFirstLook = std::chrono::milliseconds{5};
constexpr auto kLastLook = std::chrono::milliseconds{1000};
/// How long the kernel's counters are asked first, before blocks are moved away from a device.
constexpr std::uint64_t kMoveAfterNs = 100'000'000;
/// Of one round: what more there is waits for the next.
constexpr std::size_t kRoundMax = 65536;

}  // namespace

/// What others than the daemon have mapped of the region: looked up once, at the first question.
class Volume::Core::MappedByOthers {
public:
    explicit MappedByOthers(const pmem::Region& region) : region_(region) {}
    bool meets(std::uint64_t region_offset, std::uint64_t bytes) {
        if (!ranges_) {
            const auto backing = region_.backing();
            ranges_ =
                backing ? pin::mapped_elsewhere(backing->device, backing->inode) : pin::RangeSet{};
        }
        return ranges_->meets(region_offset, region_offset + bytes);
    }

private:
    const pmem::Region& region_;
    std::optional<pin::RangeSet> ranges_;
};

Expected<void> Volume::Core::revoke(std::uint64_t id, std::uint64_t grace_ms) {
    TRY(admit_read());
    const MustFinish finish;
    const std::uint64_t deadline =
        monotonic_ns() + std::min<std::uint64_t>(grace_ms, 1000ull * 3600 * 24 * 365) * 1'000'000;
    {
        const PinsLock lock{pins_mutex_};
        pin::Event event{.type = pin::EventType::revoking, .id = id, .deadline_ns = deadline};
        if (pin::Reference* const reference = registry_.reference(id)) {
            if (reference->state == pin::ReferenceState::gone) return fail(Cause::no_such_record);
            reference->deadline_ns = deadline;
            event.user_data = reference->user_data;
            event.begin = reference->begin;
            event.end = reference->end;
            registry_.post(reference->owner.context, event);
        } else if (const auto lease = registry_.set_lease_deadline(id, deadline)) {
            event.user_data = lease->user_data;
            event.begin = lease->begin;
            event.end = lease->end;
            registry_.post(lease->context, event);
            note_leases(lease->ino, lease->handle);
        } else {
            return fail(Cause::no_such_record);
        }
        revoking_.push_back(id);
    }
    wake_contexts();
    disturb_keeper();
    return {};
}

Expected<void> Volume::Core::release_hold(std::uint64_t id) {
    TRY(admit_change());
    Ino ino;
    {
        const PinsLock lock{pins_mutex_};
        if (pin::Hold* const hold = registry_.hold(id)) {
            if (!hold->waits_for.empty()) return fail(Cause::name_is_busy);  // a living map's
            registry_.prove(*hold);
        } else {
            const pin::Reference* const reference = registry_.reference(id);
            if (reference == nullptr || reference->state != pin::ReferenceState::gone)
                return fail(Cause::no_such_record);
            ino = Ino{reference->ino};
        }
    }
    if (!ino) return release_holds({id});
    return end_gone({{ino, id}});
}

/// Maps and pins without owner end: nobody reaches their file's blocks through them. As many in one
/// change as its log takes.
Expected<void> Volume::Core::end_gone(const std::vector<std::pair<Ino, std::uint64_t>>& ended) {
    constexpr std::size_t kLogBytes = 2048;  // one slot, its chunk and the index above
    for (auto next = ended.begin(); next != ended.end();) {
        std::vector<Use> states;
        const PinsLock lock{pins_mutex_};
        const TableLock table_lock{table_mutex_};
        Change one = change(space::Reserve::use);
        for (; next != ended.end() && one.has_room(kLogBytes); ++next) {
            pin::Reference* const reference = registry_.reference(next->second);
            if (reference == nullptr || reference->state != pin::ReferenceState::gone) continue;
            InodeState& state = *states.emplace_back(use(next->first));
            TRY(erase_record(one, reference->slot, reference->slot_offset));
            one.after_commit([this, &state, reference] {
                if (reference->writable) note_outside_change(state);
                states_.remove_record(state, /*owned=*/false);
                registry_.remove(*reference);
                forget_if_unwatched(state);
            });
        }
        if (!one.transaction().empty()) TRY(one.commit());
    }
    return {};
}

void Volume::Core::wake_contexts() {
    std::vector<std::uint64_t> woken;
    {
        const PinsLock lock{pins_mutex_};
        woken = registry_.take_woken();
    }
    wake(woken);
}

/// Those whose time has come lose what was to be revoked.
void Volume::Core::end_revoked(std::uint64_t now_ns) {
    {
        const PinsLock lock{pins_mutex_};
        std::erase_if(revoking_, [&](std::uint64_t id) {
            pin::Event event{.type = pin::EventType::revoked, .id = id};
            if (pin::Reference* const reference = registry_.reference(id)) {
                if (reference->state == pin::ReferenceState::gone) return true;
                if (reference->deadline_ns > now_ns) return false;
                event.user_data = reference->user_data;
                event.begin = reference->begin;
                event.end = reference->end;
                const std::uint64_t context = reference->owner.context;
                reference->revoked = true;
                registry_.abandon(*reference, now_ns);
                registry_.post(context, event);
                return true;
            }
            const auto lease = registry_.lease(id);
            if (!lease) return true;
            if (lease->deadline_ns > now_ns) return false;
            event.user_data = lease->user_data;
            event.begin = lease->begin;
            event.end = lease->end;
            registry_.drop_lease(id);
            note_leases(lease->ino, lease->handle);
            registry_.post(lease->context, event);
            return true;
        });
    }
    wake_contexts();
}

/// What processes owned that are no more has no owner.
void Volume::Core::end_of_processes(std::uint64_t now_ns) {
    std::vector<pin::Process> processes;
    {
        const PinsLock lock{pins_mutex_};
        for (const auto& [process, ids] : registry_.process_owned()) processes.push_back(process);
    }
    std::erase_if(processes, [](const pin::Process& process) { return pin::is_alive(process); });
    const PinsLock lock{pins_mutex_};
    for (const pin::Process& process : processes) registry_.abandon_all_of(process, now_ns);
}

/// What follows when the registry made references ownerless: their files may be orphans that nobody
/// keeps, and their records say so.
Expected<void> Volume::Core::settle_abandoned() {
    std::vector<Ino> inodes;
    {
        const PinsLock lock{pins_mutex_};
        for (const auto& [id, ino] : registry_.take_abandoned()) {
            unwritten_gone_.push_back(id);
            inodes.push_back(Ino{ino});
        }
    }
    for (const Ino ino : inodes) {
        const Use state = use(ino);
        states_.abandon_record(*state);
    }
    constexpr std::size_t kLogBytes = 1024;
    for (bool more = true; more;) {
        const PinsLock lock{pins_mutex_};
        const TableLock table_lock{table_mutex_};
        Change one = change(space::Reserve::use);
        while (!unwritten_gone_.empty() && one.has_room(kLogBytes)) {
            const pin::Reference* const reference = registry_.reference(unwritten_gone_.back());
            unwritten_gone_.pop_back();
            if (reference != nullptr) TRY(update_record(one, *reference));
        }
        more = !unwritten_gone_.empty();
        if (!one.transaction().empty()) TRY(one.commit());
    }
    return {};
}

/// Whether the kind of region lets backing pages be taken from a device that has them.
bool Volume::Core::can_renew_pages() const {
    const auto kind = region_.capabilities().kind;
    return kind == pmem::Kind::tmpfs || kind == pmem::Kind::hugetlb;
}

bool Volume::Core::has_waited_enough(std::uint64_t since_ns, std::uint64_t now_ns) const {
    const std::uint64_t grace = options_.release_grace_seconds;
    return grace != 0 && now_ns - since_ns >= grace * 1'000'000'000;
}

Expected<void> Volume::Core::prove_holds(bool quiet, MappedByOthers& others, std::uint64_t now_ns) {
    struct Candidate {
        std::uint64_t id;
        BlockRun run;
        std::uint64_t made_ns;
        bool may_be_mapped;
    };
    std::vector<Candidate> candidates;
    {
        const PinsLock lock{pins_mutex_};
        for (const std::uint64_t id : registry_.unproven_holds()) {
            const pin::Hold& hold = *registry_.hold(id);
            if (hold.made_ns >= now_ns) continue;  // the counters were asked before
            candidates.push_back({id, hold.run, hold.made_ns, hold.may_be_mapped});
            if (candidates.size() == kRoundMax) break;
        }
    }
    std::vector<std::uint64_t> proven;
    for (const Candidate& each : candidates) {
        const bool mapped = each.may_be_mapped && others.meets(each.run.begin * kBlockBytes,
                                                               each.run.count * kBlockBytes);
        bool free = quiet && !mapped;
        if (!free && !mapped && can_renew_pages()) {
            const auto renewed =
                region_.renew_pages(each.run.begin * kBlockBytes, each.run.count * kBlockBytes);
            free = renewed && *renewed;
        }
        if (!free && has_waited_enough(each.made_ns, now_ns)) {
            spdlog::warn("hold {} of {} blocks at {} is released after release_grace, unproven",
                         each.id, each.run.count, each.run.begin);
            free = true;
        }
        if (free) proven.push_back(each.id);
    }
    const PinsLock lock{pins_mutex_};
    for (const std::uint64_t id : proven)
        if (pin::Hold* const hold = registry_.hold(id)) registry_.prove(*hold);
    return {};
}

/// Maps and pins without owner whose blocks are still their file's.
Expected<void> Volume::Core::end_gone_references(bool quiet, MappedByOthers& others,
                                                 std::uint64_t now_ns) {
    struct Candidate {
        std::uint64_t id;
        Ino ino;
        std::uint64_t begin, end;
        std::uint64_t gone_ns;
        bool revoked;
    };
    std::vector<Candidate> candidates;
    {
        const PinsLock lock{pins_mutex_};
        for (const std::uint64_t id : registry_.gone()) {
            const pin::Reference& reference = *registry_.reference(id);
            if (reference.gone_ns >= now_ns) continue;
            candidates.push_back({id, Ino{reference.ino}, reference.begin, reference.end,
                                  reference.gone_ns, reference.revoked});
            if (candidates.size() == kRoundMax) break;
        }
    }
    Expected<void> result;
    std::vector<std::pair<Ino, std::uint64_t>> ended;
    for (const Candidate& each : candidates) {
        bool free = quiet && !(each.revoked && is_mapped(others, each.ino, each.begin, each.end));
        if (!free && can_renew_pages() && now_ns - each.gone_ns >= kMoveAfterNs) {
            const auto moved = move_from_device(each.ino, each.id, each.begin, each.end);
            if (!moved && moved.error().cause != Cause::no_space)
                result = std::unexpected(moved.error());
            free = moved && *moved;
        }
        if (!free && has_waited_enough(each.gone_ns, now_ns)) {
            spdlog::warn(
                "bytes {} to {} of inode {}, of {} whose owner is gone, are released "
                "after release_grace, unproven",
                each.begin, each.end, each.ino.value, each.id);
            free = true;
        }
        if (free) ended.emplace_back(each.ino, each.id);
    }
    const auto done = end_gone(ended);
    return result ? done : result;
}

bool Volume::Core::is_mapped(MappedByOthers& others, Ino ino, std::uint64_t begin_bytes,
                             std::uint64_t end_bytes) {
    const Use state = use(ino);
    const auto extents = extents_of(*state, begin_bytes, end_bytes, /*holes_too=*/true);
    return !extents || std::ranges::any_of(*extents, [&](const Extent& extent) {
        return others.meets(extent.region_offset, extent.bytes);
    });
}

/// The file gets other blocks there, with the same content; the old ones are held. False while
/// somebody else has them mapped, pinned or leased exclusively.
Expected<bool> Volume::Core::move_from_device(Ino ino, std::uint64_t id, std::uint64_t begin_bytes,
                                              std::uint64_t end_bytes) {
    const Use state = use(ino);
    const RangeLock::Hold hold{state->ranges, begin_bytes, end_bytes, RangeLock::Mode::exclusive};
    pin::RangeSet wanted;
    {
        const PinsLock lock{pins_mutex_};
        const pin::FilePins* const file = registry_.find(ino.value);
        const pin::Reference* const reference = registry_.reference(id);
        if (file == nullptr || reference == nullptr) return true;
        if (!file->admit_change(begin_bytes, end_bytes) ||
            file->maps.first(begin_bytes, end_bytes) != nullptr)
            return false;
        reference->stale.for_each_gap(
            begin_bytes, end_bytes,
            [&](std::uint64_t begin, std::uint64_t end) { wanted.add(begin, end); });
    }
    Expected<void> result;
    wanted.for_each([&](std::uint64_t begin, std::uint64_t end) {
        if (result) result = move_blocks(*state, begin / kBlockBytes, end / kBlockBytes);
    });
    if (!result) return std::unexpected(result.error());
    return true;
}

bool Volume::Core::keep_once() {
    const MustFinish finish;
    const std::uint64_t now_ns = monotonic_ns();
    end_revoked(now_ns);
    end_of_processes(now_ns);
    bool waits = false;
    bool unproven = false;
    {
        const PinsLock lock{pins_mutex_};
        unproven = !registry_.gone().empty() || !registry_.unproven_holds().empty();
        waits = unproven || !revoking_.empty() || !registry_.process_owned().empty();
    }
    if (is_shut_down() || read_only_) return waits;
    // An error leaves everything held: the next round, or the next mount, tries again.
    (void)settle_abandoned();
    if (unproven) {
        const bool quiet = pin::is_nothing_pinned();
        MappedByOthers others{region_};
        (void)end_gone_references(quiet, others, now_ns);
        (void)prove_holds(quiet, others, now_ns);
    }
    (void)release_free_holds();
    return waits;
}

void Volume::Core::disturb_keeper() {
    {
        const std::scoped_lock lock{keeper_mutex_};
        keeper_disturbed_ = true;
    }
    keeper_wake_.notify_all();
}

void Volume::Core::keep() {
    auto pause = std::chrono::duration_cast<std::chrono::milliseconds>(kFirstLook);
    std::unique_lock lock{keeper_mutex_};
    while (!keeper_stopping_) {
        keeper_disturbed_ = false;
        lock.unlock();
        bool waits = true;
        try {
            waits = keep_once();
        } catch (const std::bad_alloc&) {  // the next round does it
        }
        lock.lock();
        const auto disturbed = [&] {
            return keeper_disturbed_ || keeper_stopping_;
        };
        if (!waits) {
            keeper_wake_.wait(lock, disturbed);
            pause = kFirstLook;
        } else if (keeper_wake_.wait_for(lock, pause, disturbed)) {
            pause = kFirstLook;
        } else {
            pause = std::min<std::chrono::milliseconds>(pause * 2, kLastLook);
        }
    }
}

void Volume::Core::start_keeper() {
    {
        const std::scoped_lock lock{keeper_mutex_};
        keeper_stopping_ = false;
    }
    keeper_ = std::thread{[this] {
        keep();
    }};
}

void Volume::Core::stop_keeper() {
    {
        const std::scoped_lock lock{keeper_mutex_};
        keeper_stopping_ = true;
    }
    keeper_wake_.notify_all();
    if (keeper_.joinable()) keeper_.join();
}

void Volume::Core::inject_delay() const {
    if (options_.unpin_delay_ms != 0)
        std::this_thread::sleep_for(std::chrono::milliseconds{options_.unpin_delay_ms});
}

}  // namespace pinfs

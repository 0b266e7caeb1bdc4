// SPDX-License-Identifier: Apache-2.0
//
// Reports of what is leased, mapped, pinned and held, by whom, and under which name.
#include <sys/stat.h>

#include <algorithm>
#include <map>

#include "fs/volume/core.h"

namespace pinfs {

namespace {

bool matches(const PinnedFilter& filter, Ino ino, const pin::Owner& owner) {
    return (!filter.uid || *filter.uid == owner.uid) && (!filter.ino || *filter.ino == ino) &&
           (!filter.pid || *filter.pid == owner.process.pid);
}

PinnedItem item_of(const pin::Reference& reference) {
    using State = PinnedItem::State;
    PinnedItem item;
    item.kind =
        reference.kind == pin::ReferenceKind::pin ? PinnedItem::Kind::pin : PinnedItem::Kind::map;
    item.state = reference.state == pin::ReferenceState::gone        ? State::held
                 : reference.deadline_ns != 0                        ? State::revoking
                 : reference.state == pin::ReferenceState::recovered ? State::recovered
                                                                     : State::live;
    item.id = reference.id;
    item.generation = reference.generation;
    item.ino = Ino{reference.ino};
    item.begin = reference.begin;
    item.end = reference.end;
    item.owner = reference.owner;
    item.writable = reference.writable;
    item.shared = reference.shared;
    item.self_flushed = reference.self_flushed;
    item.descriptor = reference.descriptor;
    item.label = reference.label;
    item.made_seconds = reference.made_seconds;
    item.deadline_ns = reference.deadline_ns;
    return item;
}

PinnedItem item_of(const pin::Lease& lease, Ino ino) {
    PinnedItem item;
    item.kind = PinnedItem::Kind::lease;
    item.state = lease.deadline_ns != 0 ? PinnedItem::State::revoking : PinnedItem::State::live;
    item.id = lease.id;
    item.ino = ino;
    item.begin = lease.begin;
    item.end = lease.end;
    item.owner = lease.owner;
    item.lease_kind = lease.kind;
    item.made_seconds = lease.made_seconds;
    item.deadline_ns = lease.deadline_ns;
    return item;
}

PinnedItem item_of(const pin::Hold& hold) {
    PinnedItem item;
    item.kind = PinnedItem::Kind::hold;
    item.state = hold.waits_for.empty() ? PinnedItem::State::held : PinnedItem::State::cut;
    item.id = hold.id;
    item.generation = hold.generation;
    item.ino = Ino{hold.ino};
    item.begin = hold.file_block * kBlockBytes;
    item.end = item.begin + hold.bytes();
    item.region_offset = hold.run.begin * kBlockBytes;
    item.owner = hold.owner;
    item.made_seconds = hold.made_seconds;
    return item;
}

}  // namespace

/// The name that entry `key` of a directory has, if it still names `ino`.
std::optional<std::string> Volume::Core::name_in(Ino parent, std::uint64_t key, Ino ino) {
    const Use state = use(parent);
    const Shared lock{state->mutex};
    const auto inode = read_directory_inode(*state);
    if (!inode) return std::nullopt;
    std::optional<std::string> name;
    (void)directory(*inode).for_each(key, [&](const inode::Name& entry) {
        if (entry.key == key && entry.ino == ino) name = entry.name;
        return false;
    });
    return name;
}

/// A directory's own name: looked for in its parent, unless the last name it had still holds.
std::optional<std::string> Volume::Core::name_of_directory(Ino ino, Ino& parent) {
    std::uint64_t key = 0;
    {
        const Use state = use(ino);
        const Shared lock{state->mutex};
        const auto inode = read_directory_inode(*state);
        if (!inode) return std::nullopt;
        parent = Ino{inode->parent};
        if (state->parent.load() == inode->parent) key = state->name_key.load();
    }
    if (key != 0)
        if (auto name = name_in(parent, key, ino)) return name;
    const Use state = use(parent);
    const Shared lock{state->mutex};
    const auto inode = read_directory_inode(*state);
    if (!inode) return std::nullopt;
    std::optional<std::string> name;
    (void)directory(*inode).for_each(0, [&](const inode::Name& entry) {
        if (entry.ino == ino) name = entry.name;
        return !name;
    });
    return name;
}

/// Empty for the root; nullopt for a directory that is gone.
std::optional<std::string> Volume::Core::path_of_directory(Ino ino) {
    constexpr int kDepthMax = 4096;  // deeper than any path that can be said
    std::string path;
    for (int depth = 0; ino != kRootIno; ++depth) {
        Ino above;
        const auto name = name_of_directory(ino, above);
        if (!name || depth == kDepthMax) return std::nullopt;
        path.insert(0, "/" + *name);
        ino = above;
    }
    return path;
}

/// By the last name that was heard of; nullopt if that name is another's now.
std::optional<std::string> Volume::Core::path_of(Ino ino) {
    Ino parent;
    std::uint64_t key = 0;
    {
        const Use state = use(ino);
        parent = Ino{state->parent.load()};
        key = state->name_key.load();
    }
    if (!parent || key == 0) return std::nullopt;
    const auto name = name_in(parent, key, ino);
    const auto above = name ? path_of_directory(parent) : std::nullopt;
    return above ? std::optional{*above + "/" + *name} : std::nullopt;
}

/// A name is about to go, perhaps the last: reports go on to say it. No lock is held.
void Volume::Core::remember_name(InodeState& state, Ino parent, std::string_view name) {
    if (!state.watched.load()) return;
    const auto above = path_of_directory(parent);
    if (!above) return;
    const PinsLock lock{pins_mutex_};
    if (pin::FilePins* const file = registry_.find(state.ino.value))
        file->last_path = *above + "/" + std::string{name};
}

Expected<std::vector<PinnedItem>> Volume::Core::pinned(const PinnedFilter& filter) {
    TRY(admit_read());
    std::vector<PinnedItem> items;
    std::map<Ino, std::string> last_paths;
    {
        const PinsLock lock{pins_mutex_};
        for (const auto& [number, file] : registry_.files()) {
            const Ino ino{number};
            if (filter.ino && *filter.ino != ino) continue;
            if (!file.last_path.empty()) last_paths[ino] = file.last_path;
            file.leases.for_each([&](const pin::Lease& lease) {
                if (matches(filter, ino, lease.owner)) items.push_back(item_of(lease, ino));
            });
            const auto add = [&](const pin::Reference& reference) {
                if (matches(filter, ino, reference.owner)) items.push_back(item_of(reference));
                return true;
            };
            file.maps.for_each(0, UINT64_MAX, add);
            file.pins.for_each(0, UINT64_MAX, add);
            file.gone.for_each(0, UINT64_MAX, add);
        }
        for (const auto& [id, hold] : registry_.holds())
            if (matches(filter, Ino{hold->ino}, hold->owner)) items.push_back(item_of(*hold));
    }
    struct Named {
        std::string path;
        bool deleted = false;
    };
    std::map<Ino, Named> names;
    std::map<Ino, PinnedItem> orphans;
    for (PinnedItem& item : items) {
        const auto [found, is_new] = names.try_emplace(item.ino);
        Named& named = found->second;
        if (is_new) {
            const auto attributes = this->attributes(item.ino);
            named.deleted = !attributes || attributes->nlink == 0;
            const auto path = named.deleted ? std::nullopt : path_of(item.ino);
            named.path = path ? *path
                         : last_paths.contains(item.ino)
                             ? last_paths[item.ino]
                             : "/(inode " + std::to_string(item.ino.value) + ")";
        }
        item.path = named.path;
        item.deleted = named.deleted;
        if (!item.deleted || item.kind == PinnedItem::Kind::hold) continue;
        PinnedItem& orphan = orphans[item.ino];
        orphan.kind = PinnedItem::Kind::orphan;
        orphan.ino = item.ino;
        orphan.path = item.path;
        orphan.deleted = true;
        orphan.owner = item.owner;
        orphan.end = std::max(orphan.end, item.kind == PinnedItem::Kind::lease ? 0 : item.end);
        orphan.made_seconds = item.made_seconds;
    }
    for (auto& [ino, orphan] : orphans) items.push_back(std::move(orphan));
    std::ranges::sort(items, [](const PinnedItem& a, const PinnedItem& b) {
        return std::tie(a.path, a.ino, a.kind, a.begin, a.id) <
               std::tie(b.path, b.ino, b.kind, b.begin, b.id);
    });
    return items;
}

PinnedTotals Volume::Core::pinned_totals() {
    PinnedTotals totals;
    const PinsLock lock{pins_mutex_};
    totals.contexts = registry_.contexts();
    for (const auto& [ino, file] : registry_.files()) totals.leases += file.leases.size();
    for (const auto& [id, reference] : registry_.references()) {
        const std::uint64_t bytes = reference->end - reference->begin;
        const bool is_pin = reference->kind == pin::ReferenceKind::pin;
        (is_pin ? totals.pins : totals.maps) += 1;
        (is_pin ? totals.pin_bytes : totals.map_bytes) += bytes;
    }
    totals.holds = registry_.holds().size();
    for (const auto& [id, hold] : registry_.holds()) totals.hold_bytes += hold->bytes();
    totals.refused_changes = refused_changes_.load();
    return totals;
}

std::pair<std::uint64_t, std::uint64_t> Volume::Core::charged_bytes(std::uint32_t uid) {
    const PinsLock lock{pins_mutex_};
    return {registry_.charges.bytes_of(uid), registry_.charges.limits().user_bytes};
}

std::string Volume::Core::describe(std::uint64_t id) {
    const auto by = [](const pin::Owner& owner) {
        return owner.process.pid == 0 ? std::string{" of a process of another pid namespace"}
                                      : " of process " + std::to_string(owner.process.pid) + " (" +
                                            owner.command + ")";
    };
    const PinsLock lock{pins_mutex_};
    const std::string number = std::to_string(id);
    if (const pin::Reference* const reference = registry_.reference(id))
        return (reference->kind == pin::ReferenceKind::pin ? "pin " : "map ") + number +
               by(reference->owner);
    if (const auto lease = registry_.lease(id)) return "lease " + number + by(lease->owner);
    if (const pin::Hold* const hold = registry_.hold(id)) return "hold " + number + by(hold->owner);
    return {};
}

}  // namespace pinfs

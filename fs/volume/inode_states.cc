// SPDX-License-Identifier: Apache-2.0
#include "fs/volume/inode_states.h"

#include <malloc.h>

#include <algorithm>
#include <cassert>

namespace pinfs {

std::shared_ptr<InodeState> InodeStates::use(Ino ino) {
    Shard& shard = shard_of(ino);
    const std::scoped_lock lock{shard.mutex};
    auto found = shard.states.find(ino);
    if (found == shard.states.end()) {
        found = shard.states.emplace(ino, std::make_shared<InodeState>(ino)).first;
        shard.most = std::max(shard.most, shard.states.size());
    }
    ++found->second->users;
    return found->second;
}

bool InodeStates::drop_if_unused(Shard& shard, InodeState& state) {
    if (state.users > 0 || state.lookups > 0 || state.opens > 0 || state.owned > 0) return false;
    const auto found = shard.states.find(state.ino);
    if (found == shard.states.end() || found->second.get() != &state) return false;
    const bool orphan = state.orphan;
    // Times that are not on media keep the state until they are.
    if (!orphan && state.has_lazy_times()) return false;
    count_orphan(state, -1);
    state.orphan = false;
    if (state.records == 0) shard.states.erase(found);
    return orphan;
}

void InodeStates::end_use(const std::shared_ptr<InodeState>& state) {
    bool orphan = false;
    {
        Shard& shard = shard_of(state->ino);
        const std::scoped_lock lock{shard.mutex};
        assert(state->users > 0);
        --state->users;
        orphan = drop_if_unused(shard, *state);
    }
    if (orphan) abandoned_(state->ino);
}

void InodeStates::add_lookup(InodeState& state) {
    const std::scoped_lock lock{shard_of(state.ino).mutex};
    ++state.lookups;
}

bool InodeStates::forget(Ino ino, std::uint64_t count) {
    std::shared_ptr<InodeState> state;  // goes after the lock
    Shard& shard = shard_of(ino);
    const std::scoped_lock lock{shard.mutex};
    const auto found = shard.states.find(ino);
    if (found == shard.states.end()) return false;
    state = found->second;
    state->lookups -= std::min(count, state->lookups);
    return drop_if_unused(shard, *state);
}

void InodeStates::keep_until_forgotten(InodeState& state) {
    const std::scoped_lock lock{shard_of(state.ino).mutex};
    if (state.lookups == 0) state.lookups = 1;
    if (state.orphan) return;
    state.orphan = true;
    count_orphan(state, 1);
}

bool InodeStates::open(InodeState& state, bool dax) {
    const std::scoped_lock lock{shard_of(state.ino).mutex};
    count_orphan(state, -1);
    if (state.opens++ == 0 && state.records == 0) state.dax = dax;
    return state.dax;
}

bool InodeStates::close(InodeState& state) {
    const std::scoped_lock lock{shard_of(state.ino).mutex};
    assert(state.opens > 0);
    --state.opens;
    count_orphan(state, 1);
    return state.opens == 0;
}

std::uint32_t InodeStates::opens(InodeState& state) {
    const std::scoped_lock lock{shard_of(state.ino).mutex};
    return state.opens;
}

bool InodeStates::is_referenced(InodeState& state) {
    const std::scoped_lock lock{shard_of(state.ino).mutex};
    return state.lookups > 0 || state.opens > 0 || state.owned > 0;
}

bool InodeStates::is_dax(InodeState& state) {
    const std::scoped_lock lock{shard_of(state.ino).mutex};
    return (state.opens > 0 || state.records > 0) && state.dax;
}

void InodeStates::add_record(InodeState& state, bool owned) {
    const std::scoped_lock lock{shard_of(state.ino).mutex};
    ++state.records;
    if (owned) ++state.owned;
    state.dax = true;
}

void InodeStates::abandon_record(InodeState& state) {
    const std::scoped_lock lock{shard_of(state.ino).mutex};
    assert(state.owned > 0);
    --state.owned;
}

void InodeStates::remove_record(InodeState& state, bool owned) {
    const std::scoped_lock lock{shard_of(state.ino).mutex};
    assert(state.records > 0);
    --state.records;
    if (owned) --state.owned;
}

void InodeStates::drop_all() {
    for (Shard& shard : shards_) {
        const std::scoped_lock lock{shard.mutex};
        std::erase_if(shard.states, [&](const auto& entry) {
            InodeState& state = *entry.second;
            count_orphan(state, -1);
            state.orphan = false;
            state.lookups = 0;
            state.opens = 0;
            return state.records == 0;
        });
    }
}

void InodeStates::give_back_memory() {
    constexpr std::size_t kStatesMin = 2048;  // fewer are not worth it
    std::size_t states = 0;
    std::size_t most = 0;
    for (Shard& shard : shards_) {
        const std::scoped_lock lock{shard.mutex};
        states += shard.states.size();
        most += shard.most;
    }
    // While states still go, nearly every page has one that lives.
    const bool settled = states >= last_states_ / 8 * 7;
    last_states_ = states;
    if (!settled || most < kStatesMin || states > most / 4) return;
    for (Shard& shard : shards_) {
        const std::scoped_lock lock{shard.mutex};
        shard.states.rehash(kBucketsMin);
        shard.most = shard.states.size();
    }
    // Without being told, malloc keeps what was freed between things that live.
    malloc_trim(0);
}

void InodeStates::mark_orphan(InodeState& state) {
    const std::scoped_lock lock{shard_of(state.ino).mutex};
    if (state.orphan) return;
    state.orphan = true;
    count_orphan(state, 1);
}

void InodeStates::unmark_orphan(InodeState& state) {
    const std::scoped_lock lock{shard_of(state.ino).mutex};
    count_orphan(state, -1);
    state.orphan = false;
}

void InodeStates::remove(InodeState& state) {
    Shard& shard = shard_of(state.ino);
    const std::scoped_lock lock{shard.mutex};
    count_orphan(state, -1);
    state.orphan = false;
    const auto found = shard.states.find(state.ino);
    if (found != shard.states.end() && found->second.get() == &state) shard.states.erase(found);
}

std::vector<Ino> InodeStates::all() const {
    std::vector<Ino> inodes;
    for (const Shard& shard : shards_) {
        const std::scoped_lock lock{shard.mutex};
        for (const auto& [ino, state] : shard.states) inodes.push_back(ino);
    }
    return inodes;
}

std::size_t InodeStates::size() const {
    std::size_t count = 0;
    for (const Shard& shard : shards_) {
        const std::scoped_lock lock{shard.mutex};
        count += shard.states.size();
    }
    return count;
}

}  // namespace pinfs

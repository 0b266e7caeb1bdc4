// SPDX-License-Identifier: Apache-2.0
//
// Contexts and guards, and the events that contexts get.
#include "fs/volume/core.h"

namespace pinfs {

Expected<std::uint64_t> Volume::Core::open_context(const pin::Owner& owner) {
    TRY(admit_read());
    const PinsLock lock{pins_mutex_};
    const MustFinish finish;
    TRY(registry_.charges.add(owner.uid, 0));
    const std::uint64_t id = take_volatile_id();
    pin::Owner named = owner;
    named.context = id;
    registry_.open_context(id, named);
    return id;
}

void Volume::Core::close_context(std::uint64_t context) {
    {
        const PinsLock lock{pins_mutex_};
        const pin::Context* const there = registry_.context(context);
        if (there == nullptr) return;
        registry_.charges.remove(there->owner.uid, 0);
        registry_.close_context(context, monotonic_ns());
    }
    disturb_keeper();
}

Expected<std::uint64_t> Volume::Core::open_guard(std::uint64_t context) {
    TRY(admit_read());
    const PinsLock lock{pins_mutex_};
    if (registry_.context(context) == nullptr) return fail(Cause::no_such_context);
    const MustFinish finish;
    const std::uint64_t id = take_volatile_id();
    registry_.open_guard(id, context);
    return id;
}

void Volume::Core::close_guard(std::uint64_t guard) {
    {
        const PinsLock lock{pins_mutex_};
        registry_.close_guard(guard, monotonic_ns());
    }
    disturb_keeper();
}

void Volume::Core::abandon_all() {
    const PinsLock lock{pins_mutex_};
    const std::uint64_t now_ns = monotonic_ns();
    for (const auto& [id, reference] : registry_.references())
        registry_.abandon(*reference, now_ns);
}

void Volume::Core::shut_down() {
    journal_.fail_all();
    {
        const PinsLock lock{pins_mutex_};
        registry_.post_to_all({.type = pin::EventType::shut_down});
    }
    wake_contexts();
}

void Volume::Core::set_event_sink(std::function<void(std::uint64_t context)> sink) {
    const std::scoped_lock lock{event_sink_mutex_};
    event_sink_ = std::move(sink);
}

void Volume::Core::wake(const std::vector<std::uint64_t>& contexts) {
    if (contexts.empty()) return;
    const std::scoped_lock lock{event_sink_mutex_};
    if (!event_sink_) return;
    for (const std::uint64_t context : contexts) event_sink_(context);
}

Expected<std::optional<pin::Event>> Volume::Core::next_event(std::uint64_t context) {
    const PinsLock lock{pins_mutex_};
    pin::Context* const there = registry_.context(context);
    if (there == nullptr) return fail(Cause::no_such_context);
    return registry_.take_event(*there);
}

bool Volume::Core::has_event(std::uint64_t context) {
    const PinsLock lock{pins_mutex_};
    const pin::Context* const there = registry_.context(context);
    return there != nullptr && there->events.size() > 0;
}

}  // namespace pinfs

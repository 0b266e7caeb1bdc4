// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/tick_clock.h"

#include <fcntl.h>
#include <unistd.h>

#include <string_view>

namespace pinfs::fuse {

#ifdef __x86_64__
namespace {

constexpr useconds_t kCompared = 2000;

/// Whether the kernel found the counter fit to keep the time by.
bool kernel_uses_counter() {
    const int file = open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
                          O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    char name[8] = {};
    const ssize_t count = read(file, name, sizeof(name));
    close(file);
    return count == 4 && std::string_view{name, 4} == "tsc\n";
}

struct Moment {
    std::uint64_t ns;
    std::uint64_t ticks;
};

/// Both clocks at once: of some tries the one that was interrupted least.
Moment moment() {
    Moment best{};
    std::uint64_t shortest = UINT64_MAX;
    for (int i = 0; i < 5; ++i) {
        const std::uint64_t before = monotonic_ns();
        const std::uint64_t ticks = __rdtsc();
        const std::uint64_t after = monotonic_ns();
        if (after - before >= shortest) continue;
        shortest = after - before;
        best = {.ns = before + shortest / 2, .ticks = ticks};
    }
    return best;
}

}  // namespace

TickClock::TickClock() noexcept {
    if (!kernel_uses_counter()) return;
    const Moment begin = moment();
    usleep(kCompared);
    const Moment end = moment();
    if (end.ticks <= begin.ticks) return;
    ns_per_tick_ = ((end.ns - begin.ns) << kFractionBits) / (end.ticks - begin.ticks);
}
#else
TickClock::TickClock() noexcept = default;
#endif

}  // namespace pinfs::fuse

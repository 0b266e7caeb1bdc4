// SPDX-License-Identifier: Apache-2.0
//
// A clock for durations that costs next to nothing: the processor's counter where the kernel keeps
// its own time by it (so it is steady, and the same on all processors), else the kernel's clock.
#pragma once

#include <cstdint>
#include <ctime>

#ifdef __x86_64__
#include <x86intrin.h>
#endif

namespace pinfs::fuse {

/// Nanoseconds of CLOCK_MONOTONIC.
inline std::uint64_t monotonic_ns() noexcept {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

class TickClock {
public:
    /// Takes a few milliseconds, in which the counter is compared with the kernel's clock.
    TickClock() noexcept;

    [[nodiscard]] std::uint64_t now() const noexcept {
#ifdef __x86_64__
        if (ns_per_tick_ != 0) return __rdtsc();
#endif
        return monotonic_ns();
    }
    /// Between two values of now(), to one part in a thousand.
    [[nodiscard]] std::uint64_t nanoseconds(std::uint64_t begin, std::uint64_t end) const noexcept {
        const std::uint64_t ticks = end > begin ? end - begin : 0;
        if (ns_per_tick_ == 0) return ticks;
        return static_cast<std::uint64_t>(static_cast<unsigned __int128>(ticks) * ns_per_tick_ >>
                                          kFractionBits);
    }

private:
    static constexpr unsigned kFractionBits = 32;
    std::uint64_t ns_per_tick_ = 0;  // a fixed-point number; 0: ticks are nanoseconds
};

}  // namespace pinfs::fuse

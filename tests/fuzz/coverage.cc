// SPDX-License-Identifier: Apache-2.0
//
// What g++ reports of the path taken, as counters that libFuzzer reads: one for each pair of places
// that follow one another, modulo their number. (The function that g++ calls is in libFuzzer too,
// and does nothing there: the linker puts this one in its place.)
#include <cstdint>

namespace {

constexpr std::uintptr_t kCounters = 1 << 16;
__attribute__((section("__libfuzzer_extra_counters"))) std::uint8_t counters[kCounters];
thread_local std::uintptr_t last_place = 0;

}  // namespace

extern "C" void __wrap___sanitizer_cov_trace_pc();

extern "C" __attribute__((no_sanitize_coverage, no_sanitize_address, no_sanitize_undefined)) void
__wrap___sanitizer_cov_trace_pc() {
    const auto place = reinterpret_cast<std::uintptr_t>(__builtin_return_address(0));
    std::uint8_t& counter = counters[(place ^ last_place >> 1) % kCounters];
    if (counter != UINT8_MAX) ++counter;
    last_place = place;
}

// Comparisons of numbers that nobody fuzzes: libFuzzer has nothing for them.
extern "C" void __sanitizer_cov_trace_cmpf(float, float);
extern "C" void __sanitizer_cov_trace_cmpd(double, double);
extern "C" void __sanitizer_cov_trace_cmpf(float, float) {}
extern "C" void __sanitizer_cov_trace_cmpd(double, double) {}

// SPDX-License-Identifier: Apache-2.0
//
// Allocations that fail: replaces operator new of the program, so that a test can let the n-th
// allocation of its thread fail. For one source of a program.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "fs/units.h"

namespace pinfs::test {

/// What a new handler gives back, at least: a piece of the reserve.
inline constexpr std::size_t kGivenBack = 256 * 1024;

/// Of this thread's allocations the one that fails, counted down; 0: none does.
inline thread_local std::uint64_t allocation_to_fail = 0;
inline thread_local bool all_that_follow = false;  // fail as well, until memory is given back
inline thread_local bool an_allocation_failed = false;
inline thread_local std::size_t bytes_left = 0;

inline bool is_to_fail(std::size_t bytes) {
    if (allocation_to_fail == 0) return false;
    if (allocation_to_fail > 1) {
        --allocation_to_fail;
        return false;
    }
    if (bytes <= bytes_left) {
        bytes_left -= bytes;
        return false;
    }
    return true;
}

/// As operator new has to go about it.
inline void* allocate_or_fail(std::size_t bytes, std::size_t alignment = 0) {
    while (is_to_fail(bytes)) {
        an_allocation_failed = true;
        if (!all_that_follow) allocation_to_fail = 0;
        const std::new_handler handler = std::get_new_handler();
        if (handler == nullptr) throw std::bad_alloc();
        handler();
        bytes_left += kGivenBack;
    }
    bytes = std::max(bytes, std::size_t{1});
    void* const memory = alignment == 0 ? std::malloc(bytes)
                                        : std::aligned_alloc(alignment, round_up(bytes, alignment));
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

/// The `number`-th allocation from now fails, and, if there is no more memory, all that follow,
/// until this goes.
class FailingAllocation {
public:
    FailingAllocation(std::uint64_t number, bool no_more_memory) {
        an_allocation_failed = false;
        all_that_follow = no_more_memory;
        bytes_left = 0;
        allocation_to_fail = number;
    }
    ~FailingAllocation() { allocation_to_fail = 0; }
    [[nodiscard]] static bool happened() { return an_allocation_failed; }
};

}  // namespace pinfs::test

// NOLINTBEGIN(misc-definitions-in-headers): of programs of one source
// Not inlined: the compiler would see free(3) where it expects the other half of operator new.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
    return pinfs::test::allocate_or_fail(bytes);
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return pinfs::test::allocate_or_fail(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
    try {
        return pinfs::test::allocate_or_fail(bytes);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment,
                                     const std::nothrow_t&) noexcept {
    try {
        return pinfs::test::allocate_or_fail(bytes, static_cast<std::size_t>(alignment));
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    std::free(memory);
}
// NOLINTEND(misc-definitions-in-headers)

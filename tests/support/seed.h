// SPDX-License-Identifier: Apache-2.0
//
// Seeds of random tests: printed, and taken back from the environment.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace pinfs::test {

/// PINFS_TEST_SEED if it is set, else `fallback`; says which on standard output.
inline std::uint64_t seed_of_test(const char* test, std::uint64_t fallback) {
    const char* const given = std::getenv("PINFS_TEST_SEED");
    const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : fallback;
    std::printf("%s: PINFS_TEST_SEED=%llu\n", test, static_cast<unsigned long long>(seed));
    return seed;
}

}  // namespace pinfs::test

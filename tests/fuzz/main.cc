// SPDX-License-Identifier: Apache-2.0
//
// What libFuzzer calls for each input. PINFS_FUZZED is the target.
#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    pinfs::fuzz::PINFS_FUZZED({data, bytes});
    return 0;
}

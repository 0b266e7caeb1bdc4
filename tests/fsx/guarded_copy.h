// SPDX-License-Identifier: Apache-2.0
//
// Loads and stores of a mapping that may raise SIGBUS, as a value instead of a signal.
#pragma once

#include <cstddef>

namespace pinfs::fsx {

/// Copies `length` bytes; false if SIGBUS came, then some may have been copied. One thread.
bool guarded_copy(void* to, const void* from, std::size_t length);

}  // namespace pinfs::fsx

// SPDX-License-Identifier: Apache-2.0
//
// Copying that survives SIGBUS: a page of the region that is poisoned, or gone because the file was
// truncated under us, makes the one copy fail instead of the process.
//
// Invariants
//   - Between the recovery point and its end only the copy runs: no lock is taken, no destructor is
//     due, no frame of another library but the copy's own.
//   - Only a fault inside the guarded range is ours; every other SIGBUS goes to whoever handled the
//     signal before us, or ends the process as it would have without us.
// Thread-safe: each thread has its own recovery point.
#pragma once

#include <cstddef>

namespace pinfs::pmem {

/// What is guarded: moves `bytes` bytes. One of the two sides is the guarded range.
using CopyFunction = void (*)(std::byte* to, const std::byte* from, std::size_t bytes);

/// Installs the process's handler, the first time it is called.
void install_sigbus_handler();

/// Runs `copy(to, from, bytes)`. Returns null, or the address in [media, media + bytes) whose
/// access raised SIGBUS; then any part of the copy may have been made.
const std::byte* copy_guarded(CopyFunction copy, std::byte* to, const std::byte* from,
                              std::size_t bytes, const std::byte* media);

}  // namespace pinfs::pmem

// SPDX-License-Identifier: Apache-2.0
//
// Memory for what cannot be refused.
//
// An allocation that fails throws, and its operation fails with ENOMEM: nothing has changed. That
// is no way out once a change is committed, where something ends that nobody will end again, and
// where memory is given back. There a MustFinish lives; while it does, an allocation of its thread
// that fails is tried again after a piece of the reserve went back to the system. Until the reserve
// is whole again, changes are refused.
//
// One for the process, since memory is. Thread-safe.
#pragma once

namespace pinfs {

/// Gets what is missing of the reserve, and from the first call on lets failing allocations have it
/// (std::set_new_handler). False if it is not whole.
[[nodiscard]] bool fill_memory_reserve() noexcept;

class MustFinish {
public:
    MustFinish() noexcept;
    ~MustFinish();
    MustFinish(const MustFinish&) = delete;
    MustFinish& operator=(const MustFinish&) = delete;
};

}  // namespace pinfs

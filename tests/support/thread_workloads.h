// SPDX-License-Identifier: Apache-2.0
//
// Crash workloads of several threads. They are recorded anew each time: threads interleave as they
// will.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "tests/support/recording.h"

namespace pinfs::test {

std::vector<std::function<std::unique_ptr<Recording>()>> thread_workloads();

}  // namespace pinfs::test

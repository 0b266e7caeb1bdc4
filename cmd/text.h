// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace pinfs::cmd {

/// "2026-11-21 12:00:05 UTC"; "never" for 0.
std::string time_text(std::int64_t seconds);

}  // namespace pinfs::cmd

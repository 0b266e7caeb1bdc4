// SPDX-License-Identifier: Apache-2.0
//
// How the commands that mount and unmount end: as mount(8) and umount(8) do.
#pragma once

namespace pinfs::cmd {

inline constexpr int kSuccess = 0;
inline constexpr int kUsage = 1;     ///< wrong invocation, or no permission
inline constexpr int kSystem = 2;    ///< something the machine lacks
inline constexpr int kFailure = 32;  ///< it does not mount, or does not unmount

}  // namespace pinfs::cmd

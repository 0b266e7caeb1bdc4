// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "fs/volume/volume.h"

namespace pinfs::cmd {

/// Of a file system made now, by and for this user: a random uuid and hash seed, no label.
MakeOptions new_file_system();

}  // namespace pinfs::cmd

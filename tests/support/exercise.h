// SPDX-License-Identifier: Apache-2.0
//
// Every operation on what a volume has, for volumes that are damaged: nothing is asked for but that
// each returns.
#pragma once

#include <cstddef>

#include "fs/volume/volume.h"

namespace pinfs::test {

/// Every operation on the first `names_max` names; results do not matter. Unmounts.
void exercise(Volume& volume, std::size_t names_max = 400);

}  // namespace pinfs::test

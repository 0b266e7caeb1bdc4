// SPDX-License-Identifier: Apache-2.0
//
// What most commands parse, as fs/precompiled/fs.h.
#include "fs/precompiled/fs.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <iostream>

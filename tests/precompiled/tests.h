// SPDX-License-Identifier: Apache-2.0
//
// What most tests parse, as fs/precompiled/fs.h.
#include "fs/precompiled/fs.h"

#define CATCH_CONFIG_EXTERNAL_INTERFACES  // listeners
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <fstream>
#include <random>

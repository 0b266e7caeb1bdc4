// SPDX-License-Identifier: Apache-2.0
//
// What most files of fs/ parse: compiled once for each library where the build has precompiled
// headers. Each file still includes what it uses.
// No include guard: g++ warns of one in what it precompiles.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

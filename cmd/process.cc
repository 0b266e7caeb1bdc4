// SPDX-License-Identifier: Apache-2.0
#include "cmd/process.h"

#include <fstream>
#include <sstream>
#include <string>

namespace pinfs::cmd {

std::uint64_t start_ticks_of(int pid) {
    std::ifstream file{"/proc/" + std::to_string(pid) + "/stat"};
    std::string line;
    std::getline(file, line);
    const std::size_t name_end = line.rfind(')');
    if (name_end == std::string::npos) return 0;
    std::istringstream fields{line.substr(name_end + 1)};
    std::string field;
    for (int skipped = 0; skipped < 19; ++skipped) fields >> field;
    std::uint64_t ticks = 0;
    return fields >> ticks ? ticks : 0;
}

}  // namespace pinfs::cmd

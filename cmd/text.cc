// SPDX-License-Identifier: Apache-2.0
#include "cmd/text.h"

#include <array>
#include <ctime>

namespace pinfs::cmd {

std::string time_text(std::int64_t seconds) {
    if (seconds == 0) return "never";
    const std::time_t time = seconds;
    std::tm parts{};
    std::array<char, 64> text{};
    if (gmtime_r(&time, &parts) == nullptr ||
        std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
        return std::to_string(seconds);
    return text.data();
}

}  // namespace pinfs::cmd

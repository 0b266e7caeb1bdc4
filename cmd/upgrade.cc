// SPDX-License-Identifier: Apache-2.0
#include "cmd/upgrade.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/mounts.h"
#include "cmd/supervision.h"

namespace pinfs::cmd {

int upgrade(const UpgradeCommand& command) {
    const auto refuse = [&](const std::string& sentence) {
        return complain(command.program, kFailure, sentence);
    };
    const auto mount = mount_for(command.mountpoint, mounts_of_pinfs());
    if (!mount) return refuse("no pinfs is mounted on " + command.mountpoint);
    std::ifstream report{mount->mountpoint + "/.pinfs/region"};
    const auto region = nlohmann::json::parse(report, nullptr, /*allow_exceptions=*/false);
    if (!region.is_object()) return refuse(mount->mountpoint + " does not answer");
    const std::string address = region.value("supervisor", std::string{});
    if (address.empty())
        return refuse(mount->mountpoint +
                      " has no supervisor: mount it with --supervise to upgrade it in use");
    const auto order = connect_for_orders(address);
    if (!order) return refuse(mount->mountpoint + ": " + order.error());
    say(*order, {.word = Word::hand_over, .text = {}, .descriptors = {}});
    const auto answer = hear(*order);
    close(*order);
    if (!answer) return refuse(mount->mountpoint + ": its supervisor does not answer");
    if (answer->word != Word::serving)
        return complain(command.program, answer->status, mount->mountpoint + ": " + answer->text);
    std::puts(answer->text.c_str());
    return kSuccess;
}

}  // namespace pinfs::cmd

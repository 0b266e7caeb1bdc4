// SPDX-License-Identifier: Apache-2.0
#include "cmd/tune.h"

#include <iostream>
#include <nlohmann/json.hpp>

#include "cmd/arguments.h"
#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/region_use.h"
#include "fs/format/superblock.h"
#include "fs/volume/describe.h"
#include "fs/volume/volume.h"

namespace pinfs::cmd {

int tune(const TuneCommand& command) {
    const auto failed = [&](const Error& error) {
        return complain(command.program, kFailure,
                        error.cause == Cause::region_in_use
                            ? in_use_sentence(command.region)
                            : "region " + command.region + ": " + error.message());
    };
    IdentityChange change;
    if (!command.label && !command.uuid)
        return complain(command.program, kUsage, "nothing to change: give --label or --uuid");
    if (command.label && (command.label->size() > sizeof(media::Superblock::label) ||
                          command.label->find('\0') != std::string::npos))
        return complain(command.program, kUsage, "a label has at most 64 bytes");
    change.label = command.label;
    if (command.uuid) {
        change.uuid = *command.uuid == "random" ? random_uuid() : parse_uuid(*command.uuid);
        if (!change.uuid)
            return complain(command.program, kUsage,
                            "'" + *command.uuid + "' is neither random nor a uuid: write it as " +
                                "01234567-89ab-cdef-0123-456789abcdef");
    }
    const auto region = open_when_free(command.region, {});
    if (!region) return failed(region.error());
    if (const std::string kept = kept_records(**region); !kept.empty())
        return complain(command.program, kFailure, "region " + command.region + ": " + kept);
    if (const auto changed = change_identity(**region, change); !changed)
        return failed(changed.error());
    const auto identity = describe_identity(**region);
    if (!identity) return failed(identity.error());
    const std::string uuid = uuid_text(identity->uuid);
    if (command.json)
        std::cout << nlohmann::ordered_json{{"region", command.region},
                                            {"uuid", uuid},
                                            {"label", identity->label}}
                         .dump(2)
                  << '\n';
    else
        std::cout << command.region << ": uuid " << uuid
                  << (identity->label.empty() ? ", no label" : ", label '" + identity->label + "'")
                  << '\n';
    return kSuccess;
}

}  // namespace pinfs::cmd

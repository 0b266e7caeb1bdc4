// SPDX-License-Identifier: Apache-2.0
#include "cmd/new_file_system.h"

#include <unistd.h>

#include <cstring>
#include <ctime>

#include "cmd/arguments.h"

namespace pinfs::cmd {

MakeOptions new_file_system() {
    MakeOptions options;
    options.uuid = random_uuid();
    const auto random = random_uuid();
    std::memcpy(&options.name_hash_seed, random.data(), sizeof(options.name_hash_seed));
    options.root_uid = geteuid();
    options.root_gid = getegid();
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    options.now = {now.tv_sec, static_cast<std::uint32_t>(now.tv_nsec)};
    return options;
}

}  // namespace pinfs::cmd

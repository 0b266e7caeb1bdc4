// SPDX-License-Identifier: Apache-2.0
//
// Who uses a region, and opening one that a daemon is about to leave: umount(2) of a FUSE mount
// returns before the daemon has ended, so that whatever comes right after it finds the region
// locked. Such a lock is waited for; one of a mount that lives is not.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "fs/check/records_of_boot.h"
#include "fs/error.h"
#include "fs/pmem/region.h"

namespace pinfs::cmd {

/// As Region::open. Errors: region_in_use if the region is mounted, or a command other than a
/// daemon uses it, or a daemon takes more than a minute to end (who cannot be seen: 5 seconds).
/// Locks are those of nodes; so that is said too of a device to be written of which another node is
/// locked, such as a container was given, by a process that can be seen.
Expected<std::unique_ptr<pmem::Region>> open_when_free(const std::string& path,
                                                       const pmem::OpenOptions& options);

/// Waits until nobody has the region's lock, or it is mounted (again). False after a minute.
bool wait_until_free(const std::string& path);

/// Empty, or "/dev/dax0.0 is open in process 4711 (qemu)": who knows nothing of the lock may use a
/// device all the same. Of files nothing is said.
std::string open_elsewhere(const std::string& path);

/// "region R is in use by process 4711 (pinfs), mounted on /mnt since 2026-11-21 12:00:05 UTC", as
/// far as it can be known.
std::string in_use_sentence(const std::string& path);

/// The boot of the machine that we are in, as records name it.
std::optional<BootId> boot_id_of_now();

/// Empty, or what is still on record of maps, pins and holds of this boot in a region that is not
/// mounted: programs or devices may reach its blocks (SPEC 3.10). "3 maps, pins or holds of this
/// boot are on record in it, one of process 4711 (server)".
std::string kept_records(pmem::Region& region);

/// Empty, or one sentence about another region that is mounted and has the same uuid: a copy. As
/// far as this user may look into mounted regions.
std::string twin_sentence(const std::string& path, const std::array<std::uint8_t, 16>& uuid);

}  // namespace pinfs::cmd

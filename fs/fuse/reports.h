// SPDX-License-Identifier: Apache-2.0
//
// The text of the reports (SPEC 4). Each is made at once, from one consistent look at the volume,
// and says of `only_uid`'s records alone where that is set. Labels are checked against /proc while
// the report is made: a descriptor that is another file now names nothing any more.
//
// Formats: .file_pins and user.pinfs.pins in pinfs(5); others are JSON and Prometheus text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fs/error.h"
#include "fs/fuse/edge.h"

namespace pinfs::fuse {

using OnlyUser = std::optional<std::uint32_t>;

/// .file_pins: who pins what, by process.
Expected<std::string> file_pins(Edge& edge, OnlyUser only_uid);
/// The part of .file_pins below the line of process `pid`.
Expected<std::string> process_pins(Edge& edge, OnlyUser only_uid, std::uint32_t pid);
/// Every lease, map, pin, hold and orphan.
Expected<std::string> pins_json(Edge& edge, OnlyUser only_uid);
/// What the region can do, and its identity.
std::string region_json(const Edge& edge);
/// What is left, what is on record, what was asked. Of records `only_uid`'s own alone.
Expected<std::string> metrics(Edge& edge, OnlyUser only_uid);
/// The last lines of the daemon's log, which names files of all users: who sees not all sees none.
std::string log_lines(OnlyUser only_uid);
/// The pins of one file, a line for each. Errors: extents_too_many beyond 64 KiB.
Expected<std::string> pins_of_file(Edge& edge, OnlyUser only_uid, Ino ino);

/// Processes that have records, in order.
Expected<std::vector<std::uint32_t>> owning_processes(Edge& edge, OnlyUser only_uid);

/// Control characters and backslashes as octal escapes.
std::string escaped(std::string_view text);

}  // namespace pinfs::fuse

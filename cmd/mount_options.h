// SPDX-License-Identifier: Apache-2.0
//
// The words after -o: which there are and what they mean. Nothing is opened or asked here.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/fuse/session.h"
#include "fs/fuse/trace.h"
#include "fs/volume/volume.h"

namespace pinfs::cmd {

struct ParsedOptions {
    DaxMode dax = DaxMode::inode;
    unsigned long flags = 0;  ///< MS_*
    bool allow_other = false;
    bool allow_root = false;
    bool kernel_mmap = true;
    bool io_uring = false;
    bool supervise = false;
    bool trace = false;  ///< a line for each request
    fuse::TraceOptions trace_to;
    bool remount = false;
    bool nofail = false;  ///< a region that is not there is passed over
    pin::Limits limits;
    std::uint64_t release_grace_seconds = 0;
    std::uint64_t unpin_delay_ms = 0;         ///< injected, for tests
    bool confine = true;                      ///< the daemon gives up what it does not need
    bool takeover = false;                    ///< though another machine mounted the region last
    std::optional<std::uint32_t> report_gid;  ///< the group that sees everything in reports
    std::string region_path;     ///< where clients open the region; empty: where it is mounted from
    std::string source;          ///< the region, whatever word names it; empty: as the word says
    std::string kernel_options;  ///< context= and its kin, for mount(2)
    /// Words of pinfs's own that were given, "dax" written out as "dax=always".
    std::vector<std::string> own;
};

/// Splits at commas that stand outside double quotes, as in context="...".
std::vector<std::string_view> split_options(std::string_view list);

/// Adds the options of one -o to `parsed`. The error is one sentence about the first that is not
/// known or not available. With `sloppy`, as for mount -s, unknown ones are passed over.
std::expected<void, std::string> parse_options(std::string_view list, bool sloppy,
                                               ParsedOptions& parsed);

/// The options in force that are not the kernel's, for user.pinfs.options.
std::string described(const ParsedOptions& options);

}  // namespace pinfs::cmd

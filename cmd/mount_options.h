// SPDX-License-Identifier: Apache-2.0
//
// The words after -o: which there are and what they mean. Nothing is opened or asked here.
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "fs/fuse/session.h"
#include "fs/volume/volume.h"

namespace pinfs::cmd {

struct ParsedOptions {
    DaxMode dax = DaxMode::inode;
    unsigned long flags = 0;  ///< MS_*
    bool allow_other = false;
    bool allow_root = false;
    bool kernel_mmap = true;
    bool io_uring = false;
    std::string kernel_options;  ///< context= and its kin, for mount(2)
};

/// Adds the options of one -o to `parsed`. The error is one sentence about the first that is not
/// known or not available. With `sloppy`, as for mount -s, unknown ones are passed over.
std::expected<void, std::string> parse_options(std::string_view list, bool sloppy,
                                               ParsedOptions& parsed);

}  // namespace pinfs::cmd

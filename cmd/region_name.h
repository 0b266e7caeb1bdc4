// SPDX-License-Identifier: Apache-2.0
//
// Which region a user means by LABEL= or UUID=.
#pragma once

#include <expected>
#include <string>

namespace pinfs::cmd {

/// A path stays as it is. LABEL= and UUID= are what udev's links below /dev/pinfs say, and where
/// udev made none, the device DAX node of that name: every region of the machine is looked at. Or a
/// sentence: several have it. Where nothing has it the path is that of the link, which is not
/// there.
std::expected<std::string, std::string> region_path(const std::string& word);

}  // namespace pinfs::cmd

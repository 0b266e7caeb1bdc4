// SPDX-License-Identifier: Apache-2.0
//
// How a list is printed: in aligned columns with a bold head on a terminal, with tabs between the
// words elsewhere, so that scripts can cut it. NO_COLOR takes the bold away.
#pragma once

#include <string>
#include <vector>

namespace pinfs::cmd {

/// The columns whose indices are in `right` are aligned to the right.
void print_table(const std::vector<std::string>& head,
                 const std::vector<std::vector<std::string>>& rows,
                 const std::vector<std::size_t>& right);

}  // namespace pinfs::cmd

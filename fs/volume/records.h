// SPDX-License-Identifier: Apache-2.0
//
// From records of maps, pins and holds on media to what the registry has of them; the other way is
// Core's (records.cc).
#pragma once

#include <memory>

#include "fs/format/record.h"
#include "fs/inode/table.h"
#include "fs/pin/registry.h"

namespace pinfs {

/// Of a map or pin: gone, or recovered, if its owner turns out to live.
std::unique_ptr<pin::Reference> reference_of(const media::Record& record,
                                             const inode::Table::Slot& slot);
/// Of a hold, which needs proof: what it waited for is not known any more.
std::unique_ptr<pin::Hold> hold_of(const media::Record& record, const inode::Table::Slot& slot);

}  // namespace pinfs

// SPDX-License-Identifier: Apache-2.0
//
// The crash workloads: every operation, by subject. Crash tests judge their images; the mutation
// run judges them again without each flush and fence.
#pragma once

#include <vector>

#include "tests/support/recording.h"

namespace pinfs::test {

std::vector<Workload> name_workloads();
std::vector<Workload> rename_workloads();
std::vector<Workload> content_workloads();
std::vector<Workload> truncate_workloads();
std::vector<Workload> allocate_workloads();  ///< fallocate and copy_file_range
std::vector<Workload> pin_workloads();       ///< maps, pins and what is cut under them
std::vector<Workload> attribute_workloads();
std::vector<Workload> mount_workloads();
std::vector<Workload> growth_workloads();  ///< tables, trees, generations, groups

/// All of them.
std::vector<Workload> all_workloads();

}  // namespace pinfs::test

// SPDX-License-Identifier: Apache-2.0
#include "tests/support/thread_workloads.h"

#include "tests/support/operations.h"

namespace pinfs::test {

using namespace operations;
using namespace unit_literals;

namespace {

Operations writes(const std::string& file) {
    Operations list{create(file)};
    for (std::uint64_t i = 0; i < 6; ++i) list.push_back(write(file, i * 3000, 5000, i));
    list.push_back(truncate(file, 7000));
    list.push_back(append(file, 5000, 9));
    list.push_back(write(file, 100, 300, 10));
    return list;
}

Operations names(const std::string& directory) {
    return {create(directory + "/a"),
            make_directory(directory + "/d"),
            link(directory + "/a", directory + "/d/b"),
            rename(directory + "/a", directory + "/c"),
            symbolic_link(directory + "/s", std::string(200, 's')),
            unlink(directory + "/d/b"),
            set_attribute(directory + "/c", "user.x", 6000),
            remove_directory(directory + "/d"),
            unlink(directory + "/c"),
            create(directory + "/a")};
}

}  // namespace

std::vector<std::function<std::unique_ptr<Recording>()>> thread_workloads() {
    const auto workload = [](const std::string& name, std::uint64_t bytes) {
        return Workload{.name = name,
                        .fs = {.bytes = bytes},
                        .before = {make_directory("/0"), make_directory("/1")},
                        .recorded = {},
                        .per_fence_max = bytes > 16_MiB ? std::size_t{16} : SIZE_MAX};
    };
    return {
        [=] {
            return std::make_unique<RecordedThreads>(
                workload("two threads write files", 1_MiB),
                std::vector<Operations>{writes("/0/a"), writes("/1/a")});
        },
        [=] {
            return std::make_unique<RecordedThreads>(
                workload("one thread writes, one makes names", 1_MiB),
                std::vector<Operations>{writes("/0/a"), names("/1")});
        },
        [=] {
            return std::make_unique<RecordedThreads>(
                workload("two threads make and remove names", 1_MiB),
                std::vector<Operations>{names("/0"), names("/1")});
        },
        [=] {
            return std::make_unique<RecordedThreads>(
                workload("two threads in two groups", 66_MiB),
                std::vector<Operations>{writes("/0/f") + names("/0"),
                                        writes("/1/f") + names("/1")});
        },
    };
}

}  // namespace pinfs::test

// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/kernel_features.h"

#include <sys/utsname.h>

#include <cstdio>

namespace pinfs::fuse {
namespace {

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
constexpr bool kLibraryIsNew = true;
constexpr std::uint64_t kOverIoUring = FUSE_CAP_OVER_IO_URING;
#else  // which does without some of what the kernel has
constexpr bool kLibraryIsNew = false;
constexpr std::uint64_t kOverIoUring = 0;
#endif

}  // namespace

std::array<KernelFeature, 7> KernelFuse::features() const {
    using enum KernelFeature::Concerns;
    const std::uint64_t capable = capable_;
    const std::uint32_t minor = minor_;
    return {{
        {.name = "parallel_writes",
         .since = "6.2",
         .without = "writes to one file in DAX mode go one after the other",
         .concerns = all,
         .has = minor >= 38},
        {.name = "device_buffers",
         .since = "6.5",
         .without = "io_uring registers no buffers in device DAX; other devices do",
         .concerns = device_dax,
         .has = kernel_is_at_least(6, 5)},
        {.name = "kernel_mmap",
         .since = "6.6",
         .without = "shared mappings of files in DAX mode are refused, as with kernel_mmap=off",
         .concerns = kernel_mmap,
         .has = (capable & FUSE_CAP_DIRECT_IO_ALLOW_MMAP) != 0},
        {.name = "birth_times",
         .since = "6.6",
         .without = "statx tells no time of birth",
         .concerns = all,
         .has = kLibraryIsNew && minor >= 39},
        {.name = "resend",
         .since = "6.9",
         .without = "no supervise",
         .concerns = option,
         .has = minor >= 40},
        {.name = "io_uring",
         .since = "6.14",
         .without = "no io_uring",
         .concerns = option,
         .has = (capable & kOverIoUring) != 0},
        {.name = "epochs",
         .since = "6.16",
         .without = "after FS_IOC_SHUTDOWN names that the kernel knows not to be there stay so",
         .concerns = all,
         .has = kLibraryIsNew && minor >= 44},
    }};
}

std::string kernel_release() {
    utsname system{};
    return uname(&system) == 0 ? system.release : "";
}

bool kernel_is_at_least(int major, int minor) {
    int has_major = 0;
    int has_minor = 0;
    return std::sscanf(kernel_release().c_str(), "%d.%d", &has_major, &has_minor) == 2 &&
           (has_major > major || (has_major == major && has_minor >= minor));
}

}  // namespace pinfs::fuse

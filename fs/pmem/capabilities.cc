// SPDX-License-Identifier: Apache-2.0
#include "fs/pmem/capabilities.h"

#include <libpmem.h>
#include <linux/magic.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string_view>

namespace pinfs::pmem {
namespace {

constexpr std::uint64_t kHugePageBytes = 2 << 20;

std::string device_directory(const struct stat& status, const std::string& sysfs) {
    return sysfs + "/dev/char/" + std::to_string(major(status.st_rdev)) + ":" +
           std::to_string(minor(status.st_rdev));
}

std::string real_path(const std::string& path) {
    char resolved[PATH_MAX];
    return realpath(path.c_str(), resolved) == nullptr ? std::string() : std::string(resolved);
}

std::string first_word(const std::string& path) {
    std::ifstream file(path);
    std::string word;
    file >> word;
    return word;
}

std::optional<std::uint64_t> number_in(const std::string& path) {
    const std::string word = first_word(path);
    if (word.empty()) return std::nullopt;
    char* end = nullptr;
    const std::uint64_t number = std::strtoull(word.c_str(), &end, 0);
    return *end == '\0' ? std::optional(number) : std::nullopt;
}

/// The device model is a bus on today's kernels and was a class on older ones.
bool is_device_dax(const std::string& directory) {
    return real_path(directory + "/subsystem").ends_with("/dax");
}

/// A device that lost its driver while it was open can be opened still, but who maps it then brings
/// the kernel down (*measured* on 6.12: check_vma of drivers/dax/device.c follows a null pointer).
bool has_its_driver(const std::string& directory) {
    return !real_path(directory + "/subsystem").ends_with("/bus/dax") ||  // a class has none
           real_path(directory + "/driver").ends_with("/device_dax");
}

/// An NVDIMM region above the device says in `persistence_domain` what a power cut spares. Volatile
/// devices (soft-reserved memory, CXL in RAM mode) hang below other parents than the NVDIMM bus.
struct Persistence {
    bool persistent = false;
    bool caches_too = false;
};
Persistence persistence_of(const std::string& directory) {
    Persistence result;
    std::string path = real_path(directory);
    result.persistent = path.find("/ndbus") != std::string::npos;
    for (; path.size() > 1; path.resize(path.rfind('/')))
        if (first_word(path + "/persistence_domain") == "cpu_cache") result.caches_too = true;
    return result;
}

Expected<Found> find_device_dax(const struct stat& status, const std::string& sysfs) {
    const std::string directory = device_directory(status, sysfs);
    const auto size = number_in(directory + "/size");
    if (!size) return fail(Cause::region_not_mappable);
    std::optional<std::uint64_t> align;
    for (const char* place : {"/align", "/device/align", "/../dax_region/align"})
        if (!align) align = number_in(directory + place);
    const bool align_usable = align && *align >= kBlockBytes && (*align & (*align - 1)) == 0;

    Found found;
    Capabilities& capabilities = found.capabilities;
    const Persistence persistence = persistence_of(directory);
    capabilities.kind = Kind::devdax;
    capabilities.persistent = persistence.persistent;
    capabilities.flush =
        persistence.persistent && !persistence.caches_too ? Flush::line : Flush::none;
    capabilities.pinnable = true;
    capabilities.map_unit_bytes = align_usable ? *align : kHugePageBytes;
    capabilities.huge_bytes = std::max(capabilities.map_unit_bytes, kHugePageBytes);
    found.bytes = round_down(*size, capabilities.map_unit_bytes);
    found.mapping_align_bytes = capabilities.huge_bytes;
    return found;
}

/// Whether a tmpfs gives huge pages to who asks: its mount option says so, or, for memfds, which
/// have no mount to be seen, a switch in sysfs, which can also overrule all mounts.
bool tmpfs_has_huge_pages(dev_t device) {
    std::ifstream file("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
    std::string policy;
    std::getline(file, policy);
    if (policy.empty() || policy.find("[deny]") != std::string::npos) return false;
    if (policy.find("[force]") != std::string::npos) return true;

    const std::string number =
        " " + std::to_string(major(device)) + ":" + std::to_string(minor(device)) + " ";
    std::ifstream mounts("/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);) {
        if (line.find(number) == std::string::npos) continue;
        const auto option = line.find("huge=", line.find(" - "));
        return option != std::string::npos && !line.substr(option).starts_with("huge=never");
    }
    return policy.find("[never]") == std::string::npos;
}

}  // namespace

const char* name_of(Kind kind) {
    switch (kind) {
        case Kind::devdax:
            return "devdax";
        case Kind::fsdax:
            return "fsdax";
        case Kind::tmpfs:
            return "tmpfs";
        case Kind::hugetlb:
            return "hugetlb";
        case Kind::file:
            return "file";
    }
    return "unknown";
}

const char* name_of(Flush flush) {
    switch (flush) {
        case Flush::page:
            return "page";
        case Flush::line:
            return "line";
        case Flush::none:
            return "none";
    }
    return "unknown";
}

Expected<void> check_mappable(const struct stat& status, const std::string& sysfs) {
    if (S_ISREG(status.st_mode)) return {};
    if (!S_ISCHR(status.st_mode)) return fail(Cause::region_not_mappable);
    const std::string directory = device_directory(status, sysfs);
    if (!is_device_dax(directory)) return fail(Cause::region_not_mappable);
    if (!has_its_driver(directory)) return fail(Cause::device_not_bound);
    return {};
}

Expected<Found> find_capabilities(int fd, const struct stat& status, const std::string& sysfs) {
    if (S_ISCHR(status.st_mode)) return find_device_dax(status, sysfs);
    if (!S_ISREG(status.st_mode)) return fail(Cause::region_not_mappable);

    struct statfs file_system {};
    if (fstatfs(fd, &file_system) != 0) return fail_errno(errno);
    Found found;
    Capabilities& capabilities = found.capabilities;
    switch (static_cast<unsigned long>(file_system.f_type)) {
        case TMPFS_MAGIC:
        case RAMFS_MAGIC:
            capabilities.kind = Kind::tmpfs;
            capabilities.flush = Flush::none;
            capabilities.pinnable = true;
            if (tmpfs_has_huge_pages(status.st_dev)) capabilities.huge_bytes = kHugePageBytes;
            break;
        case HUGETLBFS_MAGIC:
            capabilities.kind = Kind::hugetlb;
            capabilities.flush = Flush::none;
            capabilities.pinnable = true;
            capabilities.map_unit_bytes = static_cast<std::uint64_t>(file_system.f_bsize);
            capabilities.huge_bytes = capabilities.map_unit_bytes;
            break;
        default:  // a DAX file system shows when it is mapped
            capabilities.kind = Kind::file;
            capabilities.flush = Flush::page;
            capabilities.persistent = true;
    }
    found.bytes =
        round_down(static_cast<std::uint64_t>(status.st_size), capabilities.map_unit_bytes);
    found.mapping_align_bytes = std::max(capabilities.huge_bytes, kHugePageBytes);
    return found;
}

void finish_capabilities(Capabilities& capabilities, const std::byte* memory, std::uint64_t bytes,
                         bool map_sync) {
    capabilities.map_sync = map_sync;
    if (capabilities.kind == Kind::file && map_sync) {
        capabilities.kind = Kind::fsdax;
        capabilities.flush = pmem_has_auto_flush() == 1 ? Flush::none : Flush::line;
        capabilities.huge_bytes = kHugePageBytes;
    }
    // Of a mapping that libpmem did not make itself it says yes only when it is told to.
    const bool known = capabilities.kind == Kind::devdax || capabilities.kind == Kind::fsdax;
    if (!known && pmem_is_pmem(memory, bytes) == 1) capabilities.flush = Flush::line;
}

}  // namespace pinfs::pmem

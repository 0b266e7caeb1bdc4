// SPDX-License-Identifier: Apache-2.0
//
// The bytes of a region that is a file or a device, as they are: what a test damages under a mount,
// compares and copies.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <span>
#include <string>

namespace pinfs::test {

/// Of a file its length; of a device what sysfs says: it has no length.
inline std::uint64_t region_length(const struct stat& status) {
    if (!S_ISCHR(status.st_mode)) return static_cast<std::uint64_t>(status.st_size);
    std::ifstream file{"/sys/dev/char/" + std::to_string(major(status.st_rdev)) + ":" +
                       std::to_string(minor(status.st_rdev)) + "/size"};
    std::uint64_t bytes = 0;
    file >> bytes;
    return bytes;
}

class RegionBytes {
public:
    explicit RegionBytes(const std::string& path) {
        CAPTURE(path);
        const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
        struct stat status {};
        REQUIRE(file >= 0);
        REQUIRE(fstat(file, &status) == 0);
        const std::uint64_t bytes = region_length(status);
        void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        REQUIRE(memory != MAP_FAILED);
        bytes_ = {static_cast<std::byte*>(memory), bytes};
    }
    ~RegionBytes() { munmap(bytes_.data(), bytes_.size()); }
    RegionBytes(const RegionBytes&) = delete;
    RegionBytes& operator=(const RegionBytes&) = delete;

    [[nodiscard]] std::span<std::byte> get() const { return bytes_; }
    [[nodiscard]] std::string copy() const {
        return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
    }

private:
    std::span<std::byte> bytes_;
};

}  // namespace pinfs::test

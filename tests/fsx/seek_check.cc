// SPDX-License-Identifier: Apache-2.0
#include "tests/fsx/seek_check.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "fs/error.h"
#include "fs/units.h"

namespace pinfs::fsx {
namespace {

std::string at(const char* call, std::uint64_t offset) {
    return std::string{call} + " from " + std::to_string(offset);
}

/// Where the seek led, nothing for ENXIO.
std::expected<std::optional<std::uint64_t>, std::string> seek(int descriptor, std::uint64_t offset,
                                                              int whence) {
    const char* const call = whence == SEEK_DATA ? "SEEK_DATA" : "SEEK_HOLE";
    const off_t got = lseek(descriptor, static_cast<off_t>(offset), whence);
    if (got < 0 && errno == ENXIO) return std::nullopt;
    if (got < 0) return std::unexpected(at(call, offset) + ": " + std::strerror(errno));
    if (static_cast<std::uint64_t>(got) < offset)
        return std::unexpected(at(call, offset) + " went back to " + std::to_string(got));
    return static_cast<std::uint64_t>(got);
}

bool is_zero(const std::vector<unsigned char>& bytes, std::uint64_t begin, std::uint64_t end) {
    return std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(begin),
                       bytes.begin() + static_cast<std::ptrdiff_t>(end),
                       [](unsigned char byte) { return byte == 0; });
}

}  // namespace

std::expected<void, std::string> check_seek(int descriptor,
                                            const std::vector<unsigned char>& expected,
                                            std::uint64_t offset) {
    const std::uint64_t size = expected.size();
    const auto data = TRY(seek(descriptor, offset, SEEK_DATA));
    const auto hole = TRY(seek(descriptor, offset, SEEK_HOLE));
    if (offset >= size) {
        if (data || hole)
            return std::unexpected("a seek from " + std::to_string(offset) +
                                   ", not before the end, found something");
        return {};
    }
    if (data && *data >= size)
        return std::unexpected(at("SEEK_DATA", offset) + " found data after the end");
    if (!is_zero(expected, offset, data.value_or(size)))
        return std::unexpected(at("SEEK_DATA", offset) + " passed over data");

    if (!hole) return std::unexpected(at("SEEK_HOLE", offset) + " did not find the end");
    if (*hole > size)
        return std::unexpected(at("SEEK_HOLE", offset) + " found a hole after the end");
    if (*hole < size) {
        const auto next = TRY(seek(descriptor, *hole, SEEK_DATA));
        if (next == hole)
            return std::unexpected(at("SEEK_HOLE", offset) + " found data at " +
                                   std::to_string(*hole));
        if (!is_zero(expected, *hole, std::min(next.value_or(size), size)))
            return std::unexpected(at("SEEK_HOLE", offset) + " found a hole that has data");
    }
    if (data && *data == offset && hole == offset)
        return std::unexpected("both data and a hole at " + std::to_string(offset));
    return {};
}

std::expected<void, std::string> check_hole(int descriptor, std::uint64_t begin,
                                            std::uint64_t end) {
    const std::uint64_t first = round_up(begin, kBlockBytes);
    const std::uint64_t last = round_down(end, kBlockBytes);
    if (first >= last) return {};
    const auto data = TRY(seek(descriptor, first, SEEK_DATA));
    if (data && *data < last)
        return std::unexpected("data at " + std::to_string(*data) + " in a range that was punched");
    return {};
}

std::expected<void, std::string> check_space(int descriptor, std::uint64_t bytes) {
    struct stat status {};
    if (fstat(descriptor, &status) != 0)
        return std::unexpected(std::string{"fstat: "} + std::strerror(errno));
    if (static_cast<std::uint64_t>(status.st_blocks) * 512 < bytes)
        return std::unexpected("st_blocks is " + std::to_string(status.st_blocks) + " after " +
                               std::to_string(bytes) + " bytes were allocated");
    return {};
}

}  // namespace pinfs::fsx

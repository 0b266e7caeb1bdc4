// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/virtual_attributes.h"

#include <sys/stat.h>

#include <charconv>
#include <limits>
#include <optional>

#include "fs/fuse/caller.h"
#include "fs/fuse/reports.h"

namespace pinfs::fuse {
namespace {

constexpr std::string_view kPrefix = "user.pinfs.";
constexpr std::string_view kOptions = "user.pinfs.options";
constexpr std::string_view kExtents = "user.pinfs.extents";
constexpr std::string_view kPins = "user.pinfs.pins";

constexpr std::size_t kValueBytesMax = 65536;  // XATTR_SIZE_MAX
/// Asked for in one step: bounds the memory that a file of many extents takes.
constexpr std::size_t kStepExtents = 1000;

std::string line_of(const ExtentInfo& extent) {
    return std::to_string(extent.file_block) + ' ' + std::to_string(extent.start_block) + ' ' +
           std::to_string(extent.blocks) + (extent.unwritten ? " unwritten\n" : " written\n");
}

bool touches(const ExtentInfo& extent, const ExtentInfo& next) {
    return extent.file_block + extent.blocks == next.file_block &&
           extent.start_block + extent.blocks == next.start_block &&
           extent.unwritten == next.unwritten;
}

/// The extents from `first_block` on. False if not all of them fit.
Expected<bool> list_extents(Volume& volume, Ino ino, std::uint64_t first_block, std::string& text) {
    std::optional<ExtentInfo> last;  // not in the text yet: the next step may make it longer
    for (std::uint64_t at = first_block; at < kFileBytesMax / kBlockBytes;) {
        const auto extents =
            TRY(volume.extents(ino, at * kBlockBytes, kFileBytesMax, kStepExtents));
        if (extents.empty()) break;
        at = extents.back().file_block + extents.back().blocks;
        for (const ExtentInfo& extent : extents) {
            if (last && touches(*last, extent)) {
                last->blocks += extent.blocks;
                continue;
            }
            if (last) text += line_of(*last);
            last = extent;
            if (text.size() + line_of(extent).size() > kValueBytesMax) return false;
        }
    }
    if (!last) return true;
    const std::string line = line_of(*last);
    if (text.size() + line.size() > kValueBytesMax) return false;
    text += line;
    return true;
}

}  // namespace

bool is_virtual_attribute(std::string_view name) { return name.starts_with(kPrefix); }

Expected<std::string> virtual_attribute(fuse_req_t req, Ino ino, std::string_view name) {
    Edge& edge = edge_of(req);
    if (name == kOptions && ino == kRootIno)
        return (edge.volume.read_only() ? "ro," : "rw,") + edge.options.described;
    if (name == kPins) {
        if (!S_ISREG(TRY(edge.volume.attributes(ino)).mode)) return fail(Cause::no_attribute);
        return pins_of_file(edge, only_user_seen_by(req), ino);
    }
    if (!name.starts_with(kExtents)) return fail(Cause::no_attribute);
    name.remove_prefix(kExtents.size());
    std::uint64_t first_block = 0;
    if (!name.empty()) {
        name.remove_prefix(1);
        const auto [rest, error] =
            std::from_chars(name.data(), name.data() + name.size(), first_block);
        if (error != std::errc() || rest != name.data() + name.size() || name.data()[-1] != '.' ||
            first_block >= kFileBytesMax / kBlockBytes)
            return fail(Cause::no_attribute);
    }
    if (!S_ISREG(TRY(edge.volume.attributes(ino)).mode)) return fail(Cause::no_attribute);
    std::string text;
    const bool all = TRY(list_extents(edge.volume, ino, first_block, text));
    if (!all && name.empty()) return fail(Cause::extents_too_many);
    return text;
}

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
#include "cmd/contents.h"

#include <blkid.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "fs/checksum.h"
#include "fs/format/superblock.h"
#include "fs/volume/describe.h"

namespace pinfs::cmd {
namespace {

using namespace unit_literals;

// Signatures stand near the start, and backups of some near the end.
constexpr std::uint64_t kHeadBytes = 8_MiB;
constexpr std::uint64_t kTailBytes = 1_MiB;

bool is_whole(const media::Superblock& super, std::uint64_t offset) {
    return super.magic == media::kSuperMagic && super.own_offset == offset &&
           super.crc32c == unit_checksum(0xffffffff, std::as_bytes(std::span(&super, 1)));
}

/// A label as it may be shown: what could steer a terminal is replaced.
std::string shown(std::string_view label) {
    std::string text;
    for (const char c : label) text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    return text;
}

/// One whole superblock, whichever, makes it a pinfs; a magic alone a damaged one.
Expected<Contents> look_for_pinfs(pmem::Region& region) {
    Contents contents;
    for (const std::uint64_t offset : {std::uint64_t{0}, media::kSuperCopyOffset}) {
        media::Superblock super;
        TRY(region.read(offset, std::as_writable_bytes(std::span(&super, 1))));
        if (super.magic != media::kSuperMagic) continue;
        contents.is = Contents::Is::pinfs;
        contents.name = "a damaged pinfs file system";
        contents.damaged = !is_whole(super, offset);
        if (contents.damaged) continue;
        std::array<std::uint8_t, 16> uuid{};
        std::ranges::copy(super.uuid, uuid.begin());
        const std::string label(reinterpret_cast<const char*>(super.label),
                                strnlen(reinterpret_cast<const char*>(super.label), 64));
        contents.name = "a pinfs file system (uuid " + uuid_text(uuid);
        if (!label.empty()) contents.name += ", label '" + shown(label) + "'";
        contents.name += offset == 0 ? ")" : "; only the copy of its superblock is intact)";
        return contents;
    }
    return contents;
}

/// Copies [begin, end) of the region to the same place of a file.
Expected<void> copy_to(int file, pmem::Region& region, std::uint64_t begin, std::uint64_t end) {
    std::vector<std::byte> buffer(1_MiB);
    for (std::uint64_t offset = begin; offset < end; offset += buffer.size()) {
        const auto piece =
            std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), end - offset));
        TRY(region.copy_out(offset, piece));
        if (pwrite(file, piece.data(), piece.size(), static_cast<off_t>(offset)) !=
            static_cast<ssize_t>(piece.size()))
            return fail_errno(errno != 0 ? errno : EIO);
    }
    return {};
}

std::string value_of(blkid_probe probe, const char* key) {
    const char* value = nullptr;
    return blkid_probe_lookup_value(probe, key, &value, nullptr) == 0 ? shown(value)
                                                                      : std::string();
}

/// What the probe just found.
void add(Contents& contents, blkid_probe probe) {
    const bool table = blkid_probe_has_value(probe, "PTTYPE") != 0;
    const char* offset = nullptr;
    const char* magic = nullptr;
    std::size_t bytes = 0;
    if (blkid_probe_lookup_value(probe, table ? "PTMAGIC_OFFSET" : "SBMAGIC_OFFSET", &offset,
                                 nullptr) == 0 &&
        blkid_probe_lookup_value(probe, table ? "PTMAGIC" : "SBMAGIC", &magic, &bytes) == 0)
        contents.signatures.push_back({std::strtoull(offset, nullptr, 10), bytes});
    if (contents.is == Contents::Is::other) return;
    contents.is = Contents::Is::other;
    const std::string type = value_of(probe, table ? "PTTYPE" : "TYPE");
    const std::string usage = value_of(probe, "USAGE");
    const std::string label = value_of(probe, "LABEL");
    contents.name = "'" + type + "'";
    if (table)
        contents.name += " (a partition table)";
    else if (usage == "filesystem")
        contents.name += " (a file system)";
    if (!label.empty()) contents.name += " labelled '" + label + "'";
}

/// A copy of head and tail is probed, and each signature wiped from it, so that the next shows.
Expected<void> look_for_others(int file, Contents& contents) {
    const std::unique_ptr<blkid_struct_probe, decltype(&blkid_free_probe)> probe(blkid_new_probe(),
                                                                                 &blkid_free_probe);
    if (probe == nullptr || blkid_probe_set_device(probe.get(), file, 0, 0) != 0)
        return fail(Cause::out_of_memory);
    blkid_probe_enable_superblocks(probe.get(), 1);
    blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_MAGIC | BLKID_SUBLKS_TYPE |
                                                       BLKID_SUBLKS_USAGE | BLKID_SUBLKS_LABEL |
                                                       BLKID_SUBLKS_BADCSUM);
    blkid_probe_enable_partitions(probe.get(), 1);
    blkid_probe_set_partitions_flags(probe.get(), BLKID_PARTS_MAGIC | BLKID_PARTS_FORCE_GPT);
    // A garbled image cannot keep us here: nothing has that many signatures.
    for (int found = 0; found < 100 && blkid_do_probe(probe.get()) == 0; ++found) {
        add(contents, probe.get());
        if (blkid_do_wipe(probe.get(), 0) != 0) break;
    }
    return {};
}

}  // namespace

Expected<Contents> contents_of(pmem::Region& region) {
    Contents contents = TRY(look_for_pinfs(region));
    const int file = memfd_create("region", MFD_CLOEXEC);
    if (file < 0) return fail_errno(errno);
    const auto close_file = [](const int* fd) {
        close(*fd);
    };
    const std::unique_ptr<const int, decltype(close_file)> closer(&file, close_file);
    if (ftruncate(file, static_cast<off_t>(region.bytes())) != 0) return fail_errno(errno);
    const std::uint64_t head_end = std::min(kHeadBytes, region.bytes());
    const std::uint64_t tail = std::max(head_end, region.bytes() - kTailBytes);
    TRY(copy_to(file, region, 0, head_end));
    TRY(copy_to(file, region, tail, region.bytes()));
    // Remains of others beside a pinfs are found too, to be wiped with it.
    const Contents ours = contents;
    TRY(look_for_others(file, contents));
    if (ours.is == Contents::Is::pinfs) {
        contents.is = ours.is;
        contents.name = ours.name;
    }
    return contents;
}

}  // namespace pinfs::cmd

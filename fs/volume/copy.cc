// SPDX-License-Identifier: Apache-2.0
//
// copy_file_range(2), and where a file has data.
#include <sys/stat.h>

#include <algorithm>

#include "fs/volume/core.h"

namespace pinfs {

using inode::Extents;

namespace {

/// One call copies no more: nobody can interrupt it, and callers ask again.
constexpr std::uint64_t kCopyBytesMax = 16 << 20;
constexpr std::uint64_t kCopyPieceBytes = 1 << 20;

}  // namespace

/// Piece by piece through memory: never are ranges of source and destination held at once, so a
/// copy inside one file and a truncation cannot wait for each other (SPEC 3.7).
Expected<std::size_t> Volume::Core::copy(Ino from, std::uint64_t from_offset_bytes, Ino to,
                                         std::uint64_t to_offset_bytes,
                                         std::uint64_t length_bytes) {
    TRY(admit_change());
    const std::uint64_t length = std::min(length_bytes, kCopyBytesMax);
    std::vector<std::byte> piece(std::min(length, kCopyPieceBytes));
    std::size_t done = 0;
    while (done < length) {
        // Whole blocks of the destination, so that they need no zeros.
        const std::uint64_t at = to_offset_bytes + done;
        const std::uint64_t wanted = std::min(length - done, kCopyPieceBytes - at % kBlockBytes);
        const auto found = read(from, from_offset_bytes + done, std::span{piece}.first(wanted),
                                /*noted=*/true);
        if (!found) return done > 0 ? Expected<std::size_t>{done} : found;
        if (*found == 0) break;
        const auto written = write(to, at, std::span{piece}.first(*found), /*append=*/false,
                                   /*kill_privileges=*/false);
        if (!written) return done > 0 ? Expected<std::size_t>{done} : written;
        done += *written;
        if (*written < wanted) break;
    }
    return done;
}

Expected<std::uint64_t> Volume::Core::seek(Ino ino, std::uint64_t offset_bytes, SeekTo to) {
    TRY(admit_read());
    const Use state = use(ino);
    const Shared lock{state->mutex};
    const auto inode = TRY(read_inode(*state));
    if (!S_ISREG(inode.mode)) return fail(Cause::invalid_argument);
    if (offset_bytes >= inode.size) return fail(Cause::no_data);
    const Extents extents{units_, inode};
    const std::uint64_t end_block = blocks_of(inode.size);
    std::uint64_t at = offset_bytes / kBlockBytes;
    while (at < end_block) {
        const auto extent = TRY(extents.next(at));
        const std::uint64_t data = extent ? extent->file_block : end_block;
        if (to == SeekTo::hole && (data > at || extent->unwritten)) break;
        if (to == SeekTo::data && (!extent || !extent->unwritten)) {
            at = std::max(at, data);
            break;
        }
        at = extent->end();
    }
    if (to == SeekTo::data && at >= end_block) return fail(Cause::no_data);
    return std::clamp(at * kBlockBytes, offset_bytes, inode.size);
}

}  // namespace pinfs

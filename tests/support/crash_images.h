// SPDX-License-Identifier: Apache-2.0
//
// The crash model: which contents a power cut may leave behind, given what a region did.
//
//   - In flight is every store that was not yet flushed *and* then fenced by the flushing thread;
//     flushed or not, since caches evict. All else is durable.
//   - Stores to one 64-byte line persist in program order: a line shows a number of them whole, and
//   of
//     the next one any subset of its aligned 8-byte words.
//   - Lines are independent of each other.
//
// A crash may happen at any time. It is enough to look before every fence and at the end: what may
// be in flight only grows between two fences.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "fs/pmem/region.h"
#include "tests/support/crash_log.h"

namespace pinfs::test {

struct ImageOptions {
    std::size_t per_fence_max =
        256;  ///< sets with no more images than this are enumerated completely
    std::uint64_t from_completed = 0;            ///< no crash before this mark
    std::uint64_t seed = 1;                      ///< of the sampling of larger sets
    std::optional<std::size_t> only_image = {};  ///< the one with this index alone
    std::optional<Site> without = {};            ///< as if this place did not flush, or not fence
    /// What recovers an image. Where a set is sampled, the lines that it reads are preferred.
    std::function<void(pmem::Region&)> recover = {};
};

struct ImageTotals {
    std::size_t crash_points = 0;  ///< fences, and the end
    std::size_t enumerated = 0;    ///< of these with every possible image
    std::size_t images = 0;        ///< seen by the caller
    std::size_t duplicates = 0;    ///< equal to one before, hence not shown again
};

/// Brings memory back to what it was: keeps each page as it was before its first change.
class UndoLog {
public:
    explicit UndoLog(std::span<std::byte> memory) : memory_(memory) {}
    /// To be called before bytes change.
    void touch(std::uint64_t offset, std::uint64_t bytes);
    void undo();

private:
    std::span<std::byte> memory_;
    std::unordered_map<std::uint64_t, std::size_t> pages_;  // page -> place in saved_
    std::vector<std::byte> saved_;
};

/// What a crash left. Valid during the call that got it. The memory may be changed through
/// `region`, through a CrashRegion over it, or directly after `undo.touch`; it is put back
/// afterwards.
struct CrashImage {
    std::size_t index = 0;        ///< of all images of this recording, with these options
    std::size_t fence = 0;        ///< number of fences before the crash
    std::uint64_t completed = 0;  ///< the last mark before the crash: operations that had returned
    std::string label;            ///< all of it and what is in the image: enough to make it again
    std::span<std::byte> memory;
    pmem::Region& region;
    UndoLog& undo;
};

using ImageVisitor = std::function<void(CrashImage&)>;

/// Shows `visit` the possible images, each content once per number of completed operations.
/// `scratch` holds the region as it was when the recording began, all of it durable.
ImageTotals for_each_crash_image(const CrashLog& log, std::span<std::byte> scratch,
                                 const pmem::Capabilities& capabilities,
                                 const ImageOptions& options, const ImageVisitor& visit);

}  // namespace pinfs::test

// SPDX-License-Identifier: Apache-2.0
//
// Crash workloads: operations that are recorded, and the judgement of what a crash in them leaves.
//
// An image is good if the judge (fs/check) finds nothing, it mounts, and what can be seen is the
// state before or after the operation that was under way and includes everything that had returned
// (SPEC 6.1, 6.2, 6.5): of a write, words of written blocks may be old or new; all else is whole.
// Then it is used: extended files read as zeros, everything is removed, every block comes back.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/support/crash_region.h"
#include "tests/support/model_files.h"
#include "tests/support/operation.h"

namespace pinfs::test {

struct Workload {
    std::string name;
    MountedOptions fs = {};
    Operations before = {};  ///< not recorded
    Operations recorded = {};
    std::uint64_t judged_from = 0;  ///< operations that others judge: crashes come after these
    std::size_t per_fence_max = SIZE_MAX;  ///< images, where each costs much
};

/// States a file system went through, one more than operations.
class Timeline {
public:
    void start(Snapshot state) { states_.push_back(std::move(state)); }
    /// How an operation on bytes may be found half done: other blocks torn by words.
    struct Partly {
        std::set<std::uint64_t> whole;  ///< file blocks that change whole
        bool by_block = false;          ///< each by itself
    };
    /// nullopt: not at all.
    static std::optional<Partly> partly(const ModelFiles& model, const Operation& operation);
    /// The state after an operation.
    void add(Snapshot state, std::optional<Partly> partly) {
        states_.push_back(std::move(state));
        partly_.push_back(std::move(partly));
    }
    /// Empty if `found` is what a crash may leave when `completed` operations had returned.
    [[nodiscard]] std::string judge(const Snapshot& found, std::uint64_t completed) const;

private:
    std::vector<Snapshot> states_;
    std::vector<std::optional<Partly>> partly_;
};

/// What is on record of maps, pins and holds: kind, id, inode, range of the file, and where a hold
/// lies.
using Record = std::array<std::uint64_t, 6>;
using Records = std::set<Record>;
/// Of a mounted file system.
Records records_of(Volume& volume);

/// How far an image is looked into.
enum class Depth : std::uint8_t {
    state,     ///< check, mount, compare
    use,       ///< and use it
    recovery,  ///< and crash again in mount, pending work and unmount
};

class Recording {
public:
    explicit Recording(const Workload& workload)
        : name_{workload.name},
          per_fence_max_{workload.per_fence_max},
          judged_from_{workload.judged_from},
          crash_{workload.fs.bytes} {}
    virtual ~Recording() = default;
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] CrashRegion& crash() { return crash_; }
    [[nodiscard]] std::size_t per_fence_max() const { return per_fence_max_; }
    [[nodiscard]] std::uint64_t judged_from() const { return judged_from_; }
    /// Empty if the image is good.
    [[nodiscard]] virtual std::string judge(CrashImage& image, Depth depth);

protected:
    [[nodiscard]] virtual std::string judge_state(const Snapshot& found,
                                                  std::uint64_t completed) const = 0;
    /// Of an image that is mounted in the boot in which its maps and pins were made.
    [[nodiscard]] virtual std::string judge_records(const Records&, std::uint64_t) const {
        return {};
    }
    [[nodiscard]] std::string judge_recovery(CrashImage& image);
    void set_free_when_empty(std::uint64_t blocks) { free_when_empty_ = blocks; }
    /// Uses a mounted file system and empties it; throws what is wrong. Leaves it unmounted.
    void use_up(Mounted& fs) const;

private:
    const std::string name_;
    const std::size_t per_fence_max_;
    const std::uint64_t judged_from_;
    CrashRegion crash_;
    std::uint64_t free_when_empty_ = 0;
};

/// One thread that runs a workload.
class RecordedWorkload : public Recording {
public:
    /// Throws if an operation does not come out as the model says.
    explicit RecordedWorkload(const Workload& workload);

protected:
    std::string judge_state(const Snapshot& found, std::uint64_t completed) const override {
        return timeline_.judge(found, completed);
    }
    std::string judge_records(const Records& found, std::uint64_t completed) const override;

private:
    Timeline timeline_;
    std::vector<Records> records_;  // one more than operations
};

/// Several threads, each with its own directory "/0", "/1", ... (which must be there) and its own
/// list of operations below it.
class RecordedThreads : public Recording {
public:
    RecordedThreads(const Workload& common, const std::vector<Operations>& threads);

protected:
    std::string judge_state(const Snapshot& found, std::uint64_t completed) const override;

private:
    std::vector<Timeline> timelines_;
};

/// How much is tried; from PINFS_CRASH_EFFORT (quick, default, nightly), less under sanitizers.
struct Effort {
    std::size_t per_fence_max;   ///< images
    std::size_t use_every;       ///< images of which one is used
    std::size_t recovery_every;  ///< images of which one is crashed again
    std::size_t pairs;           ///< of operations, and
    std::size_t triples;
    double scale;  ///< of numbers of other random workloads
};
Effort effort();

/// Judges the images of a recording; throws at the first bad one, with all it takes to make it
/// again. Counts what it saw for the line that the program prints at its end.
void judge_images(Recording& recording, const Effort& effort, std::uint64_t seed);
/// All of a list, on all cores. Failures do not stop the others: they are returned, one text each.
std::vector<std::string> judge_workloads(const std::vector<Workload>& workloads,
                                         const Effort& effort, std::uint64_t seed);

}  // namespace pinfs::test

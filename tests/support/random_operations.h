// SPDX-License-Identifier: Apache-2.0
//
// Random operations over a small tree of names, so that many meet something that is there, and a
// comparison of a mounted file system with the model after each of them.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "tests/support/model_files.h"

namespace pinfs::test {

struct RandomOptions {
    unsigned names = 12;                        ///< in each directory
    std::uint64_t write_bytes_max = 20'000;     ///< at most 1 MiB
    std::uint64_t offset_bytes_max = 100'000;   ///< where most writes and truncates end
    bool far_offsets = true;                    ///< some of them anywhere up to 16 TiB
    std::uint64_t attribute_bytes_max = 3'000;  ///< some reach 64 KiB
    unsigned long_names = 3;                    ///< of ten names, how many have 100 bytes and more
    unsigned removals = 10;                     ///< weight, beside 10 for what fills
    std::string top = {};                       ///< directory to stay in, "" or "/name"
};

class RandomOperations {
public:
    RandomOperations(std::uint64_t seed, const RandomOptions& options);
    Operation next();
    /// What next() gave was done: opens and releases count. An unmount closes all.
    void was_done(const Operation& operation) {
        if (operation.what == Do::open || operation.what == Do::make_unnamed)
            open_ |= 1u << operation.number;
        if (operation.what == Do::release) open_ &= ~(1u << operation.number);
    }
    void close_all() { open_ = 0; }
    [[nodiscard]] bool is_open(std::uint32_t handle) const { return (open_ >> handle & 1) != 0; }
    /// From now on. More than 10: the tree shrinks.
    void set_removals(unsigned weight) { options_.removals = weight; }
    [[nodiscard]] std::uint64_t number(std::uint64_t below) {
        return below == 0 ? 0 : random_() % below;
    }

private:
    std::string directory();
    std::string path();
    std::string file();  ///< sometimes an open one
    std::uint64_t offset();
    Operation filling();
    Operation removing();
    Operation changing();

    std::mt19937_64 random_;
    std::uint32_t open_ = 0;  // bit n: "#n"
    RandomOptions options_;
};

/// Runs operations on both and compares.
class Compared {
public:
    Compared(Mounted& fs, ModelFiles& model) : fs_{fs}, model_{model}, runner_{fs} {}
    /// Throws where they differ; true if it succeeded. ENOSPC of the file system is allowed where
    /// space may be needed, and then nothing changed.
    bool run(const Operation& operation);
    /// Compares all of it, open files too.
    void compare() const;
    /// Unmounts, asks the judge, mounts again; all is as it was.
    void remount();
    [[nodiscard]] std::uint64_t refused() const { return refused_; }

private:
    Mounted& fs_;
    ModelFiles& model_;
    Runner runner_;
    std::uint64_t refused_ = 0;
};

}  // namespace pinfs::test

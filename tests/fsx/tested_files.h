// SPDX-License-Identifier: Apache-2.0
//
// Two files under test beside what they must hold. Every operation is done to a file by system
// calls and to its expected copy in memory; what is read is compared at once, sizes after every
// operation. One thread.
//
// Nothing of pinfs is used: the files may lie in any file system.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <string>
#include <vector>

#include "tests/fsx/operation.h"

namespace pinfs::fsx {

/// A failure is one sentence: what was called, and what came instead of what.
using Outcome = std::expected<void, std::string>;

using Bytes = std::vector<unsigned char>;

class TestedFiles {
public:
    TestedFiles() = default;
    ~TestedFiles();
    TestedFiles(const TestedFiles&) = delete;
    TestedFiles& operator=(const TestedFiles&) = delete;

    /// The files at `paths`, made if they are not there, emptied.
    Outcome start(const std::array<std::string, 2>& paths);
    Outcome run(const Operation& operation);
    /// Reads both files from end to end.
    Outcome compare_all();

    [[nodiscard]] std::array<std::uint64_t, 2> sizes() const {
        return {files_[0].expected.size(), files_[1].expected.size()};
    }
    [[nodiscard]] const Bytes& expected(std::size_t file) const { return files_[file].expected; }

private:
    struct File {
        std::string path;
        int plain = -1;
        int append = -1;
        int direct = -1;
        Bytes expected;
    };

    static Outcome open_all(File& file);
    static void close_all(File& file);
    static Outcome same(const File& file, std::uint64_t offset, const unsigned char* got,
                        std::uint64_t length);
    static Outcome same_size(const File& file);
    static void store(File& file, std::uint64_t offset, const unsigned char* bytes,
                      std::uint64_t length);

    Outcome read(File& file, int descriptor, const Operation& operation);
    Outcome write(File& file, int descriptor, const Operation& operation);
    Outcome append(File& file, const Operation& operation);
    Outcome map_read(File& file, const Operation& operation);
    Outcome map_write(File& file, const Operation& operation);
    Outcome truncate(File& file, const Operation& operation);
    Outcome allocate(File& file, const Operation& operation);
    Outcome copy(File& from, File& to, const Operation& operation);
    Outcome drop_cache(File& file);
    Outcome reopen(File& file);

    const unsigned char* fill(const Operation& operation);
    unsigned char* buffer(std::uint64_t length);

    std::array<File, 2> files_;
    Bytes buffer_;
};

}  // namespace pinfs::fsx

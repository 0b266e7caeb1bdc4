// SPDX-License-Identifier: Apache-2.0
//
// A directory of its own for a test, gone with all it holds when the test ends.
#pragma once

#include <sys/vfs.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <thread>

namespace pinfs::test {

class TemporaryDirectory {
public:
    /// Below `parent`: /dev/shm is tmpfs nearly everywhere.
    explicit TemporaryDirectory(const std::string& parent = "/dev/shm")
        : path_(parent + "/pinfs-test-XXXXXX") {
        if (mkdtemp(path_.data()) == nullptr)
            throw std::runtime_error("no temporary directory in " + parent);
    }
    ~TemporaryDirectory() {
        // A daemon that is just ending may be in the way: once more then, for a second.
        std::error_code error;
        for (int tries = 0; tries < 100; ++tries) {
            std::filesystem::remove_all(path_, error);
            if (!error) return;
            std::this_thread::sleep_for(std::chrono::milliseconds{10});
        }
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

    /// statfs(2)'s f_type.
    [[nodiscard]] long file_system_type() const {
        struct statfs status {};
        return statfs(path_.c_str(), &status) == 0 ? status.f_type : 0;
    }

private:
    std::string path_;
};

}  // namespace pinfs::test

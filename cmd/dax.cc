// SPDX-License-Identifier: Apache-2.0
#include "cmd/dax.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <expected>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cmd/background.h"
#include "cmd/exit_codes.h"

namespace pinfs::cmd {
namespace {

namespace files = std::filesystem;

/// The flag after the command has done its work on one path; an errno.
std::expected<bool, int> apply(const std::string& path, DaxCommand::Do what) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY);
    if (file < 0) return std::unexpected(errno);
    fsxattr attributes{};
    int number = ioctl(file, FS_IOC_FSGETXATTR, &attributes) == 0 ? 0 : errno;
    if (number == 0 && what != DaxCommand::Do::show) {
        const auto wanted = what == DaxCommand::Do::on ? attributes.fsx_xflags | FS_XFLAG_DAX
                                                       : attributes.fsx_xflags & ~FS_XFLAG_DAX;
        if (wanted != attributes.fsx_xflags) {
            attributes.fsx_xflags = wanted;
            if (ioctl(file, FS_IOC_FSSETXATTR, &attributes) != 0) number = errno;
        }
    }
    close(file);
    if (number != 0) return std::unexpected(number);
    return (attributes.fsx_xflags & FS_XFLAG_DAX) != 0;
}

class Work {
public:
    explicit Work(const DaxCommand& command) : command_(command) {}

    void one(const std::string& path) {
        const auto flag = apply(path, command_.what);
        if (!flag) {
            complain(flag.error() == ENOTTY || flag.error() == EOPNOTSUPP
                         ? path + " is on a file system without a DAX flag"
                         : path + ": " + strerror(flag.error()));
            return;
        }
        if (command_.json)
            json_.push_back({{"path", path}, {"dax", *flag}});
        else if (command_.what == DaxCommand::Do::show)
            std::cout << (*flag ? "on " : "off") << ' ' << path << '\n';
    }

    void all_below(const std::string& directory) {
        struct stat top {};
        if (lstat(directory.c_str(), &top) != 0) return;
        std::error_code error;
        files::recursive_directory_iterator entries{directory, error};
        for (; !error && entries != files::recursive_directory_iterator{};
             entries.increment(error)) {
            const std::string path = entries->path();
            struct stat st {};
            if (lstat(path.c_str(), &st) != 0) {
                complain(path + ": " + strerror(errno));
                continue;
            }
            if (st.st_dev != top.st_dev) {
                entries.disable_recursion_pending();
                continue;
            }
            if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) one(path);
        }
        if (error) complain("below " + directory + ": " + error.message());
    }

    int finish() {
        if (command_.json) std::cout << json_.dump(2) << '\n';
        return status_;
    }

private:
    void complain(const std::string& sentence) {
        status_ = cmd::complain(command_.program, kFailure, sentence);
    }

    const DaxCommand& command_;
    nlohmann::ordered_json json_ = nlohmann::ordered_json::array();
    int status_ = kSuccess;
};

}  // namespace

int dax(const DaxCommand& command) {
    Work work{command};
    for (const std::string& path : command.paths) {
        work.one(path);
        struct stat st {};
        if (command.recursive && lstat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode))
            work.all_below(path);
    }
    return work.finish();
}

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
//
// A real tree is copied in with cp -a and compared byte for byte, with owners, modes, times, links
// and extended attributes; then again after an unmount, fsck and mount.
//
// PINFS_REAL_TREE names the directories, joined by colons; a part of /usr/include if it is not set.
#include <dirent.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <vector>

#include "tests/support/kernel_mount.h"

using namespace pinfs::test;

namespace {

std::vector<std::string> directories() {
    const char* wanted = std::getenv("PINFS_REAL_TREE");
    std::istringstream words{wanted != nullptr ? wanted : "/usr/include/linux:/usr/include/c++"};
    std::vector<std::string> list;
    for (std::string word; std::getline(words, word, ':');)
        if (std::filesystem::is_directory(word)) list.push_back(word);
    return list;
}

std::uint64_t mib_of(const std::vector<std::string>& trees) {
    std::uint64_t bytes = 0;
    for (const std::string& tree : trees)
        for (const auto& entry : std::filesystem::recursive_directory_iterator{tree})
            bytes +=
                8192 + (entry.is_regular_file() && !entry.is_symlink() ? entry.file_size() : 0);
    return 64 + (bytes >> 20) * 5 / 4;
}

std::map<std::string, std::string> attributes_of(const std::string& path) {
    std::map<std::string, std::string> attributes;
    std::string names(65536, '\0');
    const ssize_t bytes = llistxattr(path.c_str(), names.data(), names.size());
    for (ssize_t at = 0; at < bytes;
         at += static_cast<ssize_t>(std::string{names.data() + at}.size()) + 1) {
        const char* name = names.data() + at;
        std::string value(65536, '\0');
        const ssize_t count = lgetxattr(path.c_str(), name, value.data(), value.size());
        if (count >= 0) attributes[name] = value.substr(0, static_cast<std::size_t>(count));
    }
    return attributes;
}

std::string target_of(const std::string& path) {
    std::string target(5000, '\0');
    const ssize_t count = readlink(path.c_str(), target.data(), target.size());
    return target.substr(0, count < 0 ? 0 : static_cast<std::size_t>(count));
}

struct Compared {
    std::uint64_t inodes = 0;
    std::uint64_t bytes = 0;
    std::map<std::pair<dev_t, ino_t>, ino_t> links;  // of one side to the other's
};

std::string difference(const std::string& left, const std::string& right, Compared& compared) {
    struct stat a {};
    struct stat b {};
    if (lstat(left.c_str(), &a) != 0) return left + " cannot be looked at";
    if (lstat(right.c_str(), &b) != 0) return right + " is missing";
    ++compared.inodes;
    if (a.st_mode != b.st_mode) return right + " has another mode";
    if (a.st_uid != b.st_uid || a.st_gid != b.st_gid) return right + " has another owner";
    if (a.st_rdev != b.st_rdev) return right + " is another device";
    if (a.st_mtim.tv_sec != b.st_mtim.tv_sec || a.st_mtim.tv_nsec != b.st_mtim.tv_nsec)
        return right + " has another time";
    if (attributes_of(left) != attributes_of(right)) return right + " has other attributes";
    if (S_ISLNK(a.st_mode) && target_of(left) != target_of(right))
        return right + " leads elsewhere";
    if (!S_ISDIR(a.st_mode)) {
        const auto [known, is_new] = compared.links.try_emplace({a.st_dev, a.st_ino}, b.st_ino);
        if (known->second != b.st_ino) return right + " is not linked as the original";
        if (!is_new) return {};
    }
    if (S_ISREG(a.st_mode)) {
        if (a.st_size != b.st_size) return right + " has another size";
        compared.bytes += static_cast<std::uint64_t>(a.st_size);
        if (contents(left) != contents(right)) return right + " differs";
    }
    if (!S_ISDIR(a.st_mode)) return {};
    std::set<std::string> names;
    for (const std::string& side : {left, right})
        for (const auto& entry : std::filesystem::directory_iterator{side})
            names.insert(entry.path().filename().string());
    for (const std::string& name : names)
        if (std::string found = difference(left + "/" + name, right + "/" + name, compared);
            !found.empty())
            return found;
    return {};
}

}  // namespace

TEST_CASE("a real tree is the same in the mount, and after it was mounted again", "[mount][tree]") {
    const std::vector<std::string> trees = directories();
    REQUIRE(!trees.empty());
    const std::string options = GENERATE("dax=inode", "dax=never");
    KernelMount mounted{mib_of(trees)};
    mounted.mount(options);
    for (const std::string& tree : trees) {
        const std::string parent =
            mounted.root() + std::filesystem::path{tree}.parent_path().string();
        REQUIRE(run({"mkdir", "-p", parent}).status == 0);
        const Ran copied = run({"cp", "-a", tree, parent});
        CAPTURE(copied.err);
        REQUIRE(copied.status == 0);
    }
    const auto compare = [&] {
        Compared compared;
        for (const std::string& tree : trees)
            CHECK(difference(tree, mounted.root() + tree, compared) == "");
        return compared;
    };
    compare();
    mounted.unmount();
    mounted.check();
    mounted.mount(options);
    const Compared compared = compare();
    std::printf("%s: %llu inodes, %llu bytes compared twice\n", options.c_str(),
                static_cast<unsigned long long>(compared.inodes),
                static_cast<unsigned long long>(compared.bytes));
    CHECK(compared.inodes > 100);
    // Away with it: every block comes back.
    CHECK(run({"sh", "-c", "rm -rf " + mounted.root() + "/*"}).status == 0);
    mounted.unmount();
    mounted.check();
}

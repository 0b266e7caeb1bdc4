// SPDX-License-Identifier: Apache-2.0
#include "tests/support/repaired.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <exception>
#include <memory>
#include <set>

#include "tests/support/exercise.h"

namespace pinfs::test {

namespace {

// In memory that is used again: the last copy is gone.
std::span<std::byte> copy_of(std::span<const std::byte> memory) {
    static std::unique_ptr<Memory> copy;
    if (!copy || copy->bytes().size() != memory.size())
        copy = std::make_unique<Memory>(memory.size());
    std::ranges::copy(memory, copy->bytes().begin());
    return copy->bytes();
}

}  // namespace

bool reads_as(const FileState& file, const FileState& other) {
    return file.target == other.target && file.size == other.size && file.blocks == other.blocks &&
           file.attributes == other.attributes;
}

std::map<std::string, FileState> readable(std::span<const std::byte> memory) {
    std::map<std::string, FileState> files;
    pmem::Region region{copy_of(memory), pmem::Capabilities{}, nullptr};
    MountOptions options = mount_options();
    options.boot_id = "00000000-0000-0000-0000-00000000b007";
    const auto volume = Volume::mount(region, options);
    if (!volume) return files;
    std::vector<std::pair<Ino, std::string>> directories{{kRootIno, ""}};
    std::set<Ino> seen;
    for (std::size_t i = 0; i < directories.size(); ++i) {
        const auto [directory, path] = directories[i];
        if (!seen.insert(directory).second) continue;
        std::vector<std::string> names;
        constexpr std::uint64_t kBehindDots = 2;
        (void)(*volume)->read_directory(directory, kBehindDots, [&](const DirectoryItem& item) {
            names.emplace_back(item.name);
            return true;
        });
        for (const std::string& name : names) {
            const auto found = (*volume)->lookup(directory, name);
            if (!found) continue;
            const Attributes& attributes = found->attributes;
            if (S_ISDIR(attributes.mode)) {
                directories.emplace_back(attributes.ino, path + "/" + name);
                continue;
            }
            try {
                const FileState file = state_of(**volume, attributes.ino);
                const bool is_nowhere = S_ISLNK(file.mode) && file.target.starts_with('\0');
                if (!is_nowhere) files[path + "/" + name] = file;
            } catch (const std::exception&) {
                continue;  // it cannot be read
            }
        }
    }
    return files;
}

std::string Repaired::text() const {
    std::string text;
    for (const std::string& sentence : sentences) text += sentence + '\n';
    return text + report.left.text();
}

Repaired repair_all(pmem::Region& region) {
    Repaired done;
    RepairOptions options;
    options.allow = [](const RepairQuestion& question) {
        return !question.findings.empty();
    };
    options.tell = [&](const std::string& sentence) {
        done.sentences.push_back(sentence);
    };
    options.now_seconds = 1'700'000'000;
    done.report = must(repair(region, options));
    return done;
}

void check_kept(const std::map<std::string, FileState>& before,
                const std::map<std::string, FileState>& after,
                const std::map<std::string, FileState>& pristine, const std::string& told) {
    for (const auto& [path, was] : before) {
        INFO(path);
        const auto is = after.find(path);
        CHECK(is != after.end());
        if (is == after.end()) continue;
        const auto right = pristine.find(path);
        const bool was_right = right != pristine.end() && reads_as(was, right->second);
        const bool is_told =
            told.find("inode " + std::to_string(*was.ino) + ", ") != std::string::npos;
        CHECK((reads_as(is->second, was) || (is_told && !was_right)));
    }
}

namespace {

// A mount of a copy, as long as nobody repairs: operations fail, the program does not.
void use_copy(std::span<const std::byte> memory) {
    constexpr std::size_t kNamesMax = 8;
    pmem::Region region{copy_of(memory), pmem::Capabilities{}, nullptr};
    if (const auto volume = Volume::mount(region, mount_options())) exercise(**volume, kNamesMax);
}

}  // namespace

Repaired check_repair(pmem::Region& region, std::span<std::byte> memory,
                      const std::map<std::string, FileState>& pristine) {
    const auto before = readable(memory);
    use_copy(memory);
    Repaired done = repair_all(region);
    INFO(done.text());
    CHECK(done.report.left.clean());
    CHECK(done.report.repairs == done.sentences.size());
    const auto found = must(check(region));
    INFO(found.text());
    CHECK(found.clean());
    const auto after = readable(memory);
    check_kept(before, after, pristine, done.text());
    Mounted mounted{region};
    mounted.make_file("/made after the repair", 10000, 3);
    mounted.unmount();
    const auto used = must(check(region));
    INFO(used.text());
    CHECK(used.clean());
    return done;
}

}  // namespace pinfs::test

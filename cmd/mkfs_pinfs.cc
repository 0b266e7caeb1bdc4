// SPDX-License-Identifier: Apache-2.0
//
// mkfs.pinfs: makes a file system in a region, and the region too if it is a file that does not
// exist.
//
// Exit codes: 0 made (or, with --if-blank, there already), 1 not made, 2 wrong usage. Where it was
// not made nothing was written, but for media that failed meanwhile; a file it created is gone.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstring>
#include <exception>
#include <iostream>
#include <string>

#include "cmd/arguments.h"
#include "cmd/contents.h"
#include "cmd/new_file_system.h"
#include "cmd/region_use.h"
#include "fs/format/superblock.h"
#include "fs/volume/describe.h"
#include "fs/volume/volume.h"

namespace {

using namespace pinfs;
using namespace pinfs::cmd;

constexpr int kMade = 0;
constexpr int kNotMade = 1;
constexpr int kUsage = 2;

int complain(int code, const std::string& sentence) {
    std::cerr << "mkfs.pinfs: " << sentence << '\n';
    return code;
}

struct Words {
    std::string region;
    std::string size;
    std::string label;
    std::string uuid;
    std::string group;
    bool no_dax = false;
    bool sparse = false;
    bool if_blank = false;
    bool force = false;
};

/// What is asked for, understood.
struct Request {
    Words words;
    std::optional<std::uint64_t> size_bytes;
    std::optional<std::uint32_t> group;
    MakeOptions options;
};

/// Empty, or what is wrong with the words: nothing was looked at yet.
std::string understand(const Words& words, Request& request) {
    request.words = words;
    if (!words.size.empty()) {
        request.size_bytes = parse_size(words.size);
        if (!request.size_bytes)
            return "'" + words.size + "' is no size: write it as 4096, 512M, 2G or 1T";
        if (*request.size_bytes < media::kRegionBytesMin)
            return "a region of " + words.size + " is too small: 1 MiB is the least";
        if (*request.size_bytes > media::kRegionBytesMax)
            return "a region of " + words.size + " is too large: 64 TiB is the most";
        request.size_bytes = round_down(*request.size_bytes, kBlockBytes);
    }
    if (words.label.size() > sizeof(media::Superblock::label))
        return "the label has " + std::to_string(words.label.size()) + " bytes; 64 is the most";
    if (words.label.find('\0') != std::string::npos) return "a label has no zero byte";
    request.options = new_file_system();
    request.options.label = words.label;
    request.options.dax = !words.no_dax;
    if (!words.uuid.empty()) {
        const auto uuid = parse_uuid(words.uuid);
        if (!uuid)
            return "'" + words.uuid +
                   "' is no uuid: write it as 01234567-89ab-cdef-0123-456789abcdef";
        request.options.uuid = *uuid;
    }
    if (!words.group.empty()) {
        request.group = parse_group(words.group);
        if (!request.group) return "there is no group '" + words.group + "'";
    }
    return {};
}

/// A file that goes with us unless it is kept.
class CreatedFile {
public:
    CreatedFile() = default;
    ~CreatedFile() {
        if (!path_.empty()) unlink(path_.c_str());
    }
    CreatedFile(const CreatedFile&) = delete;
    CreatedFile& operator=(const CreatedFile&) = delete;
    void created(const std::string& path) { path_ = path; }
    void keep() { path_.clear(); }

private:
    std::string path_;
};

std::string why_not_created(const Request& request, const Error& error) {
    const std::string& path = request.words.region;
    if (error.number() == ENOSPC)
        return path + ": no room for a region of " + size_text(*request.size_bytes);
    if (error.number() == EINVAL)
        return path + ": a file of " + size_text(*request.size_bytes) +
               " cannot be made there (on hugetlbfs it must be a multiple of the huge page)";
    return path + " cannot be made: " + error.message();
}

std::string why_not_open(const std::string& path, const Error& error) {
    struct stat status {};
    const bool known = stat(path.c_str(), &status) == 0;
    if (error.cause == Cause::region_in_use) return in_use_sentence(path);
    if (error.cause == Cause::region_too_small && known)
        return path + " is too small" +
               (S_ISREG(status.st_mode)
                    ? " (" + size_text(static_cast<std::uint64_t>(status.st_size)) + ")"
                    : "") +
               ": a region has at least 1 MiB";
    if (error.cause == Cause::region_not_mappable && known) {
        const char* const is = S_ISDIR(status.st_mode)    ? "a directory"
                               : S_ISBLK(status.st_mode)  ? "a block device"
                               : S_ISFIFO(status.st_mode) ? "a FIFO"
                               : S_ISSOCK(status.st_mode) ? "a socket"
                               : S_ISCHR(status.st_mode)  ? "a character device, and not device DAX"
                                                          : nullptr;
        if (is != nullptr) return path + " is " + is + ": a region is a file or a /dev/dax device";
    }
    return path + ": " + error.message();
}

/// With --if-blank: whether a pinfs is there already. `busy` regions are looked at as they are.
bool holds_pinfs(const std::string& path) {
    const auto region = pmem::Region::open(path, {.read_only = true, .locked_out_is_fine = true});
    if (!region) return false;
    const auto contents = contents_of(**region);
    return contents && contents->is == Contents::Is::pinfs && !contents->damaged;
}

/// Empty, or why --group cannot be had.
std::string give_to_group(const Request& request) {
    if (!request.group) return {};
    const std::string& path = request.words.region;
    struct stat status {};
    if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode))
        return path + " is a device: its group is a matter of udev rules, not of --group";
    // The group first: with the old one the new mode would open the file to others.
    if (chown(path.c_str(), static_cast<uid_t>(-1), *request.group) != 0 ||
        chmod(path.c_str(), 0660) != 0)
        return path + " cannot be given to group " + request.words.group + ": " +
               std::strerror(errno);
    return {};
}

void report(const Request& request, const pmem::Region& region) {
    const pmem::Capabilities& can = region.capabilities();
    const MakeOptions& options = request.options;
    std::cout << request.words.region << ": pinfs of " << size_text(region.bytes()) << ", "
              << region.bytes() / kBlockBytes << " blocks of 4 KiB, on " << name_of(can.kind)
              << '\n';
    std::cout << "uuid:  " << uuid_text(options.uuid) << '\n';
    if (!options.label.empty()) std::cout << "label: " << options.label << '\n';
    if (!can.persistent)
        std::cout << "This region is not persistent (" << name_of(can.kind)
                  << "): a reboot or power cut loses all of it.\n";
    struct stat status {};
    if (stat(request.words.region.c_str(), &status) == 0 && (status.st_mode & 0006) != 0)
        std::cout << "Every user may open it (mode 0" << std::oct << (status.st_mode & 0777)
                  << std::dec << "), and who opens a region reaches every file in it.\n";
}

std::string why_not_blank(const Request& request, pmem::Region& region, const Contents& contents) {
    std::string why = request.words.region + " holds " + contents.name;
    if (request.words.if_blank) return why + ": it is not blank";
    if (const std::string kept = kept_records(region); !kept.empty())
        return why + ", and " + kept + "; --force overwrites it under them";
    return why + "; --force overwrites it";
}

/// Makes the file system in a region that exists.
int make_in(const Request& request) {
    const std::string& path = request.words.region;
    const auto opened = open_when_free(path, {});
    if (!opened) {
        if (request.words.if_blank && opened.error().cause == Cause::region_in_use &&
            holds_pinfs(path)) {
            std::cout << path << " is in use and holds a pinfs already\n";
            return kMade;
        }
        return complain(kNotMade, why_not_open(path, opened.error()));
    }
    pmem::Region& region = **opened;
    const auto contents = contents_of(region);
    if (!contents) return complain(kNotMade, path + ": " + contents.error().message());
    if (request.words.if_blank && contents->is == Contents::Is::pinfs && !contents->damaged) {
        std::cout << path << " holds " << contents->name << " already\n";
        return kMade;
    }
    if (const std::string open = open_elsewhere(path); !open.empty() && !request.words.force)
        return complain(kNotMade, open + "; --force uses it all the same");
    if (contents->is != Contents::Is::blank && !request.words.force)
        return complain(kNotMade, why_not_blank(request, region, *contents));
    if (request.size_bytes && *request.size_bytes != region.bytes())
        return complain(kNotMade, path + " exists and has " + size_text(region.bytes()) +
                                      ": all of it is used, --size is for a file to be made");
    if (region.bytes() > media::kRegionBytesMax)
        return complain(kNotMade,
                        path + " has " + size_text(region.bytes()) + ": 64 TiB is the most");
    const std::uint64_t unit = region.capabilities().map_unit_bytes;
    if (unit != kBlockBytes && unit != kRunBlocks * kBlockBytes)
        return complain(kNotMade, path + " maps in units of " + size_text(unit) +
                                      "; pinfs can use 4 KiB and 2 MiB");
    if (!request.words.sparse) {
        if (const auto allocated = pmem::Region::allocate_file(path); !allocated)
            return complain(kNotMade, path + ": no room for all of its " +
                                          size_text(region.bytes()) + ": " +
                                          allocated.error().message());
    }
    if (const std::string why = give_to_group(request); !why.empty())
        return complain(kNotMade, why);

    Request final_request = request;
    final_request.options.map_unit_bytes = unit;
    for (const Contents::Signature& signature : contents->signatures)
        if (const auto wiped = region.zero(signature.offset, signature.bytes); !wiped)
            return complain(kNotMade, path + ": " + wiped.error().message());
    region.fence();
    if (const auto made = make_file_system(region, final_request.options); !made)
        return complain(kNotMade, path + ": " + made.error().message());
    report(final_request, region);
    return kMade;
}

int make(const Request& request) {
    const std::string& path = request.words.region;
    CreatedFile file;
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) {
        if (errno != ENOENT) return complain(kNotMade, path + ": " + std::strerror(errno));
        if (lstat(path.c_str(), &status) == 0)
            return complain(kNotMade, path + " is a symbolic link to nothing");
        if (!request.size_bytes)
            return complain(kNotMade, path + " does not exist; --size says how large to make it");
        const auto created =
            pmem::Region::create_file(path, *request.size_bytes, 0600, request.words.sparse);
        if (!created) return complain(kNotMade, why_not_created(request, created.error()));
        file.created(path);
    }
    const int code = make_in(request);
    if (code == kMade) file.keep();
    return code;
}

int run(int count, char** words) {
    CLI::App app{"Make a pinfs file system in a region: a file or a /dev/dax device"};
    app.name("mkfs.pinfs");
    app.set_version_flag("-V,--version", std::string("mkfs.pinfs ") + PINFS_VERSION);
    Words given;
    app.add_option("region", given.region, "Made with --size if it does not exist; used whole")
        ->type_name("REGION")
        ->required();
    app.add_option("--size", given.size, "Of a file to be made: 512M, 2G, ...")->type_name("SIZE");
    app.add_option("-L,--label", given.label, "Name of the file system, up to 64 bytes")
        ->type_name("LABEL");
    app.add_option("-U,--uuid", given.uuid, "Identity; random if it is not given")
        ->type_name("UUID");
    app.add_option("--group", given.group, "Give the region file to this group, with mode 0660")
        ->type_name("GROUP");
    app.add_flag("--sparse", given.sparse,
                 "Memory of a file is taken when it is used; where there is none left, writing "
                 "fails with EIO");
    app.add_flag("--no-dax", given.no_dax, "New files are not in DAX mode");
    auto* const if_blank =
        app.add_flag("--if-blank", given.if_blank, "Do nothing if it holds a pinfs already");
    app.add_flag("-f,--force", given.force, "Overwrite whatever the region holds")
        ->excludes(if_blank);
    app.footer("Exit status: 0 made, 1 not made, 2 wrong usage.");
    try {
        app.parse(count, words);
    } catch (const CLI::ParseError& stop) {
        if (stop.get_exit_code() == 0) return app.exit(stop);  // --help, --version
        return complain(kUsage, std::string(stop.what()) + " (see mkfs.pinfs --help)");
    }
    // Given, but empty: no default in its place.
    for (const char* name : {"--size", "--uuid", "--group"})
        if (app.count(name) != 0 && app[name]->as<std::string>().empty())
            return complain(kUsage, std::string(name) + " has an empty value");
    Request request;
    if (const std::string wrong = understand(given, request); !wrong.empty())
        return complain(kUsage, wrong);
    return make(request);
}

}  // namespace

int main(int count, char** words) {
    try {
        const int code = run(count, words);
        std::cout.flush();
        return std::cout ? code : complain(kNotMade, "standard output cannot be written");
    } catch (const std::exception& failure) {
        return complain(kNotMade, failure.what());
    }
}

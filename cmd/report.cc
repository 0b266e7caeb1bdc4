// SPDX-License-Identifier: Apache-2.0
#include "cmd/report.h"

#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <expected>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <sstream>
#include <system_error>

#include "cmd/background.h"
#include "cmd/exit_codes.h"
#include "cmd/mounts.h"
#include "cmd/output_of.h"
#include "fs/fuse/session.h"
#include "fs/pmem/region.h"

namespace pinfs::cmd {
namespace {

namespace files = std::filesystem;
using namespace std::chrono_literals;

constexpr auto kPatience = 10s;            // for what a mount is asked
constexpr auto kPatienceForCheck = 10min;  // of a whole region
constexpr std::streamoff kTraceTail = 1 << 20;
constexpr const char* kUnnamed = "/...";

/// By name in the archive.
using Texts = std::map<std::string, std::string>;

std::string text_of(const files::path& path) {
    std::ostringstream text;
    if (std::ifstream file{path}; file && file.peek() != EOF) text << file.rdbuf();
    return text.str();
}

// --- Without names -----------------------------------------------------------------------------

std::string without_names_json(const std::string& text) {
    auto report = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!report.is_object() || !report["items"].is_array()) return "unreadable\n";
    for (auto& item : report["items"])
        for (const char* name : {"file", "label"})
            if (item.contains(name) && item[name] != "") item[name] = kUnnamed;
    return report.dump(1) + "\n";
}

/// Of .file_pins: paths, and what descriptors are.
std::string without_names_pins(const std::string& text) {
    static const std::regex kLine{R"(^(\t|[0-9]+: |).*?((?: \(deleted\))?(?: \(recovered\))?)$)"};
    std::string out;
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line);) {
        const bool kept = line.starts_with("pid ") || line.starts_with("context ");
        out += kept ? line
                    : std::regex_replace(line, kLine, "$1" + std::string{kUnnamed} + "$2",
                                         std::regex_constants::format_first_only);
        out += '\n';
    }
    return out;
}

std::string without_names_log(const std::string& text) {
    static const std::regex kRefused{"( of )/.*( was refused: )"};
    return std::regex_replace(text, kRefused, "$1" + std::string{kUnnamed} + "$2");
}

// --- What is gathered --------------------------------------------------------------------------

std::string system_text() {
    utsname name{};
    uname(&name);
    std::string text = std::string{name.sysname} + " " + name.release + " " + name.version + " " +
                       name.machine + "\n\n" + text_of("/etc/os-release") + "\n";
    std::error_code ignored;
    for (const auto& parameter : files::directory_iterator{"/sys/module/fuse/parameters", ignored})
        text += "fuse." + parameter.path().filename().string() + " " + text_of(parameter.path());
    text += "clocksource " +
            text_of("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    text += "\n" + text_of("/proc/meminfo") + "\n";
    // One processor stands for all.
    std::istringstream processors{text_of("/proc/cpuinfo")};
    for (std::string line; std::getline(processors, line) && !line.empty();) text += line + "\n";
    return text + "processors\t: " + std::to_string(sysconf(_SC_NPROCESSORS_ONLN)) + "\n";
}

/// What a daemon's threads do: where they wait in the kernel tells of most hangs.
std::string daemon_text(pid_t pid) {
    const files::path process = "/proc/" + std::to_string(pid);
    std::string text = text_of(process / "status") + "\n" + text_of(process / "limits") + "\n";
    std::error_code ignored;
    for (const auto& thread : files::directory_iterator{process / "task", ignored}) {
        std::string line = thread.path().filename().string();
        for (const char* what : {"comm", "wchan", "syscall"}) {
            std::string word = text_of(thread.path() / what);
            word.resize(std::min(word.size(), word.find_first_of(" \n")));  // no addresses
            line += std::string{"\t"} + what + "=" + word;
        }
        text += line + "\n";
    }
    return text;
}

/// The end of a trace, whole lines of it.
std::string tail_of(const std::string& path) {
    std::ifstream file{path, std::ios::binary | std::ios::ate};
    if (!file) return {};
    const std::streamoff size = file.tellg();
    const std::streamoff begin = std::max<std::streamoff>(0, size - kTraceTail);
    file.seekg(begin);
    std::ostringstream text;
    text << file.rdbuf();
    std::string tail = text.str();
    if (begin > 0) tail.erase(0, tail.find('\n') + 1);
    return tail;
}

class Gathering {
public:
    Gathering(const ReportCommand& command, std::optional<fuse::MountEntry> mount)
        : command_(command), mount_(std::move(mount)) {}

    Texts gather() {
        add("system.txt", system_text());
        add_answer("info.json", {"pinfs", "info", "--json", region()});
        for (const pmem::LockHolder& holder : pmem::Region::find_lock_holders(region()))
            add("process-" + std::to_string(holder.pid) + ".txt", daemon_text(holder.pid));
        if (mount_)
            add_mount();
        else
            add_check();
        add("about.txt", about());
        return std::move(texts_);
    }

private:
    [[nodiscard]] const std::string& region() const {
        return mount_ ? mount_->source : command_.target;
    }
    void add(const std::string& name, const std::string& text) {
        if (!text.empty()) texts_[name] = text;
    }
    /// What a program says; nothing is asked of a mount that did not answer before.
    std::string answer(const std::vector<std::string>& words,
                       std::chrono::milliseconds time = kPatience) {
        if (!answers_) return {};
        const Output output = output_of(words, time);
        answers_ = output.in_time;
        if (output.in_time && output.status == 0) return output.text;
        failed_ += "  ";
        for (const std::string& word : words) failed_ += word + " ";
        failed_ += (output.in_time ? ": " + output.text : ": not in time\n");
        return {};
    }
    void add_answer(const std::string& name, const std::vector<std::string>& words) {
        add(name, answer(words));
    }

    void add_mount() {
        const std::string root = mount_->mountpoint;
        add("mount.txt", mount_->source + " on " + root + ": " + mount_->options + "\n");
        const auto report = [&](const std::string& name) {
            return answer({"cat", root + "/" + name});
        };
        add("metrics.txt", report(".pinfs/metrics"));
        add_answer("stats.txt", {"pinfs", "stats", "--once", root});
        add("region.json", report(".pinfs/region"));
        const std::string pins = report(".pinfs/pins.json");
        const std::string file_pins = report(".file_pins");
        const std::string log = report(".pinfs/log");
        add("pins.json", command_.names || pins.empty() ? pins : without_names_json(pins));
        add("file_pins.txt", command_.names ? file_pins : without_names_pins(file_pins));
        add("log.txt", command_.names ? log : without_names_log(log));
        add_trace();
    }

    /// Where `-o trace=` of the mount says.
    void add_trace() {
        static const std::regex kTrace{"(?:^|,)trace=([^,]*)"};
        const auto info = nlohmann::json::parse(texts_["info.json"], nullptr, false);
        const std::string options = info.is_object() ? info.value("options_in_force", "") : "";
        std::smatch found;
        if (!std::regex_search(options, found, kTrace)) return;
        const std::string path = found[1];
        std::string text = tail_of(path);
        if (text.size() < kTraceTail) text.insert(0, tail_of(path + ".old"));
        add("trace.txt", text);
    }

    void add_check() {
        const Output output = output_of({"fsck.pinfs", "-n", command_.target}, kPatienceForCheck);
        std::string text = output.text;
        // What is found has names; how much it is stands in the last line.
        if (!command_.names && text.ends_with('\n')) {
            const std::size_t before = text.rfind('\n', text.size() - 2);
            if (before != std::string::npos) text.erase(0, before + 1);
        }
        add("fsck.txt", text + "exit status " + std::to_string(output.status) + "\n");
    }

    [[nodiscard]] std::string about() const {
        std::string text =
            std::string{"A report of pinfs "} + PINFS_VERSION + " (libfuse " +
            fuse::library_version() + (fuse::built_with_io_uring() ? ", io_uring" : "") + ") on " +
            command_.target + ".\n\nNothing of what is in files. " +
            (command_.names ? "Names of files where reports have them.\n"
                            : "Names of files are left out (--names puts them in): " +
                                  std::string{kUnnamed} + " stands for them.\n") +
            "Paths of the region and the mount, names of processes and their users, the host's "
            "name and "
            "the label are in it.\n";
        if (!failed_.empty()) text += "\nNot answered:\n" + failed_;
        if (!answers_) text += "\nThe mount does not answer: the rest was not asked.\n";
        return text;
    }

    const ReportCommand& command_;
    const std::optional<fuse::MountEntry> mount_;
    Texts texts_;
    std::string failed_;
    bool answers_ = true;
};

// --- The archive -------------------------------------------------------------------------------

/// A directory that goes with all that is in it.
class Scratch {
public:
    Scratch() {
        const char* const parent = std::getenv("TMPDIR");
        path_ = std::string{parent != nullptr ? parent : "/tmp"} + "/pinfs-report-XXXXXX";
        if (mkdtemp(path_.data()) == nullptr)
            throw std::system_error{errno, std::generic_category(), path_};
    }
    ~Scratch() {
        std::error_code ignored;
        files::remove_all(path_, ignored);
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    std::string path_;
};

std::string name_of_now() {
    utsname name{};
    uname(&name);
    const std::time_t now = std::time(nullptr);
    tm parts{};
    gmtime_r(&now, &parts);
    char text[32];
    std::strftime(text, sizeof(text), "%Y%m%d-%H%M%S", &parts);
    return std::string{"pinfs-report-"} + name.nodename + "-" + text;
}

/// Empty, or why it was not written.
std::string write_archive(const std::string& path, const std::string& inside, const Texts& texts) {
    const Scratch scratch;
    const files::path directory = files::path{scratch.path()} / inside;
    files::create_directory(directory);
    for (const auto& [name, text] : texts) {
        std::ofstream file{directory / name, std::ios::binary};
        file << text;
        file.close();
        if (!file) return (directory / name).string() + ": " + strerror(errno);
    }
    const std::string archive = scratch.path() + "/archive";
    const Output tar = output_of({"tar", "-czf", archive, "-C", scratch.path(), inside}, kPatience);
    if (tar.status != 0) return "tar failed: " + tar.text.substr(0, tar.text.find('\n'));
    std::error_code failure;
    files::copy_file(archive, path, failure);  // not over a file that is there
    return failure ? path + ": " + failure.message() : std::string{};
}

/// A mount that does not answer is not asked where it can be known by its words.
std::optional<fuse::MountEntry> mount_named(const std::string& target) {
    const auto mounts = mounts_of_pinfs();
    for (const fuse::MountEntry& entry : mounts)
        if (entry.mountpoint == target || entry.source == target) return entry;
    return mount_for(target, mounts);
}

}  // namespace

int make_report(const ReportCommand& command) {
    umask(077);
    auto mount = mount_named(command.target);
    struct stat st {};
    if (!mount && stat(command.target.c_str(), &st) != 0)
        return complain(command.program, kFailure, command.target + ": " + strerror(errno));
    if (!mount && S_ISDIR(st.st_mode))
        return complain(command.program, kFailure, command.target + " is on no mounted pinfs");
    const std::string name = name_of_now();
    const std::string path = command.output.empty() ? name + ".tar.gz" : command.output;
    const Texts texts = Gathering{command, std::move(mount)}.gather();
    if (const std::string failure = write_archive(path, name, texts); !failure.empty())
        return complain(command.program, kFailure, failure);
    std::cout << path << '\n';
    return kSuccess;
}

}  // namespace pinfs::cmd

// SPDX-License-Identifier: Apache-2.0
#include "cmd/holding.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <expected>
#include <optional>
#include <string_view>

#include "cmd/arguments.h"
#include "cmd/background.h"
#include "cmd/run_command.h"
#include "lib/pinfs/pinfs.h"

namespace pinfs::cmd {
namespace {

/// Of a file; a length of 0 goes on to the end.
struct Range {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

/// "OFF:LEN", "OFF:" or nothing.
std::optional<Range> parse_range(const std::string& word) {
    if (word.empty()) return Range{};
    const std::size_t colon = word.find(':');
    if (colon == std::string::npos) return std::nullopt;
    const auto offset = parse_size(word.substr(0, colon));
    const std::string length_word = word.substr(colon + 1);
    const auto length = parse_size(length_word);
    if (!offset || (!length_word.empty() && length.value_or(0) == 0)) return std::nullopt;
    return Range{.offset = *offset, .length = length.value_or(0)};
}

/// 0 for "ack"; a signal by name, with or without SIG, or by number.
std::optional<int> parse_event_action(const std::string& word) {
    if (word == "ack") return 0;
    std::string name = word;
    for (char& letter : name)
        letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
    if (name.starts_with("SIG")) name.erase(0, 3);
    int number = 0;
    const auto [rest, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    const bool numeric = error == std::errc() && rest == name.data() + name.size();
    for (int signal = 1; signal < NSIG; ++signal) {
        const char* const known = sigabbrev_np(signal);
        if (known != nullptr && (numeric ? number == signal : name == known)) return signal;
    }
    return std::nullopt;
}

/// The library wants to know which version of the struct it gets.
template <class Struct>
Struct sized() {
    Struct fresh{};
    fresh.size_bytes = sizeof(Struct);
    return fresh;
}

/// The last failure of the library, as the commands say it: without a full stop.
std::string library_failure() {
    std::string sentence = pinfs_last_error();
    if (sentence.ends_with('.')) sentence.pop_back();
    return sentence;
}

/// What is held; gone with the object.
class Holding {
public:
    Holding() = default;
    ~Holding() {
        if (context_ != nullptr) pinfs_context_close(context_);
        if (file_ >= 0) close(file_);
    }
    Holding(const Holding&) = delete;
    Holding& operator=(const Holding&) = delete;

    /// Empty, or why not.
    std::string take(const HoldingCommand& command, Range range);
    [[nodiscard]] int events() const { return pinfs_context_fd(context_); }
    /// Handles the events that wait; true if there was one.
    bool handle_events();

private:
    int file_ = -1;
    pinfs_context* context_ = nullptr;
};

std::string Holding::take(const HoldingCommand& command, Range range) {
    const std::string& path = command.file;
    file_ = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
    const bool may_only_read = !command.pin || command.device_reads_only;
    if (file_ < 0 && may_only_read) file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st {};
    if (file_ < 0 || fstat(file_, &st) != 0) return path + ": " + strerror(errno);
    if (!S_ISREG(st.st_mode)) return path + " is no regular file";
    const auto size = static_cast<std::uint64_t>(st.st_size);
    if (command.pin && range.length == 0) {
        if (range.offset >= size) return path + " ends there: nothing of it can be pinned";
        range.length = size - range.offset;
    }
    if (pinfs_context_open(path.c_str(), 0, &context_) != 0) return library_failure();
    auto lease = sized<pinfs_lease>();
    lease.flags = PINFS_LEASE_LAYOUT;
    if (command.pin || command.exclusive) lease.flags |= PINFS_LEASE_EXCLUSIVE;
    if (command.shared) lease.flags |= PINFS_LEASE_SHARED;
    lease.offset_bytes = range.offset;
    lease.length_bytes = range.length;
    if (pinfs_lease_set(context_, file_, &lease) != 0) return path + ": " + library_failure();
    if (!command.pin) return {};
    auto pin = sized<struct pinfs_pin>();
    pin.owner_fd = -1;
    if (command.device_reads_only) pin.flags = PINFS_PIN_READ;
    pin.offset_bytes = range.offset;
    pin.length_bytes = range.length;
    if (pinfs_pin(context_, file_, &pin) != 0) return path + ": " + library_failure();
    return {};
}

bool Holding::handle_events() {
    auto event = sized<pinfs_event>();
    bool any = false;
    while (pinfs_context_next_event(context_, &event, 0) == 1) any = true;
    return any;
}

}  // namespace

int hold_while_running(const HoldingCommand& command) {
    const auto refuse = [&](const std::string& why) {
        return complain(command.program, kRunnerFailed, why);
    };
    const auto range = parse_range(command.range);
    if (!range)
        return refuse("'" + command.range + "' is no range: write it as 0:1M, or 4K: to the end");
    const auto signal = parse_event_action(command.on_event);
    if (!signal) return refuse("'" + command.on_event + "' is neither ack nor a signal");
    if (command.shared && !command.exclusive)
        return refuse("only an exclusive lease can be shared: --exclusive --shared");
    Holding holding;
    if (const std::string why = holding.take(command, *range); !why.empty()) return refuse(why);
    return run_command({.program = command.program,
                        .words = command.words,
                        .environment = {},
                        .watched = holding.events(),
                        .readable = [&](pid_t child) {
                            if (holding.handle_events() && *signal != 0) kill(child, *signal);
                        }});
}

}  // namespace pinfs::cmd

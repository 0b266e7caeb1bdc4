// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/reports.h"

#include <spdlog/sinks/ringbuffer_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <tuple>
#include <vector>

namespace pinfs::fuse {
namespace {

constexpr std::uint32_t kNone = UINT32_MAX;
constexpr std::size_t kAttributeBytesMax = 65536;  // XATTR_SIZE_MAX

/// A pin, and where in .file_pins it stands.
struct Line {
    std::uint32_t pid;         ///< whose descriptor table shows its owner; kNone: none does
    bool bare;                 ///< owned by the process itself
    std::uint32_t descriptor;  ///< that names the owner; kNone: its context does
    std::uint64_t context;     ///< 0 if a descriptor names it
    const PinnedItem* item;

    [[nodiscard]] auto owner() const { return std::tie(pid, bare, descriptor, context); }
};

Line line_of(const PinnedItem& item, OwnersSeen& seen) {
    const pin::Owner& owner = item.owner;
    Line line{
        .pid = kNone, .bare = owner.context == 0, .descriptor = kNone, .context = 0, .item = &item};
    if (line.bare) {
        if (seen.lives(owner.process)) line.pid = owner.process.pid;
    } else if (item.descriptor != kNone && seen.shows(owner.process, item.descriptor, item.label)) {
        line.pid = owner.process.pid;
        line.descriptor = item.descriptor;
    } else {
        line.context = owner.context;
        if (seen.shows_context(owner.process)) line.pid = owner.process.pid;
    }
    return line;
}

/// The pins, by process, owner and file.
std::vector<Line> sorted_lines(const std::vector<PinnedItem>& items) {
    OwnersSeen seen;
    std::vector<Line> lines;
    for (const PinnedItem& item : items)
        if (item.kind == PinnedItem::Kind::pin) lines.push_back(line_of(item, seen));
    std::ranges::stable_sort(lines, [](const Line& left, const Line& right) {
        return std::tuple_cat(left.owner(), std::tie(left.item->ino)) <
               std::tuple_cat(right.owner(), std::tie(right.item->ino));
    });
    return lines;
}

using LineIterator = std::vector<Line>::const_iterator;

/// What belongs to one process: each owner once, below it each of its files once.
void add_body(LineIterator at, LineIterator end, std::string& text) {
    for (bool first = true; at != end; first = false) {
        const Line& line = *at;
        const bool new_owner = first || line.owner() != std::prev(at)->owner();
        if (new_owner && line.descriptor != kNone)
            text += std::to_string(line.descriptor) + ": " + escaped(line.item->label) + '\n';
        else if (new_owner && !line.bare)
            text += "context " + std::to_string(line.context) + '\n';
        if (!line.bare) text += '\t';
        text += escaped(line.item->path);
        if (line.item->deleted) text += " (deleted)";
        bool recovered = false;
        for (; at != end && at->owner() == line.owner() && at->item->ino == line.item->ino; ++at)
            recovered = recovered || at->item->state == PinnedItem::State::recovered;
        if (recovered) text += " (recovered)";
        text += '\n';
    }
}

LineIterator end_of_process(LineIterator at, LineIterator end) {
    const std::uint32_t pid = at->pid;
    return std::find_if(at, end, [&](const Line& line) { return line.pid != pid; });
}

const char* mark_of(PinnedItem::State state) {
    switch (state) {
        case PinnedItem::State::recovered:
            return " (recovered)";
        case PinnedItem::State::revoking:
            return " (revoking)";
        default:
            return "";
    }
}

}  // namespace

std::string log_lines(OnlyUser only_uid) {
    std::string text;
    if (only_uid) return text;
    for (const spdlog::sink_ptr& sink : spdlog::default_logger()->sinks())
        if (auto* const kept = dynamic_cast<spdlog::sinks::ringbuffer_sink_mt*>(sink.get()))
            for (const std::string& line : kept->last_formatted()) text += line;
    return text;
}

std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte != 0x7f && c != '\\') {
            out += c;
            continue;
        }
        out += '\\';
        for (const int shift : {6, 3, 0}) out += static_cast<char>('0' + (byte >> shift & 7));
    }
    return out;
}

Expected<std::string> file_pins(Edge& edge, OnlyUser only_uid) {
    const auto items = TRY(edge.volume.pinned({.uid = only_uid, .ino = {}, .pid = {}}));
    const std::vector<Line> lines = sorted_lines(items);
    std::string text;
    for (auto at = lines.begin(); at != lines.end();) {
        const auto end = end_of_process(at, lines.end());
        text += "pid ";
        if (at->pid == kNone)
            text += "-\n";
        else
            text += std::to_string(at->pid) + " (" + escaped(at->item->owner.command) + ")\n";
        add_body(at, end, text);
        at = end;
    }
    return text;
}

Expected<std::string> process_pins(Edge& edge, OnlyUser only_uid, std::uint32_t pid) {
    const auto items = TRY(edge.volume.pinned({.uid = only_uid, .ino = {}, .pid = pid}));
    std::vector<Line> lines = sorted_lines(items);
    std::erase_if(lines, [&](const Line& line) { return line.pid != pid; });
    std::string text;
    add_body(lines.begin(), lines.end(), text);
    return text;
}

Expected<std::string> pins_of_file(Edge& edge, OnlyUser only_uid, Ino ino) {
    const auto items = TRY(edge.volume.pinned({.uid = only_uid, .ino = ino, .pid = {}}));
    std::string text;
    for (const PinnedItem& item : items) {
        if (item.kind != PinnedItem::Kind::pin) continue;
        text += std::to_string(item.id) + ' ' + std::to_string(item.begin) + ' ' +
                std::to_string(item.end - item.begin) + ' ' +
                (item.owner.process.pid == 0 ? "-" : std::to_string(item.owner.process.pid)) +
                " (" + escaped(item.owner.command) + ')' + mark_of(item.state) + '\n';
        if (text.size() > kAttributeBytesMax) return fail(Cause::extents_too_many);
    }
    return text;
}

Expected<std::vector<std::uint32_t>> owning_processes(Edge& edge, OnlyUser only_uid) {
    const auto items = TRY(edge.volume.pinned({.uid = only_uid, .ino = {}, .pid = {}}));
    OwnersSeen seen;
    std::vector<std::uint32_t> pids;
    for (const PinnedItem& item : items)
        if (seen.lives(item.owner.process)) pids.push_back(item.owner.process.pid);
    std::ranges::sort(pids);
    pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
    return pids;
}

}  // namespace pinfs::fuse

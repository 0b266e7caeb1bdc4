// SPDX-License-Identifier: Apache-2.0
//
// Requests about virtual nodes. What has no handler here is refused by routing.h, with EPERM.
//
// Reports have size 0, as in /proc, and are read past the page cache.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "fs/fuse/caller.h"
#include "fs/fuse/context_requests.h"
#include "fs/fuse/edge.h"
#include "fs/fuse/reports.h"
#include "fs/fuse/virtual_nodes.h"

namespace pinfs::fuse {
namespace {

// --- Names and attributes ----------------------------------------------------------------------

mode_t mode_of(VirtualKind kind) {
    if (is_directory(kind)) return S_IFDIR | 0555;
    return S_IFREG | (kind == VirtualKind::context ? 0666 : 0444);
}

struct stat stat_of(const Edge& edge, const VirtualNode& node) {
    struct stat st {};
    st.st_ino = number_of(node);
    st.st_mode = mode_of(node.kind);
    st.st_nlink = is_directory(node.kind) ? 2 : 1;
    st.st_uid = geteuid();
    st.st_gid = getegid();
    st.st_blksize = kBlockBytes;
    st.st_atim = {edge.started.seconds, edge.started.nanoseconds};
    st.st_mtim = st.st_ctim = st.st_atim;
    return st;
}

double timeout_of(const VirtualNode& node) {
    return is_of_process(node.kind) ? 0 : kEntryTimeoutSeconds;
}

bool exists(const VirtualNode& node) {
    return !is_of_process(node.kind) || is_process(static_cast<pid_t>(node.pid));
}

/// The directory that `..` of a virtual directory is; nullopt: the root.
std::optional<VirtualNode> parent_of(const VirtualNode& node) {
    switch (node.kind) {
        case VirtualKind::file_pins:
        case VirtualKind::directory:
            return std::nullopt;
        case VirtualKind::process:
            return VirtualNode{VirtualKind::processes};
        case VirtualKind::process_pins:
            return VirtualNode{VirtualKind::process, node.pid};
        default:
            return VirtualNode{VirtualKind::directory};
    }
}

void on_lookup(fuse_req_t req, fuse_ino_t parent, const char* name_word) noexcept {
    const std::string_view name{name_word};
    std::optional<VirtualNode> node;
    if (name == "." || name == "..") {  // what was opened by handle asks so
        node = name == "." ? node_of(parent) : parent_of(node_of(parent));
        if (!node) {
            const auto root = guarded([&] { return volume_of(req).lookup(kRootIno, "."); });
            if (!root) return reply_error(req, root.error(), "lookup", parent);
            return reply_entry(req, *root);
        }
    } else {
        node = find_virtual(parent, name);
    }
    const auto there = guarded([&]() -> Expected<void> {
        if (!node || !exists(*node)) return fail(Cause::not_found);
        return {};
    });
    if (!there) return reply_error(req, there.error(), "lookup", parent);
    fuse_entry_param param{};
    param.ino = number_of(*node);
    param.attr = stat_of(edge_of(req), *node);
    param.attr_timeout = param.entry_timeout = timeout_of(*node);
    fuse_reply_entry(req, &param);  // nobody counts references to what always exists
}

void on_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) noexcept {
    const struct stat st = stat_of(edge_of(req), node_of(ino));
    fuse_reply_attr(req, &st, timeout_of(node_of(ino)));
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
void on_statx(fuse_req_t req, fuse_ino_t ino, int, int, fuse_file_info*) noexcept {
    const struct stat st = stat_of(edge_of(req), node_of(ino));
    struct statx out {};
    out.stx_mask = STATX_BASIC_STATS;
    out.stx_blksize = static_cast<std::uint32_t>(st.st_blksize);
    out.stx_nlink = static_cast<std::uint32_t>(st.st_nlink);
    out.stx_uid = st.st_uid;
    out.stx_gid = st.st_gid;
    out.stx_mode = static_cast<std::uint16_t>(st.st_mode);
    out.stx_ino = st.st_ino;
    out.stx_atime.tv_sec = out.stx_mtime.tv_sec = out.stx_ctime.tv_sec = st.st_mtim.tv_sec;
    out.stx_atime.tv_nsec = out.stx_mtime.tv_nsec = out.stx_ctime.tv_nsec =
        static_cast<std::uint32_t>(st.st_mtim.tv_nsec);
    fuse_reply_statx(req, 0, &out, timeout_of(node_of(ino)));
}
#endif

void on_getxattr(fuse_req_t req, fuse_ino_t ino, const char*, std::size_t) noexcept {
    reply_error(req, Error{Cause::no_attribute}, "getxattr", ino);
}

void on_listxattr(fuse_req_t req, fuse_ino_t, std::size_t size) noexcept {
    if (size == 0)
        fuse_reply_xattr(req, 0);
    else
        fuse_reply_buf(req, nullptr, 0);
}

// --- Directories -------------------------------------------------------------------------------

struct Item {
    std::string name;
    fuse_ino_t ino;
    mode_t mode;
    off_t cookie;  ///< where to go on after it; of a process its number and what stands before it
};

/// Fixed entries have cookies up to here.
constexpr off_t kFixedCookies = 16;

/// The items of a directory, in order.
Expected<std::vector<Item>> items_of(fuse_req_t req, const VirtualNode& directory) {
    const auto parent = parent_of(directory);
    std::vector<Item> items;
    items.push_back({".", number_of(directory), S_IFDIR, 1});
    items.push_back({"..", parent ? number_of(*parent) : FUSE_ROOT_ID, S_IFDIR, 2});
    for (const VirtualEntry& entry : fixed_entries(directory.kind)) {
        const VirtualNode node{entry.kind, directory.pid};
        items.push_back({std::string{entry.name}, number_of(node), mode_of(entry.kind),
                         static_cast<off_t>(items.size() + 1)});
    }
    if (directory.kind != VirtualKind::processes) return items;
    for (const std::uint32_t pid : TRY(owning_processes(edge_of(req), only_user_seen_by(req))))
        items.push_back({std::to_string(pid), number_of({VirtualKind::process, pid}), S_IFDIR,
                         kFixedCookies + pid});
    return items;
}

void on_opendir(fuse_req_t req, fuse_ino_t, fuse_file_info* file) noexcept {
    file->fh = new_handle(edge_of(req), file->flags);
    fuse_reply_open(req, file);
}

void on_releasedir(fuse_req_t req, fuse_ino_t, fuse_file_info*) noexcept { fuse_reply_err(req, 0); }

/// With `plus` the kernel gets names that it looks up itself.
void list(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset, bool plus) noexcept {
    const auto answer = guarded([&]() -> Expected<std::string> {
        std::string bytes;
        for (const Item& item : TRY(items_of(req, node_of(ino)))) {
            if (item.cookie <= offset) continue;
            fuse_entry_param param{};
            param.attr.st_ino = item.ino;
            param.attr.st_mode = item.mode;
            const char* name = item.name.c_str();
            const std::size_t needed =
                plus ? fuse_add_direntry_plus(req, nullptr, 0, name, nullptr, 0)
                     : fuse_add_direntry(req, nullptr, 0, name, nullptr, 0);
            const std::size_t at = bytes.size();
            if (at + needed > size) break;
            bytes.resize(at + needed);
            if (plus)
                fuse_add_direntry_plus(req, bytes.data() + at, needed, name, &param, item.cookie);
            else
                fuse_add_direntry(req, bytes.data() + at, needed, name, &param.attr, item.cookie);
        }
        return bytes;
    });
    if (!answer) return reply_error(req, answer.error(), "readdir", ino);
    fuse_reply_buf(req, answer->data(), answer->size());
}

void on_readdir(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                fuse_file_info*) noexcept {
    list(req, ino, size, offset, false);
}

void on_readdirplus(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                    fuse_file_info*) noexcept {
    list(req, ino, size, offset, true);
}

// --- Open files --------------------------------------------------------------------------------

Expected<std::string> text_of(fuse_req_t req, const VirtualNode& node) {
    Edge& edge = edge_of(req);
    const auto only_uid = only_user_seen_by(req);
    switch (node.kind) {
        case VirtualKind::file_pins:
            return file_pins(edge, only_uid);
        case VirtualKind::process_pins:
            return process_pins(edge, only_uid, node.pid);
        case VirtualKind::pins_json:
            return pins_json(edge, only_uid);
        case VirtualKind::region:
            return region_json(edge);
        case VirtualKind::metrics:
            return metrics(edge, only_uid);
        case VirtualKind::log:
            return log_lines(only_uid);
        default:
            return fail(Cause::virtual_node);
    }
}

Expected<void> open_report(fuse_req_t req, const VirtualNode& node, std::uint64_t handle,
                           int flags) {
    if ((flags & O_ACCMODE) != O_RDONLY) return fail(Cause::report_is_read_only);
    OpenReports& reports = edge_of(req).reports;
    TRY(reports.reserve(handle, fuse_req_ctx(req)->uid));
    auto text = guarded([&] { return text_of(req, node); });
    if (!text) {
        reports.release(handle);
        return std::unexpected(text.error());
    }
    reports.fill(handle, std::move(*text));
    return {};
}

void close_handle(Edge& edge, const VirtualNode& node, std::uint64_t handle) noexcept {
    guarded([&]() -> Expected<void> {
        if (node.kind == VirtualKind::context)
            edge.contexts.release(handle);
        else
            edge.reports.release(handle);
        return {};
    });
}

void reply_opened(fuse_req_t req, const VirtualNode& node, const fuse_file_info& file,
                  const Expected<void>& opened) noexcept {
    Edge& edge = edge_of(req);
    if (!opened) return reply_error(req, opened.error(), "open", number_of(node));
    if (fuse_reply_open(req, &file) != 0) close_handle(edge, node, file.fh);
}

/// Leaves a request to the thread that makes reports, which answers it. On error it does not.
/// `answer` is told whether there is no time left to make any.
template <class Answer>
Expected<void> answer_later(Edge& edge, Answer answer) noexcept {
    const Request request = RequestInHand::hand_over();
    const auto left = guarded([&]() -> Expected<void> {
        edge.report_maker.add([&edge, request, answer](bool cancelled) {
            const RequestInHand in_hand{edge.observed, request};
            answer(cancelled);
        });
        return {};
    });
    if (!left) RequestInHand::take_back();
    return left;
}

void open_later(fuse_req_t req, const VirtualNode& node, const fuse_file_info& file) noexcept {
    const auto left = answer_later(edge_of(req), [req, node, file](bool cancelled) {
        const auto opened = guarded([&]() -> Expected<void> {
            if (cancelled) return fail(Cause::shut_down);
            return open_report(req, node, file.fh, file.flags);
        });
        reply_opened(req, node, file, opened);
    });
    if (!left) reply_error(req, left.error(), "open", number_of(node));
}

void on_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file) noexcept {
    Edge& edge = edge_of(req);
    const VirtualNode node = node_of(ino);
    file->fh = new_handle(edge, file->flags);
    file->direct_io = 1;
    file->noflush = 1;
    file->nonseekable = node.kind == VirtualKind::context;
    if ((file->flags & O_TRUNC) != 0)
        return reply_error(req, Error{Cause::virtual_node}, "open", ino);
    if (node.kind != VirtualKind::context) return open_later(req, node, *file);
    const auto opened =
        guarded([&] { return edge.contexts.open(file->fh, fuse_req_ctx(req)->uid); });
    reply_opened(req, node, *file, opened);
}

void on_release(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file) noexcept {
    close_handle(edge_of(req), node_of(ino), file->fh);
    fuse_reply_err(req, 0);
}

void on_nothing(fuse_req_t req, fuse_ino_t, fuse_file_info*) noexcept { fuse_reply_err(req, 0); }
void on_fsync(fuse_req_t req, fuse_ino_t, int, fuse_file_info*) noexcept { fuse_reply_err(req, 0); }

void reply_text(fuse_req_t req, const std::string& text, std::size_t size, off_t offset) noexcept {
    const std::size_t begin = std::min(static_cast<std::size_t>(offset), text.size());
    reply_bytes(req, text.data() + begin, std::min(size, text.size() - begin));
}

/// Makes the report first, as open_later.
void read_later(fuse_req_t req, const VirtualNode& node, std::size_t size, off_t offset,
                const fuse_file_info& file) noexcept {
    const auto left = answer_later(edge_of(req), [=](bool cancelled) {
        OpenReports& reports = edge_of(req).reports;
        const auto made = guarded([&]() -> Expected<void> {
            if (cancelled) return fail(Cause::shut_down);
            if (reports.find(file.fh)) return {};
            return open_report(req, node, file.fh, O_RDONLY);
        });
        if (!made) return reply_error(req, made.error(), "read", number_of(node));
        reply_text(req, *reports.find(file.fh), size, offset);
    });
    if (!left) reply_error(req, left.error(), "read", number_of(node));
}

void on_read(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
             fuse_file_info* file) noexcept {
    if (node_of(ino).kind == VirtualKind::context) return read_events(req, ino, size, *file);
    const auto text = edge_of(req).reports.find(file->fh);
    // Opened at a daemon that is no more: as it is now.
    if (!text && edge_of(req).ledger != nullptr)
        return read_later(req, node_of(ino), size, offset, *file);
    if (!text) return reply_error(req, Error{Cause::invalid_argument}, "read", ino);
    reply_text(req, *text, size, offset);
}

/// Of a size of 0 everything lies behind the end.
void on_lseek(fuse_req_t req, fuse_ino_t ino, off_t, int, fuse_file_info*) noexcept {
    reply_error(req, Error{Cause::no_data}, "lseek", ino);
}

void on_poll(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file,
             fuse_pollhandle* poller) noexcept {
    if (node_of(ino).kind == VirtualKind::context) return poll_events(req, *file, poller);
    fuse_pollhandle_destroy(poller);
    fuse_reply_poll(req, POLLIN | POLLRDNORM);
}

void on_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned command, void*, fuse_file_info* file,
              unsigned, const void* in, std::size_t in_size, std::size_t out_size) noexcept {
    if (node_of(ino).kind == VirtualKind::context && is_protocol_request(command))
        return answer_context_request(req, file->fh, command, {in, in_size, out_size});
    reply_error(req, Error{Cause::not_an_ioctl}, "ioctl", ino);
}

}  // namespace

void add_virtual_operations(fuse_lowlevel_ops& operations) {
    operations.lookup = on_lookup;
    operations.getattr = on_getattr;
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
    operations.statx = on_statx;
#endif
    operations.getxattr = on_getxattr;
    operations.listxattr = on_listxattr;
    operations.opendir = on_opendir;
    operations.readdir = on_readdir;
    operations.readdirplus = on_readdirplus;
    operations.releasedir = on_releasedir;
    operations.fsyncdir = on_fsync;
    operations.open = on_open;
    operations.read = on_read;
    operations.flush = on_nothing;
    operations.release = on_release;
    operations.fsync = on_fsync;
    operations.lseek = on_lseek;
    operations.poll = on_poll;
    operations.ioctl = on_ioctl;
}

}  // namespace pinfs::fuse

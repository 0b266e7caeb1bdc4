// SPDX-License-Identifier: Apache-2.0
//
// null_server [--io-uring] FILE MOUNTPOINT: a FUSE file system that does no work, to measure pinfs
// beside. Its connection is set up by the code that sets up pinfs's. In the foreground, until it is
// unmounted or told to end.
//
// The root has one regular file, `file`: the bytes of FILE, mapped; a read replies from them, a
// write copies into them. Every other name can be made, looked up, moved and removed, at the cost
// of an entry in a table. Files made so are empty to getattr; what is written to them goes into the
// same bytes. Directories list nothing. Nothing is kept.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "fs/fuse/connection.h"
#include "fs/fuse/mountpoint.h"

namespace {

using pinfs::fuse::kEntryTimeoutSeconds;

constexpr fuse_ino_t kFile = 2;
constexpr fuse_ino_t kFirstFree = 3;
constexpr fuse_ino_t kDirectoryBit = fuse_ino_t{1} << 62;  // tells directories from files

bool is_directory(fuse_ino_t ino) { return ino == FUSE_ROOT_ID || (ino & kDirectoryBit) != 0; }

/// Which names there are. Two names of one 64-bit hash would be one name: of a million names, one
/// time in forty million.
class Names {
public:
    std::optional<fuse_ino_t> find(fuse_ino_t parent, std::string_view name) {
        const std::uint64_t key = key_of(parent, name);
        Shard& shard = shard_of(key);
        const std::lock_guard lock{shard.mutex};
        const auto found = shard.inodes.find(key);
        if (found == shard.inodes.end()) return std::nullopt;
        return found->second;
    }
    void put(fuse_ino_t parent, std::string_view name, fuse_ino_t ino) {
        const std::uint64_t key = key_of(parent, name);
        Shard& shard = shard_of(key);
        const std::lock_guard lock{shard.mutex};
        shard.inodes.insert_or_assign(key, ino);
    }
    /// The inode whose name it was.
    std::optional<fuse_ino_t> take(fuse_ino_t parent, std::string_view name) {
        const std::uint64_t key = key_of(parent, name);
        Shard& shard = shard_of(key);
        const std::lock_guard lock{shard.mutex};
        const auto node = shard.inodes.extract(key);
        if (node.empty()) return std::nullopt;
        return node.mapped();
    }

private:
    struct Shard {
        std::mutex mutex;
        std::unordered_map<std::uint64_t, fuse_ino_t> inodes;
    };
    static std::uint64_t key_of(fuse_ino_t parent, std::string_view name) {
        return std::hash<std::string_view>{}(name) + parent * 0x9e3779b97f4a7c15;
    }
    Shard& shard_of(std::uint64_t key) { return shards_[key % shards_.size()]; }

    std::array<Shard, 64> shards_;
};

struct Server {
    std::span<char> bytes;  ///< of `file`
    Names names;
    std::atomic<fuse_ino_t> next_inode{kFirstFree};
};

Server& server_of(fuse_req_t req) { return *static_cast<Server*>(fuse_req_userdata(req)); }

struct stat attributes_of(fuse_req_t req, fuse_ino_t ino) {
    struct stat st {};
    st.st_ino = ino;
    st.st_mode = is_directory(ino) ? S_IFDIR | 0755 : S_IFREG | 0644;
    st.st_nlink = is_directory(ino) ? 2 : 1;
    st.st_blksize = 4096;
    if (ino == kFile) st.st_size = static_cast<off_t>(server_of(req).bytes.size());
    return st;
}

fuse_entry_param entry_of(fuse_req_t req, fuse_ino_t ino) {
    fuse_entry_param entry{};
    entry.ino = ino;
    entry.attr = attributes_of(req, ino);
    entry.attr_timeout = kEntryTimeoutSeconds;
    entry.entry_timeout = kEntryTimeoutSeconds;
    return entry;
}

fuse_ino_t make(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t bits) {
    Server& server = server_of(req);
    const fuse_ino_t ino = server.next_inode.fetch_add(1, std::memory_order_relaxed) | bits;
    server.names.put(parent, name, ino);
    return ino;
}

// --- Handlers -----------------------------------------------------------------------------------

void on_init(void*, fuse_conn_info* connection) {
    pinfs::fuse::set_features(*connection, /*kernel_mmap=*/true);
}

void on_lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
    const auto ino = server_of(req).names.find(parent, name);
    fuse_entry_param entry{};
    entry.entry_timeout = kEntryTimeoutSeconds;
    if (ino) entry = entry_of(req, *ino);
    fuse_reply_entry(req, &entry);
}

void on_forget(fuse_req_t req, fuse_ino_t, std::uint64_t) { fuse_reply_none(req); }
void on_forget_multi(fuse_req_t req, std::size_t, fuse_forget_data*) { fuse_reply_none(req); }

void on_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
    const struct stat st = attributes_of(req, ino);
    fuse_reply_attr(req, &st, kEntryTimeoutSeconds);
}

void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat*, int, fuse_file_info* file) {
    on_getattr(req, ino, file);
}

void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t) {
    const fuse_entry_param entry = entry_of(req, make(req, parent, name, kDirectoryBit));
    fuse_reply_entry(req, &entry);
}

void on_unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
    fuse_reply_err(req, server_of(req).names.take(parent, name) ? 0 : ENOENT);
}

void on_rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
               const char* new_name, unsigned) {
    Names& names = server_of(req).names;
    const auto ino = names.take(parent, name);
    if (ino) names.put(new_parent, new_name, *ino);
    fuse_reply_err(req, ino ? 0 : ENOENT);
}

void on_open(fuse_req_t req, fuse_ino_t, fuse_file_info* file) {
    pinfs::fuse::set_open_flags(*file, /*dax=*/true);
    fuse_reply_open(req, file);
}

void on_create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t, fuse_file_info* file) {
    const fuse_entry_param entry = entry_of(req, make(req, parent, name, 0));
    pinfs::fuse::set_open_flags(*file, /*dax=*/true);
    fuse_reply_create(req, &entry, file);
}

void on_read(fuse_req_t req, fuse_ino_t, std::size_t size, off_t offset, fuse_file_info*) {
    const std::span<char> bytes = server_of(req).bytes;
    const auto from = std::min(static_cast<std::size_t>(offset), bytes.size());
    fuse_reply_buf(req, bytes.data() + from, std::min(size, bytes.size() - from));
}

void on_write(fuse_req_t req, fuse_ino_t, const char* data, std::size_t size, off_t offset,
              fuse_file_info*) {
    const std::span<char> bytes = server_of(req).bytes;
    const auto to = static_cast<std::size_t>(offset);
    if (to > bytes.size() || size > bytes.size() - to) {
        fuse_reply_err(req, ENOSPC);
        return;
    }
    std::memcpy(bytes.data() + to, data, size);
    fuse_reply_write(req, size);
}

void succeed(fuse_req_t req, fuse_ino_t, fuse_file_info*) { fuse_reply_err(req, 0); }
void on_fsync(fuse_req_t req, fuse_ino_t, int, fuse_file_info*) { fuse_reply_err(req, 0); }

void on_opendir(fuse_req_t req, fuse_ino_t, fuse_file_info* file) { fuse_reply_open(req, file); }
void on_readdir(fuse_req_t req, fuse_ino_t, std::size_t, off_t, fuse_file_info*) {
    fuse_reply_buf(req, nullptr, 0);
}

void on_statfs(fuse_req_t req, fuse_ino_t) {
    struct statvfs st {};
    st.f_bsize = st.f_frsize = 4096;
    st.f_blocks = st.f_bfree = st.f_bavail = server_of(req).bytes.size() / 4096;
    st.f_namemax = NAME_MAX;
    fuse_reply_statfs(req, &st);
}

constexpr fuse_lowlevel_ops all_operations() {
    fuse_lowlevel_ops operations{};
    operations.init = on_init;
    operations.lookup = on_lookup;
    operations.forget = on_forget;
    operations.forget_multi = on_forget_multi;
    operations.getattr = on_getattr;
    operations.setattr = on_setattr;
    operations.mkdir = on_mkdir;
    operations.unlink = on_unlink;
    operations.rmdir = on_unlink;
    operations.rename = on_rename;
    operations.open = on_open;
    operations.create = on_create;
    operations.read = on_read;
    operations.write = on_write;
    operations.flush = succeed;
    operations.release = succeed;
    operations.fsync = on_fsync;
    operations.opendir = on_opendir;
    operations.readdir = on_readdir;
    operations.releasedir = succeed;
    operations.statfs = on_statfs;
    return operations;
}

// --- From the command line to the mount ---------------------------------------------------------

[[noreturn]] void give_up(const std::string& sentence) {
    std::fprintf(stderr, "null_server: %s\n", sentence.c_str());
    std::exit(1);
}

std::span<char> mapped(const std::string& path) {
    const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
    struct stat st {};
    if (file < 0 || fstat(file, &st) != 0) give_up(path + ": " + strerror(errno));
    const auto size = static_cast<std::size_t>(st.st_size);
    void* const address = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (address == MAP_FAILED) give_up(path + ": " + strerror(errno));
    close(file);
    return {static_cast<char*>(address), size};
}

}  // namespace

int main(int count, char** words) {
    std::vector<std::string> arguments(words + 1, words + count);
    const bool io_uring = !arguments.empty() && arguments.front() == "--io-uring";
    if (io_uring) arguments.erase(arguments.begin());
    if (arguments.size() != 2) give_up("usage: null_server [--io-uring] FILE MOUNTPOINT");
    const std::string& mountpoint = arguments[1];

    Server server;
    server.bytes = mapped(arguments[0]);
    server.names.put(FUSE_ROOT_ID, "file", kFile);
    fuse_session* const session = pinfs::fuse::make_session(
        all_operations(), &server, {.allow_root = false, .io_uring = io_uring});
    if (session == nullptr) give_up("libfuse makes no session");
    if (fuse_set_signal_handlers(session) != 0) give_up("libfuse takes no signals");
    const auto device = pinfs::fuse::attach({.source = "null_server",
                                             .mountpoint = mountpoint,
                                             .flags = 0,
                                             .allow_other = true,
                                             .default_permissions = true,
                                             .kernel_options = {}});
    if (!device) give_up(device.error());
    if (fuse_session_mount(session, ("/dev/fd/" + std::to_string(*device)).c_str()) != 0)
        give_up("libfuse does not take the connection");
    const int result = pinfs::fuse::serve_requests(session);
    // Zero: the kernel's unmount ended it. Else a signal did, or a failure.
    if (result != 0) pinfs::fuse::detach(mountpoint, pinfs::fuse::Detach::at_once);
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
    return result < 0 ? 1 : 0;
}

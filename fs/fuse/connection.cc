// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/connection.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "fs/fuse/mountpoint.h"

namespace pinfs::fuse {
namespace {

constexpr std::uint32_t kRequestBytesMax = 1 << 20;  // measured: larger is no faster
constexpr std::uint32_t kBackgroundRequestsMax = 64;

unsigned thread_count() { return std::clamp(2 * std::thread::hardware_concurrency(), 8U, 64U); }

/// Each thread reads requests from a descriptor of its own, if the device opens for this user.
bool can_clone_device() {
    const int device = open(kFuseDevice, O_RDWR | O_CLOEXEC);
    if (device < 0) return false;
    close(device);
    return true;
}

}  // namespace

void set_features(fuse_conn_info& connection, bool kernel_mmap) {
    // What the kernel lacks stays off.
    for (const std::uint64_t wanted :
         {FUSE_CAP_ASYNC_READ, FUSE_CAP_ASYNC_DIO, FUSE_CAP_ATOMIC_O_TRUNC,
          FUSE_CAP_CACHE_SYMLINKS,       // a link's target never changes
          FUSE_CAP_EXPLICIT_INVAL_DATA,  // cached pages are right: this kernel wrote them
          FUSE_CAP_EXPORT_SUPPORT, FUSE_CAP_HANDLE_KILLPRIV_V2, FUSE_CAP_IOCTL_DIR,
          FUSE_CAP_PARALLEL_DIROPS, FUSE_CAP_READDIRPLUS, FUSE_CAP_READDIRPLUS_AUTO})
        fuse_set_feature_flag(&connection, wanted);
    for (const std::uint64_t unwanted :
         {FUSE_CAP_AUTO_INVAL_DATA,  // would drop cached pages after each of our own writes
          FUSE_CAP_SPLICE_READ, FUSE_CAP_SPLICE_WRITE, FUSE_CAP_SPLICE_MOVE,  // slower
          FUSE_CAP_WRITEBACK_CACHE})
        fuse_unset_feature_flag(&connection, unwanted);
    // Access lists, and with them the umask: one without the other would make wrong modes.
    for (const std::uint64_t both : {FUSE_CAP_POSIX_ACL, FUSE_CAP_DONT_MASK})
        fuse_set_feature_flag(&connection, both);
    if (kernel_mmap) fuse_set_feature_flag(&connection, FUSE_CAP_DIRECT_IO_ALLOW_MMAP);
    connection.max_write = kRequestBytesMax;
    connection.max_background = kBackgroundRequestsMax;
    connection.time_gran = 1;
    [](auto& info) {
        if constexpr (requires { info.no_interrupt; }) info.no_interrupt = 1;  // nothing waits
    }(connection);
}

void set_open_flags(fuse_file_info& file, bool dax) {
    file.direct_io = dax;
    file.parallel_direct_writes = dax;
    file.keep_cache = !dax;
    // A close that follows writes makes their times durable (SPEC 6.1); another has nothing to say.
    file.noflush = (file.flags & O_ACCMODE) == O_RDONLY;
}

fuse_session* make_session(const fuse_lowlevel_ops& operations, void* user,
                           const SessionArguments& arguments) {
    fuse_args words FUSE_ARGS_INIT(0, nullptr);
    fuse_opt_add_arg(&words, "pinfs");
    if (arguments.allow_root) fuse_opt_add_arg(&words, "-oallow_root");
    if (arguments.io_uring) fuse_opt_add_arg(&words, "-oio_uring");
    fuse_session* const session = fuse_session_new(&words, &operations, sizeof(operations), user);
    fuse_opt_free_args(&words);
    return session;
}

int serve_requests(fuse_session* session, unsigned threads, bool clone) {
    if (threads == 0) {
        threads = thread_count();
        clone = can_clone_device();
    }
    fuse_loop_config* config = fuse_loop_cfg_create();
    if (config == nullptr) return -ENOMEM;
    fuse_loop_cfg_set_clone_fd(config, clone ? 1 : 0);
    fuse_loop_cfg_set_max_threads(config, threads);
    fuse_loop_cfg_set_idle_threads(config, threads);
    const int result = fuse_session_loop_mt(session, config);
    fuse_loop_cfg_destroy(config);
    // A thread that is just taking a request when the connection ends is told so, not ENODEV. It
    // may be an ordinary unmount: files that were closed before it are still told of.
    return result == -ECONNABORTED ? 0 : result;
}

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
#include "lib/context.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "lib/failure.h"
#include "lib/pinfs/pinfs.h"
#include "lib/request.h"

namespace pinfs::client {

namespace {

constexpr char kContextName[] = ".pinfs/context";

// poll(2) said that an event waits, and there was none.
constexpr int kLooksInVainMax = 16;
constexpr std::chrono::milliseconds kPause{1};

/// What the contexts of this process own, by context: a pin may move from one to another. Guarded
/// by the address lock, so that fork finds it whole.
using Pins = std::set<std::pair<ContextName, PinName>>;
Pins& pins() {
    static auto& all = *new Pins;  // outlives whoever uses it at exit
    return all;
}

bool identify(int fd, struct statx& status) {
    // What is cached will do: no daemon need answer.
    return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &status) == 0;
}

std::uint64_t device_of(const struct statx& status) {
    return makedev(status.stx_dev_major, status.stx_dev_minor);
}

/// The directory a path is, or is in, without opening more than the place.
OpenFile directory_of(const char* path) {
    OpenFile place{open(path, O_PATH | O_CLOEXEC)};
    struct stat status {};
    if (place.get() < 0 || fstat(place.get(), &status) != 0 || S_ISDIR(status.st_mode))
        return place;
    const std::string self = "/proc/self/fd/" + std::to_string(place.get());
    std::string name(PATH_MAX, '\0');
    const ssize_t length = readlink(self.c_str(), name.data(), name.size());
    if (length <= 0) return OpenFile{};
    name.resize(static_cast<std::size_t>(length));
    return OpenFile{open(name.substr(0, name.rfind('/') + 1).c_str(), O_PATH | O_CLOEXEC)};
}

/// Opens the mount's file of contexts, from any path in the mount.
int open_context_file(const char* path, OpenFile& file) {
    OpenFile directory = directory_of(path);
    if (directory.get() < 0)
        return fail(errno, "%s cannot be opened: %s.", path, strerrordesc_np(errno));
    for (;;) {
        struct statx status {};
        if (statx(directory.get(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &status) != 0)
            return fail(errno, "%s: %s.", path, strerrordesc_np(errno));
        if ((status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0) break;
        OpenFile above{openat(directory.get(), "..", O_PATH | O_CLOEXEC)};
        struct statx status_above {};
        if (above.get() < 0 || !identify(above.get(), status_above))
            return fail(errno, "The mount that %s is in cannot be reached: %s.", path,
                        strerrordesc_np(errno));
        // The root of a process that sees only a part of the mount.
        if (device_of(status) == device_of(status_above) && status.stx_ino == status_above.stx_ino)
            break;
        directory = std::move(above);
    }
    file = OpenFile{openat(directory.get(), kContextName, O_RDONLY | O_CLOEXEC)};
    if (file.get() >= 0) return 0;
    if (errno == ENOENT || errno == ENOTDIR)
        return fail(ENODEV, "%s is in no pinfs mount, or not the whole mount is seen here.", path);
    if (errno == ENOTCONN) return fail(ENOTCONN, "The mount is gone: its daemon has ended.");
    return fail(errno, "No context on the mount of %s: %s.", path, strerrordesc_np(errno));
}

int hello(int fd, pinfs_ioc_hello& answer) {
    Request<pinfs_ioc_hello> request;
    request.head.major = PINFS_PROTOCOL_MAJOR;
    request.head.minor = PINFS_PROTOCOL_MINOR;
    if (const int result = request.ask(fd, PINFS_IOC_HELLO); result != 0) return result;
    answer = request.head;
    return check_hello(answer);
}

int region_of(int fd, pinfs_ioc_region& region) {
    Request<pinfs_ioc_region> request;
    if (const int result = request.ask(fd, PINFS_IOC_REGION); result != 0) return result;
    region = request.head;
    return check_region(region);
}

int open_context(const char* path, std::uint32_t flags, pinfs_context** out) {
    if (path == nullptr || out == nullptr) return fail(EINVAL, "A pointer is null.");
    if (flags != 0) return fail(EINVAL, "Contexts have no flag 0x%x.", flags);
    auto context = std::make_unique<pinfs_context>();
    context->fork_count = fork_count();
    if (const int result = open_context_file(path, context->file); result != 0) return result;
    if (const int result = introduce(*context); result != 0) return result;
    *out = context.release();
    return 0;
}

/// What is left of `timeout_ms` (negative: for ever) since `began`, for poll(2).
int left_of(int timeout_ms, const timespec& began) {
    if (timeout_ms < 0) return -1;
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    const long long passed =
        (now.tv_sec - began.tv_sec) * 1000LL + (now.tv_nsec - began.tv_nsec) / 1'000'000;
    return passed >= timeout_ms ? 0 : static_cast<int>(timeout_ms - passed);
}

/// Takes the next event, if one waits, and follows it. 1, 0 or -errno.
int take_event(pinfs_context& context, pinfs_ioc_event& event) {
    const std::lock_guard hold{context.mutex};
    if (!context.again) {
        Request<pinfs_ioc_event> request;
        if (const int result = request.ask(context.file.get(), PINFS_IOC_EVENT); result != 0)
            return result;
        if (request.head.type == 0) return 0;
        if (const int result = check_event(request.head); result != 0) return result;
        context.again = request.head;
    }
    pinfs_ioc_event taken = *context.again;
    if (const int result = follow(context, taken); result != 0) return result;
    context.again.reset();
    event = taken;
    return 1;
}

int next_event(pinfs_context& context, pinfs_event* event, int timeout_ms) {
    pinfs_event out{};
    if (const int result = take(event, out); result != 0) return result;
    timespec began{};
    clock_gettime(CLOCK_MONOTONIC, &began);
    int looks_in_vain = 0;
    for (bool is_last_look = false;;) {
        pinfs_ioc_event taken{};
        if (const int result = take_event(context, taken); result < 0) return result;
        if (taken.type != 0) {
            out.type = taken.type;
            out.id = taken.id;
            out.user_data = taken.user_data;
            out.offset_bytes = taken.offset_bytes;
            out.length_bytes = taken.length_bytes;
            out.deadline_ns = taken.deadline_ns;
            give(out, event);
            return 1;
        }
        if (is_last_look) return 0;  // whatever poll(2) says again
        // Another thread may have been faster, but not all the time.
        if (++looks_in_vain > kLooksInVainMax) std::this_thread::sleep_for(kPause);
        pollfd waited{context.file.get(), POLLIN, 0};
        const int left = left_of(timeout_ms, began);
        is_last_look = left == 0;
        const int ready = poll(&waited, 1, left);
        if (ready < 0) return fail(errno, "poll(2): %s.", strerrordesc_np(errno));
        if (ready == 0) return 0;
        if ((waited.revents & POLLNVAL) != 0)
            return fail(EBADF, "The context's descriptor was closed.");
        if ((waited.revents & POLLIN) == 0)
            return fail(ENOTCONN, "The mount is gone: its daemon has ended.");
    }
}

std::optional<PinName> take_pin(const ContextName& context) {
    const std::lock_guard hold{address_lock()};
    const auto first = pins().lower_bound({context, {}});
    if (first == pins().end() || first->first != context) return std::nullopt;
    const PinName taken = first->second;
    pins().erase(first);
    return taken;
}

void close_context(pinfs_context* context) {
    // After fork the maps are the parent's alone, and the mutex may be held by a thread that is not
    // here. What is left is a descriptor.
    if (context->fork_count == fork_count()) {
        end_maps(*context);
        while (const auto pin = take_pin(context->name)) {
            Request<pinfs_ioc_pin_name> request;
            request.head.id = pin->id;
            request.head.generation = pin->generation;
            request.ask(context->file.get(), PINFS_IOC_UNPIN);
        }
        if (context->guard != nullptr) unmap_guard(context->guard);
    }
    delete context;
}

}  // namespace

OpenFile::OpenFile(int fd) : fd_(fd) {
    struct statx status {};
    if (fd < 0 || !identify(fd, status)) return;
    device_ = device_of(status);
    inode_ = status.stx_ino;
}

OpenFile::~OpenFile() {
    if (is_open()) close(fd_);
}

OpenFile::OpenFile(OpenFile&& other) noexcept { *this = std::move(other); }

OpenFile& OpenFile::operator=(OpenFile&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(device_, other.device_);
    std::swap(inode_, other.inode_);
    return *this;
}

bool OpenFile::is_open() const {
    struct statx status {};
    return fd_ >= 0 && identify(fd_, status) && device_of(status) == device_ &&
           status.stx_ino == inode_;
}

int check(const pinfs_context* context) {
    if (context == nullptr) return fail(EINVAL, "The context is a null pointer.");
    if (context->fork_count != fork_count())
        return fail(ESTALE,
                    "The context belongs to the process that forked this one; open another.");
    return 0;
}

int introduce(pinfs_context& context) {
    pinfs_ioc_hello answer{};
    if (const int result = hello(context.file.get(), answer); result != 0) return result;
    context.name = {context.file.device(), answer.context};
    std::copy(std::begin(answer.token), std::end(answer.token), context.token);
    return region_of(context.file.get(), context.region);
}

int context_behind(int fd, ContextName& name) {
    pinfs_ioc_hello answer{};
    if (const int result = hello(fd, answer); result != 0) return result;
    struct statx status {};
    if (!identify(fd, status)) return fail(errno, "Descriptor %d: %s.", fd, strerrordesc_np(errno));
    name = {device_of(status), answer.context};
    return 0;
}

bool add_pin(const ContextName& context, PinName pin) {
    const std::lock_guard hold{address_lock()};
    return pins().emplace(context, pin).second;
}

void remove_pin(const ContextName& context, PinName pin) {
    const std::lock_guard hold{address_lock()};
    pins().erase({context, pin});
}

}  // namespace pinfs::client

using namespace pinfs::client;

int pinfs_context_open(const char* path_in_mount, uint32_t flags, struct pinfs_context** out) {
    return entry([&] { return open_context(path_in_mount, flags, out); });
}

void pinfs_context_close(struct pinfs_context* ctx) {
    if (ctx == nullptr) return;
    entry([&] {
        close_context(ctx);
        return 0;
    });
}

int pinfs_context_fd(const struct pinfs_context* ctx) {
    const int result = check(ctx);
    return result != 0 ? result : ctx->file.get();
}

int pinfs_context_next_event(struct pinfs_context* ctx, struct pinfs_event* event, int timeout_ms) {
    return entry([&] {
        const int result = check(ctx);
        return result != 0 ? result : next_event(*ctx, event, timeout_ms);
    });
}

int pinfs_region_info(struct pinfs_context* ctx, struct pinfs_region_info* info) {
    return entry([&] {
        struct pinfs_region_info out {};
        if (const int result = check(ctx); result != 0) return result;
        if (const int result = take(info, out); result != 0) return result;
        pinfs_ioc_region region{};
        if (const int result = region_of(ctx->file.get(), region); result != 0) return result;
        out.kind = region.kind;
        out.flush = region.flush;
        out.pinnable = region.pinnable;
        out.map_sync = region.map_sync;
        out.persistent = region.persistent;
        out.length_bytes = region.length_bytes;
        out.block_bytes = region.block_bytes;
        out.map_align_bytes = region.map_align_bytes;
        out.huge_bytes = region.huge_bytes;
        out.pin_limit_bytes = region.pin_limit_bytes;
        out.pinned_bytes = region.pinned_bytes;
        std::copy(std::begin(region.uuid), std::end(region.uuid), out.uuid);
        out.device = region.device;
        give(out, info);
        return 0;
    });
}

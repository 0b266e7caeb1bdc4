// SPDX-License-Identifier: Apache-2.0
//
// A region's file or device: making it, locking it, mapping it.
//
// The lock is flock(2) on the region itself, so that it dies with its holder and is seen by whoever
// reaches the region by another path or from another container.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <utility>

#include "fs/pmem/capabilities.h"
#include "fs/pmem/region.h"
#include "fs/pmem/sigbus.h"

namespace pinfs::pmem {
namespace {

constexpr int kReadAndWrite = PROT_READ | PROT_WRITE;

constexpr std::uint64_t kRegionBytesMin = 1 << 20;

/// A descriptor that closes itself.
class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) close(fd_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    [[nodiscard]] int get() const { return fd_; }
    int release() { return std::exchange(fd_, -1); }

private:
    int fd_;
};

/// mmap at an address that is a multiple of `align_bytes`; null, with errno, where it fails.
std::byte* map_aligned(int fd, std::uint64_t offset, std::uint64_t bytes, std::uint64_t align_bytes,
                       int protection, int flags) {
    // A reservation finds an address; the mapping then replaces part of it.
    const std::uint64_t reserved_bytes = bytes + align_bytes;
    void* const reserved = mmap(nullptr, reserved_bytes, PROT_NONE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) return nullptr;
    auto* const begin = static_cast<std::byte*>(reserved);
    const auto address = reinterpret_cast<std::uintptr_t>(begin);
    const std::uint64_t skip = round_up(address, align_bytes) - address;
    std::byte* const wanted = begin + skip;
    if (mmap(wanted, bytes, protection, flags | MAP_FIXED, fd, static_cast<off_t>(offset)) ==
        MAP_FAILED) {
        const int number = errno;
        munmap(reserved, reserved_bytes);
        errno = number;
        return nullptr;
    }
    if (skip != 0) munmap(begin, skip);
    if (align_bytes != skip) munmap(wanted + bytes, align_bytes - skip);
    return wanted;
}

/// Gives a tmpfs file huge pages from the start where the kernel does so for who asks: a mapping of
/// small pages costs a hundred times the faults. Allocation proper follows, so nothing here may
/// fail.
void populate_with_huge_pages(int fd, std::uint64_t bytes, std::uint64_t huge_bytes) {
    struct statvfs room {};
    if (fstatvfs(fd, &room) != 0 || room.f_bavail * room.f_frsize < bytes) return;
    constexpr std::uint64_t kPiece = std::uint64_t{1} << 30;
    for (std::uint64_t offset = 0; offset < bytes; offset += kPiece) {
        const std::uint64_t length = std::min(kPiece, bytes - offset);
        std::byte* const memory =
            map_aligned(fd, offset, length, huge_bytes, PROT_READ | PROT_WRITE, MAP_SHARED);
        if (memory == nullptr) return;
        const bool done = madvise(memory, length, MADV_HUGEPAGE) == 0 &&
                          madvise(memory, length, MADV_POPULATE_WRITE) == 0;
        munmap(memory, length);
        if (!done) return;
    }
}

Expected<void> allocate(int fd, std::uint64_t bytes, const Capabilities& capabilities) {
    if (capabilities.kind == Kind::tmpfs && capabilities.huge_bytes > kBlockBytes)
        populate_with_huge_pages(fd, bytes, capabilities.huge_bytes);
    int result;
    do {
        result = fallocate(fd, 0, 0, static_cast<off_t>(bytes));
    } while (result != 0 && errno == EINTR);
    if (result != 0) return fail_errno(errno);
    return {};
}

Expected<void> make_new_file(int fd, std::uint64_t bytes, unsigned mode, bool sparse) {
    if (fchmod(fd, mode) != 0) return fail_errno(errno);  // whatever the umask
    struct stat status {};
    if (fstat(fd, &status) != 0) return fail_errno(errno);
    const Found found = TRY(find_capabilities(fd, status));
    if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) return fail_errno(errno);
    if (sparse) return {};
    const auto allocated = allocate(fd, bytes, found.capabilities);
    // A file system that cannot allocate leaves the file sparse.
    if (!allocated && allocated.error().number() != EOPNOTSUPP) return allocated;
    return {};
}

/// Locks `fd` as the options say; who is refused leaves nothing changed.
Expected<void> lock(int fd, const OpenOptions& options) {
    if (!options.exclusive) return {};
    int result;
    do {
        result = flock(fd, (options.read_only ? LOCK_SH : LOCK_EX) | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    if (result == 0) return {};
    if (errno != EWOULDBLOCK) return fail_errno(errno);
    if (options.read_only && options.locked_out_is_fine) return {};
    return fail(Cause::region_in_use);
}

/// MAP_SYNC is refused by all but DAX devices and file systems. Asked with a mapping of its own: a
/// refused MAP_FIXED may leave a hole where the reservation was.
bool takes_map_sync(int fd, int protection, std::uint64_t bytes) {
    void* const probe = mmap(nullptr, bytes, protection, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
    if (probe == MAP_FAILED) return false;
    munmap(probe, bytes);
    return true;
}

/// Whether the open file that `fdinfo` tells of has an flock on an inode of this number. Its line
/// is `lock: 1: FLOCK ADVISORY WRITE pid major:minor:inode begin end`.
bool names_a_lock(const std::string& fdinfo, ino_t ino) {
    std::ifstream file(fdinfo);
    const std::string number = ":" + std::to_string(ino) + " ";
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("lock:") && line.find("FLOCK") != std::string::npos &&
            line.find(number) != std::string::npos)
            return true;
    return false;
}

/// Calls `visit(name)` for each entry of a directory that is a number.
template <class Visit>
void for_each_number(const std::string& directory, Visit visit) {
    DIR* const stream = opendir(directory.c_str());
    if (stream == nullptr) return;
    while (const dirent* const entry = readdir(stream))
        if (std::isdigit(static_cast<unsigned char>(entry->d_name[0])) != 0)
            visit(std::string(entry->d_name));
    closedir(stream);
}

}  // namespace

Expected<void> Region::create_file(const std::string& path, std::uint64_t bytes, unsigned mode,
                                   bool sparse) {
    const Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (file.get() < 0) return fail_errno(errno);
    const auto made = make_new_file(file.get(), bytes, mode, sparse);
    if (!made) unlink(path.c_str());
    return made;
}

Expected<void> Region::allocate_file(const std::string& path) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) return fail_errno(errno);
    if (!S_ISREG(status.st_mode)) return {};
    const Descriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (file.get() < 0 || fstat(file.get(), &status) != 0) return fail_errno(errno);
    const Found found = TRY(find_capabilities(file.get(), status));
    const Kind kind = found.capabilities.kind;
    const auto bytes = static_cast<std::uint64_t>(status.st_size);
    if ((kind != Kind::tmpfs && kind != Kind::hugetlb) || bytes == 0) return {};
    const auto allocated = allocate(file.get(), bytes, found.capabilities);
    if (!allocated && allocated.error().number() != EOPNOTSUPP) return allocated;
    return {};
}

Expected<std::unique_ptr<Region>> Region::open(const std::string& path,
                                               const OpenOptions& options) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) return fail_errno(errno);
    TRY(check_mappable(status));

    const int access = options.read_only ? O_RDONLY : O_RDWR;
    Descriptor file(::open(path.c_str(), access | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (file.get() < 0) return fail_errno(errno);
    if (fstat(file.get(), &status) != 0) return fail_errno(errno);
    TRY(lock(file.get(), options));
    // After the lock: whoever had it may have changed the length.
    if (fstat(file.get(), &status) != 0) return fail_errno(errno);
    const Found found = TRY(find_capabilities(file.get(), status));
    if (found.bytes < kRegionBytesMin) return fail(Cause::region_too_small);

    std::unique_ptr<Region> region(new Region);
    region->capabilities_ = found.capabilities;
    region->path_ = path;
    region->read_only_ = options.read_only;
    region->bytes_ = found.bytes;
    TRY(region->map(file.get(), found.mapping_align_bytes));
    region->lock_fd_ = file.release();
    install_sigbus_handler();
    return region;
}

Expected<void> Region::map(int fd, std::uint64_t align_bytes) {
    const int protection = read_only_ ? PROT_READ : kReadAndWrite;
    const bool map_sync = takes_map_sync(fd, protection, capabilities_.map_unit_bytes);
    map_flags_ = map_sync ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED;
    std::byte* const memory = map_aligned(fd, 0, bytes_, align_bytes, protection, map_flags_);
    if (memory == nullptr) {
        if (errno == ENODEV) return fail(Cause::region_not_mappable);
        return fail_errno(errno);
    }
    memory_ = memory;
    mapped_ = true;
    finish_capabilities(capabilities_, memory_, bytes_, map_sync);
    advise(memory_, bytes_);
    return {};
}

/// Hints; a kernel that has neither loses nothing but speed.
void Region::advise(std::byte* memory, std::uint64_t bytes) const {
    if (capabilities_.huge_bytes > kBlockBytes) madvise(memory, bytes, MADV_HUGEPAGE);
    madvise(memory, bytes, MADV_DONTDUMP);
}

Region::~Region() {
    if (mapped_) munmap(memory_, bytes_);
    if (lock_fd_ >= 0) close(lock_fd_);
}

std::vector<LockHolder> Region::find_lock_holders(const std::string& path) {
    std::vector<LockHolder> holders;
    struct stat wanted {};
    if (stat(path.c_str(), &wanted) != 0) return holders;
    for_each_number("/proc", [&](const std::string& pid) {
        const std::string process = "/proc/" + pid;
        bool has_it = false;
        for_each_number(process + "/fd", [&](const std::string& fd) {
            // The file itself is asked last: on a file system that hangs it would not answer.
            struct stat status {};
            has_it = has_it || (names_a_lock(process + "/fdinfo/" + fd, wanted.st_ino) &&
                                stat((process + "/fd/" + fd).c_str(), &status) == 0 &&
                                status.st_dev == wanted.st_dev && status.st_ino == wanted.st_ino);
        });
        if (!has_it) return;
        std::string command;
        std::ifstream comm(process + "/comm");
        // One that ended meanwhile has it no more.
        if (std::getline(comm, command)) holders.push_back({std::stoi(pid), command});
    });
    return holders;
}

std::string Region::lock_holders(const std::string& path) {
    std::string text;
    for (const LockHolder& holder : find_lock_holders(path))
        text += (text.empty() ? "" : ", ") + ("process " + std::to_string(holder.pid)) + " (" +
                holder.command + ")";
    return text;
}

std::optional<Region::Backing> Region::backing() const {
    struct stat status {};
    if (lock_fd_ < 0 || fstat(lock_fd_, &status) != 0) return std::nullopt;
    return Backing{status.st_dev, status.st_ino};
}

/// Not where the file is too short: what is missing of it would come back as zeros.
bool Region::renew_block(std::uint64_t block) {
    const std::uint64_t offset = block * kBlockBytes;
    struct stat status {};
    if (lock_fd_ < 0 || fstat(lock_fd_, &status) != 0) return false;
    if (S_ISREG(status.st_mode) && static_cast<std::uint64_t>(status.st_size) < bytes_)
        return false;
    const auto renewed = renew_pages(offset, kBlockBytes);
    if (!(renewed && *renewed) && !clear_on_device(lock_fd_, offset, kBlockBytes)) return false;
    // The kernel remembers in our page table that the old memory failed.
    const std::uint64_t begin = round_down(offset, capabilities_.map_unit_bytes);
    const std::uint64_t bytes = std::min(capabilities_.map_unit_bytes, bytes_ - begin);
    std::byte* const place = memory_ + begin;
    if (mmap(place, bytes, kReadAndWrite, map_flags_ | MAP_FIXED, lock_fd_,
             static_cast<off_t>(begin)) == MAP_FAILED)
        return false;
    advise(place, bytes);
    return true;
}

void Region::add_bad_blocks_of_device() {
    if (lock_fd_ < 0) return;
    for (const BlockRun run : bad_blocks_of_device(lock_fd_)) bad_.add(run);
}

Expected<bool> Region::renew_pages(std::uint64_t offset, std::uint64_t bytes) {
    if (!holds(offset, bytes)) return fail(Cause::media_corrupt, offset);
    if (lock_fd_ < 0) return true;  // memory of a test: nobody else reaches it
    if (capabilities_.kind != Kind::tmpfs && capabilities_.kind != Kind::hugetlb) return false;
    const auto begin = static_cast<off_t>(offset);
    const auto length = static_cast<off_t>(bytes);
    if (fallocate(lock_fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, begin, length) != 0)
        return fail_errno(errno);
    const off_t data = lseek(lock_fd_, begin, SEEK_DATA);
    const bool gone = data < 0 ? errno == ENXIO : data >= begin + length;
    if (fallocate(lock_fd_, 0, begin, length) != 0) return fail_errno(errno);
    return gone;
}

}  // namespace pinfs::pmem

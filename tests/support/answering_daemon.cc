// SPDX-License-Identifier: Apache-2.0
#include "tests/support/answering_daemon.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "fs/format/superblock.h"
#include "lib/pinfs/pinfs.h"

namespace {

pinfs::test::AnsweringDaemon* asked = nullptr;  // nullptr: ioctl(2) is the kernel's

}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier): the linker names them so.
extern "C" int __real_ioctl(int fd, unsigned long command, void* buffer);
extern "C" int __wrap_ioctl(int fd, unsigned long command, ...);
extern "C" int __wrap_ioctl(int fd, unsigned long command, ...) {
    va_list words;
    va_start(words, command);
    void* const buffer = va_arg(words, void*);
    va_end(words);
    return asked == nullptr || _IOC_TYPE(command) != PINFS_IOC_MAGIC
               ? __real_ioctl(fd, command, buffer)
               : asked->ioctl(command, buffer);
}
// NOLINTEND(bugprone-reserved-identifier)

namespace pinfs::test {

namespace {

constexpr std::uint64_t kBlock = AnsweringDaemon::kBlock;
constexpr std::uint64_t kFileBytes = AnsweringDaemon::kFileBlocks * kBlock;
constexpr std::uint64_t kRegionBytes = AnsweringDaemon::kRegionBlocks * kBlock;

int memory_file(const char* name, std::uint64_t bytes) {
    const int file = memfd_create(name, MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) std::abort();
    return file;
}

template <class Struct>
Struct head_of(std::span<const std::byte> buffer) {
    Struct head{};
    std::memcpy(&head, buffer.data(), std::min(sizeof head, buffer.size()));
    return head;
}
template <class Struct>
void put(std::span<std::byte> buffer, const Struct& head) {
    std::memcpy(buffer.data(), &head, std::min(sizeof head, buffer.size()));
}

/// A superblock, and in each block of the file its number. All daemons have the same one.
int region_file() {
    static const int region = [] {
        const int made = memory_file("pinfs-region", kRegionBytes);
        const auto store = [&](std::uint64_t at, const auto& value) {
            if (pwrite(made, &value, sizeof value, static_cast<off_t>(at)) != sizeof value)
                std::abort();
        };
        media::Superblock super{};
        super.magic = media::kSuperMagic;
        store(0, super);
        for (std::uint64_t block = 0; block < AnsweringDaemon::kFileBlocks; ++block)
            store(AnsweringDaemon::place_of(block), block);
        return made;
    }();
    return region;
}

std::uint64_t blocks_up(std::uint64_t bytes) { return (bytes + kBlock - 1) / kBlock * kBlock; }

}  // namespace

AnsweringDaemon::AnsweringDaemon()
    : context_file_{memory_file("pinfs-context", kBlock)},
      file_{memory_file("pinfs-file", kFileBytes)} {
    region_file();
    asked = this;
}

AnsweringDaemon::~AnsweringDaemon() {
    asked = nullptr;
    close(context_file_);
    close(file_);
}

int AnsweringDaemon::open_context(pinfs_context** out) {
    auto context = std::make_unique<pinfs_context>();
    context->fork_count = client::fork_count();
    context->file = client::OpenFile{dup(context_file_)};
    if (const int result = client::introduce(*context); result != 0) return result;
    *out = context.release();
    return 0;
}

std::size_t AnsweringDaemon::requests(unsigned request) const {
    const auto found = requests_.find(request);
    return found == requests_.end() ? 0 : found->second;
}

int AnsweringDaemon::ioctl(unsigned long command, void* buffer) {
    const auto request = static_cast<unsigned>(_IOC_NR(command));
    const std::span bytes{static_cast<std::byte*>(buffer), _IOC_SIZE(command)};
    ++requests_[request];
    Outcome outcome = answer(request, bytes);
    if (change) change(request, bytes, outcome);
    if (outcome.result == -1) errno = outcome.error;
    return outcome.result;
}

template <class Head>
void AnsweringDaemon::put_extents(std::span<std::byte> buffer, Head& head, Range range,
                                  std::uint64_t first) {
    std::vector<pinfs_ioc_extent> extents;
    for (std::uint64_t at = range.begin / kBlock * kBlock; at < std::min(range.end, kFileBytes);
         at += kBlock) {
        const std::uint64_t place = place_of(at / kBlock);
        if (!extents.empty() &&
            extents.back().region_offset_bytes + extents.back().length_bytes == place)
            extents.back().length_bytes += kBlock;
        else
            extents.push_back({at, place, kBlock});
    }
    looked_at_ += extents.size();
    head.total = extents.size();
    const std::size_t room =
        std::min(extents_per_page, (buffer.size() - sizeof head) / sizeof(pinfs_ioc_extent));
    head.count = 0;
    for (std::uint64_t i = first; i < head.total && head.count < room; ++i)
        put(buffer.subspan(sizeof head + head.count++ * sizeof extents[i]), extents[i]);
    put(buffer, head);
}

AnsweringDaemon::Outcome AnsweringDaemon::answer(unsigned request, std::span<std::byte> buffer) {
    const auto refused = [](int error) {
        return Outcome{-1, error};
    };
    switch (request) {
        case PINFS_IOC_HELLO: {
            auto head = head_of<pinfs_ioc_hello>(buffer);
            head.features = 0;
            head.context = 1;
            put(buffer, head);
            return {};
        }
        case PINFS_IOC_GUARD: {
            auto head = head_of<pinfs_ioc_guard>(buffer);
            head.guard = 3;
            put(buffer, head);
            return {};
        }
        case PINFS_IOC_REGION: {
            pinfs_ioc_region head{};
            struct stat status {};
            if (fstat(region_file(), &status) != 0) return refused(errno);
            head.kind = PINFS_KIND_TMPFS;
            head.flush = PINFS_FLUSH_NONE;
            head.pinnable = 1;
            head.length_bytes = kRegionBytes;
            head.block_bytes = head.map_align_bytes = head.huge_bytes = kBlock;
            head.pin_limit_bytes = UINT64_MAX;
            head.device = status.st_dev;
            head.inode = status.st_ino;
            std::snprintf(head.path, sizeof head.path, "/proc/self/fd/%d", region_file());
            put(buffer, head);
            return {};
        }
        case PINFS_IOC_EVENT: {
            pinfs_ioc_event head{};
            if (!events.empty()) {
                head = events.front();
                events.erase(events.begin());
            }
            put(buffer, head);
            return {};
        }
        case PINFS_IOC_UNMAP:
            return maps_.erase(head_of<pinfs_ioc_map_range>(buffer).map) > 0 ? Outcome{}
                                                                             : refused(ENOENT);
        case PINFS_IOC_UNPIN:
            return pins_.erase(head_of<pinfs_ioc_pin_name>(buffer).id) > 0 ? Outcome{}
                                                                           : refused(ENOENT);
        case PINFS_IOC_MAP: {
            auto head = head_of<pinfs_ioc_map>(buffer);
            const Range range{head.offset_bytes, blocks_up(head.offset_bytes + head.length_bytes)};
            if (range.end > kFileBytes) return refused(EINVAL);
            head.id = next_id_;
            head.generation = 1;
            maps_[next_id_] = range;
            next_id_ += 2;
            put_extents(buffer, head, range, 0);
            return {};
        }
        case PINFS_IOC_LAYOUT:
        case PINFS_IOC_RELOAD:
        case PINFS_IOC_PIN_EXTENTS: {
            auto head = head_of<pinfs_ioc_layout>(buffer);
            Range range{head.offset_bytes, head.offset_bytes + head.length_bytes};
            if (request == PINFS_IOC_PIN_EXTENTS) {
                const auto pin = pins_.find(head.id);
                if (pin == pins_.end()) return refused(ENOENT);
                range.begin = std::max(range.begin, pin->second.begin);
                range.end =
                    head.length_bytes == 0 ? pin->second.end : std::min(range.end, pin->second.end);
            } else {
                if (request == PINFS_IOC_RELOAD && !maps_.contains(head.id)) return refused(ENOENT);
                head.generation = 1;
                head.size_bytes = kFileBytes;
            }
            put_extents(buffer, head, range, head.first);
            return {};
        }
        case PINFS_IOC_PIN: {
            auto head = head_of<pinfs_ioc_pin>(buffer);
            const Range range{head.offset_bytes / kBlock * kBlock,
                              blocks_up(head.offset_bytes + head.length_bytes)};
            if (range.end > kFileBytes) return refused(EINVAL);
            head.offset_bytes = range.begin;
            head.length_bytes = range.end - range.begin;
            head.id = next_id_;
            head.generation = 5;
            head.extent_count = head.length_bytes / kBlock;
            pins_[next_id_] = range;
            next_id_ += 2;
            put(buffer, head);
            return {};
        }
        case PINFS_IOC_LEASE_SET:
        case PINFS_IOC_LEASE_GET: {
            auto head = head_of<pinfs_ioc_lease>(buffer);
            const std::uint64_t end =
                head.length_bytes == 0 ? 0 : blocks_up(head.offset_bytes + head.length_bytes);
            head.offset_bytes = head.offset_bytes / kBlock * kBlock;
            head.length_bytes = end == 0 ? 0 : end - head.offset_bytes;
            if (request == PINFS_IOC_LEASE_GET) head.flags = PINFS_LEASE_LAYOUT;
            head.id = 7;
            head.holders = 1;
            put(buffer, head);
            return {};
        }
        case PINFS_IOC_DAX_ACTIVE: {
            pinfs_ioc_dax head{};
            head.state = PINFS_DAX_FLAG | PINFS_DAX_ACTIVE;
            put(buffer, head);
            return {};
        }
        default:  // answered by doing it
            return {};
    }
}

}  // namespace pinfs::test

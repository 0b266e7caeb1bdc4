// SPDX-License-Identifier: Apache-2.0
//
// libpinfs against a daemon that answers anything: an input is a list of calls of the library, and
// of changes of what each ioctl that they make is answered. Without a change the answer is right.
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "lib/pinfs/pinfs.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/targets.h"
#include "tests/support/answering_daemon.h"

namespace {

using pinfs::fuzz::Input;
using pinfs::test::AnsweringDaemon;

constexpr std::uint64_t kBlock = AnsweringDaemon::kBlock;
constexpr std::uint64_t kRegionBytes = AnsweringDaemon::kRegionBlocks * kBlock;
constexpr std::size_t kCallsMax = 24;
constexpr std::size_t kEventsMax = 64;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

/// Parts of the answer are others, or it is a failure, or no result at all.
void change(Input& input, std::span<std::byte> answer, AnsweringDaemon::Outcome& outcome) {
    const auto what = input.take<std::uint8_t>();
    for (unsigned parts = what & 7U; parts > 0 && !input.empty(); --parts) {
        const std::size_t at = input.take<std::uint8_t>() % answer.size();
        const auto given = input.take_bytes(input.take<std::uint8_t>() % (answer.size() - at + 1));
        std::memcpy(answer.data() + at, given.data(), given.size());
    }
    if ((what & 8U) == 0) return;
    const auto how = input.take<std::uint8_t>();
    outcome = {how == 0 ? input.take<std::int32_t>() : -1, how};
}

struct Mapped {
    void* address;
    std::uint64_t bytes;
};

/// One client, and what of the library's promises can be looked at from outside.
class Client {
public:
    Client(AnsweringDaemon& daemon, pinfs_context* context)
        : file_{daemon.file()}, context_{context} {}

    void call(Input& input) {
        const auto what = input.take<std::uint8_t>();
        const std::uint64_t offset = input.take<std::uint8_t>() % 16 * kBlock;
        const std::uint64_t bytes = (1 + input.take<std::uint8_t>() % 16) * kBlock;
        switch (what % 10) {
            case 0:
                return take_events(input);
            case 1:
                return map(offset, bytes);
            case 2:
                return unmap();
            case 3:
                return show_layout(offset, bytes);
            case 4:
                return pin(offset, bytes);
            case 5:
                return show_pieces(bytes);
            case 6:
                return lease(offset, bytes);
            case 7:
                if (!maps_.empty()) pinfs_msync(context_, maps_.back().address, maps_.back().bytes);
                return;
            case 8:
                if (pin_.id != 0) pinfs_unpin(context_, pin_.id, pin_.generation);
                return;
            default: {
                struct pinfs_region_info info = PINFS_INIT(struct pinfs_region_info);
                pinfs_region_info(context_, &info);
                pinfs_dax_get(file_);
                pinfs_pin_adopt(context_, offset, bytes, nullptr);
            }
        }
    }

private:
    void take_events(const Input& input) {
        struct pinfs_event event = PINFS_INIT(struct pinfs_event);
        for (std::size_t i = 0; i < kEventsMax && !input.empty(); ++i)
            if (pinfs_context_next_event(context_, &event, 0) != 1) break;
    }
    void map(std::uint64_t offset, std::uint64_t bytes) {
        void* address = nullptr;
        const int result =
            pinfs_map(context_, file_, offset, bytes, PROT_READ | PROT_WRITE, 0, &address);
        require((result == 0) == (address != nullptr), "an address without a map");
        if (result == 0) maps_.push_back({address, bytes});
    }
    void unmap() {
        if (maps_.empty()) return;
        pinfs_unmap(context_, maps_.back().address, maps_.back().bytes);
        maps_.pop_back();
    }
    static void check_extents(std::span<const pinfs_extent> extents) {
        std::uint64_t end = 0;
        for (const pinfs_extent& extent : extents) {
            require(extent.file_offset_bytes >= end, "extents are in disorder");
            end = extent.file_offset_bytes + extent.length_bytes;
            require(end > extent.file_offset_bytes, "an extent is empty");
            require(extent.region_offset_bytes < kRegionBytes &&
                        extent.length_bytes <= kRegionBytes - extent.region_offset_bytes,
                    "an extent is outside of the region");
        }
    }
    void show_layout(std::uint64_t offset, std::uint64_t bytes) {
        std::array<pinfs_extent, 8> extents{};
        std::uint64_t generation = 0;
        const ssize_t count = pinfs_layout(context_, file_, offset, bytes, extents.data(),
                                           extents.size(), &generation);
        if (count < 0) return;
        require(static_cast<std::size_t>(count) <= bytes / kBlock, "more extents than blocks");
        check_extents(
            std::span{extents}.first(std::min(extents.size(), static_cast<std::size_t>(count))));
    }
    void pin(std::uint64_t offset, std::uint64_t bytes) {
        struct pinfs_pin pin = PINFS_PIN_INIT;
        pin.offset_bytes = offset;
        pin.length_bytes = bytes;
        if (pinfs_pin(context_, file_, &pin) != 0) return;
        require(pin.offset_bytes == offset && pin.length_bytes == bytes, "another range is pinned");
        pin_ = pin;
        std::array<pinfs_extent, 8> extents{};
        const ssize_t count =
            pinfs_pin_extents(context_, pin.id, pin.generation, 0, extents.data(), extents.size());
        if (count > 0) check_extents(std::span{extents}.first(static_cast<std::size_t>(count)));
    }
    void show_pieces(std::uint64_t piece_max_bytes) {
        if (pin_.id == 0) return;
        std::array<iovec, 8> pieces{};
        const ssize_t count = pinfs_pin_iovec(context_, pin_.id, pin_.generation, piece_max_bytes,
                                              pieces.data(), pieces.size());
        for (std::size_t i = 0; i < pieces.size() && static_cast<ssize_t>(i) < count; ++i) {
            const auto* const begin = static_cast<const std::byte*>(pieces[i].iov_base);
            bool is_mapped = false;
            for (const Mapped& map : maps_) {
                const auto* const at = static_cast<const std::byte*>(map.address);
                is_mapped |= begin >= at && begin + pieces[i].iov_len <= at + map.bytes;
            }
            // Maps of neighbouring addresses may be one piece.
            require(is_mapped || maps_.size() > 1, "a piece is outside of the maps");
            require(pieces[i].iov_len <= piece_max_bytes, "a piece is too long");
        }
    }
    void lease(std::uint64_t offset, std::uint64_t bytes) {
        struct pinfs_lease lease = PINFS_INIT(struct pinfs_lease);
        lease.flags = PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE;
        lease.offset_bytes = offset;
        lease.length_bytes = bytes;
        pinfs_lease_set(context_, file_, &lease);
        pinfs_lease_get(context_, file_, &lease);
        pinfs_lease_drop(context_, file_, offset, bytes);
    }

    int file_;
    pinfs_context* context_;
    std::vector<Mapped> maps_;
    struct pinfs_pin pin_ = PINFS_PIN_INIT;  ///< without an id: none
};

int free_descriptor() {
    const int descriptor = dup(0);
    if (descriptor >= 0) close(descriptor);
    return descriptor;
}

void check_nothing_mapped() {
    std::ifstream maps{"/proc/self/maps"};
    for (std::string line; std::getline(maps, line);)
        require(line.find("/memfd:pinfs-") == std::string::npos, "something is left mapped");
}

}  // namespace

void pinfs::fuzz::try_client(std::span<const std::uint8_t> bytes) {
    AnsweringDaemon daemon;
    Input input{bytes};
    daemon.extents_per_page = 5;
    daemon.change = [&](unsigned, std::span<std::byte> answer, auto& outcome) {
        change(input, answer, outcome);
    };
    const int free = free_descriptor();
    pinfs_context* context = nullptr;
    if (daemon.open_context(&context) == 0) {
        Client client{daemon, context};
        for (std::size_t calls = 0; calls < kCallsMax && !input.empty(); ++calls)
            client.call(input);
        pinfs_context_close(context);
    }
    require(free_descriptor() == free, "a descriptor is left open");
    check_nothing_mapped();
}

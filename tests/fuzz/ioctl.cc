// SPDX-License-Identifier: Apache-2.0
//
// Ioctls of the protocol as a kernel hands them over. An input is a list of requests: on which open
// file, which request, with which sizes, and the buffer, into which parts of the last answer can
// go, so that ids and tokens are right now and then.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "fs/fuse/virtual_nodes.h"
#include "lib/pinfs/protocol.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/targets.h"
#include "tests/support/mounted.h"
#include "tests/support/served.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;

constexpr std::size_t kRequestsMax = 24;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

/// A few open files.
class Files {
public:
    Files() : served_{fs_.volume()} {
        const Ino file = fs_.make_file("/file", 30000, 1);
        const std::uint64_t context = fuse::number_of({fuse::VirtualKind::context});
        nodes_ = {file.value, file.value, context, context, context, FUSE_ROOT_ID};
        for (std::size_t i = 0; i < nodes_.size(); ++i) {
            fuse_open_in wanted{};
            wanted.flags = is_root(i) ? O_RDONLY | O_DIRECTORY : O_RDWR;
            served_.send(is_root(i) ? FUSE_OPENDIR : FUSE_OPEN, nodes_[i], wanted);
            require(served_.error() == 0, "a file is not open");
            handles_[i] = served_.answer_as<fuse_open_out>().fh;
        }
    }
    ~Files() {
        for (std::size_t i = 0; i < nodes_.size(); ++i) {
            fuse_release_in released{};
            released.fh = handles_[i];
            served_.send(is_root(i) ? FUSE_RELEASEDIR : FUSE_RELEASE, nodes_[i], released);
        }
        must(fs_->finish_pending());
        const PinnedTotals totals = fs_->pinned_totals();
        require(totals.contexts == 0 && totals.leases == 0, "something is left open");
        fs_.unmount();
        fs_.check_clean();
    }
    Files(const Files&) = delete;
    Files& operator=(const Files&) = delete;

    void ioctl(fuzz::Input& input) {
        const std::size_t file = input.take<std::uint8_t>() % nodes_.size();
        const auto number = input.take<std::uint8_t>();
        const auto sizes = input.take<std::uint8_t>();
        std::size_t bytes = input.take<std::uint16_t>() % (PINFS_IOC_BYTES_MAX + 1);
        if ((sizes & 1) == 0) bytes = std::max<std::size_t>(bytes, PINFS_IOC_BYTES_MIN);
        std::vector<std::uint8_t> buffer(bytes);
        if ((sizes & 2) != 0) {  // the last answer, moved
            const std::size_t to = input.take<std::uint8_t>();
            const std::size_t from = sizeof(fuse_ioctl_out) + input.take<std::uint8_t>();
            for (std::size_t i = 0; from + i < served_.answer().size() && to + i < bytes; ++i)
                buffer[to + i] = served_.answer()[from + i];
        }
        const std::size_t at = input.take<std::uint8_t>();
        const auto given = input.take_bytes(input.take<std::uint8_t>());
        for (std::size_t i = 0; i < given.size() && at + i < bytes; ++i) buffer[at + i] = given[i];

        fuse_ioctl_in head{};
        head.fh = handles_[file];
        head.cmd = PINFS_IOC(number, static_cast<unsigned>(bytes));
        head.flags = is_root(file) ? FUSE_IOCTL_DIR : 0;
        head.in_size = static_cast<std::uint32_t>(bytes);
        head.out_size = (sizes & 4) == 0 ? head.in_size : input.take<std::uint16_t>();
        served_.send(FUSE_IOCTL, nodes_[file], head, buffer.data(), buffer.size());
    }

private:
    [[nodiscard]] bool is_root(std::size_t i) const { return nodes_[i] == FUSE_ROOT_ID; }

    Mounted fs_{MountedOptions{}};
    Served served_;
    std::array<std::uint64_t, 6> nodes_{};
    std::array<std::uint64_t, 6> handles_{};
};

}  // namespace

void pinfs::fuzz::try_ioctl(std::span<const std::uint8_t> bytes) {
    Files files;
    Input input{bytes};
    for (std::size_t requests = 0; requests < kRequestsMax && !input.empty(); ++requests)
        files.ioctl(input);
}

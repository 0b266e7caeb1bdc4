// SPDX-License-Identifier: Apache-2.0
//
// What the kernel's side of FUSE has of what pinfs uses. It says so once, when the connection is
// set up. What it lacks costs a feature and never the mount; which ones, the log tells once per
// mount, and `.pinfs/region` and `pinfs info` at any time.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "fs/fuse/connection.h"

namespace pinfs::fuse {

struct KernelFeature {
    /// Which mounts miss it. `option`: those that asked for it, which are refused.
    enum class Concerns : std::uint8_t { all, kernel_mmap, device_dax, option };

    const char* name;     ///< in reports
    const char* since;    ///< the first Linux that has it
    const char* without;  ///< how a mount is that has to do without
    Concerns concerns;
    bool has;
};

/// Written by the first request, which comes before all others; read by any thread.
class KernelFuse {
public:
    void learn(const fuse_conn_info& connection) {
        capable_ = connection.capable_ext;
        minor_ = connection.proto_minor;
    }
    /// "7.37"; the protocol is 7 ever since.
    [[nodiscard]] std::string version() const { return "7." + std::to_string(minor_.load()); }
    [[nodiscard]] std::array<KernelFeature, 7> features() const;

private:
    std::atomic<std::uint64_t> capable_{0};
    std::atomic<std::uint32_t> minor_{0};
};

/// "6.12.95+deb12-amd64"
std::string kernel_release();
bool kernel_is_at_least(int major, int minor);

}  // namespace pinfs::fuse

// SPDX-License-Identifier: Apache-2.0
//
// A region that a test mounts through the kernel with the commands as a user has them, and
// everything gone at the end: also when the test fails, hangs (an alarm), or is told to stop.
//
// Where FUSE cannot be used the whole program ends with status 77 and one line that says why.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/temporary.h"

namespace pinfs::test {

struct Ran {
    int status = -1;  ///< exit status; 128 + signal
    std::string out;
    std::string err;
};
/// Runs a program to its end. A name without a slash is one of our commands if there is one, else
/// looked up in PATH. With `uid` as that user, of no group.
Ran run(const std::vector<std::string>& words, uid_t uid = 0);

class KernelMount {
public:
    /// A region of `mib` MiB below `parent`, formatted with `mkfs_options`, not mounted yet. In
    /// place of /dev/shm in the first of PINFS_TEST_REGIONS that has room: devices, which may be
    /// larger than that, or directories; the word hugetlbfs is one that is made for the program.
    explicit KernelMount(std::uint64_t mib = 64, const std::vector<std::string>& mkfs_options = {},
                         const std::string& parent = "/dev/shm");
    ~KernelMount();
    KernelMount(const KernelMount&) = delete;
    KernelMount& operator=(const KernelMount&) = delete;

    /// `pinfs mount`; the mount answers when it returns with status 0.
    Ran try_mount(const std::string& options = {}, uid_t uid = 0);
    /// The same, required to succeed and to print nothing.
    void mount(const std::string& options = {});
    /// `pinfs umount`, required to succeed.
    void unmount();
    void remount(const std::string& options = {});
    /// `pinfs mount -f` with its log in a file; returns when the mount answers.
    /// `wrapper` are words before it, as unshare(1) and its options.
    void mount_in_foreground(const std::string& options = {},
                             const std::vector<std::string>& wrapper = {});
    [[nodiscard]] std::string log() const;
    /// Waits for the daemon of mount_in_foreground; its exit status.
    int wait_for_daemon();

    /// SIGKILL for the daemon; then the dead mount is taken away.
    void kill_daemon();
    [[nodiscard]] pid_t daemon() const;
    [[nodiscard]] bool is_mounted() const;
    /// Whether the kernel has what `.pinfs/region` calls so; if not, a warning says that something
    /// of the test is skipped.
    [[nodiscard]] bool kernel_has(const std::string& feature) const;

    /// Requires that `fsck.pinfs -n` finds nothing. Not while mounted.
    void check() const;

    [[nodiscard]] const std::string& region() const { return region_; }
    /// What it is, as reports call it: tmpfs, hugetlb, devdax, file.
    [[nodiscard]] std::string region_kind() const;
    /// Its length: that of the constructor, or more.
    [[nodiscard]] std::uint64_t region_bytes() const;
    /// Direct maps begin and end at multiples of it. While mounted.
    [[nodiscard]] std::uint64_t map_unit() const;
    [[nodiscard]] std::string root() const { return directory_.file("mnt"); }
    [[nodiscard]] std::string path(const std::string& name) const { return root() + "/" + name; }
    /// Beside the mount, on tmpfs.
    [[nodiscard]] std::string outside(const std::string& name) const {
        return directory_.file(name);
    }

private:
    TemporaryDirectory directory_;
    std::string region_;
    pid_t foreground_ = 0;
};

/// For a program all of whose cases need supervised mounts, to call before main: where the kernel
/// cannot have any, the program ends as it does without FUSE.
bool needs_supervision();

/// The whole file; fails the test if it cannot be read.
std::string contents(const std::string& path);
void write_file(const std::string& path, const std::string& text);
/// `bytes` bytes that follow from `seed`.
std::string noise(std::uint64_t seed, std::size_t bytes);
/// The errno of a call that returned `result`; 0 for success.
int errno_if(long result);

}  // namespace pinfs::test

// SPDX-License-Identifier: Apache-2.0
//
// Three kinds of system calls. Those that serving makes are allowed, some only with certain
// arguments. Those that no version of a C library makes for us and that only somebody who has
// taken the daemon over would want end it at once. All others fail with ENOSYS, as on a kernel that
// lacks them: libraries fall back then, and an update of one does not take users' mounts away.
//
// The sanitizers' own threads and reports need more; builds with them get it.
#include "fs/fuse/confinement.h"

#include <cap-ng.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/ndctl.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <memory>

namespace pinfs::fuse {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

/// Both for looking into /proc/PID of others' processes, which is how owners of records are told
/// and found alive: DAC_READ_SEARCH for the directory fd, SYS_PTRACE for what its links point to.
constexpr std::array kKeptCapabilities{CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE};

constexpr std::array kAllowed{
    // Memory
    "brk",
    "madvise",
    "membarrier",
    "mincore",
    "mremap",
    "msync",
    "munmap",
    // Threads and signals
    "exit",
    "exit_group",
    "futex",
    "get_robust_list",
    "getcpu",
    "gettid",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigtimedwait",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "setpriority",
    "sigaltstack",
    "tgkill",
    "wait4",
    // Files that are open, and what /proc and /sys tell
    "access",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "faccessat",
    "faccessat2",
    "fallocate",
    "fcntl",
    "fdatasync",
    "flock",
    "fstat",
    "fstatfs",
    "fsync",
    "getdents64",
    "lseek",
    "lstat",
    "newfstatat",
    "pread64",
    "preadv",
    "pwrite64",
    "pwritev",
    "read",
    "readlink",
    "readlinkat",
    "readv",
    "stat",
    "statfs",
    "statx",
    "write",
    "writev",
    // Pipes of libfuse, events, waiting
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "eventfd2",
    "pipe2",
    "poll",
    "ppoll",
    "signalfd4",
    "splice",
    "tee",
    "vmsplice",
    // Messages: the system log, the process that mounts
    "connect",
    "recvfrom",
    "recvmsg",
    "sendmsg",
    "sendto",
    "shutdown",
    // Clocks and what is asked of the system
    "capget",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "getegid",
    "geteuid",
    "getgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getrandom",
    "getrusage",
    "gettimeofday",
    "getuid",
    "nanosleep",
    "sysinfo",
    "time",
    "times",
    "uname",
};

/// A ring of requests, and where its threads run.
constexpr std::array kAllowedForIoUring{
    "get_mempolicy", "io_uring_enter", "io_uring_register", "io_uring_setup",
    "mbind",         "mlock",          "sched_setaffinity", "set_mempolicy",
};

constexpr std::array kAllowedForSanitizers{
    "arch_prctl",
    "clone",
    "clone3",
    "kill",
    "mmap",
    "mprotect",
    "open",
    "openat",
    "prctl",
    "prlimit64",
    "process_vm_readv",
    "ptrace",
    "sched_setaffinity",
    "setrlimit",
    "unlink",
};

constexpr std::array kFatal{
    // Other programs
    "execve",
    "execveat",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    // Mounts and namespaces
    "chroot",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "setns",
    "umount",
    "umount2",
    "unshare",
    // Other identities
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setuid",
    // Files of other file systems past their paths, and devices
    "mknod",
    "mknodat",
    "open_by_handle_at",
    // The kernel
    "bpf",
    "delete_module",
    "finit_module",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "perf_event_open",
    "reboot",
    "swapoff",
    "swapon",
    "add_key",
    "keyctl",
    "request_key",
};

class Filter {
public:
    Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(ENOSYS)), seccomp_release) {}

    [[nodiscard]] bool is_good() const { return failure_ == 0 && context_ != nullptr; }
    [[nodiscard]] int failure() const { return context_ == nullptr ? ENOMEM : failure_; }

    void set(scmp_filter_attr attribute, std::uint32_t value) {
        note(context_ ? seccomp_attr_set(context_.get(), attribute, value) : 0);
    }
    /// A call that this machine does not have is passed over.
    void add(std::uint32_t action, const char* call,
             std::initializer_list<scmp_arg_cmp> arguments = {}) {
        const int number = seccomp_syscall_resolve_name(call);
        if (number == __NR_SCMP_ERROR || !context_) return;
        note(seccomp_rule_add_array(context_.get(), action, number,
                                    static_cast<unsigned>(arguments.size()), arguments.begin()));
    }
    template <class Calls>
    void add_all(std::uint32_t action, const Calls& calls) {
        for (const char* const call : calls) add(action, call);
    }
    void load() { note(context_ ? seccomp_load(context_.get()) : 0); }

private:
    void note(int result) {
        if (result < 0 && failure_ == 0) failure_ = -result;
    }
    std::unique_ptr<void, void (*)(scmp_filter_ctx)> context_;
    int failure_ = 0;
};

scmp_arg_cmp has_none_of(unsigned argument, std::uint64_t bits) {
    return {argument, SCMP_CMP_MASKED_EQ, bits, 0};
}
scmp_arg_cmp has_all_of(unsigned argument, std::uint64_t bits) {
    return {argument, SCMP_CMP_MASKED_EQ, bits, bits};
}
scmp_arg_cmp is(unsigned argument, std::uint64_t value) {
    return {argument, SCMP_CMP_EQ, value, 0};
}

/// Threads, but no processes; files that exist; no code but what is there; a socket for the log.
void add_rules_about_arguments(Filter& filter) {
    if (!kSanitized) {
        filter.add(SCMP_ACT_ALLOW, "clone", {has_all_of(0, CLONE_THREAD)});
        filter.add(SCMP_ACT_ALLOW, "open", {has_none_of(1, O_CREAT)});
        filter.add(SCMP_ACT_ALLOW, "openat", {has_none_of(2, O_CREAT)});
        filter.add(SCMP_ACT_ALLOW, "mmap", {has_none_of(2, PROT_EXEC)});
        filter.add(SCMP_ACT_ALLOW, "mprotect", {has_none_of(2, PROT_EXEC)});
        filter.add(SCMP_ACT_ALLOW, "prctl", {is(0, PR_SET_NAME)});
        filter.add(SCMP_ACT_ALLOW, "prlimit64", {is(2, 0)});
    }
    filter.add(SCMP_ACT_ALLOW, "ioctl", {is(1, FUSE_DEV_IOC_CLONE)});
    filter.add(SCMP_ACT_ALLOW, "ioctl", {is(1, TCGETS)});  // isatty(3)
    filter.add(SCMP_ACT_ALLOW, "socket", {is(0, AF_UNIX)});
}

bool is_for_sanitizers(const char* call) {
    if (!kSanitized) return false;
    for (const char* const allowed : kAllowedForSanitizers)
        if (std::strcmp(allowed, call) == 0) return true;
    return false;
}

/// What libndctl asks of the NVDIMM bus for pmem2_badblock_clear(3): the unit of clearing, and to
/// clear.
void add_rules_for_device(Filter& filter) {
    filter.add(SCMP_ACT_ALLOW, "ioctl", {is(1, ND_IOCTL_ARS_CAP)});
    filter.add(SCMP_ACT_ALLOW, "ioctl", {is(1, ND_IOCTL_CLEAR_ERROR)});
}

std::expected<void, std::string> filter_calls(const Needs& needs) {
    Filter filter;
    filter.set(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    filter.set(SCMP_FLTATR_CTL_NNP, 1);
    // The daemon runs nobody's code: speculation need not be slowed down.
    filter.set(SCMP_FLTATR_CTL_SSB, 1);
    filter.add_all(SCMP_ACT_ALLOW, kAllowed);
    if (needs.io_uring) filter.add_all(SCMP_ACT_ALLOW, kAllowedForIoUring);
    if (kSanitized) filter.add_all(SCMP_ACT_ALLOW, kAllowedForSanitizers);
    for (const char* const call : kFatal)
        if (!is_for_sanitizers(call)) filter.add(SCMP_ACT_KILL_PROCESS, call);
    add_rules_about_arguments(filter);
    if (needs.device) add_rules_for_device(filter);
    if (needs.trace) filter.add(SCMP_ACT_ALLOW, "ftruncate");
    filter.load();
    if (filter.is_good()) return {};
    return std::unexpected(std::string{"the filter of system calls cannot be set: "} +
                           strerror(filter.failure()) + " (-o confine=off does without)");
}

std::expected<void, std::string> drop_capabilities() {
    std::array<bool, kKeptCapabilities.size()> had{};
    const bool known = capng_get_caps_process() == 0;
    for (std::size_t i = 0; i < had.size(); ++i)
        had[i] = capng_have_capability(CAPNG_PERMITTED,
                                       static_cast<unsigned>(kKeptCapabilities[i])) != 0;
    const bool bounds = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) != 0;
    capng_clear(CAPNG_SELECT_ALL);
    constexpr auto kSets =
        static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET);
    for (std::size_t i = 0; i < had.size(); ++i)
        if (had[i]) capng_update(CAPNG_ADD, kSets, static_cast<unsigned>(kKeptCapabilities[i]));
    // Who has no right to narrow the bounds has no capabilities that they would bound.
    if (known && capng_apply(bounds ? CAPNG_SELECT_ALL : CAPNG_SELECT_CAPS) == 0) return {};
    return std::unexpected("capabilities cannot be given up (-o confine=off does without)");
}

}  // namespace

std::expected<void, std::string> confine(const Needs& needs) {
    if (auto dropped = drop_capabilities(); !dropped) return dropped;
    return filter_calls(needs);
}

}  // namespace pinfs::fuse

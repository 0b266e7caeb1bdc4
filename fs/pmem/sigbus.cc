// SPDX-License-Identifier: Apache-2.0
#include "fs/pmem/sigbus.h"

#include <signal.h>

#include <atomic>
#include <csetjmp>
#include <cstdint>
#include <mutex>

namespace pinfs::pmem {
namespace {

/// One recovery point, on the stack of copy_guarded.
struct RecoveryPoint {
    sigjmp_buf jump;
    std::uintptr_t begin;
    std::uintptr_t end;
    std::uintptr_t fault = 0;
};

// Read by the signal handler of the same thread: initial-exec, so that reading it allocates
// nothing.
[[gnu::tls_model("initial-exec")]] thread_local RecoveryPoint* volatile recovery_point = nullptr;

// The thread sanitizer blocks all signals in a handler, whatever its flags say.
#ifdef __SANITIZE_THREAD__
constexpr int kSaveSignalMask = 1;
#else
constexpr int kSaveSignalMask = 0;  // saving it is a system call
#endif

struct sigaction previous_action;

/// What would have happened without us.
void chain(int signal, siginfo_t* info, void* context) {
    if ((previous_action.sa_flags & SA_SIGINFO) != 0 && previous_action.sa_sigaction != nullptr) {
        previous_action.sa_sigaction(signal, info, context);
        return;
    }
    const bool from_access = info->si_code > 0 && info->si_code != BUS_MCEERR_AO;
    if (previous_action.sa_handler == SIG_IGN && !from_access) return;
    if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
        previous_action.sa_handler(signal);
        return;
    }
    // The default: the access is made again when we return, and ends the process where it stands.
    struct sigaction by_default {};
    by_default.sa_handler = SIG_DFL;
    sigaction(signal, &by_default, nullptr);
    if (!from_access) raise(signal);
}

void on_sigbus(int signal, siginfo_t* info, void* context) {
    RecoveryPoint* const point = recovery_point;
    if (point != nullptr && info->si_code > 0 && info->si_code != BUS_MCEERR_AO) {
        const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
        // A machine check names the poisoned piece, of 2^si_addr_lsb bytes, not the byte.
        std::uintptr_t piece = 1;
        if (info->si_code == BUS_MCEERR_AR && info->si_addr_lsb > 0 && info->si_addr_lsb < 48)
            piece = std::uintptr_t{1} << info->si_addr_lsb;
        const std::uintptr_t first = address & ~(piece - 1);
        if (first < point->end && first + piece > point->begin) {
            point->fault = first < point->begin ? point->begin : first;
            siglongjmp(point->jump, 1);
        }
    }
    chain(signal, info, context);
}

}  // namespace

void install_sigbus_handler() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action {};
        action.sa_sigaction = on_sigbus;
        // NODEFER: the signal is not masked in the handler, so that leaving it by a jump that
        // restores no mask leaves no mask behind.
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigemptyset(&action.sa_mask);
        sigaction(SIGBUS, &action, &previous_action);
    });
}

[[gnu::noinline]] const std::byte* copy_guarded(CopyFunction copy, std::byte* to,
                                                const std::byte* from, std::size_t bytes,
                                                const std::byte* media) {
    RecoveryPoint point;
    point.begin = reinterpret_cast<std::uintptr_t>(media);
    point.end = point.begin + bytes;
    if (sigsetjmp(point.jump, kSaveSignalMask) == 0) {
        recovery_point = &point;
        std::atomic_signal_fence(std::memory_order_seq_cst);
        copy(to, from, bytes);
        std::atomic_signal_fence(std::memory_order_seq_cst);
        recovery_point = nullptr;
        return nullptr;
    }
    recovery_point = nullptr;
    return reinterpret_cast<const std::byte*>(point.fault);
}

}  // namespace pinfs::pmem

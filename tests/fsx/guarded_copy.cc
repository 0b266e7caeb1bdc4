// SPDX-License-Identifier: Apache-2.0
#include "tests/fsx/guarded_copy.h"

#include <csetjmp>
#include <csignal>
#include <cstring>

namespace pinfs::fsx {
namespace {

sigjmp_buf out_of_here;

void leave(int /*signal*/) { siglongjmp(out_of_here, 1); }

}  // namespace

bool guarded_copy(void* to, const void* from, std::size_t length) {
    struct sigaction catching {};
    struct sigaction before {};
    catching.sa_handler = leave;
    sigaction(SIGBUS, &catching, &before);
    const bool whole = sigsetjmp(out_of_here, 1) == 0;
    if (whole) std::memcpy(to, from, length);
    sigaction(SIGBUS, &before, nullptr);
    return whole;
}

}  // namespace pinfs::fsx

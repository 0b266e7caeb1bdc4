// SPDX-License-Identifier: Apache-2.0
#include "lib/failure.h"

#include <array>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "lib/pinfs/pinfs.h"

namespace pinfs::client {

namespace {

thread_local std::array<char, 512> sentence{};

}  // namespace

int fail(int error, const char* format, ...) noexcept {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence.data(), sentence.size(), format, arguments);
    va_end(arguments);
    return -error;
}

const char* last_failure() noexcept { return sentence.data(); }

KeptFailure::KeptFailure() noexcept : sentence_(sentence) {}

KeptFailure::~KeptFailure() { sentence = sentence_; }

}  // namespace pinfs::client

const char* pinfs_last_error(void) { return pinfs::client::last_failure(); }

const char* pinfs_strerror(int error) {
    // INT_MIN has no opposite; it is no error either.
    const int number = error == INT_MIN ? INT_MAX : std::abs(error);
    switch (number) {
        case 0:
            return "Success";
        case EACCES:
            return "Not permitted to this user or descriptor";
        case EAGAIN:
            return "Another holds it exclusively, or it changes all the time";
        case EBUSY:
            return "Pinned or leased exclusively by another";
        case E2BIG:
            return "A struct has fields that this libpinfs does not know";
        case ENODEV:
            return "Not the region, or not in a pinfs mount";
        case ENOENT:
            return "No such pin, lease or file";
        case ENOMEM:
            return "A limit on leases, maps and pins, or too little memory";
        case ENOTCONN:
            return "The mount is gone";
        case ENXIO:
            return "The range has a hole";
        case EOPNOTSUPP:
            return "The file is not in DAX mode, or the region cannot be pinned";
        case EPERM:
            return "No lease, or not the owner";
        case EPROTO:
            return "The daemon speaks another protocol, or answers what cannot be";
        case ESTALE:
            return "The context was opened before fork";
        default:
            break;
    }
    const char* const words = strerrordesc_np(number);
    return words != nullptr ? words : "Unknown error";
}

uint32_t pinfs_version(void) {
    return static_cast<std::uint32_t>(PINFS_VERSION_MAJOR) << 16 | PINFS_VERSION_MINOR;
}

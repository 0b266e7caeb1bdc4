// SPDX-License-Identifier: Apache-2.0
#include "cmd/context_request.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "cmd/pinned.h"
#include "lib/pinfs/protocol.h"

namespace pinfs::cmd {

std::string ask_context(const std::string& mountpoint, int number, std::span<std::byte> buffer) {
    const std::string path = mountpoint + "/.pinfs/context";
    const int context = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (context < 0) return path + ": " + strerror(errno);
    const bool done =
        ioctl(context, PINFS_IOC(static_cast<unsigned>(number), buffer.size()), buffer.data()) >= 0;
    const int error = errno;
    close(context);
    if (done) return {};
    pinfs_ioc_failure failure{};
    std::memcpy(&failure, buffer.data(), std::min(sizeof(failure), buffer.size()));
    failure.message[sizeof(failure.message) - 1] = '\0';
    const bool said = failure.error == static_cast<std::uint32_t>(error) && *failure.message != 0;
    std::string sentence = said ? printable(failure.message) : strerror(error);
    errno = error;
    return sentence;
}

}  // namespace pinfs::cmd

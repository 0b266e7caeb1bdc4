// SPDX-License-Identifier: Apache-2.0
//
// The ioctls of lib/pinfs/protocol.h as a client makes them, without the library.
#pragma once

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "lib/pinfs/protocol.h"

namespace pinfs::test {

/// A descriptor, closed at the end.
class Descriptor {
public:
    explicit Descriptor(int number = -1) : number_(number) {}
    Descriptor(const std::string& path, int flags, mode_t mode = 0644)
        : number_(open(path.c_str(), flags | O_CLOEXEC, mode)) {}
    Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~Descriptor() { reset(); }
    void reset() {
        if (number_ >= 0) close(std::exchange(number_, -1));
    }
    [[nodiscard]] int get() const { return number_; }
    [[nodiscard]] bool is_open() const { return number_ >= 0; }

private:
    int number_;
};

/// What a request came to: 0 or its errno, and then its sentence.
struct Outcome {
    int error = 0;
    std::string sentence;
};

/// Makes request `number` with `words` in a buffer of `bytes` (0: as small as may be), and takes
/// them back if it succeeds. `behind` gets what stands behind the struct.
template <class Words>
Outcome ask(int descriptor, pinfs_ioc number, Words& words, std::size_t bytes = 0,
            std::vector<pinfs_ioc_extent>* extents = nullptr) {
    if (bytes == 0) bytes = std::max<std::size_t>(sizeof(Words), PINFS_IOC_BYTES_MIN);
    std::vector<std::byte> buffer(bytes);
    std::memcpy(buffer.data(), &words, std::min(bytes, sizeof(words)));
    if (ioctl(descriptor, PINFS_IOC(number, bytes), buffer.data()) != 0) {
        Outcome outcome{errno, {}};
        pinfs_ioc_failure failure{};
        std::memcpy(&failure, buffer.data(), std::min(bytes, sizeof(failure)));
        if (static_cast<int>(failure.error) == outcome.error) outcome.sentence = failure.message;
        return outcome;
    }
    std::memcpy(&words, buffer.data(), sizeof(words));
    if (extents != nullptr) {
        extents->resize(words.count);
        std::memcpy(extents->data(), buffer.data() + sizeof(words),
                    words.count * sizeof(pinfs_ioc_extent));
    }
    return {};
}

}  // namespace pinfs::test

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
#include "tests/support/kernel_mount.h"

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
    if constexpr (requires { words.count; }) {
        if (extents != nullptr) {
            extents->resize(words.count);
            std::memcpy(extents->data(), buffer.data() + sizeof(words),
                        words.count * sizeof(pinfs_ioc_extent));
        }
    }
    return {};
}

enum : std::uint32_t {
    kLayoutLease = PINFS_IOC_LEASE_LAYOUT,
    kExclusiveLease = PINFS_IOC_LEASE_LAYOUT | PINFS_IOC_LEASE_EXCLUSIVE,
    kSharedLease = PINFS_IOC_LEASE_LAYOUT | PINFS_IOC_LEASE_EXCLUSIVE | PINFS_IOC_LEASE_SHARED,
};

/// A context and what it asks of files.
class RawContext {
public:
    explicit RawContext(const std::string& root)
        : file_(root + "/.pinfs/context", O_RDWR), root_(root) {
        words_.major = PINFS_PROTOCOL_MAJOR;
        hello_ = ask(file_.get(), PINFS_IOC_HELLO, words_);
    }
    [[nodiscard]] int get() const { return file_.get(); }
    [[nodiscard]] const Outcome& hello() const { return hello_; }
    [[nodiscard]] std::uint64_t id() const { return words_.context; }
    [[nodiscard]] const std::uint8_t (&token() const)[16] { return words_.token; }
    void close() { file_.reset(); }

    /// Another open file that guards maps of this context; `id` gets its id.
    Descriptor guard(std::uint64_t& id) const {
        Descriptor guarding{root_ + "/.pinfs/context", O_RDWR};
        pinfs_ioc_guard words{};
        put_token(words.token);
        if (ask(guarding.get(), PINFS_IOC_GUARD, words).error != 0) guarding.reset();
        id = words.guard;
        return guarding;
    }
    Outcome lease(int file, std::uint32_t flags, std::uint64_t offset, std::uint64_t length,
                  pinfs_ioc_lease* answer = nullptr, std::uint64_t user_data = 0) const {
        pinfs_ioc_lease words{};
        put_token(words.token);
        words.flags = flags;
        words.offset_bytes = offset;
        words.length_bytes = length;
        words.user_data = user_data;
        const Outcome outcome = ask(file, PINFS_IOC_LEASE_SET, words);
        if (answer != nullptr) *answer = words;
        return outcome;
    }
    Outcome pin(int file, std::uint64_t offset, std::uint64_t length, pinfs_ioc_pin& words) const {
        put_token(words.token);
        words.offset_bytes = offset;
        words.length_bytes = length;
        return ask(file, PINFS_IOC_PIN, words);
    }
    Outcome pin(int file, std::uint64_t offset, std::uint64_t length) const {
        pinfs_ioc_pin words{};
        words.owner_fd = -1;
        return pin(file, offset, length, words);
    }
    Outcome unpin(std::uint64_t id, std::uint64_t generation) const {
        pinfs_ioc_pin_name words{};
        words.id = id;
        words.generation = generation;
        return ask(get(), PINFS_IOC_UNPIN, words);
    }
    Outcome map(int file, std::uint64_t guard, std::uint64_t offset, std::uint64_t length,
                pinfs_ioc_map& words, std::vector<pinfs_ioc_extent>* extents = nullptr,
                std::size_t bytes = 0) const {
        put_token(words.token);
        words.guard = guard;
        words.offset_bytes = offset;
        words.length_bytes = length;
        words.fd = file;
        return ask(file, PINFS_IOC_MAP, words, bytes, extents);
    }
    /// The next event; type 0 if none waits.
    [[nodiscard]] pinfs_ioc_event event() const {
        pinfs_ioc_event words{};
        if (ask(get(), PINFS_IOC_EVENT, words).error != 0) words.type = ~0u;
        return words;
    }

private:
    void put_token(std::uint8_t (&to)[16]) const { std::memcpy(to, words_.token, sizeof(to)); }

    Descriptor file_;
    std::string root_;
    pinfs_ioc_hello words_{};
    Outcome hello_;
};

inline constexpr std::uint64_t kBlock = 4096;

/// A new file of so many blocks, open for reading and writing.
inline Descriptor file_of(const KernelMount& mounted, const std::string& name, std::size_t blocks) {
    write_file(mounted.path(name), std::string(blocks * kBlock, 'x'));
    return {mounted.path(name), O_RDWR};
}

}  // namespace pinfs::test

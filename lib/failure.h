// SPDX-License-Identifier: Apache-2.0
//
// What every call of the C interface has in common: errno stays as it was, no exception leaves, a
// failure is a negative errno with one sentence for pinfs_last_error().
#pragma once

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

namespace pinfs::client {

/// Notes why a call of this thread fails. Returns -error.
[[gnu::format(printf, 2, 3)]] int fail(int error, const char* format, ...) noexcept;

/// The sentence of this thread's last failure; empty if there was none.
const char* last_failure() noexcept;

/// Whatever fails until this goes: the last failure is the one that was it before.
class KeptFailure {
public:
    KeptFailure() noexcept;
    ~KeptFailure();
    KeptFailure(const KeptFailure&) = delete;
    KeptFailure& operator=(const KeptFailure&) = delete;

private:
    std::array<char, 512> sentence_;
};

/// Runs the body of a public call.
template <class Body>
auto entry(Body&& body) noexcept -> decltype(body()) {
    const int saved = errno;
    decltype(body()) result;
    try {
        result = std::forward<Body>(body)();
    } catch (const std::bad_alloc&) {
        result = fail(ENOMEM, "The process is out of memory.");
    } catch (const std::exception& exception) {
        result = fail(EIO, "libpinfs failed: %s.", exception.what());
    }
    errno = saved;
    return result;
}

/// Reads a struct of the caller that begins with its size: what it lacks is zero. -EINVAL without a
/// size, -E2BIG if it is longer than the library's and has something there.
template <class Struct>
int take(const Struct* from, Struct& to) {
    constexpr std::uint32_t kBytesMin = 8;
    constexpr std::uint32_t kBytesMax = 4096;
    to = {};
    if (from == nullptr) return fail(EINVAL, "The struct is a null pointer.");
    std::uint32_t bytes = 0;
    std::memcpy(&bytes, from, sizeof(bytes));
    if (bytes < kBytesMin)
        return fail(EINVAL, "The struct says that it has %u bytes: start from PINFS_INIT.", bytes);
    if (bytes > kBytesMax)
        return fail(E2BIG, "The struct says that it has %u bytes: start from PINFS_INIT.", bytes);
    const auto* const raw = reinterpret_cast<const unsigned char*>(from);
    for (std::size_t i = sizeof(Struct); i < bytes; i++)
        // NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): the size says so.
        if (raw[i] != 0)
            return fail(E2BIG, "Byte %zu of the struct is set, which this libpinfs does not know.",
                        i);
    std::memcpy(static_cast<void*>(&to), raw, bytes < sizeof(Struct) ? bytes : sizeof(Struct));
    return 0;
}

/// The way back: as much as the caller's struct has room for. Its size stays.
template <class Struct>
void give(const Struct& from, Struct* to) {
    std::uint32_t bytes = 0;
    std::memcpy(&bytes, to, sizeof(bytes));
    if (bytes > sizeof(Struct)) bytes = sizeof(Struct);
    std::memcpy(reinterpret_cast<unsigned char*>(to) + sizeof(bytes),
                reinterpret_cast<const unsigned char*>(&from) + sizeof(bytes),
                bytes - sizeof(bytes));
}

}  // namespace pinfs::client

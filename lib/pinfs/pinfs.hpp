// SPDX-License-Identifier: Apache-2.0
//
// libpinfs for C++17: contexts, leases, maps and pins that end with their objects. Header only; all
// it does is call pinfs.h, whose manual pages hold here too.
//
//     pinfs::Context context{"/mnt"};
//     pinfs::Lease lease{context, fd, PINFS_LEASE_LAYOUT};
//     pinfs::Map map{context, fd, 0, 1 << 20};
//     pinfs::memcpy_persist(map.data(), "words", 5);
//
// What fails throws pinfs::error. Objects can be moved; one that was moved from is empty. The order
// of declaration is the order of need: a lease before its maps and pins, the context first.
#ifndef PINFS_HPP
#define PINFS_HPP

#include <pinfs.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace pinfs {

/// A call that failed: its errno as code(), and in what() the sentence that says why.
class error : public std::system_error {
public:
    explicit error(int number)
        : std::system_error(number, std::generic_category()), sentence_(pinfs_last_error()) {}
    const char* what() const noexcept override { return sentence_.c_str(); }

private:
    std::string sentence_;
};

/// The result of a call of pinfs.h, which is not negative.
template <class Result>
Result checked(Result result) {
    if (result < 0) throw error(static_cast<int>(-result));
    return result;
}

inline void persist(const void* address, std::size_t bytes) {
    checked(pinfs_persist(address, bytes));
}
inline void flush(const void* address, std::size_t bytes) { checked(pinfs_flush(address, bytes)); }
inline void drain() { checked(pinfs_drain()); }
inline void memcpy_persist(void* to, const void* from, std::size_t bytes) {
    checked(pinfs_memcpy_persist(to, from, bytes));
}

/// pinfs_context_open(3). Outlives what is made with it.
class Context {
public:
    explicit Context(const std::string& path_in_mount) {
        checked(pinfs_context_open(path_in_mount.c_str(), 0, &context_));
    }
    ~Context() { pinfs_context_close(context_); }
    Context(Context&& other) noexcept : context_(std::exchange(other.context_, nullptr)) {}
    Context& operator=(Context&& other) noexcept {
        std::swap(context_, other.context_);
        return *this;
    }

    pinfs_context* get() const { return context_; }
    int fd() const { return checked(pinfs_context_fd(context_)); }

    /// Nothing if no event came in time.
    std::optional<pinfs_event> next_event(int timeout_ms = -1) {
        pinfs_event event = PINFS_INIT(pinfs_event);
        if (checked(pinfs_context_next_event(context_, &event, timeout_ms)) == 0) return {};
        return event;
    }
    struct pinfs_region_info region_info() {
        struct pinfs_region_info info = PINFS_INIT(struct pinfs_region_info);
        checked(pinfs_region_info(context_, &info));
        return info;
    }
    std::vector<pinfs_extent> layout(int fd, std::uint64_t offset_bytes,
                                     std::uint64_t length_bytes) {
        std::vector<pinfs_extent> extents;
        for (;;) {
            const auto count = static_cast<std::size_t>(
                checked(pinfs_layout(context_, fd, offset_bytes, length_bytes, extents.data(),
                                     extents.size(), nullptr)));
            const bool complete = count <= extents.size();
            extents.resize(count);
            if (complete) return extents;
        }
    }

private:
    pinfs_context* context_ = nullptr;
};

/// pinfs_lease_set(3), dropped at the end.
class Lease {
public:
    Lease(Context& context, int fd, std::uint32_t flags, std::uint64_t offset_bytes = 0,
          std::uint64_t length_bytes = PINFS_TO_END, std::uint64_t user_data = 0)
        : context_(context.get()), fd_(fd) {
        lease_.flags = flags;
        lease_.offset_bytes = offset_bytes;
        lease_.length_bytes = length_bytes;
        lease_.user_data = user_data;
        checked(pinfs_lease_set(context_, fd_, &lease_));
    }
    ~Lease() {
        if (context_ != nullptr)
            pinfs_lease_drop(context_, fd_, lease_.offset_bytes, lease_.length_bytes);
    }
    Lease(Lease&& other) noexcept
        : context_(std::exchange(other.context_, nullptr)), fd_(other.fd_), lease_(other.lease_) {}
    Lease& operator=(Lease&& other) noexcept {
        std::swap(context_, other.context_);
        std::swap(fd_, other.fd_);
        std::swap(lease_, other.lease_);
        return *this;
    }

    /// As pinfs_lease_set(3) answered.
    const pinfs_lease& get() const { return lease_; }
    void drop() {
        checked(pinfs_lease_drop(std::exchange(context_, nullptr), fd_, lease_.offset_bytes,
                                 lease_.length_bytes));
    }

private:
    pinfs_context* context_;
    int fd_;
    pinfs_lease lease_ = PINFS_INIT(pinfs_lease);
};

/// pinfs_map(3), unmapped at the end.
class Map {
public:
    Map(Context& context, int fd, std::uint64_t offset_bytes, std::uint64_t length_bytes,
        int protection = PROT_READ | PROT_WRITE, std::uint32_t flags = 0)
        : context_(context.get()), size_(length_bytes) {
        checked(pinfs_map(context_, fd, offset_bytes, length_bytes, protection, flags, &address_));
    }
    ~Map() {
        if (context_ != nullptr) pinfs_unmap(context_, address_, size_);
    }
    Map(Map&& other) noexcept
        : context_(std::exchange(other.context_, nullptr)),
          address_(other.address_),
          size_(other.size_) {}
    Map& operator=(Map&& other) noexcept {
        std::swap(context_, other.context_);
        std::swap(address_, other.address_);
        std::swap(size_, other.size_);
        return *this;
    }

    std::byte* data() const { return static_cast<std::byte*>(address_); }
    std::size_t size() const { return size_; }
    /// The bytes from `offset` on as a `Value`.
    template <class Value>
    Value* at(std::size_t offset) const {
        return reinterpret_cast<Value*>(data() + offset);
    }
    /// pinfs_msync(3).
    void sync(std::size_t offset, std::size_t bytes) {
        checked(pinfs_msync(context_, data() + offset, bytes));
    }
    void unmap() { checked(pinfs_unmap(std::exchange(context_, nullptr), address_, size_)); }

private:
    pinfs_context* context_;
    void* address_ = nullptr;
    std::size_t size_;
};

/// pinfs_pin(3), unpinned at the end: after the device's access to it.
class Pin {
public:
    Pin(Context& context, int fd, const struct pinfs_pin& wanted)
        : context_(context.get()), pin_(wanted) {
        checked(::pinfs_pin(context_, fd, &pin_));
    }
    Pin(Context& context, int fd, std::uint64_t offset_bytes, std::uint64_t length_bytes,
        std::uint32_t flags = 0)
        : Pin(context, fd, wanted(offset_bytes, length_bytes, flags)) {}
    ~Pin() {
        if (context_ != nullptr) pinfs_unpin(context_, pin_.id, pin_.generation);
    }
    Pin(Pin&& other) noexcept
        : context_(std::exchange(other.context_, nullptr)), pin_(other.pin_) {}
    Pin& operator=(Pin&& other) noexcept {
        std::swap(context_, other.context_);
        std::swap(pin_, other.pin_);
        return *this;
    }

    /// As pinfs_pin(3) answered.
    const struct pinfs_pin& get() const { return pin_; }
    std::vector<pinfs_extent> extents() const {
        std::vector<pinfs_extent> extents(pin_.extent_count);
        std::size_t filled = 0;
        while (filled < extents.size()) {
            const auto count =
                checked(pinfs_pin_extents(context_, pin_.id, pin_.generation, filled,
                                          extents.data() + filled, extents.size() - filled));
            if (count == 0) break;
            filled += static_cast<std::size_t>(count);
        }
        extents.resize(filled);
        return extents;
    }
    /// Where the context's maps show it: what a driver registers.
    std::vector<iovec> pieces(std::size_t piece_max_bytes = 0) const {
        std::vector<iovec> pieces;
        for (;;) {
            const auto count = static_cast<std::size_t>(
                checked(pinfs_pin_iovec(context_, pin_.id, pin_.generation, piece_max_bytes,
                                        pieces.data(), pieces.size())));
            const bool complete = count <= pieces.size();
            pieces.resize(count);
            if (complete) return pieces;
        }
    }
    void unpin() {
        checked(pinfs_unpin(std::exchange(context_, nullptr), pin_.id, pin_.generation));
    }
    /// Gives it to another context, of this process or another; this object is empty then.
    void transfer(int to_context_fd) {
        checked(pinfs_pin_transfer(context_, pin_.id, pin_.generation, to_context_fd));
        context_ = nullptr;
    }

private:
    static struct pinfs_pin wanted(std::uint64_t offset_bytes, std::uint64_t length_bytes,
                                   std::uint32_t flags) {
        struct pinfs_pin pin = PINFS_PIN_INIT;
        pin.offset_bytes = offset_bytes;
        pin.length_bytes = length_bytes;
        pin.flags = flags;
        return pin;
    }

    pinfs_context* context_;
    struct pinfs_pin pin_;
};

}  // namespace pinfs

#endif

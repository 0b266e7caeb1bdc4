// SPDX-License-Identifier: Apache-2.0
//
// Pins, and where this process has them mapped.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <mutex>

#include "lib/context.h"
#include "lib/failure.h"
#include "lib/pinfs/pinfs.h"
#include "lib/request.h"

using namespace pinfs::client;

namespace {

int ask_unpin(const pinfs_context& context, PinName pin) {
    Request<pinfs_ioc_pin_name> request;
    request.head.id = pin.id;
    request.head.generation = pin.generation;
    return request.ask(context.file.get(), PINFS_IOC_UNPIN);
}

/// A pin that the daemon has made and that ends again, unless it is kept.
class PinUnderWay {
public:
    PinUnderWay(const pinfs_context& context, std::uint32_t owner, PinName pin)
        : context_(context), of_context_(owner == PINFS_OWNER_CONTEXT), pin_(pin) {}
    ~PinUnderWay() {
        if (kept_) return;
        const KeptFailure kept;
        ask_unpin(context_, pin_);
        if (of_context_) remove_pin(context_.name, pin_);
    }
    PinUnderWay(const PinUnderWay&) = delete;
    PinUnderWay& operator=(const PinUnderWay&) = delete;

    /// Among the context's.
    int note() {
        if (!of_context_ || add_pin(context_.name, pin_)) return 0;
        kept_ = true;  // not this call's to end
        return senseless(PINFS_IOC_PIN, "its name is another pin's");
    }
    void keep() { kept_ = true; }

private:
    const pinfs_context& context_;
    const bool of_context_;
    const PinName pin_;
    bool kept_ = false;
};

int make_pin(pinfs_context* context, int fd, struct pinfs_pin* pin) {
    struct pinfs_pin out {};
    if (const int result = check(context); result != 0) return result;
    if (const int result = take(pin, out); result != 0) return result;
    if (pin->size_bytes < offsetof(struct pinfs_pin, owner_fd) + sizeof(out.owner_fd))
        out.owner_fd = -1;
    if (out.owner != PINFS_OWNER_CONTEXT && out.owner != PINFS_OWNER_PROCESS)
        return fail(EINVAL, "A pin belongs to the context (0) or the process (1), not %u.",
                    out.owner);
    if ((out.flags & ~std::uint32_t{PINFS_PIN_READ}) != 0)
        return fail(EINVAL, "Pins have no flag 0x%x.", out.flags & ~std::uint32_t{PINFS_PIN_READ});
    Request<pinfs_ioc_pin> request;
    std::copy(std::begin(context->token), std::end(context->token), request.head.token);
    request.head.owner = out.owner;
    // A context names its pins by its own descriptor.
    const bool unnamed = out.owner_fd < 0 && out.owner == PINFS_OWNER_CONTEXT;
    request.head.owner_fd = unnamed ? context->file.get() : out.owner_fd;
    request.head.flags = out.flags;
    request.head.offset_bytes = out.offset_bytes;
    request.head.length_bytes = out.length_bytes;
    request.head.user_data = out.user_data;
    const pinfs_ioc_pin asked = request.head;
    if (const int result = request.ask(fd, PINFS_IOC_PIN); result != 0) return result;
    PinUnderWay under_way{*context, out.owner, {request.head.id, request.head.generation}};
    if (const int result = under_way.note(); result != 0) return result;
    if (const int result = check_pin(context->region, asked, request.head); result != 0)
        return result;
    out.offset_bytes = request.head.offset_bytes;
    out.length_bytes = request.head.length_bytes;
    out.id = request.head.id;
    out.generation = request.head.generation;
    out.extent_count = request.head.extent_count;
    std::copy(std::begin(request.head.secret), std::end(request.head.secret), out.secret);
    under_way.keep();
    give(out, pin);
    return 0;
}

int end_pin(pinfs_context* context, PinName pin) {
    if (const int result = check(context); result != 0) return result;
    if (const int result = ask_unpin(*context, pin); result != 0) return result;
    remove_pin(context->name, pin);
    return 0;
}

int adopt_pin(pinfs_context* context, PinName pin, const std::uint8_t* secret) {
    if (const int result = check(context); result != 0) return result;
    Request<pinfs_ioc_adopt> request;
    request.head.id = pin.id;
    request.head.generation = pin.generation;
    if (secret != nullptr)
        std::copy(secret, secret + sizeof(request.head.secret), request.head.secret);
    if (const int result = request.ask(context->file.get(), PINFS_IOC_ADOPT); result != 0)
        return result;
    add_pin(context->name, pin);
    return 0;
}

int transfer_pin(pinfs_context* from, PinName pin, int to_context_fd) {
    if (const int result = check(from); result != 0) return result;
    ContextName to;
    if (const int result = context_behind(to_context_fd, to); result != 0) return result;
    Request<pinfs_ioc_adopt> request;
    request.head.id = pin.id;
    request.head.generation = pin.generation;
    std::copy(std::begin(from->token), std::end(from->token), request.head.secret);
    if (const int result = request.ask(to_context_fd, PINFS_IOC_RECEIVE); result != 0)
        return result;
    remove_pin(from->name, pin);
    add_pin(to, pin);
    return 0;
}

ssize_t pin_extents(pinfs_context* context, PinName pin, std::uint64_t first, std::size_t limit,
                    Layout& layout) {
    if (const int result = check(context); result != 0) return result;
    pinfs_ioc_layout wanted{};
    wanted.id = pin.id;
    wanted.generation = pin.generation;
    wanted.first = first;
    if (const int result = ask_layout(context->file.get(), PINFS_IOC_PIN_EXTENTS, wanted,
                                      anywhere(context->region), limit, layout);
        result != 0)
        return result;
    return static_cast<ssize_t>(layout.extents.size());
}

/// Collects pieces of memory: neighbours become one, none is longer than it may be.
class Pieces {
public:
    Pieces(std::size_t piece_max_bytes, iovec* iov, std::size_t capacity)
        : piece_max_bytes_(piece_max_bytes), iov_(iov), capacity_(capacity) {}

    void add(std::byte* address, std::uint64_t bytes) {
        if (last_ != nullptr && last_ + last_bytes_ == address) {
            const std::uint64_t joined = std::min(bytes, piece_max_bytes_ - last_bytes_);
            last_bytes_ += joined;
            store();
            address += joined;
            bytes -= joined;
        }
        while (bytes > 0) {
            last_ = address;
            last_bytes_ = std::min(bytes, piece_max_bytes_);
            count_++;
            store();
            address += last_bytes_;
            bytes -= last_bytes_;
        }
    }
    [[nodiscard]] std::size_t count() const { return count_; }

private:
    void store() {
        if (count_ <= capacity_) iov_[count_ - 1] = {last_, last_bytes_};
    }

    std::uint64_t piece_max_bytes_;
    iovec* iov_;
    std::size_t capacity_;
    std::size_t count_ = 0;
    std::byte* last_ = nullptr;
    std::uint64_t last_bytes_ = 0;
};

/// Of the map, what it shows of the pinned extent from `from` on: the same region bytes, so the
/// same file. An empty extent if nothing.
Extent shown(const Map& map, const Extent& pinned, std::uint64_t from) {
    const std::uint64_t pinned_end = pinned.file_offset_bytes + pinned.length_bytes;
    auto extent = std::upper_bound(map.extents.begin(), map.extents.end(), from,
                                   [](std::uint64_t at, const Extent& other) {
                                       return at < other.file_offset_bytes + other.length_bytes;
                                   });
    for (; extent != map.extents.end() && extent->file_offset_bytes < pinned_end; ++extent) {
        const bool same = extent->region_offset_bytes - extent->file_offset_bytes ==
                          pinned.region_offset_bytes - pinned.file_offset_bytes;
        if (!same) continue;
        const std::uint64_t begin = std::max(extent->file_offset_bytes, from);
        const std::uint64_t end =
            std::min(extent->file_offset_bytes + extent->length_bytes, pinned_end);
        return {begin, 0, end - begin};
    }
    return {};
}

bool is_writable(const Map& map) { return (map.protection & PROT_WRITE) != 0; }

/// The pieces of one extent of a pin: at each place the first of the maps that shows it, or the
/// nearest place behind it that one shows. The writable maps come first, and count wherever they
/// are.
void add_pieces(const std::vector<const Map*>& maps, const Extent& pinned, Pieces& pieces) {
    const std::uint64_t end = pinned.file_offset_bytes + pinned.length_bytes;
    for (std::uint64_t at = pinned.file_offset_bytes; at < end;) {
        const Map* best = nullptr;
        Extent best_part{};
        for (const Map* const map : maps) {
            const Extent part = shown(*map, pinned, at);
            if (part.length_bytes == 0) continue;
            if (best == nullptr || part.file_offset_bytes < best_part.file_offset_bytes) {
                best = map;
                best_part = part;
            }
        }
        if (best == nullptr) return;
        for (const Map* const map : maps) {
            if (is_writable(*best) || !is_writable(*map)) break;
            if (const Extent part = shown(*map, pinned, at); part.length_bytes != 0)
                best_part.length_bytes = std::min(
                    best_part.length_bytes, part.file_offset_bytes - best_part.file_offset_bytes);
        }
        pieces.add(best->range.address() + (best_part.file_offset_bytes - best->file_begin),
                   best_part.length_bytes);
        at = best_part.file_offset_bytes + best_part.length_bytes;
    }
}

ssize_t pin_iovec(pinfs_context* context, PinName pin, std::size_t piece_max_bytes, iovec* iov,
                  std::size_t capacity) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    if (iov == nullptr && capacity > 0) return fail(EINVAL, "A pointer is null.");
    if (piece_max_bytes == 0) piece_max_bytes = SIZE_MAX / page * page;
    if (piece_max_bytes % page != 0)
        return fail(EINVAL, "Pieces of %zu bytes are not whole pages.", piece_max_bytes);
    Layout layout;
    if (const ssize_t result = pin_extents(context, pin, 0, SIZE_MAX, layout); result < 0)
        return result;
    const std::lock_guard hold{context->mutex};
    std::vector<const Map*> maps;
    for (const auto& [address, map] : context->maps) maps.push_back(&map);
    std::stable_partition(maps.begin(), maps.end(),
                          [](const Map* map) { return is_writable(*map); });
    Pieces pieces{piece_max_bytes, iov, capacity};
    for (const Extent& extent : layout.extents) add_pieces(maps, extent, pieces);
    return static_cast<ssize_t>(pieces.count());
}

}  // namespace

int pinfs_pin(struct pinfs_context* ctx, int fd, struct pinfs_pin* pin) {
    return entry([&] { return make_pin(ctx, fd, pin); });
}

int pinfs_unpin(struct pinfs_context* ctx, uint64_t id, uint64_t generation) {
    return entry([&] { return end_pin(ctx, {id, generation}); });
}

int pinfs_pin_adopt(struct pinfs_context* ctx, uint64_t id, uint64_t generation,
                    const uint8_t secret[16]) {
    return entry([&] { return adopt_pin(ctx, {id, generation}, secret); });
}

int pinfs_pin_transfer(struct pinfs_context* from, uint64_t id, uint64_t generation,
                       int to_context_fd) {
    return entry([&] { return transfer_pin(from, {id, generation}, to_context_fd); });
}

ssize_t pinfs_pin_extents(struct pinfs_context* ctx, uint64_t id, uint64_t generation,
                          uint64_t first, struct pinfs_extent* extents, size_t capacity) {
    return entry([&]() -> ssize_t {
        Layout layout;
        if (extents == nullptr || capacity == 0)
            return fail(EINVAL, "There is no room for extents.");
        const ssize_t count = pin_extents(ctx, {id, generation}, first, capacity, layout);
        std::transform(layout.extents.begin(), layout.extents.end(), extents, public_extent);
        return count;
    });
}

ssize_t pinfs_pin_iovec(struct pinfs_context* ctx, uint64_t id, uint64_t generation,
                        size_t piece_max_bytes, struct iovec* iov, size_t capacity) {
    return entry([&] { return pin_iovec(ctx, {id, generation}, piece_max_bytes, iov, capacity); });
}

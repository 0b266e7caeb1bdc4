// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/file_requests.h"

#include <linux/capability.h>

#include <algorithm>

#include "fs/format/inode.h"
#include "fs/fuse/caller.h"
#include "fs/fuse/ledger.h"

namespace pinfs::fuse {
namespace {

using Answer = Expected<void>;

struct FileRequest : ProtocolRequest {
    FileRequest(fuse_req_t of, OpenFile which, unsigned command, const IoctlBuffer& buffer)
        : ProtocolRequest(of, command, buffer),
          edge(edge_of(of)),
          file(which),
          opened(kind_of_handle(which.handle)) {}

    Edge& edge;
    const OpenFile file;
    const HandleKind opened;

    /// The caller as owner in the context that a token names.
    [[nodiscard]] Expected<pin::Owner> owner(const std::uint8_t (&token)[16]) const {
        return owner_of(req, TRY(edge.contexts.context_of(token_of(token))));
    }
    /// Times, and blocks where some were allocated, are others now.
    void changed() { edge.invalidator.attributes(file.ino); }
};

// --- Leases ------------------------------------------------------------------------------------

Expected<pin::LeaseKind> lease_kind(std::uint32_t flags) {
    switch (flags) {
        case PINFS_IOC_LEASE_LAYOUT:
            return pin::LeaseKind::layout;
        case PINFS_IOC_LEASE_LAYOUT | PINFS_IOC_LEASE_EXCLUSIVE:
            return pin::LeaseKind::exclusive;
        case PINFS_IOC_LEASE_LAYOUT | PINFS_IOC_LEASE_EXCLUSIVE | PINFS_IOC_LEASE_SHARED:
            return pin::LeaseKind::shared;
        default:
            return fail(Cause::reserved_not_zero);
    }
}

std::uint32_t flags_of(pin::LeaseKind kind) {
    switch (kind) {
        case pin::LeaseKind::layout:
            return PINFS_IOC_LEASE_LAYOUT;
        case pin::LeaseKind::exclusive:
            return PINFS_IOC_LEASE_LAYOUT | PINFS_IOC_LEASE_EXCLUSIVE;
        case pin::LeaseKind::shared:
            return PINFS_IOC_LEASE_LAYOUT | PINFS_IOC_LEASE_EXCLUSIVE | PINFS_IOC_LEASE_SHARED;
    }
    return 0;
}

Expected<pinfs_ioc_lease> lease_words(FileRequest& request) {
    const auto words = TRY(request.get<pinfs_ioc_lease>());
    TRY(require_zero(words.reserved));
    TRY(require_zeros(words.reserved2));
    TRY(require_range(words.offset_bytes, words.length_bytes));
    request.about(request.file.ino, words.offset_bytes, words.length_bytes);
    return words;
}

void put_lease(FileRequest& request, pinfs_ioc_lease words, const LeaseAnswer& lease) {
    words.flags = flags_of(lease.kind);
    words.offset_bytes = lease.begin;
    words.length_bytes = lease.end == UINT64_MAX ? 0 : lease.end - lease.begin;
    words.user_data = lease.user_data;
    words.id = lease.id;
    words.holders = lease.holders;
    request.put(words);
}

bool may_exclude(fuse_req_t req, const Attributes& attributes) {
    return fuse_req_ctx(req)->uid == attributes.uid || has_capability(req, CAP_LEASE);
}

Answer set_lease(FileRequest& request) {
    const auto words = TRY(lease_words(request));
    LeaseRequest wanted;
    wanted.kind = TRY(lease_kind(words.flags));
    if (wanted.kind == pin::LeaseKind::layout) {
        if (!request.opened.reads) return fail(Cause::not_open_for_reading);
    } else {
        wanted.may_exclude =
            may_exclude(request.req, TRY(request.edge.volume.attributes(request.file.ino)));
    }
    wanted.offset_bytes = words.offset_bytes;
    wanted.length_bytes = words.length_bytes;
    wanted.owner = TRY(request.owner(words.token));
    wanted.user_data = words.user_data;
    put_lease(request, words, TRY(request.edge.volume.set_lease(request.file, wanted)));
    return {};
}

Answer get_lease(FileRequest& request) {
    const auto words = TRY(lease_words(request));
    put_lease(request, words,
              TRY(request.edge.volume.lease(request.file, words.offset_bytes, words.length_bytes)));
    return {};
}

Answer drop_lease(FileRequest& request) {
    const auto words = TRY(lease_words(request));
    return request.edge.volume.drop_lease(request.file, words.offset_bytes, words.length_bytes);
}

// --- Maps --------------------------------------------------------------------------------------

Answer map(FileRequest& request) {
    auto words = TRY(request.get<pinfs_ioc_map>());
    TRY(require_zero(words.reserved));
    TRY(require_zeros(words.reserved2));
    TRY(require_range(words.offset_bytes, words.length_bytes));
    request.about(request.file.ino, words.offset_bytes, words.length_bytes);
    constexpr std::uint32_t kKnown =
        PINFS_IOC_MAP_NOALLOC | PINFS_IOC_MAP_SELF_FLUSH | PINFS_IOC_MAP_WRITE;
    TRY(require_zero(words.flags & ~kKnown));
    MapRequest wanted;
    wanted.offset_bytes = words.offset_bytes;
    wanted.length_bytes = words.length_bytes;
    wanted.writable = (words.flags & PINFS_IOC_MAP_WRITE) != 0;
    wanted.allocate = (words.flags & PINFS_IOC_MAP_NOALLOC) == 0;
    wanted.self_flushed = (words.flags & PINFS_IOC_MAP_SELF_FLUSH) != 0;
    if (!request.opened.reads) return fail(Cause::not_open_for_reading);
    if (wanted.writable && !request.opened.writes) return fail(Cause::not_open_for_writing);
    wanted.owner = TRY(request.owner(words.token));
    wanted.guard = words.guard;
    wanted.user_data = words.user_data;
    if (wanted.writable) TRY(kill_privileges(request.req, request.file.ino));
    const MapAnswer map = TRY(request.edge.volume.map(request.file, wanted));
    if (request.edge.ledger != nullptr) request.edge.ledger->map_made(map.id, wanted.guard);
    request.changed();
    words.id = map.id;
    words.generation = shown_generation(map.generation);
    words.total = map.extents.size();
    words.count = request.put_extents<pinfs_ioc_map>(map.extents, 0);
    request.put(words);
    return {};
}

Answer layout(FileRequest& request) {
    const auto words = TRY(request.get<pinfs_ioc_layout>());
    TRY(require_zero(words.reserved));
    TRY(require_zeros(words.reserved2));
    TRY(require_range(words.offset_bytes, words.length_bytes));
    request.about(request.file.ino, words.offset_bytes, words.length_bytes);
    if (!request.opened.reads) return fail(Cause::not_open_for_reading);
    return put_layout(
        request, words,
        TRY(request.edge.volume.layout(request.file.ino, words.offset_bytes, words.length_bytes)));
}

// --- Pins --------------------------------------------------------------------------------------

/// The descriptor that names the pin in reports, and where it points now.
Expected<void> add_label(PinRequest& wanted, std::int32_t descriptor) {
    if (descriptor == -1) return {};
    if (descriptor < 0) return fail(Cause::no_such_descriptor);
    const std::uint32_t pid = wanted.owner.process.pid;
    if (pid == 0) return {};  // its table cannot be seen: the context names it
    wanted.label = descriptor_target(pid, static_cast<std::uint32_t>(descriptor));
    if (wanted.label.empty()) return fail(Cause::no_such_descriptor);
    wanted.descriptor = static_cast<std::uint32_t>(descriptor);
    return {};
}

Answer pin(FileRequest& request) {
    auto words = TRY(request.get<pinfs_ioc_pin>());
    TRY(require_zero(words.reserved));
    TRY(require_zeros(words.reserved2));
    TRY(require_range(words.offset_bytes, words.length_bytes));
    request.about(request.file.ino, words.offset_bytes, words.length_bytes);
    if ((words.flags & ~std::uint32_t{PINFS_IOC_PIN_READ}) != 0 ||
        words.owner > PINFS_IOC_OWNER_PROCESS)
        return fail(Cause::reserved_not_zero);
    PinRequest wanted;
    wanted.offset_bytes = words.offset_bytes;
    wanted.length_bytes = words.length_bytes;
    wanted.device_writes = (words.flags & PINFS_IOC_PIN_READ) == 0;
    if (!request.opened.reads) return fail(Cause::not_open_for_reading);
    if (wanted.device_writes && !request.opened.writes) return fail(Cause::not_open_for_writing);
    wanted.owner = TRY(request.owner(words.token));
    if (words.owner == PINFS_IOC_OWNER_PROCESS) {
        if (wanted.owner.process.pid == 0) return fail(Cause::outside_namespace);
        wanted.owner.context = 0;
    }
    TRY(add_label(wanted, words.owner_fd));
    wanted.user_data = words.user_data;
    if (wanted.device_writes) TRY(kill_privileges(request.req, request.file.ino));
    const PinAnswer pin = TRY(request.edge.volume.pin(request.file, wanted));
    request.changed();
    words.offset_bytes = pin.begin;
    words.length_bytes = pin.end - pin.begin;
    words.id = pin.id;
    words.generation = pin.generation;
    words.extent_count = pin.extent_count;
    std::ranges::copy(pin.secret, words.secret);
    request.put(words);
    return {};
}

// --- DAX mode ----------------------------------------------------------------------------------

Answer dax_state(FileRequest& request) {
    auto words = TRY(request.get<pinfs_ioc_dax>());
    TRY(require_zeros(words.reserved));
    const auto attributes = TRY(request.edge.volume.attributes(request.file.ino));
    words.state = ((attributes.flags & media::kInodeDax) != 0 ? PINFS_IOC_DAX_FLAG : 0) |
                  (request.opened.dax ? PINFS_IOC_IN_DAX_MODE : 0);
    request.put(words);
    return {};
}

Answer answer(FileRequest& request, bool is_directory) {
    if (request.number == PINFS_IOC_DAX_ACTIVE) return dax_state(request);
    if (is_directory) return fail(Cause::not_a_regular_file);
    switch (request.number) {
        case PINFS_IOC_LEASE_SET:
            return set_lease(request);
        case PINFS_IOC_LEASE_GET:
            return get_lease(request);
        case PINFS_IOC_LEASE_DROP:
            return drop_lease(request);
        case PINFS_IOC_MAP:
            return map(request);
        case PINFS_IOC_LAYOUT:
            return layout(request);
        case PINFS_IOC_PIN:
            return pin(request);
        default:
            return fail(Cause::not_an_ioctl);
    }
}

}  // namespace

void answer_file_request(fuse_req_t req, OpenFile file, bool is_directory, unsigned command,
                         const IoctlBuffer& buffer) noexcept {
    FileRequest request{req, file, command, buffer};
    request.reply(guarded([&] { return answer(request, is_directory); }));
}

}  // namespace pinfs::fuse

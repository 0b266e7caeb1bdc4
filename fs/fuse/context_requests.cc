// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/context_requests.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>

#include "fs/fuse/caller.h"
#include "fs/fuse/ledger.h"

namespace pinfs::fuse {
namespace {

using Answer = Expected<void>;

struct ContextRequest : ProtocolRequest {
    ContextRequest(fuse_req_t of, std::uint64_t by, unsigned command, const IoctlBuffer& buffer)
        : ProtocolRequest(of, command, buffer), edge(edge_of(of)), handle(by) {}

    Edge& edge;
    const std::uint64_t handle;

    [[nodiscard]] Expected<std::uint64_t> context() const {
        return edge.contexts.context_of(handle);
    }
};

Answer hello(ContextRequest& request) {
    auto words = TRY(request.get<pinfs_ioc_hello>());
    TRY(require_zeros(words.reserved));
    if (words.major != PINFS_PROTOCOL_MAJOR) return fail(Cause::version_mismatch);
    const auto named = TRY(request.edge.contexts.hello(request.handle, owner_of(request.req, 0)));
    words.minor = std::min<std::uint32_t>(words.minor, PINFS_PROTOCOL_MINOR);
    words.features = 0;
    words.context = named.context;
    std::memcpy(words.token, named.token.data(), sizeof(words.token));
    request.put(words);
    return {};
}

Answer guard(ContextRequest& request) {
    auto words = TRY(request.get<pinfs_ioc_guard>());
    TRY(require_zeros(words.reserved));
    words.guard = TRY(request.edge.contexts.guard(request.handle, token_of(words.token)));
    request.put(words);
    return {};
}

Answer region(ContextRequest& request) {
    auto words = TRY(request.get<pinfs_ioc_region>());
    TRY(require_zero(words.reserved));
    TRY(require_zeros(words.reserved2));
    const std::string& path = request.edge.options.region_path;
    if (path.size() >= sizeof(words.path)) return fail(Cause::name_too_long);
    Volume& volume = request.edge.volume;
    const pmem::Region& of = volume.region();
    const pmem::Capabilities& can = of.capabilities();
    const auto [charged, limit] = volume.charged_bytes(fuse_req_ctx(request.req)->uid);
    words = {};
    words.kind = static_cast<std::uint32_t>(can.kind);
    words.flush = static_cast<std::uint32_t>(can.flush);
    words.pinnable = can.pinnable;
    words.map_sync = can.map_sync;
    words.persistent = can.persistent;
    words.length_bytes = of.bytes();
    words.block_bytes = kBlockBytes;
    words.map_align_bytes = volume.map_unit_bytes();
    words.huge_bytes = can.huge_bytes;
    words.pin_limit_bytes = limit;
    words.pinned_bytes = charged;
    std::ranges::copy(volume.uuid(), words.uuid);
    struct stat st {};
    if (stat(of.path().c_str(), &st) != 0) return fail_errno(errno);
    words.device = S_ISREG(st.st_mode) ? st.st_dev : st.st_rdev;
    words.inode = S_ISREG(st.st_mode) ? st.st_ino : 0;
    path.copy(words.path, sizeof(words.path) - 1);
    request.put(words);
    return {};
}

pinfs_ioc_event words_of(const pin::Event& event) {
    pinfs_ioc_event words{};
    words.type = static_cast<std::uint32_t>(event.type);
    words.id = event.id;
    words.user_data = event.user_data;
    words.offset_bytes = event.begin;
    words.length_bytes = event.end - event.begin;
    words.deadline_ns = event.deadline_ns;
    return words;
}

Answer event(ContextRequest& request) {
    TRY(request.get<pinfs_ioc_event>());
    const auto next = TRY(request.edge.volume.next_event(TRY(request.context())));
    request.put(next ? words_of(*next) : pinfs_ioc_event{});
    return {};
}

Expected<pinfs_ioc_map_range> map_range(ContextRequest& request) {
    const auto words = TRY(request.get<pinfs_ioc_map_range>());
    TRY(require_zeros(words.reserved));
    TRY(require_range(words.offset_bytes, words.length_bytes));
    return words;
}

Answer unmap(ContextRequest& request) {
    const auto words = TRY(map_range(request));
    TRY(request.edge.volume.unmap(TRY(request.context()), words.map));
    if (request.edge.ledger != nullptr) request.edge.ledger->map_ended(words.map);
    return {};
}

Answer clean(ContextRequest& request) {
    const auto words = TRY(map_range(request));
    request.about({}, words.offset_bytes, words.length_bytes);
    return request.edge.volume.declare_clean(TRY(request.context()), words.map, words.offset_bytes,
                                             words.length_bytes);
}

Expected<pinfs_ioc_layout> layout_words(ContextRequest& request) {
    const auto words = TRY(request.get<pinfs_ioc_layout>());
    TRY(require_zero(words.reserved));
    TRY(require_zeros(words.reserved2));
    TRY(require_range(words.offset_bytes, words.length_bytes));
    return words;
}

Answer reload(ContextRequest& request) {
    const auto words = TRY(layout_words(request));
    request.about({}, words.offset_bytes, words.length_bytes);
    return put_layout(request, words,
                      TRY(request.edge.volume.reload_map(TRY(request.context()), words.id,
                                                         words.offset_bytes, words.length_bytes)));
}

Answer unpin(ContextRequest& request) {
    const auto words = TRY(request.get<pinfs_ioc_pin_name>());
    TRY(require_zeros(words.reserved));
    Volume& volume = request.edge.volume;
    const std::uint64_t context = TRY(request.context());
    // Who the process is need not be asked for a pin of the context.
    const auto ended = volume.unpin({.context = context, .process = {}, .uid = 0, .command = {}},
                                    words.id, words.generation);
    if (ended || ended.error().cause != Cause::no_such_record) return ended;
    return volume.unpin(owner_of(request.req, context), words.id, words.generation);
}

Answer pin_extents(ContextRequest& request) {
    const auto words = TRY(layout_words(request));
    const auto extents = TRY(
        request.edge.volume.pin_extents(owner_of(request.req, TRY(request.context())), words.id,
                                        words.generation, words.offset_bytes, words.length_bytes));
    put_extents_page(request, words, extents);
    return {};
}

/// With the secret as a pin's, or as the token of the context that gives it away.
Answer adopt(ContextRequest& request) {
    auto words = TRY(request.get<pinfs_ioc_adopt>());
    TRY(require_zeros(words.reserved));
    const pin::Owner owner = owner_of(request.req, TRY(request.context()));
    Volume& volume = request.edge.volume;
    const Token secret = token_of(words.secret);
    const PinAnswer pin =
        request.number == PINFS_IOC_ADOPT
            ? TRY(volume.adopt_pin(owner, words.id, words.generation, secret))
            : TRY(volume.transfer_pin(TRY(request.edge.contexts.context_of(secret)), owner,
                                      words.id, words.generation));
    words.user_data = pin.user_data;
    words.offset_bytes = pin.begin;
    words.length_bytes = pin.end - pin.begin;
    request.put(words);
    return {};
}

Answer revoke(ContextRequest& request) {
    const auto words = TRY(request.get<pinfs_ioc_revoke>());
    TRY(require_zeros(words.reserved));
    if (!administers(request.req)) return fail(Cause::not_an_administrator);
    return request.edge.volume.revoke(words.id, words.grace_ms);
}

Answer release_hold(ContextRequest& request) {
    const auto words = TRY(request.get<pinfs_ioc_pin_name>());
    TRY(require_zeros(words.reserved));
    TRY(require_zero(words.generation));
    if (!administers(request.req)) return fail(Cause::not_an_administrator);
    return request.edge.volume.release_hold(words.id);
}

pinfs_ioc_scrub_finding words_of(Volume& volume, const ScrubFinding& finding) {
    pinfs_ioc_scrub_finding words{};
    words.ino = finding.error.ino;
    words.region_offset_bytes = finding.error.offset;
    words.file_offset_bytes = finding.file_offset_bytes;
    words.error = static_cast<std::uint32_t>(finding.error.number());
    words.is_data = finding.is_data;
    finding.error.message().copy(words.message, sizeof(words.message) - 1);
    const std::string path = finding.error.ino == 0 ? "" : volume.path(Ino{finding.error.ino});
    if (path.size() < sizeof(words.path)) path.copy(words.path, path.size());
    return words;
}

Answer scrub(ContextRequest& request) {
    auto words = TRY(request.get<pinfs_ioc_scrub>());
    TRY(require_zero(words.reserved));
    TRY(require_zeros(words.reserved2));
    if ((words.flags & ~std::uint32_t{PINFS_IOC_SCRUB_DATA}) != 0)
        return fail(Cause::reserved_not_zero);
    if (!administers(request.req)) return fail(Cause::not_an_administrator);
    Volume& volume = request.edge.volume;
    const ScrubPiece piece = TRY(
        volume.scrub({.phase = ScrubPhase{words.phase}, .number = words.number, .key = words.key},
                     {.data = (words.flags & PINFS_IOC_SCRUB_DATA) != 0}));
    std::vector<pinfs_ioc_scrub_finding> findings;
    for (const ScrubFinding& finding : piece.findings) {
        findings.push_back(words_of(volume, finding));
        spdlog::error("scrub: {}", finding.error.message());
    }
    words.phase = static_cast<std::uint32_t>(piece.next.phase);
    words.number = piece.next.number;
    words.key = piece.next.key;
    words.units = piece.units;
    words.data_bytes = piece.data_bytes;
    words.items = piece.items;
    words.items_in_all = piece.items_in_all;
    words.bad = findings.size();
    words.count = request.put_behind<pinfs_ioc_scrub, pinfs_ioc_scrub_finding>(findings);
    request.put(words);
    return {};
}

Answer answer(ContextRequest& request) {
    switch (request.number) {
        case PINFS_IOC_HELLO:
            return hello(request);
        case PINFS_IOC_GUARD:
            return guard(request);
        case PINFS_IOC_REGION:
            return region(request);
        case PINFS_IOC_EVENT:
            return event(request);
        case PINFS_IOC_UNMAP:
            return unmap(request);
        case PINFS_IOC_RELOAD:
            return reload(request);
        case PINFS_IOC_CLEAN:
            return clean(request);
        case PINFS_IOC_UNPIN:
            return unpin(request);
        case PINFS_IOC_PIN_EXTENTS:
            return pin_extents(request);
        case PINFS_IOC_ADOPT:
        case PINFS_IOC_RECEIVE:
            return adopt(request);
        case PINFS_IOC_REVOKE:
            return revoke(request);
        case PINFS_IOC_RELEASE_HOLD:
            return release_hold(request);
        case PINFS_IOC_SCRUB:
            return scrub(request);
        default:
            return fail(Cause::not_an_ioctl);
    }
}

}  // namespace

void answer_context_request(fuse_req_t req, std::uint64_t handle, unsigned command,
                            const IoctlBuffer& buffer) noexcept {
    ContextRequest request{req, handle, command, buffer};
    request.reply(guarded([&] { return answer(request); }));
}

void read_events(fuse_req_t req, fuse_ino_t ino, std::size_t size,
                 const fuse_file_info& file) noexcept {
    const auto events = guarded([&]() -> Expected<std::vector<pinfs_ioc_event>> {
        Edge& edge = edge_of(req);
        const std::size_t room = size / sizeof(pinfs_ioc_event);
        if (room == 0) return fail(Cause::buffer_too_small);
        const std::uint64_t context = TRY(edge.contexts.context_of(file.fh));
        std::vector<pinfs_ioc_event> taken;
        while (taken.size() < room) {
            // First, so that an event that was taken is not lost.
            if (taken.size() == taken.capacity()) taken.reserve(2 * taken.size() + 16);
            const auto next = TRY(edge.volume.next_event(context));
            if (!next) break;
            taken.push_back(words_of(*next));
        }
        if (taken.empty()) return fail(Cause::no_event);
        return taken;
    });
    if (!events) return reply_error(req, events.error(), "read", ino);
    reply_bytes(req, events->data(), events->size() * sizeof(pinfs_ioc_event));
}

void poll_events(fuse_req_t req, const fuse_file_info& file, fuse_pollhandle* poller) noexcept {
    const bool waits = edge_of(req).contexts.poll(file.fh, poller);
    fuse_reply_poll(req, waits ? POLLIN | POLLRDNORM : 0);
}

}  // namespace pinfs::fuse

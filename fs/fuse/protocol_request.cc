// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/protocol_request.h"

#include <algorithm>

namespace pinfs::fuse {
namespace {

/// The rule of SPEC that refused; empty if none did.
const char* rule_of(Cause cause) {
    switch (cause) {
        case Cause::not_leasable:
            return "SPEC 1.3";
        case Cause::region_not_pinnable:
            return "SPEC 1.4";
        case Cause::no_such_context:
            return "SPEC 2.1";
        case Cause::lease_conflict:
            return "SPEC 2.2";
        case Cause::not_leaser:
        case Cause::not_a_regular_file:
        case Cause::not_open_for_reading:
            return "SPEC 2.3";
        case Cause::pins_outlive_lease:
            return "SPEC 2.4";
        case Cause::no_exclusive_lease:
        case Cause::beyond_end:
        case Cause::limit_user_records:
        case Cause::limit_user_bytes:
        case Cause::limit_region_records:
        case Cause::limit_region_bytes:
            return "SPEC 3.1";
        case Cause::outside_namespace:
        case Cause::no_such_descriptor:
            return "SPEC 3.3";
        case Cause::no_such_record:
            return "SPEC 3.4";
        case Cause::range_pinned:
        case Cause::range_leased:
            return "SPEC 3.6";
        case Cause::not_adoptable:
            return "SPEC 3.10";
        case Cause::not_an_administrator:
            return "SPEC 3.11";
        case Cause::no_lease:
        case Cause::unaligned:
        case Cause::holes_in_range:
            return "SPEC 5.1";
        default:
            return "";
    }
}

}  // namespace

bool is_protocol_request(unsigned command) {
    return _IOC_TYPE(command) == PINFS_IOC_MAGIC && _IOC_DIR(command) == (_IOC_READ | _IOC_WRITE);
}

ProtocolRequest::ProtocolRequest(fuse_req_t of, unsigned command, const IoctlBuffer& buffer)
    : req(of),
      number(_IOC_NR(command)),
      size_(std::min({buffer.in_size, buffer.out_size, buffer_.size()})) {
    if (size_ != 0) std::memcpy(buffer_.data(), buffer.in, size_);
}

std::uint32_t ProtocolRequest::put_extents(std::size_t behind, std::span<const Extent> extents,
                                           std::uint64_t first) {
    if (first >= extents.size()) return 0;
    const std::span<const Extent> wanted = extents.subspan(first);
    const std::size_t count = std::min(wanted.size(), (size_ - behind) / sizeof(pinfs_ioc_extent));
    for (std::size_t i = 0; i < count; ++i) {
        const pinfs_ioc_extent extent{wanted[i].file_offset, wanted[i].region_offset,
                                      wanted[i].bytes};
        std::memcpy(buffer_.data() + behind + i * sizeof(extent), &extent, sizeof(extent));
    }
    return static_cast<std::uint32_t>(count);
}

std::string ProtocolRequest::sentence_of_failure(const Error& error) const {
    std::string sentence =
        range_ ? sentence_of_refusal(edge_of(req), error, ino_, range_->first, range_->second)
               : error.message();
    if (const std::string rule = rule_of(error.cause); !rule.empty()) sentence += " (" + rule + ")";
    return sentence;
}

void ProtocolRequest::reply(const Expected<void>& result) noexcept {
    if (result) {
        fuse_reply_ioctl(req, 0, buffer_.data(), size_);
        return;
    }
    const int number_of_error = result.error().number();
    pinfs_ioc_failure failure{};
    failure.error = static_cast<std::uint32_t>(number_of_error);
    guarded([&]() -> Expected<void> {
        const std::string sentence = sentence_of_failure(result.error());
        sentence.copy(failure.message, sizeof(failure.message) - 1);
        if (number_of_error == EBUSY && range_)
            log_refusal(edge_of(req), "a lease or pin", result.error(), ino_, range_->first,
                        range_->second);
        return {};
    });
    RequestInHand::set_result(-number_of_error);
    fuse_reply_ioctl(req, -number_of_error, &failure, std::min(sizeof(failure), size_));
}

Expected<void> require_range(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
    if (offset_bytes + length_bytes < offset_bytes) return fail(Cause::invalid_argument);
    return {};
}

Expected<void> put_layout(ProtocolRequest& request, pinfs_ioc_layout words,
                          const LayoutAnswer& layout) {
    const std::uint64_t generation = shown_generation(layout.generation);
    if (words.generation != 0 && words.generation != generation) return fail(Cause::layout_moved);
    words.generation = generation;
    words.size_bytes = layout.size_bytes;
    put_extents_page(request, words, layout.extents);
    return {};
}

void put_extents_page(ProtocolRequest& request, pinfs_ioc_layout words,
                      std::span<const Extent> extents) {
    words.total = extents.size();
    words.count = request.put_extents<pinfs_ioc_layout>(extents, words.first);
    request.put(words);
}

}  // namespace pinfs::fuse

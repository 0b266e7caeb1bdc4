// SPDX-License-Identifier: Apache-2.0
#include "fs/pin/limits.h"

#include <cassert>

namespace pinfs::pin {

Expected<void> Charges::add(std::uint32_t uid, std::uint64_t bytes) {
    const auto found = users_.find(uid);
    const Sum user = found == users_.end() ? Sum{} : found->second;
    if (user.records >= limits_.user_records) return fail(Cause::limit_user_records);
    if (all_.records >= limits_.region_records) return fail(Cause::limit_region_records);
    if (bytes > limits_.user_bytes || user.bytes > limits_.user_bytes - bytes)
        return fail(Cause::limit_user_bytes);
    if (bytes > limits_.region_bytes || all_.bytes > limits_.region_bytes - bytes)
        return fail(Cause::limit_region_bytes);
    add_found(uid, bytes);
    return {};
}

Expected<void> Charges::check(std::uint32_t uid) const {
    const auto found = users_.find(uid);
    const Sum user = found == users_.end() ? Sum{} : found->second;
    if (user.records > limits_.user_records) return fail(Cause::limit_user_records);
    if (all_.records > limits_.region_records) return fail(Cause::limit_region_records);
    if (user.bytes > limits_.user_bytes) return fail(Cause::limit_user_bytes);
    if (all_.bytes > limits_.region_bytes) return fail(Cause::limit_region_bytes);
    return {};
}

void Charges::add_found(std::uint32_t uid, std::uint64_t bytes) {
    for (Sum* sum : {&users_[uid], &all_}) {
        ++sum->records;
        sum->bytes += bytes;
    }
}

void Charges::remove(std::uint32_t uid, std::uint64_t bytes) {
    const auto user = users_.find(uid);
    assert(user != users_.end() && user->second.records > 0 && user->second.bytes >= bytes);
    for (Sum* sum : {&user->second, &all_}) {
        --sum->records;
        sum->bytes -= bytes;
    }
    if (user->second.records == 0) users_.erase(user);
}

std::uint64_t Charges::bytes_of(std::uint32_t uid) const {
    const auto user = users_.find(uid);
    return user == users_.end() ? 0 : user->second.bytes;
}

}  // namespace pinfs::pin

// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/open_reports.h"

#include <utility>

namespace pinfs::fuse {

Expected<void> OpenReports::reserve(std::uint64_t handle, std::uint32_t uid) {
    const std::lock_guard lock{mutex_};
    Sum& sum = users_[uid];
    if (sum.reports >= kUserReportsMax || sum.bytes >= kUserBytesMax)
        return fail(Cause::too_many_reports);
    reports_[handle].uid = uid;
    ++sum.reports;
    return {};
}

void OpenReports::fill(std::uint64_t handle, std::string text) {
    auto kept = std::make_shared<const std::string>(std::move(text));
    const std::lock_guard lock{mutex_};
    Report& report = reports_.at(handle);
    users_.at(report.uid).bytes += kept->size();
    report.text = std::move(kept);
}

void OpenReports::release(std::uint64_t handle) {
    std::shared_ptr<const std::string> text;  // freed without the lock
    const std::lock_guard lock{mutex_};
    const auto at = reports_.find(handle);
    if (at == reports_.end()) return;
    const auto user = users_.find(at->second.uid);
    text = std::move(at->second.text);
    if (text) user->second.bytes -= text->size();
    if (--user->second.reports == 0) users_.erase(user);
    reports_.erase(at);
}

std::shared_ptr<const std::string> OpenReports::find(std::uint64_t handle) const {
    const std::lock_guard lock{mutex_};
    const auto at = reports_.find(handle);
    return at == reports_.end() ? nullptr : at->second.text;
}

}  // namespace pinfs::fuse

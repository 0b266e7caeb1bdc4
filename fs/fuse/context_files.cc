// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/context_files.h"

#include <sys/random.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "fs/fuse/ledger.h"
#include "fs/fuse/supervised_connection.h"
#include "fs/volume/finished_requests.h"

namespace pinfs::fuse {
namespace {

Expected<Token> new_token() {
    Token token{};
    const ssize_t count = getrandom(token.data(), token.size(), 0);  // never short of so few
    if (count != static_cast<ssize_t>(token.size())) return fail_errno(count < 0 ? errno : EIO);
    return token;
}

}  // namespace

std::size_t ContextFiles::TokenHash::operator()(const Token& token) const noexcept {
    std::size_t hash = 0;
    std::memcpy(&hash, token.data(), sizeof(hash));
    return hash;
}

void ContextFiles::start() {
    {
        const std::lock_guard lock{mutex_};
        stopped_ = false;
    }
    volume_.set_event_sink([this](std::uint64_t context) { wake(context); });
}

void ContextFiles::stop() {
    volume_.set_event_sink({});
    std::unique_lock lock{mutex_};
    stopped_ = true;
    woken_.wait(lock, [this] { return waking_ == 0; });
    for (auto& [handle, file] : files_) file.poller.reset();
}

void ContextFiles::restore(const std::vector<KnownContextFile>& files) {
    const std::lock_guard lock{mutex_};
    for (const KnownContextFile& known : files) {
        File& file = files_[known.handle];
        file.uid = known.uid;
        ++of_user_[known.uid];
        if (known.context == 0) continue;
        file.role = known.guard != 0 ? Role::guard : Role::context;
        file.id = known.guard != 0 ? known.guard : known.context;
        if (file.role == Role::guard) continue;
        file.token = known.token;
        names_[known.token] = known.context;
        handles_[known.context] = known.handle;
    }
}

Expected<void> ContextFiles::open(std::uint64_t handle, std::uint32_t uid) {
    const std::lock_guard lock{mutex_};
    std::uint64_t& count = of_user_[uid];
    if (count >= user_max_) return fail(Cause::limit_user_contexts);
    files_[handle].uid = uid;
    if (ledger_ != nullptr) ledger_->context_opened(handle, uid);
    ++count;
    return {};
}

void ContextFiles::release(std::uint64_t handle) {
    File file;
    {
        const std::lock_guard lock{mutex_};
        const auto at = files_.find(handle);
        if (at == files_.end()) return;
        file = std::move(at->second);
        files_.erase(at);
        const auto user = of_user_.find(file.uid);
        if (--user->second == 0) of_user_.erase(user);
        if (file.role == Role::context) {
            names_.erase(file.token);
            handles_.erase(file.id);
        }
    }
    if (ledger_ != nullptr) ledger_->context_closed(handle);
    if (file.role == Role::context) volume_.close_context(file.id);
    if (file.role == Role::guard) volume_.close_guard(file.id);
}

const ContextFiles::File* ContextFiles::find(std::uint64_t handle) const {
    const auto at = files_.find(handle);
    return at == files_.end() ? nullptr : &at->second;
}

Expected<ContextFiles::Named> ContextFiles::hello(std::uint64_t handle, const pin::Owner& owner) {
    const std::lock_guard lock{mutex_};
    const auto at = files_.find(handle);
    if (at == files_.end()) return fail(Cause::no_such_context);
    File& file = at->second;
    if (file.role == Role::context) return Named{file.id, file.token};
    if (file.role == Role::guard) return fail(Cause::is_a_context_already);
    const Token token = TRY(new_token());
    const std::uint64_t context = TRY(volume_.open_context(owner));
    try {
        names_[token] = context;
        handles_[context] = handle;
    } catch (...) {
        names_.erase(token);
        volume_.close_context(context);
        throw;
    }
    file.role = Role::context;
    file.id = context;
    file.token = token;
    if (ledger_ != nullptr) {
        pin::Owner named = owner;
        named.context = context;
        ledger_->context_is({.handle = handle,
                             .uid = file.uid,
                             .context = context,
                             .token = token,
                             .owner = named});
    }
    return Named{context, token};
}

Expected<std::uint64_t> ContextFiles::guard(std::uint64_t handle, const Token& token) {
    const std::lock_guard lock{mutex_};
    const auto at = files_.find(handle);
    const auto name = names_.find(token);
    if (at == files_.end() || name == names_.end()) return fail(Cause::no_such_context);
    File& file = at->second;
    // It became one by this very request, which another daemon did not answer.
    if (file.role == Role::guard && served_request().resent) return file.id;
    if (file.role != Role::none) return fail(Cause::is_a_context_already);
    file.id = TRY(volume_.open_guard(name->second));
    file.role = Role::guard;
    if (ledger_ != nullptr)
        ledger_->context_is({.handle = handle,
                             .uid = file.uid,
                             .context = name->second,
                             .guard = file.id,
                             .owner = {}});
    return file.id;
}

Expected<std::uint64_t> ContextFiles::context_of(std::uint64_t handle) const {
    const std::lock_guard lock{mutex_};
    const File* file = find(handle);
    if (file == nullptr || file->role != Role::context) return fail(Cause::not_a_context);
    return file->id;
}

Expected<std::uint64_t> ContextFiles::context_of(const Token& token) const {
    const std::lock_guard lock{mutex_};
    const auto name = names_.find(token);
    if (name == names_.end()) return fail(Cause::no_such_context);
    return name->second;
}

bool ContextFiles::poll(std::uint64_t handle, fuse_pollhandle* poller) {
    PollerPointer kept{poller};
    std::uint64_t context = 0;
    {
        const std::lock_guard lock{mutex_};
        const auto at = files_.find(handle);
        if (at == files_.end() || stopped_) return false;
        if (kept) std::swap(at->second.poller, kept);
        if (ledger_ != nullptr && at->second.poller)
            ledger_->polled(handle, SupervisedConnection::poller_of_this_thread());
        if (at->second.role != Role::context) return false;
        context = at->second.id;
    }
    // Asked after the poller is known: an event in between is seen here, one that follows wakes.
    return volume_.has_event(context);
}

void ContextFiles::wake(std::uint64_t context) {
    PollerPointer poller;
    {
        const std::lock_guard lock{mutex_};
        const auto at = handles_.find(context);
        if (at == handles_.end() || stopped_) return;
        poller = std::move(files_.at(at->second).poller);
        if (!poller) return;
        ++waking_;
    }
    fuse_lowlevel_notify_poll(poller.get());  // fails if the file was closed meanwhile
    const std::lock_guard lock{mutex_};
    if (--waking_ == 0) woken_.notify_all();
}

std::uint64_t ContextFiles::count(std::optional<std::uint32_t> uid) const {
    const std::lock_guard lock{mutex_};
    if (!uid) return names_.size();
    std::uint64_t sum = 0;
    for (const auto& [context, handle] : handles_)
        if (files_.at(handle).uid == *uid) ++sum;
    return sum;
}

}  // namespace pinfs::fuse

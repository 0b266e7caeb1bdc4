// SPDX-License-Identifier: Apache-2.0
#include "fs/volume/range_lock.h"

#include <array>
#include <condition_variable>
#include <mutex>

#include "fs/waits.h"

namespace pinfs {

namespace {

struct alignas(64) Turn {
    std::mutex mutex;
    std::condition_variable changed;
};

Turn& turn_of(const RangeLock& lock) {
    static std::array<Turn, 256> turns;
    return turns[(reinterpret_cast<std::uintptr_t>(&lock) >> 6) % turns.size()];
}

}  // namespace

bool RangeLock::must_wait(const Hold& hold) {
    for (const Hold* other = hold.earlier_; other != nullptr; other = other->earlier_)
        if (hold.conflicts(*other)) return true;
    return false;
}

RangeLock::Hold::Hold(RangeLock& lock, std::uint64_t begin, std::uint64_t end, Mode mode)
    : lock_{lock}, begin_{begin}, end_{end}, mode_{mode} {
    lock_check::acquired(LockRank::range, true);
    Turn& turn = turn_of(lock_);
    std::unique_lock guard{turn.mutex};
    earlier_ = lock_.latest_;
    if (earlier_ != nullptr) earlier_->later_ = this;
    lock_.latest_ = this;
    if (!must_wait(*this)) return;
    const Waiting waiting{LockRank::range};
    while (must_wait(*this)) {
        ++lock_.waiting_;
        turn.changed.wait(guard);
        --lock_.waiting_;
    }
}

RangeLock::Hold::~Hold() {
    Turn& turn = turn_of(lock_);
    bool somebody_waits = false;
    {
        const std::scoped_lock guard{turn.mutex};
        if (earlier_ != nullptr) earlier_->later_ = later_;
        if (later_ != nullptr)
            later_->earlier_ = earlier_;
        else
            lock_.latest_ = earlier_;
        somebody_waits = lock_.waiting_ > 0;
    }
    if (somebody_waits) turn.changed.notify_all();
    lock_check::released(LockRank::range);
}

}  // namespace pinfs

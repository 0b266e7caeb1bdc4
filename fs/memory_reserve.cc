// SPDX-License-Identifier: Apache-2.0
#include "fs/memory_reserve.h"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <mutex>
#include <new>

namespace pinfs {

namespace {

// Larger than what one change needs, and mapped each by itself: what goes back is there for any of
// malloc's arenas. Untouched they cost addresses only.
constexpr std::size_t kPieces = 16;
constexpr std::size_t kPieceBytes = 256 * 1024;

std::array<std::atomic<void*>, kPieces> pieces{};
std::atomic<bool> is_whole{false};
std::mutex filling;
thread_local unsigned must_finish = 0;

/// Of operator new, when malloc had nothing: it tries again when this returns.
void give_piece() {
    if (must_finish > 0) {
        is_whole.store(false);
        for (auto& piece : pieces) {
            void* const memory = piece.exchange(nullptr);
            if (memory == nullptr) continue;
            munmap(memory, kPieceBytes);
            return;
        }
    }
    throw std::bad_alloc();
}

}  // namespace

bool fill_memory_reserve() noexcept {
    if (is_whole.load()) return true;
    const std::scoped_lock lock{filling};
    std::set_new_handler(give_piece);
    is_whole.store(true);  // first: a piece that goes meanwhile is seen
    for (auto& piece : pieces) {
        if (piece.load() != nullptr) continue;
        void* const memory =
            mmap(nullptr, kPieceBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            is_whole.store(false);
            return false;
        }
        piece.store(memory);
    }
    return true;
}

MustFinish::MustFinish() noexcept { ++must_finish; }
MustFinish::~MustFinish() { --must_finish; }

}  // namespace pinfs

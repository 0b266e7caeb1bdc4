// SPDX-License-Identifier: Apache-2.0
//
// One atomic change, as it is put together: units staged in memory, as they are and as they will
// be. Nothing reaches media before Journal::commit; a transaction that is dropped never was.
//
// The caller holds the lock of every unit it edits until commit has returned, so that no other
// transaction in a lane has bytes of the same unit.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fs/journal/units.h"

namespace pinfs::journal {

/// Keeps a block for the thread's next transaction: of that size malloc itself keeps none for a
/// thread.
struct GiveUnitBack {
    std::size_t bytes = 0;
    void operator()(std::byte* unit) const noexcept;
};
using UnitMemory = std::unique_ptr<std::byte[], GiveUnitBack>;

class Transaction {
public:
    explicit Transaction(const Units& units) : units_{units} {}
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;

    /// An existing block, verified; only bytes that differ in the end are logged.
    Expected<std::span<std::byte>> edit_block(std::uint64_t offset, const BlockIdentity& identity);
    /// An existing unit of another size.
    Expected<std::span<std::byte>> edit(std::uint64_t offset, std::uint32_t magic,
                                        std::size_t bytes);
    /// A unit inside an existing block whose old bytes do not matter (a slot); zeroed, logged
    /// whole.
    std::span<std::byte> create(std::uint64_t offset, std::size_t bytes);
    /// A block that this transaction allocates: zeroed, written in place before the commit point.
    std::span<std::byte> create_block(std::uint64_t offset, const BlockIdentity& identity,
                                      unsigned level);
    /// Forgets what was staged for a block that this transaction frees.
    void drop(std::uint64_t offset);

    /// The unit as this transaction will leave it, or nullptr if it is not staged.
    [[nodiscard]] const std::byte* staged(std::uint64_t offset) const;
    [[nodiscard]] bool empty() const { return staged_.empty(); }
    /// What the log takes at most for what is staged so far.
    [[nodiscard]] std::size_t log_bytes_max() const;

private:
    friend class Journal;

    struct Staged {
        std::uint64_t offset = 0;
        std::uint32_t bytes = 0;
        bool fresh = false;  // written in place before the commit point
        bool whole = false;  // no `before`: log all bytes
        UnitMemory after;
        UnitMemory before;
    };
    Staged* find(std::uint64_t offset);
    template <class Read>
    Expected<std::span<std::byte>> stage(std::uint64_t offset, std::size_t bytes, const Read& read);
    Staged& add(std::uint64_t offset, std::size_t bytes);

    const Units& units_;
    std::vector<Staged> staged_;
};

}  // namespace pinfs::journal

// SPDX-License-Identifier: Apache-2.0
//
// A client of an AnsweringDaemon, and answers changed field by field.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>

#include "lib/pinfs/pinfs.h"
#include "tests/support/answering_daemon.h"

namespace pinfs::test {

/// An answer as its struct, and its extents.
template <class Head>
struct Answer {
    Head head{};
    std::array<pinfs_ioc_extent, 4> extents{};
};

template <class Head>
struct Case {
    const char* what;  ///< of the sentence
    void (*change)(Answer<Head>&);
};

/// A change of one field: `WITH(head.id = 0)`.
#define WITH(assignment)   \
    [](auto& answer) {     \
        answer.assignment; \
    }

/// Changes successful answers to `request`.
template <class Head, class Change>
AnsweringDaemon::Change changed(unsigned request, Change change) {
    return [request, change](unsigned asked, std::span<std::byte> buffer,
                             AnsweringDaemon::Outcome& outcome) {
        if (asked != request || outcome.result != 0) return;
        Answer<Head> answer;
        const std::size_t bytes = std::min(sizeof answer, buffer.size());
        std::memcpy(&answer, buffer.data(), bytes);
        change(answer);
        std::memcpy(buffer.data(), &answer, bytes);
    };
}

inline void check_refused(std::int64_t result, const char* what) {
    CHECK(result == -EPROTO);
    CHECK_THAT(pinfs_last_error(), Catch::Contains(what));
}

/// A context, and the daemon behind it.
class Client {
public:
    Client() { REQUIRE(daemon.open_context(&context) == 0); }
    ~Client() {
        daemon.change = {};
        pinfs_context_close(context);
        CHECK(daemon.maps() == 0);
        CHECK(daemon.pins() == 0);
    }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    int map(std::uint64_t block, std::uint64_t blocks, void** address) {
        return pinfs_map(context, daemon.file(), block * AnsweringDaemon::kBlock,
                         blocks * AnsweringDaemon::kBlock, PROT_READ | PROT_WRITE, 0, address);
    }
    /// That nothing of a refused one is left, and that the next one works.
    void check_map_works() {
        daemon.change = {};
        CHECK(daemon.maps() == 0);
        void* address = nullptr;
        REQUIRE(map(2, 3, &address) == 0);
        CHECK(block_at(address, 0) == 2);
        CHECK(block_at(address, 2) == 4);
        CHECK(pinfs_unmap(context, address, 3 * AnsweringDaemon::kBlock) == 0);
    }
    /// What has no name that could be told ends with the guard.
    void check_guard_is_left() {
        CHECK(daemon.maps() == 1);
        daemon.end_guards();
    }
    static std::uint64_t block_at(const void* address, std::uint64_t block) {
        std::uint64_t number = 0;
        std::memcpy(&number,
                    static_cast<const std::byte*>(address) + block * AnsweringDaemon::kBlock,
                    sizeof number);
        return number;
    }

    AnsweringDaemon daemon;
    pinfs_context* context = nullptr;
};

}  // namespace pinfs::test

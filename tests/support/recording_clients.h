// SPDX-License-Identifier: Apache-2.0
//
// A recording of what a client stores through a direct map, which the file system never sees: what
// it flushed when asked to is durable (SPEC 6.3).
#pragma once

#include "tests/support/recording.h"

namespace pinfs::test {

/// What makes the stores durable.
enum class Flusher : std::uint8_t {
    sync,
    sync_by_threads,  ///< of so large a map that several threads flush it
    unmap,
    unpin,
};

class RecordedClient : public Recording {
public:
    explicit RecordedClient(Flusher flusher);

protected:
    std::string judge_state(const Snapshot& found, std::uint64_t completed) const override {
        return timeline_.judge(found, completed);
    }

private:
    Timeline timeline_;
};

}  // namespace pinfs::test

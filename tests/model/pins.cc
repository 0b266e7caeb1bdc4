// SPDX-License-Identifier: Apache-2.0
//
// Leases, maps, pins and layout changes from many threads at once (SPEC 3.5, 3.7, 3.8), in a region
// so small that every freed block is somebody's at once. While a map or pin lives, nobody else gets
// its blocks; while a pin lives, its file keeps them.
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>

#include "fs/format/inode.h"
#include "fs/pin/process.h"
#include "tests/support/mounted.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;
using Random = std::mt19937_64;

constexpr std::uint64_t kFileBytes = 64 * kBlockBytes;
constexpr int kFiles = 4;

/// Blocks that live maps and pins of each file may reach.
class Reached {
public:
    std::uint64_t add(Ino ino, const std::vector<Extent>& extents) {
        const std::scoped_lock lock{mutex_};
        all_[++last_] = {ino, extents};
        return last_;
    }
    void add_to(std::uint64_t number, const std::vector<Extent>& extents) {
        const std::scoped_lock lock{mutex_};
        auto& there = all_.at(number).second;
        there.insert(there.end(), extents.begin(), extents.end());
    }
    void remove(std::uint64_t number) {
        const std::scoped_lock lock{mutex_};
        all_.erase(number);
    }
    /// Whether somebody may reach blocks of `extents` through a file that is not `ino`.
    bool meets(Ino ino, const std::vector<Extent>& extents) {
        const std::scoped_lock lock{mutex_};
        for (const auto& [number, reached] : all_)
            for (const Extent& theirs : reached.second)
                for (const Extent& ours : extents)
                    if (reached.first != ino &&
                        theirs.region_offset < ours.region_offset + ours.bytes &&
                        ours.region_offset < theirs.region_offset + theirs.bytes)
                        return true;
        return false;
    }

private:
    std::mutex mutex_;
    std::uint64_t last_ = 0;
    std::map<std::uint64_t, std::pair<Ino, std::vector<Extent>>> all_;
};

class Stress {
public:
    Stress(std::uint64_t seed, std::uint64_t unpin_delay_ms) : seed_{seed}, fs_{{.bytes = 4_MiB}} {
        fs_.unmount();
        fs_.mount(/*background=*/true, unpin_delay_ms);
        for (int i = 0; i < kFiles; ++i) {
            files_[i] = fs_.make_file("/f" + std::to_string(i), kFileBytes, 1);
            must(fs_->lookup(kRootIno, "f" + std::to_string(i)));
            REQUIRE(must(fs_->open(files_[i], OpenFor::writing)));
        }
    }

    void run(std::chrono::milliseconds time) {
        const auto end = std::chrono::steady_clock::now() + time;
        std::vector<std::thread> threads;
        const auto start = [&](auto step) {
            threads.emplace_back([this, end, step, number = threads.size()] {
                Random random{seed_ + number};
                while (std::chrono::steady_clock::now() < end && wrong_.load() == nullptr)
                    (this->*step)(random, number);
            });
        };
        for (int i = 0; i < 2; ++i) {
            start(&Stress::pin);
            start(&Stress::map);
            start(&Stress::cut);
            start(&Stress::use_space);
        }
        start(&Stress::read_and_write);
        start(&Stress::report);
        for (std::thread& thread : threads) thread.join();
        const char* const wrong = wrong_.load();
        INFO((wrong == nullptr ? "" : wrong));
        CHECK(wrong == nullptr);
    }

    void finish() {
        for (int i = 0; i < kFiles; ++i) {
            fs_->release(files_[i]);
            fs_->forget(files_[i], 1000);
        }
        fs_.remove_all();
        for (int i = 0; i < 5000 && fs_->pinned_totals().holds + fs_->pinned_totals().pins +
                                            fs_->pinned_totals().maps !=
                                        0;
             ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
        CHECK(must(fs_->pinned()).empty());
        fs_.unmount();
        fs_.check_clean();
        CHECK(pins_.load() > 0);
        CHECK(maps_.load() > 0);
        CHECK(cuts_.load() > 0);
        CHECK(refused_.load() > 0);
    }

private:
    struct Session {
        pin::Owner owner;
        std::uint64_t guard = 0;
    };
    Session begin() {
        const auto pid = static_cast<std::uint32_t>(::getpid());
        Session session;
        session.owner.process = {
            .pid = pid, .start_ticks = pin::start_ticks_of(pid).value(), .pid_namespace = 1};
        session.owner.command = "stress";
        session.owner.context = must(fs_->open_context(session.owner));
        session.guard = must(fs_->open_guard(session.owner.context));
        return session;
    }
    void end(const Session& session, Random& random) {
        if (random() % 2 == 0) {
            fs_->close_context(session.owner.context);
            fs_->close_guard(session.guard);
        } else {
            fs_->close_guard(session.guard);
            fs_->close_context(session.owner.context);
        }
    }
    struct Range {
        std::uint64_t offset;
        std::uint64_t bytes;
    };
    static Range some(Random& random) {
        const std::uint64_t first = random() % 60;
        return {first * kBlockBytes, (1 + random() % (64 - first)) * kBlockBytes};
    }
    void fail_with(const char* what) { wrong_.store(what); }

    void pin(Random& random, std::size_t number) {
        const Session session = begin();
        const OpenFile file{files_[random() % kFiles], 100 + number};
        const Range range = some(random);
        const auto leased = fs_->set_lease(file, {.kind = pin::LeaseKind::exclusive,
                                                  .offset_bytes = range.offset,
                                                  .length_bytes = range.bytes,
                                                  .owner = session.owner,
                                                  .user_data = 0,
                                                  .may_exclude = true});
        if (leased) {
            const auto pinned = fs_->pin(file, {.offset_bytes = range.offset,
                                                .length_bytes = range.bytes,
                                                .owner = session.owner,
                                                .label = {}});
            fs_->drop_leases(file);
            if (pinned) {
                pins_.fetch_add(1);
                const auto before =
                    must(fs_->pin_extents(session.owner, pinned->id, pinned->generation, 0, 0));
                const std::uint64_t entry = reached_.add(file.ino, before);
                std::this_thread::yield();
                const auto now = must(fs_->layout(file.ino, range.offset, range.bytes));
                std::uint64_t bytes = 0;
                for (const Extent& extent : now.extents) bytes += extent.bytes;
                if (bytes != range.bytes || now.extents != before)
                    fail_with("the layout of a pinned range changed");
                reached_.remove(entry);
                if (random() % 4 != 0)
                    must(fs_->unpin(session.owner, pinned->id, pinned->generation));
            }
        }
        end(session, random);
    }

    void map(Random& random, std::size_t number) {
        const Session session = begin();
        const OpenFile file{files_[random() % kFiles], 200 + number};
        must(fs_->set_lease(file, {.kind = pin::LeaseKind::layout,
                                   .offset_bytes = 0,
                                   .length_bytes = 0,
                                   .owner = session.owner,
                                   .user_data = 0}));
        const Range range = some(random);
        const auto mapped = fs_->map(file, {.offset_bytes = range.offset,
                                            .length_bytes = range.bytes,
                                            .writable = true,
                                            .owner = session.owner,
                                            .guard = session.guard});
        if (mapped) {
            maps_.fetch_add(1);
            const std::uint64_t entry = reached_.add(file.ino, mapped->extents);
            for (int i = 0; i < 3; ++i) {
                std::this_thread::yield();
                while (const auto event = must(fs_->next_event(session.owner.context))) {
                    if (event->id != mapped->id) continue;
                    const auto layout = fs_->reload_map(session.owner.context, mapped->id,
                                                        event->begin, event->end - event->begin);
                    if (layout) reached_.add_to(entry, layout->extents);
                }
            }
            reached_.remove(entry);
            if (random() % 4 != 0) must(fs_->unmap(session.owner.context, mapped->id));
        }
        fs_->drop_leases(file);
        end(session, random);
    }

    void cut(Random& random, std::size_t) {
        const Ino ino = files_[random() % kFiles];
        const Range range = some(random);
        Expected<void> done;
        if (random() % 3 == 0) {
            done = fs_->punch_hole(ino, range.offset + random() % 100, range.bytes);
        } else if (random() % 2 == 0) {
            done = fs_->zero_range(ino, range.offset + random() % 100, range.bytes, true);
        } else {
            AttributeChange change;
            change.size_bytes = range.offset + random() % 5000;
            const auto changed = fs_->change_attributes(ino, change);
            if (!changed) done = std::unexpected(changed.error());
            change.size_bytes = kFileBytes;
            must(fs_->change_attributes(ino, change));
        }
        cuts_.fetch_add(1);
        if (done) return;
        const int number = done.error().number();
        if (number == EBUSY)
            refused_.fetch_add(1);
        else if (number != ENOSPC)
            fail_with("a cut failed, and not for a pin or for space");
    }

    /// Takes what others freed, and looks that nobody reaches it.
    void use_space(Random& random, std::size_t number) {
        const std::string name = "g" + std::to_string(number);
        const auto made = fs_->make(kRootIno, name, {.mode = S_IFREG | 0600}, {});
        if (!made) return;
        const Ino ino = made->attributes.ino;
        const bool dax = must(fs_->open(ino, OpenFor::writing));
        const Bytes bytes = pattern(0, (1 + random() % 100) * kBlockBytes, number);
        if (fs_->write(ino, 0, bytes) && dax) {
            const auto layout = must(fs_->layout(ino, 0, bytes.size()));
            if (reached_.meets(ino, layout.extents))
                fail_with("a block that somebody reaches was given to another file");
        }
        must(fs_->unlink(kRootIno, name));
        fs_->release(ino);
        fs_->forget(ino, 1);
    }

    void read_and_write(Random& random, std::size_t) {
        const Ino ino = files_[random() % kFiles];
        const Range range = some(random);
        if (random() % 2 == 0) {
            (void)fs_->write(ino, range.offset, pattern(range.offset, 3000, 5));
        } else if (random() % 2 == 0) {
            Bytes out(range.bytes);
            must(fs_->read(ino, range.offset, out));
        } else {
            (void)fs_->copy(ino, range.offset, ino, (range.offset + 70'000) % kFileBytes, 10'000);
        }
        (void)fs_->sync(ino);
    }

    void report(Random&, std::size_t) {
        (void)must(fs_->pinned());
        (void)fs_->pinned_totals();
    }

    const std::uint64_t seed_;
    Mounted fs_;
    std::array<Ino, kFiles> files_{};
    Reached reached_;
    std::atomic<const char*> wrong_{nullptr};
    std::atomic<std::uint64_t> pins_{0}, maps_{0}, cuts_{0}, refused_{0};
};

}  // namespace

TEST_CASE("3.5, 3.8: pins, maps and cuts at once: nobody gets blocks that somebody reaches",
          "[volume][pin][concurrency]") {
    const std::uint64_t delay_ms = GENERATE(0, 1);  // SPEC 3.12
    Stress stress{seed_of_test("pins", 1), delay_ms};
    stress.run(std::chrono::seconds{3});
    stress.finish();
}

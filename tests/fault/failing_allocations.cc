// SPDX-License-Identifier: Apache-2.0
//
// Every operation with its first allocation failing, with its second, and so on until none is left
// to fail. Each time it fails with ENOMEM and nothing has changed, or it is done all the same; what
// comes after it works, and nothing is lost: no block, no lock, and under the address sanitizer no
// memory. What cannot be refused (release, forget, what ends a lease or a pin) is done.
#include <catch2/catch.hpp>
#include <cstdio>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "fs/memory_reserve.h"
#include "tests/support/failing_new.h"
#include "tests/support/mounted.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

constexpr Caller kUser{.uid = 1000, .gid = 100};

/// As the edge runs a call.
Expected<void> guarded(const std::function<Expected<void>()>& call) {
    try {
        return call();
    } catch (const std::bad_alloc&) {
        return fail(Cause::out_of_memory);
    }
}

pin::Owner owner_number(std::uint32_t number) {
    return {.context = 0,
            .process = {.pid = (1u << 22) + number, .start_ticks = 1, .pid_namespace = 1},
            .uid = 0,
            .command = "test"};
}

/// A file system with something of everything, known to a kernel.
struct Filled {
    Filled() {
        empty_blocks_free = fs->statistics().blocks_free;
        directory = make("directory", S_IFDIR | 0755);
        for (int i = 0; i < 30; ++i)
            fs.make_file("/directory/" + std::string(80, 'n') + std::to_string(i));
        for (int i = 0; i < 3; ++i) fs.make_directory("/empty" + std::to_string(i));
        file = make("file", S_IFREG | 0644);
        fs.write(file, 0, pattern(0, 20000, 1));
        must(fs->open(file));
        must(fs->link(file, kRootIno, "link"));
        scattered = make("scattered", S_IFREG | 0644);
        for (std::uint64_t i = 0; i < 60; ++i) fs.write(scattered, 8192 * i, pattern(0, 4096, i));
        must(fs->open(scattered));
        attributed = make("attributed", S_IFREG | 0644);
        must(fs->set_attribute(attributed, "user.x", pattern(0, 9000, 1), SetAttribute::create));
        must(fs->set_attribute(attributed, "user.y", pattern(0, 20, 1), SetAttribute::create));
        symbolic = must(fs->make(kRootIno, "symbolic",
                                 {.mode = S_IFLNK | 0777, .target = std::string(500, 't')}, kUser))
                       .attributes.ino;
        orphan = make("orphan", S_IFREG | 0644);
        fs.write(orphan, 0, pattern(0, 9000, 1));
        must(fs->open(orphan));
        must(fs->unlink(kRootIno, "orphan"));
        reached = make("reached", S_IFREG | 0644);
        fs.write(reached, 0, pattern(0, 20000, 1));
        must(fs->open(reached));
        owner = owner_number(1);
        owner.context = must(fs->open_context(owner));
        other = owner_number(2);
        other.context = must(fs->open_context(other));
        guard = must(fs->open_guard(owner.context));
        lease({reached, 1}, pin::LeaseKind::exclusive);
        map = must(fs->map({reached, 1}, map_request())).id;
        pin = must(fs->pin({reached, 1}, pin_request()));
        lease({scattered, 2}, pin::LeaseKind::layout);
        cut_map = must(fs->map({scattered, 2}, {.offset_bytes = 0,
                                                .length_bytes = 8192 * 8,
                                                .writable = true,
                                                .owner = owner,
                                                .guard = guard}))
                      .id;
        must(fs->punch_hole(scattered, 0, 8192 * 4));  // a hold, and an event
    }

    Ino make(const std::string& name, std::uint32_t mode) {
        return must(fs->make(kRootIno, name, {.mode = mode}, kUser)).attributes.ino;
    }
    void lease(OpenFile of, pin::LeaseKind kind) const { must(fs->set_lease(of, request(kind))); }
    [[nodiscard]] LeaseRequest request(pin::LeaseKind kind) const {
        return {.kind = kind,
                .offset_bytes = 0,
                .length_bytes = 0,
                .owner = owner,
                .user_data = 0,
                .may_exclude = true};
    }
    [[nodiscard]] MapRequest map_request() const {
        return {.offset_bytes = 0,
                .length_bytes = 20480,
                .writable = true,
                .owner = owner,
                .guard = guard};
    }
    [[nodiscard]] PinRequest pin_request() const {
        return {.offset_bytes = 0, .length_bytes = 9000, .owner = owner, .label = {}};
    }

    Mounted fs{{.bytes = 2_MiB}};
    std::uint64_t empty_blocks_free = 0;
    Ino directory, file, scattered, attributed, symbolic, orphan, reached;
    pin::Owner owner, other;
    std::uint64_t guard = 0;
    std::uint64_t map = 0;
    std::uint64_t cut_map = 0;
    PinAnswer pin;
};

/// What may be seen of a call that failed.
enum class Leaves : std::uint8_t {
    nothing,
    blocks,  ///< blocks that read as zeros
    times,
};

struct Call {
    std::string name;
    std::function<Expected<void>(Filled&)> run;
    bool cannot_fail = false;
    Leaves leaves = Leaves::nothing;
};

template <class Value>
Expected<void> done(const Expected<Value>& result) {
    if (!result) return std::unexpected(result.error());
    return {};
}

AttributeChange size_change(std::uint64_t bytes) {
    AttributeChange change;
    change.size_bytes = bytes;
    return change;
}

/// What changes the file system. Values are made beforehand: what is counted is the volume's.
std::vector<Call> changing_calls() {
    const static Bytes kLarge = pattern(0, 30000, 7);
    const static std::string kTarget(1000, 't');
    const static std::string kLongName(200, 'l');
    std::vector<Call> calls;
    const auto add = [&](const char* name, auto run, Leaves leaves = Leaves::nothing) {
        calls.push_back({name, run, false, leaves});
    };
    add("create", [](Filled& f) {
        return done(f.fs->make(f.directory, kLongName, {.mode = S_IFREG | 0644}, kUser));
    });
    add("make a directory", [](Filled& f) {
        return done(f.fs->make(kRootIno, "new", {.mode = S_IFDIR | 0755}, kUser));
    });
    add("make a node", [](Filled& f) {
        return done(f.fs->make(kRootIno, "new", {.mode = S_IFIFO | 0600}, kUser));
    });
    add("make a symbolic link", [](Filled& f) {
        return done(
            f.fs->make(kRootIno, "new", {.mode = S_IFLNK | 0777, .target = kTarget}, kUser));
    });
    add("make a file without a name",
        [](Filled& f) { return done(f.fs->make_unnamed(kRootIno, {.mode = S_IFREG}, kUser)); });
    add("link", [](Filled& f) { return done(f.fs->link(f.file, f.directory, "new")); });
    add("unlink", [](Filled& f) { return f.fs->unlink(kRootIno, "file"); });
    add("unlink what is mapped", [](Filled& f) { return f.fs->unlink(kRootIno, "reached"); });
    add("remove a directory", [](Filled& f) { return f.fs->remove_directory(kRootIno, "empty1"); });
    add("rename",
        [](Filled& f) { return f.fs->rename(kRootIno, "file", f.directory, "new", 0, kUser); });
    add("rename over a file",
        [](Filled& f) { return f.fs->rename(kRootIno, "file", kRootIno, "attributed", 0, kUser); });
    add("rename a directory over another", [](Filled& f) {
        return f.fs->rename(kRootIno, "directory", kRootIno, "empty2", 0, kUser);
    });
    add("exchange", [](Filled& f) {
        return f.fs->rename(kRootIno, "file", kRootIno, "directory", kRenameExchange, kUser);
    });
    add("rename and leave a whiteout", [](Filled& f) {
        return f.fs->rename(kRootIno, "file", f.directory, "new", kRenameWhiteout, kUser);
    });
    add("write into a hole",
        [](Filled& f) { return done(f.fs->write(f.scattered, 8192 * 20 + 4000, kLarge)); });
    add("overwrite",
        [](Filled& f) { return done(f.fs->write(f.file, 100, std::span{kLarge}.first(10000))); });
    add("append", [](Filled& f) { return done(f.fs->write(f.file, 0, kLarge, true)); });
    add("truncate", [](Filled& f) {
        return done(f.fs->change_attributes(f.scattered, size_change(8192 * 30)));
    });
    add("truncate what is mapped",
        [](Filled& f) { return done(f.fs->change_attributes(f.scattered, size_change(100))); });
    add("grow",
        [](Filled& f) { return done(f.fs->change_attributes(f.file, size_change(90000))); });
    add(
        "allocate", [](Filled& f) { return f.fs->allocate(f.scattered, 0, 8192 * 60, false); },
        Leaves::blocks);
    add("punch", [](Filled& f) { return f.fs->punch_hole(f.scattered, 8192 * 10, 8192 * 20); });
    add("zero", [](Filled& f) { return f.fs->zero_range(f.file, 3000, 9000, false); });
    add("copy", [](Filled& f) { return done(f.fs->copy(f.file, 0, f.attributed, 0, 20000)); });
    add("set an attribute", [](Filled& f) {
        return f.fs->set_attribute(f.file, "user.new", kLarge, SetAttribute::create);
    });
    add("replace an attribute", [](Filled& f) {
        return f.fs->set_attribute(f.attributed, "user.x", kLarge, SetAttribute::replace);
    });
    add("remove an attribute",
        [](Filled& f) { return f.fs->remove_attribute(f.attributed, "user.x"); });
    add("change the owner", [](Filled& f) {
        AttributeChange change;
        change.uid = 7;
        return done(f.fs->change_attributes(f.file, change));
    });
    add(
        "sync what is mapped", [](Filled& f) { return f.fs->sync(f.reached); }, Leaves::times);
    add("finish what is pending", [](Filled& f) { return f.fs->finish_pending(); });
    return calls;
}

/// What only looks.
std::vector<Call> looking_calls() {
    std::vector<Call> calls;
    const auto add = [&](const char* name, auto run, Leaves leaves = Leaves::nothing) {
        calls.push_back({name, run, false, leaves});
    };
    add("lookup", [](Filled& f) {
        const auto found = f.fs->lookup(kRootIno, "attributed");
        if (found) f.fs->forget(found->attributes.ino, 1);
        return done(found);
    });
    add("attributes", [](Filled& f) { return done(f.fs->attributes(f.file)); });
    add("read", [](Filled& f) {
        static Bytes buffer(50000);
        return done(f.fs->read(f.scattered, 0, buffer));
    });
    add("read a link", [](Filled& f) { return done(f.fs->read_link(f.symbolic)); });
    add("read a directory", [](Filled& f) {
        return f.fs->read_directory(f.directory, 0, [](const DirectoryItem&) { return true; });
    });
    add("an attribute", [](Filled& f) { return done(f.fs->attribute(f.attributed, "user.x")); });
    add("attribute names", [](Filled& f) { return done(f.fs->attribute_names(f.attributed)); });
    add("seek", [](Filled& f) { return done(f.fs->seek(f.scattered, 100, SeekTo::hole)); });
    add("extents", [](Filled& f) { return done(f.fs->extents(f.scattered, 0, 1_MiB)); });
    add("layout", [](Filled& f) { return done(f.fs->layout(f.scattered, 0, 1_MiB)); });
    add("a lease", [](Filled& f) { return done(f.fs->lease({f.reached, 1}, 0, 0)); });
    add("what is pinned", [](Filled& f) { return done(f.fs->pinned()); });
    add("extents of a pin", [](Filled& f) {
        return done(f.fs->pin_extents(f.owner, f.pin.id, f.pin.generation, 0, 0));
    });
    add("a path", [](Filled& f) -> Expected<void> {
        (void)f.fs->path(f.reached);
        return {};
    });
    add("who is in the way", [](Filled& f) -> Expected<void> {
        (void)f.fs->describe(f.pin.id);
        return {};
    });
    add("open and release", [](Filled& f) -> Expected<void> {
        TRY(f.fs->open(f.attributed));
        f.fs->release(f.attributed);
        return {};
    });
    return calls;
}

/// What makes leases, maps and pins.
std::vector<Call> reaching_calls() {
    std::vector<Call> calls;
    const auto add = [&](const char* name, auto run, Leaves leaves = Leaves::nothing) {
        calls.push_back({name, run, false, leaves});
    };
    add("open a context", [](Filled& f) { return done(f.fs->open_context(f.owner)); });
    add("open a guard", [](Filled& f) { return done(f.fs->open_guard(f.owner.context)); });
    add("lease", [](Filled& f) {
        return done(f.fs->set_lease({f.file, 9}, f.request(pin::LeaseKind::exclusive)));
    });
    add("map", [](Filled& f) { return done(f.fs->map({f.reached, 1}, f.map_request())); });
    add(
        "map holes",
        [](Filled& f) {
            MapRequest request = f.map_request();
            request.offset_bytes = 8192 * 20;
            return done(f.fs->map({f.scattered, 2}, request));
        },
        Leaves::blocks);
    add("pin", [](Filled& f) { return done(f.fs->pin({f.reached, 1}, f.pin_request())); });
    add(
        "reload a map",
        [](Filled& f) { return done(f.fs->reload_map(f.owner.context, f.cut_map, 0, 8192 * 8)); },
        Leaves::blocks);
    add("declare clean",
        [](Filled& f) { return f.fs->declare_clean(f.owner.context, f.map, 4096, 4096); });
    add("transfer a pin", [](Filled& f) {
        return done(f.fs->transfer_pin(f.owner.context, f.other, f.pin.id, f.pin.generation));
    });
    add("revoke", [](Filled& f) { return f.fs->revoke(f.pin.id, 1000); });
    add("the next event", [](Filled& f) { return done(f.fs->next_event(f.owner.context)); });
    return calls;
}

/// What ends something: it is done, whatever fails.
std::vector<Call> ending_calls() {
    std::vector<Call> calls;
    const auto add = [&](const char* name, auto run) {
        calls.push_back({name,
                         [run](Filled& f) -> Expected<void> {
                             run(f);
                             return {};
                         },
                         true});
    };
    add("forget", [](Filled& f) { f.fs->forget(f.attributed, 1); });
    add("forget an open orphan", [](Filled& f) { f.fs->forget(f.orphan, 1); });
    add("release", [](Filled& f) { f.fs->release(f.file); });
    add("release an orphan", [](Filled& f) { f.fs->release(f.orphan); });
    add("release what is mapped", [](Filled& f) { f.fs->release(f.reached); });
    add("drop leases", [](Filled& f) { f.fs->drop_leases({f.reached, 1}); });
    add("close a context", [](Filled& f) { f.fs->close_context(f.owner.context); });
    add("close a guard", [](Filled& f) { f.fs->close_guard(f.guard); });
    add("shut down", [](Filled& f) { f.fs->shut_down(); });
    return calls;
}

/// Empty file system again, every block free, as a mount after a crash finds it.
void require_nothing_lost(Filled& f) {
    if (!f.fs->is_shut_down()) f.fs.check_clean();
    f.fs.abandon();
    Mounted after{f.fs.region()};
    after.remove_all();
    REQUIRE(after->statistics().blocks_free == f.empty_blocks_free);
    after.unmount();
    after.check_clean();
}

struct Counts {
    std::uint64_t failures = 0;
    std::uint64_t not_minded = 0;  ///< the call was done all the same
};

Snapshot seen(Filled& f, Leaves leaves) {
    Snapshot snapshot = f.fs.snapshot();
    if (leaves == Leaves::times)
        for (auto& [path, file] : snapshot) file.mtime = file.ctime = std::nullopt;
    return snapshot;
}

/// What is leased, mapped, pinned and held, and charged for it.
std::vector<std::uint64_t> accounts_of(Filled& f) {
    const PinnedTotals totals = f.fs->pinned_totals();
    return {totals.contexts,  totals.leases,     totals.maps,
            totals.map_bytes, totals.pins,       totals.pin_bytes,
            totals.holds,     totals.hold_bytes, f.fs->charged_bytes(0).first};
}

/// Runs `call` with each allocation failing in turn.
void fail_each(const Call& call, bool no_more_memory, Counts& counts) {
    std::unique_ptr<Filled> filled;
    Snapshot before;
    std::uint64_t blocks_free = 0;
    std::vector<std::uint64_t> accounts;
    for (std::uint64_t number = 1;; ++number) {
        INFO(call.name << " with allocation " << number << " failing"
                       << (no_more_memory ? ", and all that follow" : ""));
        if (!filled) {
            filled = std::make_unique<Filled>();
            before = seen(*filled, call.leaves);
            blocks_free = filled->fs->statistics().blocks_free;
            accounts = accounts_of(*filled);
        }
        REQUIRE(fill_memory_reserve());
        Expected<void> result;
        bool happened = false;
        {
            const FailingAllocation failing{number, no_more_memory};
            result = guarded([&] { return call.run(*filled); });
            happened = failing.happened();
        }
        if (!happened) {
            if (!result) FAIL(call.name << ": " << result.error().message());
            return require_nothing_lost(*filled);
        }
        ++counts.failures;
        if (result) {
            ++counts.not_minded;
            require_nothing_lost(*filled);
            filled.reset();
            continue;
        }
        CHECK_FALSE(call.cannot_fail);
        CHECK(result.error().number() == ENOMEM);
        REQUIRE(difference(seen(*filled, call.leaves), before) == "");
        REQUIRE(accounts_of(*filled) == accounts);
        if (call.leaves != Leaves::blocks)
            REQUIRE(filled->fs->statistics().blocks_free == blocks_free);
    }
}

void fail_each(const char* what, const std::vector<Call>& calls) {
    Counts counts;
    for (const bool no_more_memory : {false, true})
        for (const Call& call : calls) fail_each(call, no_more_memory, counts);
    std::printf("%s: %zu calls, %llu allocations failed, %llu of them not minded\n", what,
                calls.size(), static_cast<unsigned long long>(counts.failures),
                static_cast<unsigned long long>(counts.not_minded));
    CHECK(counts.failures > 0);
}

}  // namespace

TEST_CASE("an allocation that fails fails its operation, and nothing has changed",
          "[volume][fault]") {
    fail_each("changes", changing_calls());
}

TEST_CASE("an allocation that fails while somebody looks changes nothing", "[volume][fault]") {
    fail_each("looks", looking_calls());
}

TEST_CASE("an allocation that fails leaves no lease, map or pin behind", "[volume][pin][fault]") {
    fail_each("leases, maps and pins", reaching_calls());
}

TEST_CASE("what ends something ends it without memory", "[volume][pin][fault]") {
    fail_each("ends", ending_calls());
}

// SPDX-License-Identifier: Apache-2.0
//
// Measures libpinfs, and prints medians as JSON; what is compared is measured by turns.
//   loads FILE REGION ROUNDS: through pinfs_map, and through mmap of the same bytes of the region
//   map FILE ROUNDS: pinfs_map of all of it, in pieces and microseconds
//   pins FEW MANY COUNT ROUNDS: pin, unpin and truncation beside 10 and beside COUNT live pins, in
//       files of two mounts
//   flush SMALL LARGE ROUNDS: fsync, and pinfs_msync in maps of all of either
//   sync FILE ROUNDS: fsync under a writable map of all of it that declares nothing, and libpmem's
//       flush of the same by two threads
#include <fcntl.h>
#include <libpmem.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "lib/pinfs/pinfs.h"
#include "lib/pinfs/protocol.h"

namespace {

using nlohmann::ordered_json;
using std::chrono::duration;
using std::chrono::steady_clock;

constexpr std::uint64_t kBlock = 4096;

void must(std::int64_t result, const char* what) {
    if (result < 0) throw std::runtime_error(std::string{what} + ": " + pinfs_last_error());
}

double microseconds_of(const std::function<void()>& work, int times = 1) {
    const auto begin = steady_clock::now();
    for (int i = 0; i < times; ++i) work();
    return duration<double, std::micro>(steady_clock::now() - begin).count() / times;
}

double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

template <class Struct>
Struct sized() {
    Struct fresh{};
    fresh.size_bytes = sizeof(Struct);
    return fresh;
}

/// An open file with an exclusive lease on all of it, and its context.
struct File {
    explicit File(const char* path) : number(open(path, O_RDWR | O_CLOEXEC)) {
        struct stat status {};
        if (number < 0 || fstat(number, &status) != 0) throw std::runtime_error(path);
        bytes = static_cast<std::uint64_t>(status.st_size);
        must(pinfs_context_open(path, 0, &context), "context");
        lease(PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE, 0, 0);
    }
    ~File() {
        pinfs_context_close(context);
        close(number);
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    void lease(std::uint32_t flags, std::uint64_t offset, std::uint64_t length) const {
        auto wanted = sized<pinfs_lease>();
        wanted.flags = flags;
        wanted.offset_bytes = offset;
        wanted.length_bytes = length;
        must(pinfs_lease_set(context, number, &wanted), "lease");
    }
    [[nodiscard]] struct pinfs_pin pin(std::uint64_t offset) const {
        auto made = sized<struct pinfs_pin>();
        made.owner_fd = -1;
        made.offset_bytes = offset;
        made.length_bytes = kBlock;
        must(pinfs_pin(context, number, &made), "pin");
        return made;
    }
    void unpin(const struct pinfs_pin& made) const {
        must(pinfs_unpin(context, made.id, made.generation), "unpin");
    }
    [[nodiscard]] char* map(std::uint32_t flags = 0) const {
        void* address = nullptr;
        must(pinfs_map(context, number, 0, bytes, PROT_READ | PROT_WRITE, flags, &address), "map");
        return static_cast<char*>(address);
    }
    void unmap(char* address) const { must(pinfs_unmap(context, address, bytes), "unmap"); }
    /// The least that the daemon can be asked.
    void ask() const {
        alignas(8) char buffer[PINFS_IOC_BYTES_MIN] = {};
        const pinfs_ioc_hello hello{.major = PINFS_PROTOCOL_MAJOR,
                                    .minor = PINFS_PROTOCOL_MINOR,
                                    .features = 0,
                                    .context = 0,
                                    .token = {},
                                    .reserved = {}};
        std::memcpy(buffer, &hello, sizeof hello);
        if (ioctl(pinfs_context_fd(context), PINFS_IOC(PINFS_IOC_HELLO, sizeof buffer), buffer) < 0)
            throw std::runtime_error("hello");
    }
    [[nodiscard]] double round_trip_microseconds() const {
        return microseconds_of([&] { ask(); }, 200);
    }

    int number;
    std::uint64_t bytes = 0;
    pinfs_context* context = nullptr;
};

/// Mappings of the process that show the range.
int pieces_in(const char* address, std::uint64_t bytes) {
    std::ifstream maps{"/proc/self/maps"};
    int count = 0;
    for (std::string line; std::getline(maps, line);) {
        unsigned long begin = 0;
        unsigned long end = 0;
        if (std::sscanf(line.c_str(), "%lx-%lx", &begin, &end) != 2) continue;
        const auto at = reinterpret_cast<unsigned long>(address);
        count += static_cast<int>(begin < at + bytes && end > at);
    }
    return count;
}

// --- T4 -----------------------------------------------------------------------------------------

/// GB/s of moving all of `bytes` at `memory`, in pieces, in order or not.
double pass(char* memory, std::uint64_t bytes, std::uint64_t piece, bool random,
            const std::string& what) {
    std::vector<std::uint64_t> order(bytes / piece);
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i * piece;
    if (random) std::ranges::shuffle(order, std::mt19937_64{1});
    std::vector<char> buffer(piece, 'x');
    const double spent = microseconds_of([&] {
        for (const std::uint64_t at : order) {
            if (what == "load")
                std::memcpy(buffer.data(), memory + at, piece);
            else
                std::memcpy(memory + at, buffer.data(), piece);
            if (what == "persist") pinfs_persist(memory + at, piece);
            asm volatile("" : : "r"(buffer.data()) : "memory");
        }
    });
    return static_cast<double>(bytes) / spent / 1000;
}

ordered_json loads(const char* path, const char* region_path, int rounds) {
    const File file{path};
    std::vector<pinfs_extent> extents(64);
    std::uint64_t generation = 0;
    must(pinfs_layout(file.context, file.number, 0, file.bytes, extents.data(), extents.size(),
                      &generation),
         "layout");
    const pinfs_extent extent = *std::ranges::max_element(extents, {}, &pinfs_extent::length_bytes);
    const std::uint64_t bytes = extent.length_bytes & ~((std::uint64_t{1} << 20) - 1);
    if (bytes == 0) throw std::runtime_error("no extent of the file has 1 MiB");
    char* const mapped = file.map() + extent.file_offset_bytes;
    const int region = open(region_path, O_RDWR | O_CLOEXEC);
    void* const raw = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, region,
                           static_cast<off_t>(extent.region_offset_bytes));
    if (raw == MAP_FAILED) throw std::runtime_error("the region cannot be mapped");
    ordered_json results;
    for (const char* const what : {"load", "store", "persist"})
        for (const std::uint64_t piece : {kBlock, 16 * kBlock, 256 * kBlock})
            for (const bool random : {false, true}) {
                std::vector<double> ours;
                std::vector<double> theirs;
                // The peer of persist is a store: what flushing costs is asked of the kind of
                // region.
                for (int round = -1; round < rounds; ++round) {
                    const double one = pass(mapped, bytes, piece, random, what);
                    const double other = pass(static_cast<char*>(raw), bytes, piece, random, what);
                    if (round < 0) continue;  // faults
                    ours.push_back(one);
                    theirs.push_back(other);
                }
                results[std::string{what} + " " + std::to_string(piece / 1024) + " KiB" +
                        (random ? ", random" : "")] = {median(ours), median(theirs)};
            }
    return results;
}

// --- T5 -----------------------------------------------------------------------------------------

ordered_json maps(const char* path, int rounds) {
    constexpr int kMaps = 50;
    const File file{path};
    // The first map of a process opens the region and makes the guard.
    char* mapped = file.map();
    const int pieces = pieces_in(mapped, file.bytes);
    file.unmap(mapped);
    std::vector<double> spent;
    std::vector<double> trips;
    for (int i = 0; i < rounds * kMaps; ++i) {
        trips.push_back(microseconds_of([&] { file.ask(); }));
        spent.push_back(microseconds_of([&] { mapped = file.map(); }));
        file.unmap(mapped);
    }
    return {{"microseconds", median(spent)}, {"pieces", pieces}, {"round_trip", median(trips)}};
}

// --- T6, T7 -------------------------------------------------------------------------------------

/// A file with pins in all that is leased of it, and behind that an end that is cut.
struct Pinned : File {
    explicit Pinned(const char* path) : File(path) {
        must(pinfs_lease_drop(context, number, 0, 0), "drop");
        lease(PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE, 0, bytes);
    }
    void pin_until(std::uint64_t count) {
        while (live.size() < count) live.push_back(pin(live.size() * kBlock % bytes));
    }
    void measure() {
        const std::string piece(2 * kBlock, 'x');
        for (int i = 0; i < 100; ++i) {
            trips.push_back(microseconds_of([&] { ask(); }));
            pins.push_back(microseconds_of([&] { unpin(pin(5 * kBlock)); }));
        }
        for (int i = 0; i < 50; ++i) {
            if (pwrite(number, piece.data(), piece.size(), static_cast<off_t>(bytes)) < 0)
                throw std::runtime_error("write");
            cuts.push_back(microseconds_of([&] {
                if (ftruncate(number, static_cast<off_t>(bytes)) != 0)
                    throw std::runtime_error("truncate");
            }));
        }
    }

    std::vector<struct pinfs_pin> live;
    std::vector<double> pins, cuts, trips;
};

ordered_json pins(const char* few_path, const char* many_path, std::uint64_t count, int rounds) {
    Pinned few{few_path};
    Pinned many{many_path};
    few.pin_until(10);
    const double filling = microseconds_of([&] { many.pin_until(count); });
    for (int round = 0; round < rounds; ++round) {
        few.measure();
        many.measure();
    }
    const double emptying = microseconds_of([&] {
        for (const auto& each : many.live) many.unpin(each);
    });
    return {{"round_trip", median(few.trips)},         {"pin_unpin", median(few.pins)},
            {"pin_unpin_many", median(many.pins)},     {"truncate", median(few.cuts)},
            {"truncate_many", median(many.cuts)},      {"filling_seconds", filling / 1'000'000},
            {"emptying_seconds", emptying / 1'000'000}};
}

// --- T8 -----------------------------------------------------------------------------------------

ordered_json flushes(const char* small_path, const char* large_path, int rounds) {
    constexpr std::size_t kPart = 65536;
    const File small{small_path};
    const File large{large_path};
    std::vector<double> syncs;
    std::vector<double> trips;
    for (int round = 0; round < rounds; ++round) {
        trips.push_back(small.round_trip_microseconds());
        syncs.push_back(microseconds_of(
            [&] {
                if (fsync(small.number) != 0) throw std::runtime_error("fsync");
            },
            200));
    }
    char* const in_small = small.map(PINFS_MAP_SELF_FLUSH);
    char* const in_large = large.map(PINFS_MAP_SELF_FLUSH);
    std::vector<double> small_parts;
    std::vector<double> large_parts;
    for (int round = -1; round < rounds; ++round)
        for (const bool is_small : {true, false}) {
            const File& file = is_small ? small : large;
            char* const part = (is_small ? in_small : in_large) + file.bytes / 2;
            std::memset(part, round & 0x7f, kPart);
            const double one = microseconds_of(
                [&] { must(pinfs_msync(file.context, part, kPart), "msync"); }, 100);
            if (round >= 0) (is_small ? small_parts : large_parts).push_back(one);
        }
    return {{"round_trip", median(trips)},
            {"fsync", median(syncs)},
            {"msync_small", median(small_parts)},
            {"msync_large", median(large_parts)}};
}

ordered_json sync_mapped(const char* path, int rounds) {
    const File file{path};
    char* const mapped = file.map();
    const std::uint64_t half = file.bytes / 2;
    const auto flush = [&](std::uint64_t begin, std::uint64_t end) {
        pmem_flush(mapped + begin, end - begin);
        pmem_drain();
    };
    std::vector<double> ours;
    std::vector<double> raw;
    const auto bandwidth = [&](double microseconds) {
        return static_cast<double>(file.bytes) / microseconds / 1000;
    };
    for (int round = -1; round < rounds; ++round) {
        std::memset(mapped, 2 * round & 0x7f, file.bytes);
        const double one = microseconds_of([&] {
            if (fsync(file.number) != 0) throw std::runtime_error("fsync");
        });
        std::memset(mapped, (2 * round + 1) & 0x7f, file.bytes);
        const double other = microseconds_of([&] {
            std::thread second{flush, half, file.bytes};
            flush(0, half);
            second.join();
        });
        if (round < 0) continue;  // faults
        ours.push_back(bandwidth(one));
        raw.push_back(bandwidth(other));
    }
    file.unmap(mapped);
    return {{"fsync", median(ours)}, {"raw", median(raw)}};
}

}  // namespace

int main(int count, char** words) {
    try {
        const std::vector<std::string> given(words + 1, words + count);
        const auto is = [&](const char* row, std::size_t more) {
            return given.size() == more + 2 && given[0] == row;
        };
        const int rounds = given.empty() ? 0 : std::atoi(given.back().c_str());
        ordered_json results;
        if (is("loads", 2))
            results = loads(words[2], words[3], rounds);
        else if (is("map", 1))
            results = maps(words[2], rounds);
        else if (is("pins", 3))
            results = pins(words[2], words[3], std::strtoull(words[4], nullptr, 10), rounds);
        else if (is("flush", 2))
            results = flushes(words[2], words[3], rounds);
        else if (is("sync", 1))
            results = sync_mapped(words[2], rounds);
        else
            throw std::runtime_error("what to measure is said in tests/bench/pins.cc");
        std::printf("%s\n", results.dump(2).c_str());
        return 0;
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "bench_pins: %s\n", failure.what());
        return 1;
    }
}

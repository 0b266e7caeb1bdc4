// SPDX-License-Identifier: Apache-2.0
//
// Listing a directory piece by piece while entries come and go: who stays is seen once (SPEC 1.1).
#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <set>
#include <string>

#include "tests/support/mounted.h"
#include "tests/support/seed.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using namespace pinfs::unit_literals;

/// A listing that goes on where it stopped.
struct Listing {
    std::uint64_t cookie = 0;
    std::map<std::string, int> seen = {};
    std::set<std::string> stay = {};  // there since it began
};

void read_some(Volume& volume, Ino directory, Listing& listing, std::size_t items) {
    must(volume.read_directory(directory, listing.cookie, [&](const DirectoryItem& item) {
        if (items-- == 0) return false;
        ++listing.seen[std::string{item.name}];
        listing.cookie = item.cookie;
        return true;
    }));
}

TEST_CASE("cookies: an entry that stays is seen once, whatever comes and goes", "[volume][model]") {
    const std::uint64_t seed = seed_of_test("cookies", 1);
    const unsigned bits = GENERATE(3u, 8u, 54u);
    std::mt19937_64 random{seed + bits};
    Mounted fs{{.bytes = 16_MiB, .name_hash_bits = bits}};
    const Ino directory = fs.make_directory("/d");
    const Ino file = fs.make_file("/file");
    std::set<std::string> present;
    const auto name = [&] {
        return "name-" + std::to_string(random() % 1500);
    };
    const auto toggle = [&](Listing* listing) {
        const std::string which = name();
        if (present.contains(which)) {
            must(fs->unlink(directory, which));
            present.erase(which);
            if (listing != nullptr) listing->stay.erase(which);
        } else if (const auto made = fs->link(file, directory, which)) {
            fs->forget(file, 1);
            present.insert(which);
        } else {
            // Three bits of hash: eight times 256 names at most.
            CHECK(made.error().cause == Cause::name_collisions);
        }
    };
    for (int i = 0; i < 2500; ++i) toggle(nullptr);

    for (int round = 0; round < 12; ++round) {
        Listing listing;
        listing.stay = present;
        for (std::size_t guard = 0; guard < 100'000; ++guard) {
            const std::uint64_t before = listing.cookie;
            read_some(fs.volume(), directory, listing, 1 + random() % 40);
            if (listing.cookie == before) break;
            for (std::uint64_t changes = random() % 20; changes > 0; --changes) toggle(&listing);
            if (random() % 40 == 0) fs.remount();
        }
        CHECK(listing.seen["."] == 1);
        CHECK(listing.seen[".."] == 1);
        for (const std::string& which : listing.stay)
            if (listing.seen[which] != 1)
                FAIL(which << " was seen " << listing.seen[which] << " times");
        fs.check_clean();
    }
}

TEST_CASE("cookies: an entry keeps its cookie through renames of others and a remount",
          "[volume][model]") {
    Mounted fs{{.bytes = 4_MiB, .name_hash_bits = 2}};
    const Ino directory = fs.make_directory("/d");
    const auto cookies = [&] {
        std::map<std::string, std::uint64_t> all;
        must(fs->read_directory(directory, 2, [&](const DirectoryItem& item) {
            all[std::string{item.name}] = item.cookie;
            return true;
        }));
        return all;
    };
    for (int i = 0; i < 300; ++i) fs.make_file("/d/f" + std::to_string(i));
    const auto first = cookies();
    for (int i = 0; i < 300; i += 2)
        must(fs->rename(directory, "f" + std::to_string(i), directory,
                        "renamed-" + std::to_string(i), 0));
    fs.remount();
    // Exchange and replacement keep the entries: only what they name changes.
    must(fs->rename(directory, "f1", directory, "f3", kRenameExchange));
    must(fs->rename(directory, "f5", directory, "f7", 0));
    const auto second = cookies();
    for (int i = 1; i < 300; i += 2) {
        const std::string which = "f" + std::to_string(i);
        if (i != 5) CHECK(second.at(which) == first.at(which));
    }
    CHECK(second.size() == 299);
}

}  // namespace

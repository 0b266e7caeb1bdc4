// SPDX-License-Identifier: Apache-2.0
//
// Faults made on purpose in one of everything, with every checksum right, and what the judge must
// say of each.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>
#include <vector>

#include "fs/check/check.h"
#include "tests/support/repaired.h"
#include "tests/support/sample_image.h"

namespace pinfs::test {

using Kind = FindingKind;

/// A fault, and the kind of the finding that it gives.
struct Case {
    const char* name;
    Kind expected;
    std::function<void(Sample&)> damage;
    std::uint64_t (*ino)(const Sample&) = nullptr;  // that the finding must name
};

inline void set_bit(HandImage& image, std::uint64_t block, bool used) {
    image.change<media::Group>(image.group_at(block / media::kGroupBlocks),
                               [&](media::Group& group) {
                                   const std::uint64_t bit = block % media::kGroupBlocks;
                                   const auto mask = static_cast<media::u8>(1u << bit % 8);
                                   media::u8& byte = group.bitmap[bit / 8];
                                   byte = static_cast<media::u8>(used ? byte | mask : byte & ~mask);
                               });
}

inline void change_inode(Sample& sample, std::uint64_t ino,
                         const std::function<void(media::Inode&)>& change) {
    sample.image.change<media::Inode>(sample.image.inode_at(ino), change);
}

inline std::uint64_t payload_of(std::uint64_t node) { return node + sizeof(media::BlockHeader); }

template <class T>
inline void change_in_node(HandImage& image, std::uint64_t node, std::size_t at,
                           const std::function<void(T&)>& change) {
    T value = image.copy_at<T>(payload_of(node) + at);
    change(value);
    std::memcpy(image.memory().data() + payload_of(node) + at, &value, sizeof value);
    image.seal(node, kBlockBytes);
}

inline void change_extent(HandImage& image, std::uint64_t leaf, std::size_t i,
                          const std::function<void(media::Extent&)>& change) {
    change_in_node<media::Extent>(image, leaf, i * sizeof(media::Extent), change);
}

inline media::Extent& inline_extent(media::Inode& inode, std::size_t i) {
    return reinterpret_cast<media::Extent*>(inode.inline_map)[i];
}

// The n-th entry of a leaf: place and size in the payload.
struct EntryPlace {
    std::size_t at;
    std::size_t bytes;
};
inline EntryPlace entry_place(const HandImage& image, std::uint64_t leaf, std::size_t n) {
    std::size_t at = 0;
    for (;; --n) {
        const auto entry = image.copy_at<media::DirectoryEntry>(payload_of(leaf) + at);
        const std::size_t bytes = sizeof entry + entry.name_bytes;
        if (n == 0) return {at, bytes};
        at += bytes;
    }
}

// The entry of `ino` in the directory whose entries are inline.
inline std::size_t inline_entry_of(const media::Inode& directory, std::uint64_t ino) {
    for (std::size_t at = 0;;) {
        media::DirectoryEntry entry;
        std::memcpy(&entry, directory.inline_map + at, sizeof entry);
        if (entry.ino == ino) return at;
        at += sizeof entry + entry.name_bytes;
    }
}
inline void change_inline_entry(Sample& sample, std::uint64_t directory, std::uint64_t ino,
                                const std::function<void(media::DirectoryEntry&)>& change) {
    change_inode(sample, directory, [&](media::Inode& inode) {
        const std::size_t at = inline_entry_of(inode, ino);
        media::DirectoryEntry entry;
        std::memcpy(&entry, inode.inline_map + at, sizeof entry);
        change(entry);
        std::memcpy(inode.inline_map + at, &entry, sizeof entry);
    });
}

inline void change_record(Sample& sample, std::uint64_t number,
                          const std::function<void(media::Record&)>& change) {
    sample.image.change<media::Record>(sample.image.record_at(number), change);
}

/// Each case on a sample of its own: the judge names it, a repair puts it right.
inline void run(const std::vector<Case>& cases) {
    const auto pristine = readable(Sample{}.image.memory());
    CHECK(pristine.size() > 100);
    for (const Case& c : cases) {
        INFO(c.name);
        Sample sample;
        c.damage(sample);
        const auto report = check(sample.image.region());
        REQUIRE(report);
        INFO(report->text());
        CAPTURE(name_of(c.expected));
        CHECK(report->has(c.expected));
        if (c.ino != nullptr)
            CHECK(std::ranges::any_of(report->findings, [&](const Finding& finding) {
                return finding.kind == c.expected && finding.ino == c.ino(sample);
            }));
        check_repair(sample.image.region(), sample.image.memory(), pristine);
    }
}

}  // namespace pinfs::test

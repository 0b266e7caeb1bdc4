// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "fs/check/values.h"
#include "fs/repair/content.h"

namespace pinfs::repairing {
namespace {

struct Record {
    std::uint64_t key;
    std::string bytes;
};

template <class T>
std::string bytes_of(const T& value) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
}

// Extents that touch become one.
std::vector<Record> records_of(const std::map<std::uint64_t, media::Extent>& extents) {
    std::vector<media::Extent> joined;
    for (const auto& [at, extent] : extents) {
        if (!joined.empty()) {
            media::Extent& last = joined.back();
            const std::uint64_t together = std::uint64_t{last.blocks} + extent.blocks;
            if (last.file_block + last.blocks == extent.file_block &&
                last.start_block + last.blocks == extent.start_block &&
                last.flags == extent.flags && together <= media::kExtentBlocksMax) {
                last.blocks = static_cast<media::le32>(together);
                continue;
            }
        }
        joined.push_back(extent);
    }
    std::vector<Record> records;
    for (const media::Extent& extent : joined)
        records.push_back({extent.file_block, bytes_of(extent)});
    return records;
}

// Keys anew, from the names: collision indices in the order of the entries.
std::vector<Record> records_of(Work& work, Content& content) {
    std::map<std::uint64_t, std::uint64_t> next_key;
    std::set<std::string_view> names;
    std::vector<Record> records;
    for (const Entry& entry : content.entries) {
        const std::uint64_t first = checking::hash_of(entry.name, work.super())
                                    << media::kNameCollisionBits;
        std::uint64_t& key = next_key.try_emplace(first, first).first->second;
        if (!checking::is_name(entry.name) || entry.name.size() > kNameBytesMax ||
            key >> media::kNameCollisionBits != first >> media::kNameCollisionBits ||
            !names.insert(entry.name).second) {
            ++content.lost_records;
            continue;
        }
        const media::DirectoryEntry head{.key = key,
                                         .ino = entry.ino,
                                         .type = entry.type,
                                         .name_bytes = static_cast<media::u8>(entry.name.size())};
        records.push_back({key, bytes_of(head) + entry.name});
        ++key;
    }
    std::sort(records.begin(), records.end(),
              [](const Record& a, const Record& b) { return a.key < b.key; });
    return records;
}

// Nodes of one level, filled; what the level above says of them.
Expected<std::vector<Record>> write_level(Work& work, const media::Inode& inode,
                                          media::BlockKind kind, unsigned level,
                                          const std::vector<Record>& records) {
    std::vector<Record> above;
    for (std::size_t i = 0; i < records.size();) {
        AnyBlock node{};
        std::size_t used = 0;
        // Keys below the lowest of today go to the first node.
        const std::uint64_t key = above.empty() ? 0 : records[i].key;
        for (; i < records.size() && used + records[i].bytes.size() <= media::kPayloadBytes; ++i) {
            std::memcpy(node.payload.data() + used, records[i].bytes.data(),
                        records[i].bytes.size());
            used += records[i].bytes.size();
        }
        const std::uint64_t block = TRY(work.writer.allocate());
        node.header = work.header(kind, block, level, used, inode.ino, inode.generation);
        TRY(work.store_new(block, node));
        above.push_back({key, bytes_of(media::TreeIndexEntry{key, block * kBlockBytes})});
    }
    return above;
}

}  // namespace

Expected<void> write_map(Work& work, Content& content) {
    media::Inode& inode = content.inode;
    const bool is_directory = S_ISDIR(inode.mode);
    if (!is_directory && !S_ISREG(inode.mode) && content.extents.empty()) return {};
    std::vector<Record> records =
        is_directory ? records_of(work, content) : records_of(content.extents);
    std::size_t bytes = 0;
    for (const Record& record : records) bytes += record.bytes.size();
    if (is_directory) inode.size = bytes;

    std::memset(inode.inline_map, 0, sizeof inode.inline_map);
    inode.map_level = 0;
    content.nodes = 0;
    if (bytes <= media::kInlineBytes) {
        inode.map_bytes = static_cast<media::le32>(bytes);
        media::u8* at = inode.inline_map;
        for (const Record& record : records)
            at = std::copy(record.bytes.begin(), record.bytes.end(), at);
        return {};
    }
    const auto kind =
        is_directory ? media::BlockKind::directory_tree : media::BlockKind::extent_tree;
    do {
        ++inode.map_level;
        records = TRY(write_level(work, inode, kind, inode.map_level, records));
        content.nodes += records.size();
    } while (records.size() > 1);
    inode.map_bytes = sizeof(media::le64);
    std::memcpy(inode.inline_map, records.front().bytes.data() + sizeof(media::le64),
                sizeof(media::le64));
    return {};
}

Expected<void> write_attributes(Work& work, Content& content) {
    media::Inode& inode = content.inode;
    const std::string& bytes = content.attributes;
    inode.attributes = 0;
    inode.attributes_bytes = static_cast<media::le32>(bytes.size());
    content.attribute_blocks = (bytes.size() + media::kPayloadBytes - 1) / media::kPayloadBytes;
    // From the last, for each names the next.
    for (std::size_t i = content.attribute_blocks; i-- > 0;) {
        const std::string_view piece =
            std::string_view(bytes).substr(i * media::kPayloadBytes, media::kPayloadBytes);
        const std::uint64_t block = TRY(work.writer.allocate());
        AnyBlock stored{};
        stored.header = work.header(media::BlockKind::attributes, block, 0, piece.size(), inode.ino,
                                    inode.generation);
        stored.header.next = inode.attributes;
        std::memcpy(stored.payload.data(), piece.data(), piece.size());
        TRY(work.store_new(block, stored));
        inode.attributes = block * kBlockBytes;
    }
    return {};
}

}  // namespace pinfs::repairing

// SPDX-License-Identifier: Apache-2.0
#include "fs/check/table.h"

namespace pinfs::checking {
namespace {

// Chunks that an entry of a node at `level` covers.
std::uint64_t span_of(unsigned level) {
    std::uint64_t chunks = 1;
    for (unsigned i = 1; i < level; ++i) chunks *= media::kTableFanOut;
    return chunks;
}

}  // namespace

const char* TableWalk::name() const {
    return table_ == media::kTableInodes ? "inode table" : "record table";
}

bool TableWalk::walk(const media::TableRoot& root, const Sink& sink) {
    const std::uint64_t at = image_.superblock().state_offset;
    window_chunks_ = root.window_chunks;
    if (root.levels > media::kTableLevelsMax) {
        image_.findings().add(FindingKind::table_root, at, 0, "the %s has %u levels, more than %u",
                              name(), root.levels, media::kTableLevelsMax);
        return false;
    }
    if (root.root == 0) {
        if (root.levels != 0)
            image_.findings().add(FindingKind::table_root, at, 0,
                                  "the %s has %u levels but no root", name(), root.levels);
        return true;
    }
    if ((root.root & ~media::kTableFlags) == 0) {
        image_.findings().add(FindingKind::table_root, at, 0,
                              "the root of the %s has bits 0x%lx but no block", name(), root.root);
        return false;
    }
    Below nothing;
    entry(root.root, root.levels + 1, 0, at, sink, nothing);
    return complete_;
}

// One entry, which stands in the unit at `at`, of a node at `level` (the root: one above the
// highest). What it must tell goes into `parent`.
void TableWalk::entry(std::uint64_t value, unsigned level, std::uint64_t first_chunk,
                      std::uint64_t at, const Sink& sink, Below& parent) {
    Findings& findings = image_.findings();
    const std::uint64_t offset = value & ~media::kTableFlags;
    const std::uint64_t flags = value & media::kTableFlags;
    // An entry with unknown bits is no pointer that anybody should follow.
    if ((flags & ~(media::kTableHasFree | media::kTableHasPending)) != 0 ||
        !image_.holds_block(offset)) {
        findings.add(FindingKind::block_outside, at, 0,
                     "the %s points to 0x%lx for chunk %lu: not the place of a block", name(),
                     value, first_chunk);
        complete_ = false;
        parent.known = false;
        return;
    }
    const Below below = level == 1 ? chunk(offset, first_chunk, sink)
                                   : index_block(offset, level - 1, first_chunk, sink);
    parent.has_free |= (flags & media::kTableHasFree) != 0;
    if (!below.known) return;
    parent.has_pending |= below.has_pending;
    if (below.has_free != ((flags & media::kTableHasFree) != 0))
        findings.add(FindingKind::table_free_bit, at, 0,
                     "the %s's entry for the block at %lu says that it has %s, which is wrong",
                     name(), offset, below.has_free ? "no free slot" : "a free slot");
    if (below.has_pending && (flags & media::kTableHasPending) == 0)
        findings.add(FindingKind::table_pending_bit, at, 0,
                     "the %s's entry for the block at %lu hides that something is pending there",
                     name(), offset);
}

TableWalk::Below TableWalk::index_block(std::uint64_t offset, unsigned level,
                                        std::uint64_t first_chunk, const Sink& sink) {
    const OwnerKind owner =
        table_ == media::kTableInodes ? OwnerKind::inode_table : OwnerKind::record_table;
    media::TableIndex& block = blocks_[level - 1];
    if (!claims_.take(offset / media::kBlockBytes, 1, {owner, 0}) ||
        !image_.read_block({media::BlockKind::table_index, offset, table_, 0, level,
                            FindingKind::table_node_damaged, 0, "index block of a table"},
                           block)) {
        complete_ = false;
        return {};
    }
    Below below{.known = true};
    std::uint64_t used = 0;
    const std::uint64_t span = span_of(level);
    for (std::size_t i = 0; i < media::kTableFanOut; ++i) {
        if (block.entries[i] == 0) {
            below.has_free = true;
            continue;
        }
        ++used;
        entry(block.entries[i], level, first_chunk + i * span, offset, sink, below);
    }
    if (used == 0)
        image_.findings().add(FindingKind::table_empty, offset, 0,
                              "the index block of the %s has no entry", name());
    if (block.header.used_bytes != used * sizeof(media::le64))
        image_.findings().add(FindingKind::table_node_damaged, offset, 0,
                              "the index block of the %s has %u bytes in use where %lu belong",
                              name(), block.header.used_bytes, used * sizeof(media::le64));
    return below;
}

TableWalk::Below TableWalk::chunk(std::uint64_t offset, std::uint64_t index, const Sink& sink) {
    Findings& findings = image_.findings();
    const OwnerKind owner =
        table_ == media::kTableInodes ? OwnerKind::inode_chunk : OwnerKind::record_chunk;
    if (index >= window_chunks_)
        findings.add(FindingKind::table_window, offset, 0,
                     "chunk %lu of the %s is not below its window of %lu chunks", index, name(),
                     window_chunks_);
    if (!claims_.take(offset / media::kBlockBytes, 1, {owner, index}) ||
        !image_.read_into(offset, chunk_)) {
        complete_ = false;
        return {};
    }
    const media::ChunkHeader& header = chunk_.header;
    const char* wrong = nullptr;
    if (header.magic != media::kChunkMagic)
        wrong = "no chunk stands there";
    else if (!image_.sum_matches(header))
        wrong = "the checksum of its header does not match";
    else if (header.own_offset != offset)
        wrong = "its header has another place";
    else if (header.table != table_)
        wrong = "it belongs to another table";
    else if (header.chunk != index)
        wrong = "its header has another index";
    else if ((header.used & 1) == 0)
        wrong = "its slot 0, the header, is not in use";
    if (wrong != nullptr) {
        findings.add(FindingKind::chunk_damaged, offset, 0, "chunk %lu of the %s: %s", index,
                     name(), wrong);
        complete_ = false;
        sink(chunk_, offset, index, false);
        return {};
    }
    if (header.used == 1)
        findings.add(FindingKind::table_empty, offset, 0, "chunk %lu of the %s has no slot in use",
                     index, name());
    if ((header.pending & ~header.used) != 0 || (header.pending & 1) != 0)
        findings.add(FindingKind::chunk_pending, offset, 0,
                     "chunk %lu of the %s has pending slots, 0x%04x, that are not in use", index,
                     name(), header.pending);
    sink(chunk_, offset, index, true);
    return {.known = true, .has_free = header.used != 0xffff, .has_pending = header.pending != 0};
}

}  // namespace pinfs::checking

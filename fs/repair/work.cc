// SPDX-License-Identifier: Apache-2.0
#include "fs/repair/work.h"

#include <algorithm>

namespace pinfs::repairing {

void Work::tell(std::uint64_t offset, std::uint64_t ino, const char* format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    const std::string sentence = checking::sentence_at(offset, ino, format, arguments);
    va_end(arguments);
    ++report.repairs;
    if (options.tell) options.tell(sentence);
}

std::uint64_t Work::offset_of(std::uint64_t ino) const {
    const auto& chunks = walk().inodes.chunks();
    const auto chunk = std::lower_bound(
        chunks.begin(), chunks.end(), ino / media::kChunkSlots,
        [](const auto& candidate, std::uint64_t index) { return candidate.index < index; });
    if (chunk == chunks.end() || chunk->index != ino / media::kChunkSlots) return 0;
    return chunk->offset + ino % media::kChunkSlots * media::kSlotBytes;
}

std::optional<media::Inode> Work::inode(std::uint64_t ino) const {
    const InodeNote* const found = note(ino);
    media::Inode inode;
    if (found == nullptr || found->state != InodeNote::State::used ||
        !read(offset_of(ino), inode) || !is_whole(inode, media::kInodeMagic))
        return std::nullopt;
    return inode;
}

media::BlockHeader Work::header(media::BlockKind kind, std::uint64_t block, unsigned level,
                                std::size_t used_bytes, std::uint64_t owner,
                                std::uint64_t generation) const {
    media::BlockHeader header{};
    header.magic = media::kBlockMagic;
    header.kind = static_cast<media::le16>(kind);
    header.level = static_cast<media::le16>(level);
    header.used_bytes = static_cast<media::le32>(used_bytes);
    header.own_offset = block * kBlockBytes;
    header.owner = owner;
    header.generation = generation;
    return header;
}

bool Work::may_have_records_of_this_boot() const {
    constexpr BootId kUnknown{};
    return options.boot_id && (std::ranges::equal(state.boot_id, *options.boot_id) ||
                               std::ranges::equal(state.boot_id, kUnknown));
}

Expected<void> Work::use_slots(const std::map<std::uint64_t, bool>& used_by_ino) {
    std::map<std::uint64_t, media::ChunkHeader> headers;
    for (const auto& [ino, used] : used_by_ino) {
        const unsigned slot = ino % media::kChunkSlots;
        const std::uint64_t offset = offset_of(ino) - slot * media::kSlotBytes;
        const auto [place, is_new] = headers.try_emplace(offset);
        media::ChunkHeader& header = place->second;
        if (is_new && !read(offset, header)) return fail(Cause::media_error, offset);
        const auto bit = static_cast<media::le16>(1u << slot);
        header.used = static_cast<media::le16>(used ? header.used | bit : header.used & ~bit);
        header.pending = static_cast<media::le16>(header.pending & header.used);
    }
    for (auto& [offset, header] : headers) TRY(writer.stage_unit(offset, header));
    return {};
}

std::uint64_t Work::next_generation() {
    if ((state.generation_limit & 0xffffffff) == 0) ++state.generation_limit;
    return state.generation_limit++;
}

bool Work::is_in_use_unclaimed(std::uint64_t block) {
    if (block == 0 || block >= survey.image.blocks() || survey.claims->has(block)) return false;
    const media::Group* const group = writer.group(block / media::kGroupBlocks);
    const std::uint64_t bit = block % media::kGroupBlocks;
    return group == nullptr || (group->bitmap[bit / 8] >> bit % 8 & 1) != 0;
}

std::optional<std::uint64_t> Work::chunk_by_inodes(std::uint64_t offset) const {
    for (unsigned slot = 1; slot < media::kChunkSlots; ++slot) {
        media::le32 magic = 0;
        media::Inode inode;
        const std::uint64_t at = offset + slot * media::kSlotBytes;
        if (read(at, magic) && magic == media::kInodeMagic && read(at, inode) &&
            is_whole(inode, magic) && inode.ino % media::kChunkSlots == slot && inode.nlink != 0)
            return inode.ino / media::kChunkSlots;
    }
    return std::nullopt;
}

void Work::for_each_lost(
    const std::function<void(std::uint64_t offset, const AnyBlock& block)>& visit) {
    AnyBlock bytes;
    for (std::uint64_t block = 1; block < survey.image.blocks(); ++block) {
        media::le32 magic = 0;
        const std::uint64_t offset = block * kBlockBytes;
        if (!is_in_use_unclaimed(block) || !read(offset, magic)) continue;
        media::ChunkHeader header;
        const bool is_chunk = magic == media::kChunkMagic && read(offset, header) &&
                              is_whole(header, magic) && header.own_offset == offset;
        if (!is_chunk && magic != media::kBlockMagic && !chunk_by_inodes(offset)) continue;
        if (!read(offset, bytes)) continue;
        if (magic == media::kBlockMagic &&
            (!survey.image.sum_matches(bytes) || bytes.header.own_offset != offset))
            continue;
        visit(offset, bytes);
    }
}

}  // namespace pinfs::repairing

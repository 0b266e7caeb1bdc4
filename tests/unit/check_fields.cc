// SPDX-License-Identifier: Apache-2.0
//
// Every field of every structure of the format is a case: changed and sealed again it gives the
// finding that is said here (or none, where any value is right); changed and not sealed, that the
// unit is damaged. A repair puts each right and loses nothing that could be read. The lists are
// complete: a field that is missing fails the test.
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <vector>

#include "fs/check/check.h"
#include "tests/support/repaired.h"
#include "tests/support/sample_image.h"

namespace {

using namespace pinfs;
using namespace pinfs::test;
using Kind = FindingKind;

constexpr std::nullopt_t kAnyValueIsRight = std::nullopt;

struct Field {
    const char* name;
    std::size_t offset;
    std::size_t bytes;
    std::uint64_t value;  // written over the field's first eight bytes
    std::optional<FindingKind> expected;
};
#define FIELD(Struct, field, value, expected)                                                     \
    Field {                                                                                       \
#Struct "::" #field, offsetof(media::Struct, field), sizeof(media::Struct::field), value, \
            expected                                                                              \
    }

// Magic and checksum, which begin every unit.
#define UNIT_FIELDS(Struct, damaged) \
    FIELD(Struct, magic, 0x12345678, damaged), FIELD(Struct, crc32c, 1, damaged)

std::vector<Field> header_fields(FindingKind damaged, std::uint64_t used_bytes,
                                 std::optional<FindingKind> of_used_bytes, FindingKind of_next) {
    return {UNIT_FIELDS(BlockHeader, damaged),
            FIELD(BlockHeader, kind, 7, damaged),
            FIELD(BlockHeader, level, 9, damaged),
            FIELD(BlockHeader, used_bytes, used_bytes, of_used_bytes),
            FIELD(BlockHeader, own_offset, 4096 * 77, damaged),
            FIELD(BlockHeader, owner, 99, damaged),
            FIELD(BlockHeader, generation, 98, damaged),
            FIELD(BlockHeader, next, 5, of_next),
            FIELD(BlockHeader, reserved, 1, kAnyValueIsRight)};
}

std::vector<Field> operator+(std::vector<Field> fields, std::vector<Field> more) {
    fields.insert(fields.end(), more.begin(), more.end());
    return fields;
}

class Patched {
public:
    Patched()
        : pristine_(sample_.image.memory().begin(), sample_.image.memory().end()),
          readable_(readable(pristine_)) {}

    ~Patched() { std::printf("check: %zu wrong values repaired\n", repaired_); }
    Patched(const Patched&) = delete;
    Patched& operator=(const Patched&) = delete;

    const Sample& sample() const { return sample_; }
    void restore() { std::ranges::copy(pristine_, sample_.image.memory().begin()); }

    // Each field in turn; `at` is where the structure stands, in the unit at `unit`.
    void each(const std::vector<Field>& fields, std::uint64_t at, std::size_t struct_bytes,
              std::uint64_t unit, std::size_t unit_bytes, FindingKind damaged) {
        std::size_t end = 0;
        for (const Field& field : fields) {
            INFO(field.name);
            CHECK(field.offset == end);
            end = field.offset + field.bytes;
            const bool is_sum = std::string_view(field.name).ends_with("::crc32c");

            REQUIRE(write(at, field));
            expect(damaged, "changed, not sealed");
            if (!is_sum) {
                REQUIRE(write(at, field));
                sample_.image.seal(unit, unit_bytes);
                expect(field.expected, "changed and sealed");
                // Whatever else it may be: if it is wrong, it is repaired.
                for (const std::uint64_t value : {~std::uint64_t{0}, flipped(at, field, 5)}) {
                    Field other = field;
                    other.value = value;
                    if (!write(at, other)) continue;
                    CAPTURE(value);
                    sample_.image.seal(unit, unit_bytes);
                    expect_repair();
                }
            }
        }
        CHECK(end == struct_bytes);
    }
    template <class T>
    void each_of_unit(const std::vector<Field>& fields, std::uint64_t at, FindingKind damaged) {
        each(fields, at, sizeof(T), at, sizeof(T), damaged);
    }

    void expect(std::optional<FindingKind> expected, const char* how) {
        const auto report = check(sample_.image.region());
        INFO(how);
        REQUIRE(report);
        INFO(report->text());
        repair(*report);
        restore();
        if (expected) {
            CAPTURE(name_of(*expected));
            CHECK(report->has(*expected));
        } else {
            CHECK(report->clean());
        }
    }

private:
    // False if that is there already.
    bool write(std::uint64_t at, const Field& field) {
        const std::size_t bytes = std::min<std::size_t>(field.bytes, 8);
        std::byte* const place = sample_.image.memory().data() + at + field.offset;
        if (std::memcmp(place, &field.value, bytes) == 0) return false;
        std::memcpy(place, &field.value, bytes);
        return true;
    }
    std::uint64_t flipped(std::uint64_t at, const Field& field, unsigned bit) const {
        std::uint64_t value = 0;
        std::memcpy(&value, pristine_.data() + at + field.offset,
                    std::min<std::size_t>(field.bytes, 8));
        return value ^ std::uint64_t{1} << bit;
    }
    void repair(const CheckReport& report) {
        if (report.clean()) return;
        check_repair(sample_.image.region(), sample_.image.memory(), readable_);
        ++repaired_;
    }
    void expect_repair() {
        const auto report = check(sample_.image.region());
        REQUIRE(report);
        repair(*report);
        restore();
    }

    Sample sample_;
    std::vector<std::byte> pristine_;
    std::map<std::string, FileState> readable_;
    std::size_t repaired_ = 0;
};

TEST_CASE("check: every field of the state block", "[check][corruption]") {
    Patched patched;
    const HandImage& image = patched.sample().image;
    const auto root = [&](std::size_t offset, const char* name, std::uint64_t value,
                          std::optional<FindingKind> expected, std::size_t bytes = 8) {
        return Field{name, offset, bytes, value, expected};
    };
    const std::uint64_t inodes = image.at<media::State>(image.state_at()).inodes.root;
    const std::uint64_t records = image.at<media::State>(image.state_at()).records.root;
    patched.each_of_unit<media::State>(
        header_fields(Kind::state_damaged, 1, kAnyValueIsRight, Kind::state_damaged) +
            std::vector<Field>{
                FIELD(State, mounted, 2, Kind::state_field),
                FIELD(State, mount_count, 1, kAnyValueIsRight),
                FIELD(State, mount_seconds, 1, kAnyValueIsRight),
                FIELD(State, unmount_seconds, 1, kAnyValueIsRight),
                FIELD(State, machine_id, 1, kAnyValueIsRight),
                FIELD(State, boot_id, 1, kAnyValueIsRight),
                FIELD(State, host_name, 1, kAnyValueIsRight),
                FIELD(State, mount_pid, 1, kAnyValueIsRight),
                FIELD(State, session, 1, kAnyValueIsRight),
                FIELD(State, generation_limit, 2, Kind::inode_generation),
                FIELD(State, record_id_limit, 2, Kind::record_id),
                root(224, "inodes.root", inodes ^ media::kTableHasFree, Kind::table_free_bit),
                root(232, "inodes.levels", 0, Kind::chunk_damaged, 4),
                root(236, "inodes.reserved", 1, kAnyValueIsRight, 4),
                root(240, "inodes.window_chunks", 1, Kind::table_window),
                root(248, "records.root", records + (4096u << 16), Kind::block_outside),
                root(256, "records.levels", 5, Kind::table_root, 4),
                root(260, "records.reserved", 1, kAnyValueIsRight, 4),
                root(264, "records.window_chunks", 0, Kind::table_window),
                FIELD(State, bad_ranges, 1, Kind::state_bad_blocks),
                FIELD(State, bad_unlisted, 2, Kind::state_bad_blocks),
                FIELD(State, bad, 17, Kind::state_bad_blocks),
                FIELD(State, reserved, 1, kAnyValueIsRight)},
        image.state_at(), Kind::state_damaged);
}

TEST_CASE("check: every field of a group block", "[check][corruption]") {
    Patched patched;
    const HandImage& image = patched.sample().image;
    patched.each_of_unit<media::Group>(
        header_fields(Kind::group_damaged, 1, kAnyValueIsRight, Kind::group_damaged) +
            std::vector<Field>{FIELD(Group, free_blocks, 3, Kind::group_free),
                               FIELD(Group, reserved, 1, kAnyValueIsRight),
                               FIELD(Group, run_free, 513, Kind::group_run_free),
                               FIELD(Group, bitmap, ~std::uint64_t{1}, Kind::block_not_allocated),
                               FIELD(Group, unused, 1, kAnyValueIsRight)},
        image.group_at(0), Kind::group_damaged);
}

TEST_CASE("check: every field of a lane's state", "[check][corruption]") {
    Patched patched;
    patched.each_of_unit<media::LaneState>(
        {UNIT_FIELDS(LaneState, Kind::lane_state_damaged),
         FIELD(LaneState, lane, 0, Kind::lane_state_damaged),
         FIELD(LaneState, free_blocks, 1, Kind::total_free),
         FIELD(LaneState, inodes, 1, Kind::total_inodes),
         FIELD(LaneState, reserved, 1, kAnyValueIsRight)},
        patched.sample().image.lane_at(1) + media::kLaneStateOffset, Kind::lane_state_damaged);
}

TEST_CASE("check: every field of a finished request", "[check][corruption]") {
    Patched patched;
    patched.each_of_unit<media::FinishedRequest>(
        {UNIT_FIELDS(FinishedRequest, Kind::finished_request),
         FIELD(FinishedRequest, session, 1, kAnyValueIsRight),
         FIELD(FinishedRequest, request, 1, kAnyValueIsRight),
         FIELD(FinishedRequest, ino, 0, Kind::finished_request),
         FIELD(FinishedRequest, generation, std::uint64_t{1} << 40, Kind::finished_request),
         FIELD(FinishedRequest, error_number, 5000, Kind::finished_request),
         FIELD(FinishedRequest, reserved, 1, kAnyValueIsRight)},
        patched.sample().image.finished_at() + 3 * sizeof(media::FinishedRequest),
        Kind::finished_request);
}

TEST_CASE("check: every field of an index block of a table", "[check][corruption]") {
    Patched patched;
    const HandImage& image = patched.sample().image;
    patched.each_of_unit<media::TableIndex>(
        header_fields(Kind::table_node_damaged, 8, Kind::table_node_damaged,
                      Kind::table_node_damaged) +
            std::vector<Field>{FIELD(TableIndex, entries, 0, Kind::root_directory)},
        image.inode_index_at(1), Kind::table_node_damaged);
}

TEST_CASE("check: every field of a chunk's header", "[check][corruption]") {
    Patched patched;
    const HandImage& image = patched.sample().image;
    patched.each_of_unit<media::ChunkHeader>(
        {UNIT_FIELDS(ChunkHeader, Kind::chunk_damaged),
         FIELD(ChunkHeader, own_offset, 4096, Kind::chunk_damaged),
         FIELD(ChunkHeader, table, media::kTableRecords, Kind::chunk_damaged),
         FIELD(ChunkHeader, chunk, 9, Kind::chunk_damaged),
         FIELD(ChunkHeader, used, 0xfffe, Kind::chunk_damaged),
         FIELD(ChunkHeader, pending, 0x0008, Kind::chunk_pending),
         FIELD(ChunkHeader, reserved, 1, kAnyValueIsRight)},
        image.chunk_at(0), Kind::chunk_damaged);
}

TEST_CASE("check: every field of an inode", "[check][corruption]") {
    Patched patched;
    const HandImage& image = patched.sample().image;
    patched.each_of_unit<media::Inode>(
        {UNIT_FIELDS(Inode, Kind::inode_damaged),
         FIELD(Inode, ino, 2, Kind::inode_damaged),
         FIELD(Inode, generation, std::uint64_t{1} << 32, Kind::inode_generation),
         FIELD(Inode, size, (std::uint64_t{1} << 44) + 1, Kind::inode_size),
         FIELD(Inode, blocks, 6, Kind::inode_blocks),
         FIELD(Inode, mode, 0644, Kind::inode_mode),
         FIELD(Inode, nlink, 2, Kind::link_count),
         FIELD(Inode, uid, 1, kAnyValueIsRight),
         FIELD(Inode, gid, 1, kAnyValueIsRight),
         FIELD(Inode, flags, 1u << 9, Kind::inode_flags),
         FIELD(Inode, project, 1, kAnyValueIsRight),
         FIELD(Inode, atime, 1, kAnyValueIsRight),
         FIELD(Inode, mtime, 1, kAnyValueIsRight),
         FIELD(Inode, ctime, 1, kAnyValueIsRight),
         FIELD(Inode, btime, 1, kAnyValueIsRight),
         FIELD(Inode, atime_ns, 1'000'000'000, Kind::inode_time),
         FIELD(Inode, mtime_ns, 1'000'000'000, Kind::inode_time),
         FIELD(Inode, ctime_ns, 1'000'000'000, Kind::inode_time),
         FIELD(Inode, btime_ns, 1'000'000'000, Kind::inode_time),
         FIELD(Inode, device_major, 1, Kind::inode_device),
         FIELD(Inode, device_minor, 1, Kind::inode_device),
         FIELD(Inode, cut_begin, 9, Kind::inode_cut),
         FIELD(Inode, parent, 1, Kind::inode_parent),
         FIELD(Inode, attributes, 4096, Kind::attributes_damaged),
         FIELD(Inode, attributes_bytes, 9, Kind::attributes_damaged),
         FIELD(Inode, segment, 1, Kind::inode_segment),
         FIELD(Inode, map_level, 9, Kind::inode_map),
         FIELD(Inode, map_bytes, 97, Kind::inode_map),
         FIELD(Inode, reserved, 1, kAnyValueIsRight),
         FIELD(Inode, inline_map, 3, Kind::tree_order)},
        image.inode_at(patched.sample().file), Kind::inode_damaged);
}

TEST_CASE("check: every field of an extent", "[check][corruption]") {
    Patched patched;
    const std::uint64_t leaf = patched.sample().image.node_at(patched.sample().tree_file, 1, 1);
    patched.each({FIELD(Extent, file_block, 3, Kind::tree_bounds),
                  FIELD(Extent, start_block, 1 << 20, Kind::block_outside),
                  FIELD(Extent, blocks, 0, Kind::extent_field),
                  FIELD(Extent, segment, 1, Kind::extent_field),
                  FIELD(Extent, flags, 2, Kind::extent_field)},
                 leaf + 64, sizeof(media::Extent), leaf, 4096, Kind::tree_node_damaged);
}

TEST_CASE("check: every field of a tree node's header and of an index entry",
          "[check][corruption]") {
    Patched patched;
    const Sample& sample = patched.sample();
    for (const std::uint64_t ino : {sample.tree_file, sample.directory}) {
        for (const unsigned level : {1u, 2u, 3u}) {
            CAPTURE(ino, level);
            const std::uint64_t node = sample.image.node_at(ino, level);
            patched.each(header_fields(Kind::tree_node_damaged, 4033, Kind::tree_node_damaged,
                                       Kind::tree_node_damaged),
                         node, sizeof(media::BlockHeader), node, 4096, Kind::tree_node_damaged);
            if (level == 1) continue;
            patched.each(
                {FIELD(TreeIndexEntry, key, ~std::uint64_t{0} - 1, Kind::tree_order),
                 FIELD(TreeIndexEntry, child, std::uint64_t{1} << 40, Kind::block_outside)},
                node + 64, sizeof(media::TreeIndexEntry), node, 4096, Kind::tree_node_damaged);
        }
    }
}

TEST_CASE("check: every field of a directory entry", "[check][corruption]") {
    Patched patched;
    const std::uint64_t leaf = patched.sample().image.node_at(patched.sample().directory, 1, 1);
    const auto entry = patched.sample().image.copy_at<media::DirectoryEntry>(leaf + 64);
    patched.each({FIELD(DirectoryEntry, key, entry.key + 256, Kind::entry_hash),
                  FIELD(DirectoryEntry, ino, 16 * 1000 + 5, Kind::entry_dangling),
                  FIELD(DirectoryEntry, type, 4, Kind::entry_type),
                  FIELD(DirectoryEntry, name_bytes, 0, Kind::entry_name)},
                 leaf + 64, sizeof(media::DirectoryEntry), leaf, 4096, Kind::tree_node_damaged);
}

TEST_CASE("check: every field of an attributes block and of an attribute", "[check][corruption]") {
    Patched patched;
    const std::uint64_t block =
        patched.sample().image.attributes_at(patched.sample().attributed, 0);
    patched.each(header_fields(Kind::attributes_damaged, 4031, Kind::attributes_damaged,
                               Kind::block_outside),
                 block, sizeof(media::BlockHeader), block, 4096, Kind::attributes_damaged);
    patched.each({FIELD(AttributeEntry, name_bytes, 256, Kind::attribute_entry),
                  FIELD(AttributeEntry, reserved, 1, kAnyValueIsRight),
                  FIELD(AttributeEntry, value_bytes, 70000, Kind::attribute_entry)},
                 block + 64, sizeof(media::AttributeEntry), block, 4096, Kind::attributes_damaged);
}

TEST_CASE("check: every field of a record", "[check][corruption]") {
    Patched patched;
    const HandImage& image = patched.sample().image;
    const auto fields = [](FindingKind of_start, std::uint64_t start) -> std::vector<Field> {
        return {UNIT_FIELDS(Record, Kind::record_damaged),
                FIELD(Record, kind, 4, Kind::record_field),
                FIELD(Record, flags, 32, Kind::record_field),
                FIELD(Record, count, 7, kAnyValueIsRight),
                FIELD(Record, id, 100, Kind::record_id),
                FIELD(Record, generation, 0, Kind::record_field),
                FIELD(Record, ino, 16 * 5000 + 1, Kind::record_field),
                FIELD(Record, ino_generation, 1 << 20, Kind::record_field),
                FIELD(Record, file_block, std::uint64_t{1} << 32, Kind::record_field),
                FIELD(Record, blocks, 0, Kind::record_field),
                FIELD(Record, start_block, start, of_start),
                FIELD(Record, made_seconds, 1, kAnyValueIsRight),
                FIELD(Record, boot_id, 1, kAnyValueIsRight),
                FIELD(Record, machine_id, 1, kAnyValueIsRight),
                FIELD(Record, pid_namespace, 1, kAnyValueIsRight),
                FIELD(Record, start_ticks, 1, kAnyValueIsRight),
                FIELD(Record, pid, 1, kAnyValueIsRight),
                FIELD(Record, uid, 1, kAnyValueIsRight),
                FIELD(Record, context, 1, kAnyValueIsRight),
                FIELD(Record, secret, 1, kAnyValueIsRight),
                FIELD(Record, command, 1, kAnyValueIsRight),
                FIELD(Record, descriptor, 1, kAnyValueIsRight),
                FIELD(Record, reserved, 1, kAnyValueIsRight),
                FIELD(Record, user_data, 1, kAnyValueIsRight),
                FIELD(Record, parent, 1, kAnyValueIsRight),
                FIELD(Record, name_key, 1, kAnyValueIsRight),
                FIELD(Record, label, 1, kAnyValueIsRight)};
    };
    patched.each_of_unit<media::Record>(fields(Kind::record_field, 1),
                                        image.record_at(patched.sample().map_record),
                                        Kind::record_damaged);
    patched.each_of_unit<media::Record>(fields(Kind::record_field, 1),
                                        image.record_at(patched.sample().pin_record),
                                        Kind::record_damaged);
    // A hold's file may be gone: its number is any number.
    auto of_hold = fields(Kind::block_outside, 1 << 20);
    for (Field& field : of_hold) {
        if (std::string_view(field.name) == "Record::ino") field.expected = kAnyValueIsRight;
        if (std::string_view(field.name) == "Record::ino_generation")
            field.value = std::uint64_t{7} << 32;
    }
    patched.each_of_unit<media::Record>(of_hold, image.record_at(patched.sample().hold_record),
                                        Kind::record_damaged);
}

TEST_CASE("check: every field of a sealed log", "[check][corruption]") {
    Sample sample;
    HandImage& image = sample.image;
    const std::uint64_t at = image.inode_at(sample.file);
    const auto inode = image.memory().subspan(at, media::kSlotBytes);
    const std::vector<std::byte> bytes(inode.begin(), inode.end());
    const std::uint64_t log = image.lane_at(1) + media::kLogOffset;
    const std::uint64_t record = log + sizeof(media::LogHeader);
    struct Case {
        Field field;
        std::uint64_t at;
    };
    const std::vector<Case> cases{
        {FIELD(LogHeader, magic, 1, Kind::log_damaged), log},
        {FIELD(LogHeader, lane, 0, Kind::log_damaged), log},
        {FIELD(LogHeader, sequence, 0, Kind::log_damaged), log},
        {FIELD(LogHeader, record_count, 2, Kind::log_damaged), log},
        {FIELD(LogHeader, record_count, 0, Kind::log_damaged), log},
        {FIELD(LogHeader, reserved, 1, kAnyValueIsRight), log},
        {FIELD(LogRecord, offset, 0, Kind::log_target), record},
        {FIELD(LogRecord, offset, media::kSuperCopyOffset + 4000, Kind::log_target), record},
        {FIELD(LogRecord, offset, image.lane_at(0), Kind::log_target), record},
        {FIELD(LogRecord, offset, image.memory().size() - 8, Kind::log_target), record},
        {FIELD(LogRecord, offset, ~std::uint64_t{0} - 8, Kind::log_target), record},
        {FIELD(LogRecord, bytes, 0, Kind::log_damaged), record},
        {FIELD(LogRecord, bytes, 257, Kind::log_damaged), record},
        {FIELD(LogRecord, bytes, 240, Kind::log_damaged), record},
        {FIELD(LogRecord, bytes, 0xffffffff, Kind::log_damaged), record},
        {FIELD(LogRecord, reserved, 1, kAnyValueIsRight), record},
    };
    const auto judge = [&] {
        auto report = check(image.region());
        REQUIRE(report);
        return *std::move(report);
    };
    for (const Case& c : cases) {
        CAPTURE(c.field.name, c.field.value);
        image.seal_log(1, 3, {{at, bytes}});
        std::memcpy(image.memory().data() + c.at + c.field.offset, &c.field.value,
                    std::min<std::size_t>(c.field.bytes, 8));
        const CheckReport unsealed = judge();
        CHECK(unsealed.has(Kind::seal_damaged));
        image.seal_lane(1);
        const CheckReport report = judge();
        INFO(report.text());
        if (c.field.expected)
            CHECK(report.has(*c.field.expected));
        else
            CHECK(report.clean());
    }
    image.seal_log(1, 3, {{at, bytes}});
    auto& seal = image.at<media::Seal>(image.lane_at(1));
    const media::Seal right = seal;
    for (const media::Seal wrong :
         {media::Seal{right.crc32c ^ 1, right.log_bytes}, media::Seal{right.crc32c, 0},
          media::Seal{0, 31}, media::Seal{right.crc32c, right.log_bytes + 8},
          media::Seal{right.crc32c, 32 * 1024 - 4096 + 1}, media::Seal{right.crc32c, 0xffffffff}}) {
        CAPTURE(wrong.crc32c, wrong.log_bytes);
        seal = wrong;
        CHECK(judge().has(Kind::seal_damaged));
    }
    // Sealed as longer than its header says.
    const std::uint32_t longer = right.log_bytes + 8;
    seal = {crc32c(image.seed(), image.memory().subspan(log, longer)), longer};
    CHECK(judge().has(Kind::log_damaged));
}

TEST_CASE("check: every field of the superblock", "[check][corruption]") {
    struct SuperField {
        Field field;
        std::optional<FindingKind> in_both;  // changed in superblock and copy
    };
    const std::vector<SuperField> fields{
        {FIELD(Superblock, magic, 1, Kind::superblock_damaged), {}},
        {FIELD(Superblock, crc32c, 1, Kind::superblock_damaged), {}},
        {FIELD(Superblock, own_offset, 4096, Kind::superblock_damaged), {}},
        {FIELD(Superblock, incompatible, 1, {}), {}},
        {FIELD(Superblock, read_only, 1, {}), {}},
        {FIELD(Superblock, compatible, 1, Kind::superblock_copy_differs), kAnyValueIsRight},
        {FIELD(Superblock, uuid, 1, Kind::superblock_copy_differs), kAnyValueIsRight},
        {FIELD(Superblock, label, 'x', Kind::superblock_copy_differs), kAnyValueIsRight},
        {FIELD(Superblock, region_bytes, (4 << 20) - 4096, Kind::superblock_copy_differs),
         Kind::block_not_allocated},
        {FIELD(Superblock, block_bytes, 8192, Kind::superblock_geometry),
         Kind::superblock_geometry},
        {FIELD(Superblock, slot_bytes, 128, Kind::superblock_geometry), Kind::superblock_geometry},
        {FIELD(Superblock, group_blocks, 0, Kind::superblock_geometry), Kind::superblock_geometry},
        {FIELD(Superblock, zone_groups, 0, Kind::superblock_geometry), Kind::superblock_geometry},
        {FIELD(Superblock, map_unit_bytes, 8192, Kind::superblock_geometry),
         Kind::superblock_geometry},
        {FIELD(Superblock, state_offset, 8192, Kind::superblock_geometry),
         Kind::superblock_geometry},
        {FIELD(Superblock, finished_offset, 8192, Kind::superblock_geometry),
         Kind::superblock_geometry},
        {FIELD(Superblock, lanes_offset, 12288, Kind::superblock_geometry),
         Kind::superblock_geometry},
        {FIELD(Superblock, lane_count, 1, Kind::superblock_copy_differs), Kind::block_lost},
        {FIELD(Superblock, lane_bytes, 4096, Kind::superblock_geometry), Kind::superblock_geometry},
        {FIELD(Superblock, name_hash_seed, 1, Kind::superblock_copy_differs), Kind::entry_hash},
        {FIELD(Superblock, name_hash_bits, 55, Kind::superblock_geometry),
         Kind::superblock_geometry},
        {FIELD(Superblock, checksum_seed, 1, Kind::superblock_copy_differs), Kind::state_damaged},
        {FIELD(Superblock, made_seconds, 1, Kind::superblock_copy_differs), kAnyValueIsRight},
        {FIELD(Superblock, reserved, 1, Kind::superblock_reserved), Kind::superblock_reserved}};
    Sample sample;
    HandImage& image = sample.image;
    const std::vector<std::byte> pristine(image.memory().begin(), image.memory().end());
    const auto write = [&](std::uint64_t super, const Field& field, bool seal) {
        std::memcpy(image.memory().data() + super + field.offset, &field.value,
                    std::min<std::size_t>(field.bytes, 8));
        if (seal) image.seal_superblock(super);
    };
    std::size_t end = 0;
    for (const auto& [field, in_both] : fields) {
        const std::string_view name = field.name;
        CAPTURE(name);
        CHECK(field.offset == end);
        end = field.offset + field.bytes;
        const bool is_feature = !field.expected.has_value();

        for (const std::uint64_t super : {std::uint64_t{0}, media::kSuperCopyOffset}) {
            std::ranges::copy(pristine, image.memory().begin());
            write(super, field, false);
            const auto report = check(image.region());
            REQUIRE(report);
            CHECK(
                report->has(super == 0 ? Kind::superblock_damaged : Kind::superblock_copy_damaged));
        }
        if (name == "Superblock::crc32c") continue;

        std::ranges::copy(pristine, image.memory().begin());
        write(0, field, true);
        auto report = check(image.region());
        if (is_feature) {
            REQUIRE_FALSE(report);
            CHECK(report.error().cause == Cause::feature_unknown);
            continue;
        }
        REQUIRE(report);
        INFO(report->text());
        CHECK(report->has(*field.expected));
        if (name == "Superblock::magic" || name == "Superblock::own_offset") continue;

        write(media::kSuperCopyOffset, field, true);
        report = check(image.region());
        REQUIRE(report);
        INFO(report->text());
        if (in_both)
            CHECK(report->has(*in_both));
        else
            CHECK(report->clean());
    }
    CHECK(end == sizeof(media::Superblock));
}

}  // namespace

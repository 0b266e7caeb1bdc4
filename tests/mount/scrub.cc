// SPDX-License-Identifier: Apache-2.0
//
// `pinfs scrub`: damage that is made in the region under a mount is found with its place, what is
// whole is not complained of, and nothing else notices.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "fs/format/inode.h"
#include "fs/format/record.h"
#include "fs/format/superblock.h"
#include "fs/format/unit.h"
#include "tests/support/clients.h"
#include "tests/support/kernel_mount.h"
#include "tests/support/raw_protocol.h"
#include "tests/support/region_bytes.h"

using namespace pinfs::test;
namespace media = pinfs::media;

namespace {

constexpr std::uint64_t kMib = std::uint64_t{1} << 20;

std::uint64_t ino_of(const std::string& path) {
    struct stat st {};
    REQUIRE(lstat(path.c_str(), &st) == 0);
    return st.st_ino;
}

/// One of everything: trees of two levels, attributes, a pin on record.
struct Furnished {
    explicit Furnished(KernelMount& of) : mounted(of) {
        of.mount();
        write_file(of.path("plain"), "plain");
        REQUIRE(mkdir(of.path("names").c_str(), 0755) == 0);
        for (int i = 0; i < 300; ++i)
            write_file(of.path("names/a name of some length " + std::to_string(i)), "");
        write_file(of.path("attributes"), "");
        const std::string value(3000, 'v');
        REQUIRE(setxattr(of.path("attributes").c_str(), "user.large", value.data(), value.size(),
                         0) == 0);
        const TestFile sparse{of.path("sparse")};
        for (std::uint64_t i = 0; i < 400; ++i) sparse.write(2 * i * kBlock, "x");
        REQUIRE(symlink(std::string(200, 'l').c_str(), of.path("link").c_str()) == 0);
        context.emplace(of.root());
        pinned.emplace(file_of(of, "pinned", 4));
        REQUIRE(context->lease(pinned->get(), kExclusiveLease, 0, 0).error == 0);
        REQUIRE(context->pin(pinned->get(), 0, kBlock).error == 0);
    }

    KernelMount& mounted;
    std::optional<RawContext> context;
    std::optional<Descriptor> pinned;
};

nlohmann::json scrubbed(const KernelMount& mounted, int status,
                        const std::vector<std::string>& options = {}) {
    std::vector<std::string> words{"pinfs", "scrub", "--json", mounted.root()};
    words.insert(words.end(), options.begin(), options.end());
    const Ran ran = run(words);
    INFO(ran.out << ran.err);
    CHECK(ran.status == status);
    return nlohmann::json::parse(ran.out);
}

/// The region's bytes as they are, and a byte of them changed and changed back.
class RegionFile {
public:
    explicit RegionFile(const KernelMount& mounted) : bytes_{mounted.region()} {}
    template <class Struct>
    [[nodiscard]] Struct at(std::uint64_t offset) const {
        Struct value;
        std::memcpy(&value, bytes_.get().data() + offset, sizeof(value));
        return value;
    }
    void flip(std::uint64_t offset) const { bytes_.get()[offset] ^= std::byte{0x40}; }
    [[nodiscard]] std::uint64_t bytes() const { return bytes_.get().size(); }
    /// The last metadata block of this kind, owner and level.
    [[nodiscard]] std::uint64_t find_block(media::BlockKind kind, std::uint64_t owner,
                                           unsigned level) const {
        std::uint64_t found = 0;
        for (std::uint64_t offset = 0; offset < bytes(); offset += kBlock) {
            const auto header = at<media::BlockHeader>(offset);
            if (header.magic == media::kBlockMagic && header.own_offset == offset &&
                header.kind == static_cast<media::le16>(kind) && header.owner == owner &&
                header.level == level)
                found = offset;
        }
        CAPTURE(static_cast<int>(kind), owner, level);
        REQUIRE(found != 0);
        return found;
    }
    /// The last slot with this magic and this number at `at_byte`.
    [[nodiscard]] std::uint64_t find_slot(media::le32 magic, std::uint64_t at_byte,
                                          std::uint64_t number) const {
        std::uint64_t found = 0;
        for (std::uint64_t offset = 0; offset < bytes(); offset += media::kSlotBytes)
            if (at<media::le32>(offset) == magic && at<media::le64>(offset + at_byte) == number)
                found = offset;
        CAPTURE(magic, number);
        REQUIRE(found != 0);
        return found;
    }

private:
    RegionBytes bytes_;
};

}  // namespace

TEST_CASE("a scrub of a whole file system reads every unit and finds nothing", "[mount][scrub]") {
    KernelMount mounted;
    const Furnished furnished{mounted};
    const auto clean = scrubbed(mounted, 0);
    CHECK(clean["bad"] == 0);
    CHECK(clean["findings"].empty());
    CHECK(clean["data_bytes"] == 0);
    // Inodes, and at least the nodes of what was made here.
    CHECK(clean["units"] > 310);
    const auto with_data = scrubbed(mounted, 0, {"--data"});
    CHECK(with_data["units"] == clean["units"]);
    CHECK(with_data["data_bytes"] >= 400 * kBlock);
    const Ran text = run({"pinfs", "scrub", mounted.path("plain")});
    CHECK(text.status == 0);
    CHECK(text.out == std::to_string(clean["units"].get<std::uint64_t>()) + " units, 0 bad\n");
    CHECK(text.err.empty());
}

TEST_CASE("each kind of damaged unit is found with its place, and the mount lives",
          "[mount][scrub]") {
    KernelMount mounted;
    const Furnished furnished{mounted};
    const RegionFile region{mounted};
    struct Damage {
        std::string what;
        std::uint64_t unit;
        std::string file;
    };
    const auto in_tree = [&](const std::string& name, media::BlockKind kind, unsigned level) {
        return Damage{name + " " + std::to_string(level),
                      region.find_block(kind, ino_of(mounted.path(name)), level), "/" + name};
    };
    const std::vector<Damage> damages{
        {"superblock", 0, ""},
        {"copy of the superblock", media::kSuperCopyOffset, ""},
        {"group", region.find_block(media::BlockKind::group, 0, 0), ""},
        {"inode",
         region.find_slot(media::kInodeMagic, offsetof(media::Inode, ino),
                          ino_of(mounted.path("plain"))),
         "/plain"},
        in_tree("names", media::BlockKind::directory_tree, 1),
        in_tree("names", media::BlockKind::directory_tree, 2),
        in_tree("sparse", media::BlockKind::extent_tree, 1),
        in_tree("sparse", media::BlockKind::extent_tree, 2),
        in_tree("attributes", media::BlockKind::attributes, 0),
        {"record",
         region.find_slot(media::kRecordMagic, offsetof(media::Record, ino),
                          ino_of(mounted.path("pinned"))),
         ""},
    };
    for (const Damage& damage : damages) {
        CAPTURE(damage.what, damage.unit);
        region.flip(damage.unit + 100);
        const auto found = scrubbed(mounted, 4);
        region.flip(damage.unit + 100);
        CAPTURE(found.dump());
        CHECK(found["bad"] == 1);
        REQUIRE(found["findings"].size() == 1);
        const auto& finding = found["findings"][0];
        CHECK(finding["region_offset_bytes"] == damage.unit);
        CHECK(finding["error"] == EUCLEAN);
        CHECK(finding["file"] == damage.file);
        CHECK(contents(mounted.path("pinned")) == std::string(4 * kBlock, 'x'));
    }
    CHECK(scrubbed(mounted, 0)["bad"] == 0);

    const std::uint64_t unit = damages[6].unit;
    region.flip(unit + 100);
    const Ran text = run({"pinfs", "scrub", mounted.root()});
    region.flip(unit + 100);
    CHECK(text.status == 4);
    CHECK(text.out.starts_with(mounted.path("sparse") + ": a metadata checksum does not match"));
    CHECK(text.out.find("region offset " + std::to_string(unit)) != std::string::npos);
    CHECK(text.out.find(" units, 1 bad\n") != std::string::npos);
}

TEST_CASE("one damaged unit hides no other one", "[mount][scrub]") {
    KernelMount mounted;
    const Furnished furnished{mounted};
    const RegionFile region{mounted};
    const std::vector<std::uint64_t> units{
        region.find_block(media::BlockKind::directory_tree, ino_of(mounted.path("names")), 1),
        region.find_block(media::BlockKind::extent_tree, ino_of(mounted.path("sparse")), 1),
        region.find_block(media::BlockKind::attributes, ino_of(mounted.path("attributes")), 0),
        media::kSuperCopyOffset};
    for (const std::uint64_t unit : units) region.flip(unit + 100);
    const auto found = scrubbed(mounted, 4);
    for (const std::uint64_t unit : units) region.flip(unit + 100);
    CAPTURE(found.dump());
    CHECK(found["bad"] == units.size());
    for (const std::uint64_t unit : units)
        CHECK(std::ranges::any_of(found["findings"], [&](const nlohmann::json& finding) {
            return finding["region_offset_bytes"] == unit;
        }));
}

TEST_CASE("with --data, blocks that the region does not answer for are found",
          "[mount][scrub][resizes region]") {
    KernelMount mounted;
    mounted.mount();
    write_file(mounted.path("before"), std::string(kMib, 'b'));
    write_file(mounted.path("far"), std::string(kMib, 'f'));
    std::string extents(4096, '\0');
    const ssize_t length =
        getxattr(mounted.path("far").c_str(), "user.pinfs.extents", extents.data(), extents.size());
    REQUIRE(length > 0);
    std::uint64_t file_block = 0;
    std::uint64_t start_block = 0;
    REQUIRE(std::sscanf(extents.c_str(), "%lu %lu", &file_block, &start_block) == 2);
    struct stat whole {};
    REQUIRE(stat(mounted.region().c_str(), &whole) == 0);
    // The file's last but one quarter on is cut off with all that lies behind.
    const auto resize = [&](off_t bytes) {
        REQUIRE(truncate(mounted.region().c_str(), bytes) == 0);
    };
    resize(static_cast<off_t>((start_block + 200) * kBlock));
    const auto found = scrubbed(mounted, 4, {"--data"});
    const bool served = contents(mounted.path("before")) == std::string(kMib, 'b');
    resize(whole.st_size);
    CAPTURE(found.dump());
    CHECK(served);
    CHECK(found["bad"] == 56);
    for (const nlohmann::json& finding : found["findings"]) {
        CHECK(finding["error"] == EIO);
        CHECK(finding["file"] == "/far");
        CHECK(finding["file_offset_bytes"] >= 200 * kBlock);
    }
    CHECK(scrubbed(mounted, 0, {"--data"})["bad"] == 0);
}

TEST_CASE("a scrub beside writers complains of nothing", "[mount][scrub]") {
    KernelMount mounted;
    mounted.mount();
    std::atomic<bool> stop{false};
    std::vector<std::thread> writers;
    for (int id = 0; id < 3; ++id)
        writers.emplace_back([&, id] {
            const std::string directory = mounted.path("d" + std::to_string(id));
            if (mkdir(directory.c_str(), 0755) != 0) return;
            const std::string value(2000, 'v');
            for (int i = 0; !stop; ++i) {
                const std::string name = directory + "/name of a file " + std::to_string(i % 200);
                const int file = open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
                for (off_t at = 0; at < 40; ++at)
                    if (pwrite(file, "x", 1, at * 8192) != 1) break;
                fsetxattr(file, "user.a", value.data(), value.size(), 0);
                if (i % 3 == 0 && ftruncate(file, 8192 * (i % 7)) != 0) break;
                close(file);
                if (i % 2 == 0) unlink(name.c_str());
                if (i % 5 == 0) rename(name.c_str(), (directory + "/moved").c_str());
            }
        });
    int rounds = 0;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{5};
    while (rounds < 3 || std::chrono::steady_clock::now() < end) {
        const Ran ran =
            run({"pinfs", "scrub", rounds++ % 2 == 0 ? "--data" : "--json", mounted.root()});
        INFO(ran.out << ran.err);
        CHECK(ran.status == 0);
    }
    stop = true;
    for (std::thread& writer : writers) writer.join();
    mounted.unmount();
    mounted.check();
}

TEST_CASE("a scrub is for administrators", "[mount][scrub]") {
    KernelMount mounted;
    mounted.mount();
    REQUIRE(chmod(mounted.outside("").c_str(), 0755) == 0);
    const Ran ran = run({"pinfs", "scrub", mounted.root()}, 1000);
    CHECK(ran.status == 1);
    CHECK(ran.out.empty());
    CHECK(ran.err.starts_with("pinfs scrub: "));
    CHECK(run({"pinfs", "scrub", "/"}).status == 32);
    REQUIRE(run({"pinfs", "scrub"}).status == 1);
}

// SPDX-License-Identifier: Apache-2.0
#include "tests/support/mounted.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <new>

#include "fs/format/inode.h"

namespace pinfs::test {

namespace {

constexpr std::uint64_t kRequestBytes = std::uint64_t{1} << 20;
/// Files up to this size are read whole; of larger ones only what their extents say is there.
constexpr std::uint64_t kReadWholeBytes = std::uint64_t{2} << 20;

pmem::Capabilities capabilities() {
    pmem::Capabilities capabilities;
    capabilities.kind = pmem::Kind::tmpfs;  // its pages can be taken from a device
    capabilities.flush = pmem::Flush::line;
    capabilities.map_sync = true;
    capabilities.persistent = true;
    capabilities.pinnable = true;
    return capabilities;
}

/// How far a cut has come is nobody's business.
constexpr std::uint32_t kInternalFlags = media::kInodeCutting;

bool is_zero(std::span<const std::byte> bytes) {
    return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

void add_blocks(Volume& volume, Ino ino, std::uint64_t begin, std::uint64_t end, FileState& file) {
    Bytes piece;
    for (std::uint64_t at = begin; at < end;) {
        const std::uint64_t bytes = std::min(end - at, kRequestBytes);
        piece.resize(bytes);
        if (must(volume.read(ino, at, piece)) != bytes)
            throw std::runtime_error("a read inside a file is short");
        for (std::uint64_t done = 0; done < bytes; done += kBlockBytes) {
            const auto block =
                std::span{piece}.subspan(done, std::min<std::uint64_t>(kBlockBytes, bytes - done));
            if (!is_zero(block))
                file.blocks[(at + done) / kBlockBytes].assign(block.begin(), block.end());
        }
        at += bytes;
    }
}

void add_content(Volume& volume, Ino ino, std::uint64_t size, FileState& file) {
    if (size <= kReadWholeBytes) return add_blocks(volume, ino, 0, size, file);
    for (const ExtentInfo& extent : must(volume.extents(ino, 0, size)))
        if (!extent.unwritten)
            add_blocks(volume, ino, extent.file_block * kBlockBytes,
                       std::min((extent.file_block + extent.blocks) * kBlockBytes, size), file);
}

struct Child {
    std::string name;
    Ino ino;
    std::uint32_t mode;
};

std::vector<Child> children_of(Volume& volume, Ino directory) {
    std::vector<Child> children;
    must(volume.read_directory(directory, 2, [&](const DirectoryItem& item) {
        children.push_back({std::string{item.name}, item.ino, item.mode});
        return true;
    }));
    return children;
}

}  // namespace

void not_expected(const Error& error, const std::source_location& where) {
    throw std::runtime_error(std::string{where.file_name()} + ":" + std::to_string(where.line()) +
                             ": " + error.message());
}

Bytes pattern(std::uint64_t offset, std::size_t bytes, std::uint64_t seed) {
    Bytes result(bytes);
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < bytes; ++i) {
        const std::uint64_t at = offset + i;
        if (i == 0 || at % 8 == 0) {
            word = (at / 8 + 1) * 0x9e3779b97f4a7c15 + seed * 0xd1342543de82ef95;
            word ^= word >> 29;
            word *= 0xbf58476d1ce4e5b9;
            word ^= word >> 32;
            word |= 0x0101010101010101;  // no byte is zero
        }
        result[i] = static_cast<std::byte>(word >> (at % 8 * 8));
    }
    return result;
}

FileState state_of(Volume& volume, Ino ino) {
    const Attributes attributes = must(volume.attributes(ino));
    FileState file{.mode = attributes.mode,
                   .nlink = attributes.nlink,
                   .uid = attributes.uid,
                   .gid = attributes.gid,
                   .device_major = attributes.device_major,
                   .device_minor = attributes.device_minor,
                   .size = attributes.size_bytes,
                   .atime = attributes.atime,
                   .mtime = attributes.mtime,
                   .ctime = attributes.ctime,
                   .btime = attributes.btime,
                   .flags = attributes.flags & ~kInternalFlags,
                   .ino = attributes.ino.value,
                   .generation = attributes.generation,
                   .target = {},
                   .first_name = {},
                   .attributes = {},
                   .blocks = {}};
    for (const std::string& name : must(volume.attribute_names(ino)))
        file.attributes[name] = must(volume.attribute(ino, name));
    if (S_ISREG(attributes.mode)) add_content(volume, ino, attributes.size_bytes, file);
    if (S_ISLNK(attributes.mode)) file.target = must(volume.read_link(ino));
    return file;
}

Snapshot snapshot_of(Volume& volume) {
    Snapshot snapshot;
    std::map<std::uint64_t, std::string> first_names;
    const std::function<void(Ino, const std::string&)> visit = [&](Ino ino,
                                                                   const std::string& path) {
        FileState& file = snapshot[path] = state_of(volume, ino);
        if (S_ISDIR(file.mode)) {
            auto children = children_of(volume, ino);
            std::ranges::sort(children, {}, &Child::name);
            for (const Child& child : children)
                visit(child.ino, (path == "/" ? path : path + "/") + child.name);
        }
    };
    visit(kRootIno, "/");
    for (auto& [path, file] : snapshot)
        file.first_name = first_names.try_emplace(*file.ino, path).first->second;
    return snapshot;
}

std::string difference(const FileState& found, const FileState& expected) {
    std::string text;
    const auto differ = [&](const char* what, const auto& is, const auto& should_be) {
        if (is == should_be) return;
        text += std::string{" "} + what;
        if constexpr (requires { std::to_string(is); })
            text += " is " + std::to_string(is) + ", should be " + std::to_string(should_be);
        text += ";";
    };
    const auto differ_if_known = [&](const char* what, const auto& is, const auto& should_be) {
        if (is && should_be) differ(what, *is, *should_be);
    };
    differ("mode", found.mode, expected.mode);
    differ("nlink", found.nlink, expected.nlink);
    differ("uid", found.uid, expected.uid);
    differ("gid", found.gid, expected.gid);
    differ("device_major", found.device_major, expected.device_major);
    differ("device_minor", found.device_minor, expected.device_minor);
    if (!S_ISDIR(found.mode)) differ_if_known("size", found.size, expected.size);
    differ_if_known("atime", found.atime, expected.atime);
    differ_if_known("mtime", found.mtime, expected.mtime);
    differ_if_known("ctime", found.ctime, expected.ctime);
    differ_if_known("btime", found.btime, expected.btime);
    differ_if_known("flags", found.flags, expected.flags);
    differ_if_known("ino", found.ino, expected.ino);
    differ_if_known("generation", found.generation, expected.generation);
    differ("target", found.target, expected.target);
    differ("links", found.first_name, expected.first_name);
    differ("extended attributes", found.attributes, expected.attributes);
    if (found.blocks != expected.blocks) {
        text += " content, first in block ";
        const auto [a, b] = std::ranges::mismatch(found.blocks, expected.blocks);
        const std::uint64_t block = std::min(a == found.blocks.end() ? UINT64_MAX : a->first,
                                             b == expected.blocks.end() ? UINT64_MAX : b->first);
        text += std::to_string(block);
        if (a != found.blocks.end() && b != expected.blocks.end() && a->first == b->first) {
            const auto byte = std::ranges::mismatch(a->second, b->second).in1 - a->second.begin();
            text += " at byte " + std::to_string(byte);
        }
        text += ";";
    }
    return text;
}

std::string difference(const Snapshot& found, const Snapshot& expected) {
    std::string text;
    for (const auto& [path, file] : expected) {
        const auto there = found.find(path);
        if (there == found.end()) {
            text += path + " is missing\n";
            continue;
        }
        if (const std::string differs = difference(there->second, file); !differs.empty())
            text += path + ":" + differs + "\n";
        if (text.size() > 2000) return text + "...\n";
    }
    for (const auto& [path, file] : found)
        if (!expected.contains(path)) text += path + " should not be there\n";
    return text.substr(0, 3000);
}

Memory::Memory(std::uint64_t bytes) {
    void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    bytes_ = {static_cast<std::byte*>(memory), bytes};
}

Memory::~Memory() { munmap(bytes_.data(), bytes_.size()); }

void make_empty(pmem::Region& region, std::span<std::byte> memory, const MountedOptions& options) {
    if (options.poison) std::ranges::fill(memory, kPoison);
    MakeOptions make;
    for (std::size_t i = 0; i < make.uuid.size(); ++i)
        make.uuid[i] = static_cast<std::uint8_t>(17 * i + 3);
    make.label = "test";
    make.dax = options.dax;
    make.map_unit_bytes = options.map_unit_bytes;
    make.name_hash_seed = 4711;
    make.name_hash_bits = options.name_hash_bits;
    make.now = {1'000'000'000, 5};
    must(make_file_system(region, make));
}

MountOptions mount_options() {
    MountOptions options;
    options.atime = AtimePolicy::none;  // looking at a file changes nothing
    options.machine_id = "0123456789abcdef0123456789abcdef";
    options.background = false;
    return options;
}

Mounted::Mounted(const MountedOptions& options)
    : memory_{std::make_unique<Memory>(options.bytes)},
      own_region_{std::make_unique<pmem::Region>(memory_->bytes(), capabilities(), nullptr)},
      region_{own_region_.get()} {
    make_empty(*region_, memory_->bytes(), options);
    mount();
}

Mounted::Mounted(pmem::Region& region, std::span<std::byte> memory, const MountedOptions& options)
    : region_{&region} {
    make_empty(region, memory, options);
    mount();
}

Mounted::Mounted(pmem::Region& region, bool same_boot) : region_{&region}, same_boot_{same_boot} {
    mount();
}

Mounted::~Mounted() = default;

void Mounted::mount(bool background, std::uint64_t unpin_delay_ms) {
    MountOptions options = mount_options();
    options.background = background;
    options.unpin_delay_ms = unpin_delay_ms;
    options.boot_id =
        same_boot_ ? "fedcba9876543210fedcba9876543210" : "00112233445566778899aabbccddeeff";
    volume_ = must(Volume::mount(*region_, options));
}

void Mounted::unmount() {
    must(volume_->unmount());
    volume_.reset();
}

void Mounted::remount() {
    unmount();
    mount();
}

Expected<Ino> Mounted::find(std::string_view path) const {
    Ino ino = kRootIno;
    while (!path.empty()) {
        path.remove_prefix(1);
        const auto name = path.substr(0, path.find('/'));
        path.remove_prefix(name.size());
        if (name.empty()) continue;
        const Entry entry = TRY(volume_->lookup(ino, name));
        volume_->forget(entry.attributes.ino, 1);
        ino = entry.attributes.ino;
    }
    return ino;
}

Expected<Mounted::Place> Mounted::place_of(std::string_view path) const {
    const auto slash = path.rfind('/');
    return Place{TRY(find(path.substr(0, slash))), path.substr(slash + 1)};
}

Ino Mounted::make_directory(std::string_view path, std::uint32_t mode) {
    const Place place = must(place_of(path));
    NewInode directory;
    directory.mode = S_IFDIR | mode;
    const Entry made = must(volume_->make(place.parent, place.name, directory, {}));
    volume_->forget(made.attributes.ino, 1);
    return made.attributes.ino;
}

Ino Mounted::make_file(std::string_view path, std::size_t bytes, std::uint64_t seed) {
    const Place place = must(place_of(path));
    NewInode file;
    file.mode = S_IFREG | 0644;
    const Entry made = must(volume_->make(place.parent, place.name, file, {}));
    volume_->forget(made.attributes.ino, 1);
    if (bytes > 0) write(made.attributes.ino, 0, pattern(0, bytes, seed));
    return made.attributes.ino;
}

void Mounted::write(Ino ino, std::uint64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const auto piece = bytes.first(std::min<std::size_t>(bytes.size(), kRequestBytes));
        if (must(volume_->write(ino, offset, piece)) != piece.size())
            throw std::runtime_error("a write is short");
        offset += piece.size();
        bytes = bytes.subspan(piece.size());
    }
}

Bytes Mounted::read(Ino ino, std::uint64_t offset, std::size_t bytes) const {
    Bytes result(bytes);
    result.resize(must(volume_->read(ino, offset, result)));
    return result;
}

void Mounted::truncate(Ino ino, std::uint64_t size) {
    AttributeChange change;
    change.size_bytes = size;
    must(volume_->change_attributes(ino, change));
}

void Mounted::remove_all() {
    const std::function<void(Ino)> empty = [&](Ino directory) {
        for (const Child& child : children_of(*volume_, directory)) {
            if (S_ISDIR(child.mode)) {
                empty(child.ino);
                must(volume_->remove_directory(directory, child.name));
            } else {
                must(volume_->unlink(directory, child.name));
            }
        }
    };
    empty(kRootIno);
    for (const std::string& name : must(volume_->attribute_names(kRootIno)))
        must(volume_->remove_attribute(kRootIno, name));
    must(volume_->finish_pending());
}

void Mounted::check_clean() const {
    const CheckReport report = must(check(*region_));
    if (!report.clean()) throw std::runtime_error("the judge says:\n" + report.text());
}

}  // namespace pinfs::test

// SPDX-License-Identifier: Apache-2.0
#include "tests/fsx/tested_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "fs/error.h"
#include "fs/units.h"
#include "tests/fsx/guarded_copy.h"
#include "tests/fsx/seek_check.h"

namespace pinfs::fsx {
namespace {

std::unexpected<std::string> failed(const std::string& call) {
    return std::unexpected(call + ": " + std::strerror(errno));
}

std::unexpected<std::string> got_instead(const std::string& call, long long got,
                                         std::uint64_t wanted) {
    if (got < 0) return failed(call);
    return std::unexpected(call + " returned " + std::to_string(got) + " instead of " +
                           std::to_string(wanted));
}

/// A map of the pages around [offset, offset + length) that goes with it.
class Mapping {
public:
    Mapping(int descriptor, std::uint64_t offset, std::uint64_t length, int protection)
        : begin_(round_down(offset, kBlockBytes)),
          length_(round_up(offset + length, kBlockBytes) - begin_),
          at_(mmap(nullptr, length_, protection, MAP_SHARED, descriptor,
                   static_cast<off_t>(begin_))) {}
    ~Mapping() {
        if (is_there()) munmap(at_, length_);
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    [[nodiscard]] bool is_there() const { return at_ != MAP_FAILED; }
    /// The byte of the file at `offset`.
    [[nodiscard]] unsigned char* at(std::uint64_t offset) const {
        return static_cast<unsigned char*>(at_) + (offset - begin_);
    }
    [[nodiscard]] std::uint64_t end() const { return begin_ + length_; }
    [[nodiscard]] int sync() const { return msync(at_, length_, MS_SYNC); }

private:
    std::uint64_t begin_;
    std::uint64_t length_;
    void* at_;
};

constexpr std::uint64_t mix(std::uint64_t value) {
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
    return value ^ (value >> 31);
}

}  // namespace

TestedFiles::~TestedFiles() {
    for (File& file : files_) close_all(file);
}

Outcome TestedFiles::start(const std::array<std::string, 2>& paths) {
    for (std::size_t i = 0; i < files_.size(); ++i) {
        files_[i].path = paths[i];
        const int made = open(paths[i].c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (made < 0) return failed("open " + paths[i]);
        close(made);
        TRY(open_all(files_[i]));
    }
    return {};
}

Outcome TestedFiles::open_all(File& file) {
    file.plain = open(file.path.c_str(), O_RDWR | O_CLOEXEC);
    file.append = open(file.path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    file.direct = open(file.path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    if (file.plain < 0 || file.append < 0 || file.direct < 0) return failed("open " + file.path);
    return {};
}

void TestedFiles::close_all(File& file) {
    for (int* descriptor : {&file.plain, &file.append, &file.direct}) {
        if (*descriptor >= 0) close(*descriptor);
        *descriptor = -1;
    }
}

Outcome TestedFiles::run(const Operation& operation) {
    File& file = files_[operation.file];
    const auto done = [&]() -> Outcome {
        switch (operation.kind) {
            case Kind::read:
                return read(file, file.plain, operation);
            case Kind::write:
                return write(file, file.plain, operation);
            case Kind::append:
                return append(file, operation);
            case Kind::direct_read:
                return read(file, file.direct, operation);
            case Kind::direct_write:
                return write(file, file.direct, operation);
            case Kind::map_read:
                return map_read(file, operation);
            case Kind::map_write:
            case Kind::map_write_sync:
                return map_write(file, operation);
            case Kind::truncate:
                return truncate(file, operation);
            case Kind::punch:
            case Kind::zero:
            case Kind::zero_keep:
            case Kind::allocate:
            case Kind::allocate_keep:
                return allocate(file, operation);
            case Kind::copy_inside:
                return copy(file, file, operation);
            case Kind::copy_across:
                return copy(file, files_[1 - operation.file], operation);
            case Kind::seek:
                return check_seek(file.plain, file.expected, operation.offset);
            case Kind::sync:
                if (fsync(file.plain) != 0) return failed("fsync");
                return {};
            case Kind::drop_cache:
                return drop_cache(file);
            case Kind::reopen:
                return reopen(file);
        }
        return std::unexpected("no such operation");
    }();
    TRY(done);
    TRY(same_size(files_[0]));
    return same_size(files_[1]);
}

Outcome TestedFiles::compare_all() {
    for (const File& file : files_) {
        TRY(same_size(file));
        unsigned char* const bytes = buffer(file.expected.size() + 1);
        const ssize_t got = pread(file.plain, bytes, file.expected.size() + 1, 0);
        if (got != static_cast<ssize_t>(file.expected.size()))
            return got_instead("pread of all of " + file.path, got, file.expected.size());
        TRY(same(file, 0, bytes, file.expected.size()));
    }
    return {};
}

Outcome TestedFiles::same(const File& file, std::uint64_t offset, const unsigned char* got,
                          std::uint64_t length) {
    assert(offset + length <= file.expected.size());
    const unsigned char* const wanted = file.expected.data() + offset;
    if (std::memcmp(got, wanted, length) == 0) return {};
    const auto [first, other] = std::mismatch(wanted, wanted + length, got);
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < length; ++i) wrong += got[i] != wanted[i] ? 1 : 0;
    return std::unexpected(file.path + " has byte " + std::to_string(*other) + " instead of " +
                           std::to_string(*first) + " at " +
                           std::to_string(offset + static_cast<std::uint64_t>(first - wanted)) +
                           ", " + std::to_string(wrong) + " bytes are wrong in [" +
                           std::to_string(offset) + ", " + std::to_string(offset + length) + ")");
}

Outcome TestedFiles::same_size(const File& file) {
    struct stat status {};
    if (fstat(file.plain, &status) != 0) return failed("fstat");
    if (static_cast<std::uint64_t>(status.st_size) != file.expected.size())
        return got_instead("the size in fstat of " + file.path, status.st_size,
                           file.expected.size());
    return {};
}

void TestedFiles::store(File& file, std::uint64_t offset, const unsigned char* bytes,
                        std::uint64_t length) {
    if (file.expected.size() < offset + length) file.expected.resize(offset + length);
    std::copy_n(bytes, length, file.expected.begin() + static_cast<std::ptrdiff_t>(offset));
}

/// Aligned for direct I/O.
unsigned char* TestedFiles::buffer(std::uint64_t length) {
    if (buffer_.size() < length + kBlockBytes) buffer_.resize(length + kBlockBytes);
    return buffer_.data() +
           (kBlockBytes - reinterpret_cast<std::uintptr_t>(buffer_.data()) % kBlockBytes) %
               kBlockBytes;
}

/// The bytes that `operation` writes.
const unsigned char* TestedFiles::fill(const Operation& operation) {
    unsigned char* const bytes = buffer(round_up(operation.length, 8));
    for (std::uint64_t i = 0; i < operation.length; i += 8) {
        const std::uint64_t word = mix((operation.number << 20) + i);
        std::memcpy(bytes + i, &word, 8);
    }
    return bytes;
}

Outcome TestedFiles::read(File& file, int descriptor, const Operation& operation) {
    const std::uint64_t size = file.expected.size();
    const std::uint64_t wanted =
        operation.offset < size ? std::min(operation.length, size - operation.offset) : 0;
    unsigned char* const bytes = buffer(operation.length);
    const ssize_t got =
        pread(descriptor, bytes, operation.length, static_cast<off_t>(operation.offset));
    if (got != static_cast<ssize_t>(wanted)) return got_instead("pread", got, wanted);
    return wanted == 0 ? Outcome{} : same(file, operation.offset, bytes, wanted);
}

Outcome TestedFiles::write(File& file, int descriptor, const Operation& operation) {
    const unsigned char* const bytes = fill(operation);
    const ssize_t got =
        pwrite(descriptor, bytes, operation.length, static_cast<off_t>(operation.offset));
    if (got != static_cast<ssize_t>(operation.length))
        return got_instead("pwrite", got, operation.length);
    store(file, operation.offset, bytes, operation.length);
    return {};
}

Outcome TestedFiles::append(File& file, const Operation& operation) {
    const unsigned char* const bytes = fill(operation);
    const ssize_t got = ::write(file.append, bytes, operation.length);
    if (got != static_cast<ssize_t>(operation.length))
        return got_instead("write with O_APPEND", got, operation.length);
    store(file, file.expected.size(), bytes, operation.length);
    return {};
}

Outcome TestedFiles::map_read(File& file, const Operation& operation) {
    const Mapping mapping{file.plain, operation.offset, operation.length, PROT_READ};
    if (!mapping.is_there()) return failed("mmap");
    const std::uint64_t to_page_end = mapping.end() - operation.offset;
    unsigned char* const bytes = buffer(to_page_end);
    if (!guarded_copy(bytes, mapping.at(operation.offset), to_page_end))
        return std::unexpected("SIGBUS on loading from a mapping");
    const std::uint64_t in_file = std::min(to_page_end, file.expected.size() - operation.offset);
    TRY(same(file, operation.offset, bytes, in_file));
    if (std::any_of(bytes + in_file, bytes + to_page_end, [](unsigned char byte) { return byte; }))
        return std::unexpected("a mapping of " + file.path +
                               " shows something else than zeros after the end of the file");
    return {};
}

Outcome TestedFiles::map_write(File& file, const Operation& operation) {
    const Mapping mapping{file.plain, operation.offset, operation.length, PROT_READ | PROT_WRITE};
    if (!mapping.is_there()) return failed("mmap");
    const unsigned char* const bytes = fill(operation);
    if (!guarded_copy(mapping.at(operation.offset), bytes, operation.length))
        return std::unexpected("SIGBUS on storing into a mapping");
    if (operation.kind == Kind::map_write_sync && mapping.sync() != 0) return failed("msync");
    store(file, operation.offset, bytes, operation.length);
    return {};
}

Outcome TestedFiles::truncate(File& file, const Operation& operation) {
    if (ftruncate(file.plain, static_cast<off_t>(operation.offset)) != 0)
        return failed("ftruncate");
    file.expected.resize(operation.offset);
    return {};
}

Outcome TestedFiles::allocate(File& file, const Operation& operation) {
    const Kind kind = operation.kind;
    const bool zeroes = kind != Kind::allocate && kind != Kind::allocate_keep;
    const bool grows = kind == Kind::allocate || kind == Kind::zero;
    int mode = grows ? 0 : FALLOC_FL_KEEP_SIZE;
    if (kind == Kind::punch) mode |= FALLOC_FL_PUNCH_HOLE;
    if (zeroes && kind != Kind::punch) mode |= FALLOC_FL_ZERO_RANGE;
    if (fallocate(file.plain, mode, static_cast<off_t>(operation.offset),
                  static_cast<off_t>(operation.length)) != 0)
        return failed("fallocate");

    const std::uint64_t end = operation.offset + operation.length;
    if (grows && file.expected.size() < end) file.expected.resize(end);
    if (zeroes)
        for (std::uint64_t i = operation.offset; i < std::min(end, file.expected.size()); ++i)
            file.expected[i] = 0;
    if (kind == Kind::punch) return check_hole(file.plain, operation.offset, end);
    return check_space(file.plain, operation.length);
}

Outcome TestedFiles::copy(File& from, File& to, const Operation& operation) {
    auto source = static_cast<off_t>(operation.offset);
    auto target = static_cast<off_t>(operation.target);
    std::uint64_t left = operation.length;
    while (left > 0) {
        const ssize_t got = copy_file_range(from.plain, &source, to.plain, &target, left, 0);
        if (got <= 0 || static_cast<std::uint64_t>(got) > left)
            return got_instead("copy_file_range", got, left);
        left -= static_cast<std::uint64_t>(got);
    }
    unsigned char* const bytes = buffer(operation.length);
    std::copy_n(from.expected.begin() + static_cast<std::ptrdiff_t>(operation.offset),
                operation.length, bytes);
    store(to, operation.target, bytes, operation.length);
    return {};
}

/// The kernel forgets what it keeps of the file: what is read next comes from the file system.
Outcome TestedFiles::drop_cache(File& file) {
    if (fsync(file.plain) != 0) return failed("fsync");
    errno = posix_fadvise(file.plain, 0, 0, POSIX_FADV_DONTNEED);
    if (errno != 0) return failed("posix_fadvise");
    return {};
}

Outcome TestedFiles::reopen(File& file) {
    close_all(file);
    return open_all(file);
}

}  // namespace pinfs::fsx

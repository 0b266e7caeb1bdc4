// SPDX-License-Identifier: Apache-2.0
//
// Open files and their bytes.
//
// A file in DAX mode is opened for direct I/O: the kernel keeps none of its bytes, and lets writers
// to different ranges through together. Others live in the page cache, which stays from one open to
// the next: all their writers come through this kernel.
//
// The offset of an appending write is the kernel's. It holds the file's lock from taking the size
// to the reply, and it alone knows about RWF_NOAPPEND.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstdlib>
#include <memory>

#include "fs/fuse/caller.h"
#include "fs/fuse/edge.h"
#include "fs/fuse/ledger.h"

namespace pinfs::fuse {
namespace {

// --- Buffers
// --------------------------------------------------------------------------------------

struct FreeMemory {
    void operator()(std::byte* memory) const { std::free(memory); }
};

/// Memory for the answer of this thread's request, kept from one to the next; a large answer lies
/// in a huge page, where there are any: the kernel looks each page of it up, and finds those of one
/// huge page faster. (An answer is copied there, and not handed over where it lies: a copy of ours
/// that meets a bad page ends in EIO, one of the kernel's may end the kernel.) Throws bad_alloc.
std::span<std::byte> answer_buffer(std::size_t bytes) {
    constexpr std::size_t kHugeBytes = kRunBlocks * kBlockBytes;
    thread_local std::unique_ptr<std::byte, FreeMemory> memory;
    thread_local std::size_t capacity = 0;
    if (capacity < bytes) {
        const bool huge = bytes >= kHugeBytes / 4;
        const std::size_t unit = huge ? kHugeBytes : kBlockBytes;
        const std::size_t wanted = round_up(bytes, unit);
        memory.reset(static_cast<std::byte*>(std::aligned_alloc(unit, wanted)));
        capacity = memory ? wanted : 0;
        if (!memory) throw std::bad_alloc{};
        if (huge) madvise(memory.get(), wanted, MADV_HUGEPAGE);
    }
    return {memory.get(), bytes};
}

/// Where the answer is gathered: over io_uring in the memory that the kernel takes it from.
std::span<std::byte> answer_of(fuse_req_t req, std::size_t bytes) {
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
    if (fuse_req_is_uring(req)) {
        char* payload = nullptr;
        std::size_t payload_bytes = 0;
        if (fuse_req_get_payload(req, &payload, &payload_bytes, nullptr) == 0 &&
            payload_bytes >= bytes)
            return {reinterpret_cast<std::byte*>(payload), bytes};
    }
#else
    (void)req;
#endif
    return answer_buffer(bytes);
}

// --- Open and close
// -------------------------------------------------------------------------------

void describe_open_file(Edge& edge, Ino ino, fuse_file_info& file, bool dax) {
    file.fh = new_handle(edge, file.flags, dax);
    set_open_flags(file, dax);
    if (edge.ledger != nullptr) edge.ledger->opened(file.fh, ino);
}

/// Ends an open, once; whether blocks may have gone with it.
bool close_file(Edge& edge, Ino ino, std::uint64_t handle) {
    // A daemon that is no more may have come so far with the same request.
    return (edge.ledger == nullptr || edge.ledger->closed(handle)) && edge.volume.release(ino);
}

OpenFor purpose_of(int flags) {
    if ((flags & O_TRUNC) != 0) return OpenFor::writing;
    if ((flags & O_ACCMODE) == O_RDONLY) return OpenFor::reading;
    return (flags & O_APPEND) != 0 ? OpenFor::appending : OpenFor::writing;
}

/// Opens `ino`, cut to nothing where O_TRUNC asks for it. On error it is not open.
Expected<bool> open_file(fuse_req_t req, Ino ino, const fuse_file_info& file) {
    Volume& volume = volume_of(req);
    const bool dax = TRY(volume.open(ino, purpose_of(file.flags)));
    if (file.flags & O_TRUNC) {
        AttributeChange change;
        change.size_bytes = 0;
        change.mtime = time_now();
        change.kill_privileges = kills_privileges(req, file);
        const auto cut = guarded([&] { return volume.change_attributes(ino, change); });
        if (!cut) {
            volume.release(ino);
            return std::unexpected(cut.error());
        }
    }
    // What the page cache answers is never asked of us: there an open counts as the reading.
    if (!dax && (file.flags & (O_ACCMODE | O_NOATIME)) == O_RDONLY && volume.note_access(ino))
        edge_of(req).invalidator.attributes(ino);
    return dax;
}

void on_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file) noexcept {
    Edge& edge = edge_of(req);
    const auto dax = guarded([&] { return open_file(req, Ino{ino}, *file); });
    if (!dax) return reply_refusal(req, dax.error(), "open", ino, 0);
    const auto described = guarded([&]() -> Expected<void> {
        describe_open_file(edge, Ino{ino}, *file, *dax);
        return {};
    });
    if (!described) {
        edge.volume.release(Ino{ino});
        return reply_error(req, described.error(), "open", ino);
    }
    if (fuse_reply_open(req, file) != 0) close_file(edge, Ino{ino}, file->fh);
}

struct Created {
    Entry entry;
    bool dax = false;
};

NewInode file_of(fuse_req_t req, mode_t mode) {
    NewInode inode;
    inode.umask = fuse_req_ctx(req)->umask;
    inode.mode = (mode & ~static_cast<mode_t>(S_IFMT)) | S_IFREG;
    return inode;
}

/// Opens what `entry` names; on error its reference is given back.
Expected<Created> open_created(fuse_req_t req, const Entry& entry, const fuse_file_info& file) {
    const Ino ino = entry.attributes.ino;
    const auto dax = guarded([&] { return open_file(req, ino, file); });
    if (!dax) {
        volume_of(req).forget(ino, 1);
        return std::unexpected(dax.error());
    }
    return Created{entry, *dax};
}

Expected<Created> create_file(fuse_req_t req, Ino parent, const char* name, mode_t mode,
                              fuse_file_info& file) {
    Volume& volume = volume_of(req);
    auto entry = volume.make(parent, name, file_of(req, mode), caller_of(req));
    if (entry) {
        file.flags &= ~O_TRUNC;  // it is empty
    } else {
        // Somebody was faster: without O_EXCL that is an open.
        if (entry.error().cause != Cause::exists || (file.flags & O_EXCL))
            return std::unexpected(entry.error());
        entry = volume.lookup(parent, name);
        if (!entry) return std::unexpected(entry.error());
    }
    return open_created(req, *entry, file);
}

void reply_created(fuse_req_t req, const Expected<Created>& created, fuse_file_info& file,
                   const char* operation, fuse_ino_t parent) noexcept {
    Edge& edge = edge_of(req);
    if (!created) return reply_refusal(req, created.error(), operation, parent, 0);
    const Ino ino = created->entry.attributes.ino;
    const auto described = guarded([&]() -> Expected<void> {
        describe_open_file(edge, ino, file, created->dax);
        return {};
    });
    if (!described) {
        edge.volume.release(ino);
        edge.volume.forget(ino, 1);
        return reply_error(req, described.error(), operation, parent);
    }
    const fuse_entry_param param = entry_param_of(created->entry.attributes);
    if (fuse_reply_create(req, &param, &file) != 0) {
        close_file(edge, ino, file.fh);
        edge.volume.forget(ino, 1);
    }
}

void on_create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
               fuse_file_info* file) noexcept {
    const auto created = guarded([&] { return create_file(req, Ino{parent}, name, mode, *file); });
    reply_created(req, created, *file, "create", parent);
}

/// O_TMPFILE. With O_EXCL the kernel lets nobody link it.
void on_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, fuse_file_info* file) noexcept {
    const auto created = guarded([&]() -> Expected<Created> {
        const Entry entry =
            TRY(volume_of(req).make_unnamed(Ino{parent}, file_of(req, mode), caller_of(req)));
        return open_created(req, entry, *file);
    });
    reply_created(req, created, *file, "tmpfile", parent);
}

void on_flush(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) noexcept {
    const auto result = guarded([&] { return volume_of(req).sync(Ino{ino}); });
    reply_done(req, result, "flush", ino);
}

void on_release(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file) noexcept {
    Edge& edge = edge_of(req);
    guarded([&]() -> Expected<void> {
        edge.volume.drop_leases({.ino = Ino{ino}, .handle = file->fh});
        if (close_file(edge, Ino{ino}, file->fh)) edge.invalidator.attributes(Ino{ino});
        return {};
    });
    fuse_reply_err(req, 0);
}

// --- Bytes
// ----------------------------------------------------------------------------------------

void on_read(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
             fuse_file_info* file) noexcept {
    std::span<std::byte> answer;
    const auto count = guarded([&] {
        answer = answer_of(req, size);
        return volume_of(req).read(Ino{ino}, static_cast<std::uint64_t>(offset), answer,
                                   (file->flags & O_NOATIME) == 0);
    });
    if (!count) return reply_error(req, count.error(), "read", ino);
    reply_bytes(req, answer.data(), *count);
}

void on_write(fuse_req_t req, fuse_ino_t ino, const char* bytes, std::size_t size, off_t offset,
              fuse_file_info* file) noexcept {
    const auto count = guarded([&] {
        return volume_of(req).write(Ino{ino}, static_cast<std::uint64_t>(offset),
                                    std::as_bytes(std::span{bytes, size}), /*append=*/false,
                                    kills_privileges(req, *file));
    });
    if (!count) return reply_error(req, count.error(), "write", ino);
    reply_count(req, *count);
}

void on_fsync(fuse_req_t req, fuse_ino_t ino, int, fuse_file_info*) noexcept {
    const auto result = guarded([&] { return volume_of(req).sync(Ino{ino}); });
    reply_done(req, result, "fsync", ino);
}

void on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                  fuse_file_info*) noexcept {
    const auto result = guarded([&]() -> Expected<void> {
        Volume& volume = volume_of(req);
        const auto begin = static_cast<std::uint64_t>(offset);
        const auto bytes = static_cast<std::uint64_t>(length);
        const bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
        TRY(kill_privileges(req, Ino{ino}));
        switch (mode & ~FALLOC_FL_KEEP_SIZE) {
            case 0:
                return volume.allocate(Ino{ino}, begin, bytes, keep_size);
            case FALLOC_FL_PUNCH_HOLE:
                return volume.punch_hole(Ino{ino}, begin, bytes);
            case FALLOC_FL_ZERO_RANGE:
                return volume.zero_range(Ino{ino}, begin, bytes, keep_size);
            default:
                return fail(Cause::not_supported);
        }
    });
    if (!result)
        return reply_refusal(
            req, result.error(), "fallocate", ino, static_cast<std::uint64_t>(offset),
            static_cast<std::uint64_t>(offset) + static_cast<std::uint64_t>(length));
    fuse_reply_err(req, 0);
}

void on_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset, fuse_file_info*,
                        fuse_ino_t to, off_t to_offset, fuse_file_info*, std::size_t length,
                        int) noexcept {
    const auto count = guarded([&]() -> Expected<std::size_t> {
        TRY(kill_privileges(req, Ino{to}));
        return volume_of(req).copy(Ino{from}, static_cast<std::uint64_t>(from_offset), Ino{to},
                                   static_cast<std::uint64_t>(to_offset), length);
    });
    if (!count)
        return reply_refusal(req, count.error(), "copy_file_range", to,
                             static_cast<std::uint64_t>(to_offset),
                             static_cast<std::uint64_t>(to_offset) + length);
    reply_count(req, *count);
}

void on_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, fuse_file_info*) noexcept {
    const auto place = guarded([&]() -> Expected<std::uint64_t> {
        if (whence != SEEK_DATA && whence != SEEK_HOLE) return fail(Cause::invalid_argument);
        return volume_of(req).seek(Ino{ino}, static_cast<std::uint64_t>(offset),
                                   whence == SEEK_DATA ? SeekTo::data : SeekTo::hole);
    });
    if (!place) return reply_error(req, place.error(), "lseek", ino);
    fuse_reply_lseek(req, static_cast<off_t>(*place));
}

/// Bytes are always there. (Were this not answered, the kernel would ask for no file any more.)
void on_poll(fuse_req_t req, fuse_ino_t, fuse_file_info*, fuse_pollhandle* poller) noexcept {
    fuse_pollhandle_destroy(poller);
    fuse_reply_poll(req, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM);
}

}  // namespace

void add_content_operations(fuse_lowlevel_ops& operations) {
    operations.open = on_open;
    operations.create = on_create;
    operations.tmpfile = on_tmpfile;
    operations.flush = on_flush;
    operations.release = on_release;
    operations.read = on_read;
    operations.write = on_write;
    operations.fsync = on_fsync;
    operations.fallocate = on_fallocate;
    operations.copy_file_range = on_copy_file_range;
    operations.lseek = on_lseek;
    operations.poll = on_poll;
}

}  // namespace pinfs::fuse

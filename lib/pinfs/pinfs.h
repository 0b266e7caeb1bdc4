/* SPDX-License-Identifier: Apache-2.0
 *
 * libpinfs: leases, direct maps and pins on a pinfs mount. libpinfs(7) tells the whole story.
 *
 *     context --- lease ----> map ----> loads and stores, pinfs_persist()
 *        |          `-------> pin ----> a device reads and writes
 *        `------- events: a range that you mapped or leased has changed
 *
 * Calls return 0, or a count, on success and -errno on failure; errno itself is untouched. After a
 * failure nothing has changed, and pinfs_last_error() says in one sentence which rule it was and
 * who holds what. Any call may fail with -EPROTO: the daemon's answer makes no sense. Every call
 * may be made from any thread; none but pinfs_context_next_event() waits for another program.
 *
 * Structs start from PINFS_INIT, which notes their size: a program may have a shorter struct than
 * the library (what it lacks counts as zero), or a longer one if what the library does not know is
 * zero (-E2BIG). Reserved fields and unknown flags must be zero (-EINVAL).
 */
#ifndef PINFS_H
#define PINFS_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#ifdef __cplusplus
extern "C" {
/* As stat(2): some functions are called as their struct is. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif

#define PINFS_API __attribute__((visibility("default")))
#define PINFS_VERSION_MAJOR 1 /* of the ABI: equal to the soname */
#define PINFS_VERSION_MINOR 0 /* grows with every added symbol or field */
/* struct pinfs_lease lease = PINFS_INIT(struct pinfs_lease);
 * struct pinfs_pin pin = PINFS_PIN_INIT; of the context, and no descriptor names it */
#ifdef __cplusplus
#define PINFS_INIT(type) pinfs_initialized<type>()
#define PINFS_PIN_INIT pinfs_initialized_pin()
#else
#define PINFS_INIT(type) \
    { .size_bytes = (uint32_t)sizeof(type) }
#define PINFS_PIN_INIT \
    { .size_bytes = (uint32_t)sizeof(struct pinfs_pin), .owner_fd = -1 }
#endif
#define PINFS_TO_END UINT64_C(0) /* length of a lease: to the end of the address space */

/* An open file of MOUNT/.pinfs/context. It has the events, the maps and the pins. */
struct pinfs_context;

/* Flags of leases: LAYOUT; LAYOUT | EXCLUSIVE; LAYOUT | EXCLUSIVE | SHARED. */
enum {
    PINFS_LEASE_LAYOUT = 1,    /* tell me when the layout changes */
    PINFS_LEASE_EXCLUSIVE = 2, /* the layout must not change: needed to pin */
    PINFS_LEASE_SHARED = 4     /* others who say SHARED may have it as well */
};
enum {
    PINFS_OWNER_CONTEXT = 0, /* the pin ends with the context's last descriptor */
    PINFS_OWNER_PROCESS = 1  /* with the process */
};
enum { PINFS_PIN_READ = 1 }; /* the device only reads */
enum {
    PINFS_MAP_NOALLOC = 1,   /* -ENXIO where the range has holes */
    PINFS_MAP_SELF_FLUSH = 2 /* fsync(2) leaves this map to me */
};
enum {
    PINFS_DAX_FLAG = 1,  /* the flag on the inode */
    PINFS_DAX_ACTIVE = 2 /* in force for this open file */
};
enum {
    PINFS_EVENT_GONE = 1,        /* blocks were cut from under a lease or map */
    PINFS_EVENT_REVOKING = 2,    /* an administrator ends it at deadline_ns */
    PINFS_EVENT_REVOKED = 3,     /* it has ended */
    PINFS_EVENT_MEDIA_ERROR = 4, /* the range is damaged */
    PINFS_EVENT_SHUTDOWN = 5     /* the file system stopped */
};
enum {
    PINFS_KIND_DEVDAX = 1,
    PINFS_KIND_FSDAX = 2,
    PINFS_KIND_TMPFS = 3,
    PINFS_KIND_HUGETLB = 4,
    PINFS_KIND_FILE = 5
};
enum {
    PINFS_FLUSH_PAGE = 1, /* by msync(2) */
    PINFS_FLUSH_LINE = 2, /* by cache line, in user space */
    PINFS_FLUSH_NONE = 3  /* nothing to do: caches survive power loss, or the memory does not */
};

/* One run. The same bytes of the region for as long as a pin or an exclusive lease covers it. */
struct pinfs_extent {
    uint64_t file_offset_bytes, region_offset_bytes, length_bytes;
    uint32_t flags, reserved; /* 0 */
};

struct pinfs_lease {
    uint32_t size_bytes;
    uint32_t flags;                      /* in: PINFS_LEASE_*; get: out */
    uint64_t offset_bytes, length_bytes; /* in; out: the range held, in whole blocks */
    uint64_t user_data;                  /* in: comes back in events */
    uint64_t id, holders;                /* out */
};

struct pinfs_event {
    uint32_t size_bytes;
    uint32_t type;                       /* PINFS_EVENT_*; ignore those you do not know */
    uint64_t id;                         /* of the lease, map or pin */
    uint64_t user_data;                  /* of the lease or pin; of a map its address */
    uint64_t offset_bytes, length_bytes; /* of the file */
    uint64_t deadline_ns;                /* CLOCK_MONOTONIC; 0: none */
};

struct pinfs_pin {
    uint32_t size_bytes;
    uint32_t owner;                      /* in: PINFS_OWNER_* */
    int32_t owner_fd;                    /* in: names the pin in reports; -1: the context does */
    uint32_t flags;                      /* in: PINFS_PIN_* */
    uint64_t offset_bytes, length_bytes; /* in; out: rounded outward to whole blocks */
    uint64_t user_data;                  /* in: comes back in events */
    uint64_t id, generation;             /* out: its name */
    uint64_t extent_count;               /* out */
    uint8_t secret[16];                  /* out: whoever has it may adopt the pin after a crash */
};

struct pinfs_region_info {
    uint32_t size_bytes;
    uint32_t kind;       /* PINFS_KIND_* */
    uint32_t flush;      /* PINFS_FLUSH_* */
    uint32_t pinnable;   /* 1: the kernel lets devices pin it long-term */
    uint32_t map_sync;   /* 1: mapped with MAP_SYNC */
    uint32_t persistent; /* 0: contents end with power */
    uint64_t length_bytes, block_bytes;
    uint64_t map_align_bytes;               /* unit of offsets and addresses of maps */
    uint64_t huge_bytes;                    /* page size worth aligning to */
    uint64_t pin_limit_bytes, pinned_bytes; /* of this user; UINT64_MAX: no limit */
    uint8_t uuid[16];
    uint64_t device; /* dev_t of the file system the region's file is on, or of the device */
};

/**
 * pinfs_context_open - open a context on the mount that a path is in
 * @path_in_mount: any file or directory of the mount, or the mount point
 * @flags:         0
 * @out:           set on success only; end it with pinfs_context_close()
 *
 * The descriptor behind it is close-on-exec. A child of fork(2) cannot use it (-ESTALE, and
 * pinfs_context_close() frees memory only): it opens its own.
 *
 * Return: 0, or -ENODEV (no pinfs mount, or no answer as of one), -EPROTO (a daemon of another
 * major version), -EACCES, -ENOMEM (the user's limit), or what open(2) says of the path.
 */
PINFS_API int pinfs_context_open(const char* path_in_mount, uint32_t flags,
                                 struct pinfs_context** out);

/**
 * pinfs_context_close - end its maps and the pins it owns, then close it
 * @ctx: not used by any thread any more; NULL: nothing happens
 *
 * End the access of devices first. Leases stay: they belong to the descriptors they were taken
 * through. Pins of the process (PINFS_OWNER_PROCESS) stay too.
 */
PINFS_API void pinfs_context_close(struct pinfs_context* ctx);

/**
 * pinfs_context_fd - the context's descriptor, for poll(2): POLLIN means that an event waits
 * @ctx: an open context
 *
 * It may be passed to another process (SCM_RIGHTS), as the target of pinfs_pin_transfer().
 *
 * Return: the descriptor, or -ESTALE in a child of fork(2).
 */
PINFS_API int pinfs_context_fd(const struct pinfs_context* ctx);

/**
 * pinfs_context_next_event - take the next event, and follow it where it concerns a map
 * @ctx:        an open context; several threads may wait, each event goes to one
 * @event:      from PINFS_INIT; filled if an event came
 * @timeout_ms: as in poll(2): 0 does not wait, negative waits for ever
 *
 * For PINFS_EVENT_GONE of a map the range shows the file's new layout when this returns: beyond the
 * file's last block there is SIGBUS, a hole has got zeroed blocks (SIGBUS if no space is left).
 * Until then it shows the old blocks, which nobody else is given.
 *
 * Return: 1 with an event, 0 without, or -EINTR (a signal came), -ESTALE, -ENOTCONN (the mount is
 * gone), -ENOMEM (too many mappings; the event comes again).
 */
PINFS_API int pinfs_context_next_event(struct pinfs_context* ctx, struct pinfs_event* event,
                                       int timeout_ms);

/**
 * pinfs_strerror - what an error means here, in a few words
 * @error: as returned by a call, of either sign
 *
 * Return: a constant string.
 */
PINFS_API const char* pinfs_strerror(int error);

/**
 * pinfs_last_error - why this thread's last call that failed did
 *
 * Return: one sentence, valid until the thread's next call that fails; empty if none did yet.
 */
PINFS_API const char* pinfs_last_error(void);

/**
 * pinfs_version - of the library that runs, which may be newer than the header
 *
 * Return: major << 16 | minor.
 */
PINFS_API uint32_t pinfs_version(void);

/**
 * pinfs_region_info - what the region is and can do, and how much this user has pinned
 * @ctx:  an open context
 * @info: from PINFS_INIT; filled
 *
 * Return: 0, or -ESTALE, -ENOTCONN.
 */
PINFS_API int pinfs_region_info(struct pinfs_context* ctx, struct pinfs_region_info* info);

/**
 * pinfs_dax_set - set or clear the DAX flag
 * @fd: a regular file, or a directory: what is created in it inherits the flag
 * @on: 1 or 0
 *
 * A file's flag takes effect when the file is open nowhere and has no lease, map, pin or hold.
 *
 * Return: 0, or -EPERM (not the owner), -EROFS, -ENOTTY (no such flag there).
 */
PINFS_API int pinfs_dax_set(int fd, int on);

/**
 * pinfs_dax_get - the DAX flag, and whether DAX mode is in force
 * @fd: a regular file or a directory of a pinfs mount
 *
 * Return: PINFS_DAX_FLAG, PINFS_DAX_ACTIVE, both or 0; or -ENOTTY.
 */
PINFS_API int pinfs_dax_get(int fd);

/**
 * pinfs_lease_set - take a lease on a range, or change its kind
 * @ctx:   the context that gets the events
 * @fd:    the lease belongs to the open file behind it: dup(2) and fork(2) share it, the last
 *         close drops it
 * @lease: in: flags, range, user_data; out: id, holders and the range, in whole blocks
 *
 * Ranges of one open file merge; a change of kind is atomic.
 *
 * Return: 0, or -EACCES (EXCLUSIVE: not the file's owner; LAYOUT: not open for reading), -EAGAIN
 * (another has it exclusively), -EBUSY (another's pins), -EINVAL, -ENOMEM (limit), -EOPNOTSUPP (not
 * in DAX mode).
 */
PINFS_API int pinfs_lease_set(struct pinfs_context* ctx, int fd, struct pinfs_lease* lease);

/**
 * pinfs_lease_get - the lease that this open file has on a range
 * @ctx:   an open context
 * @fd:    a descriptor of the open file
 * @lease: in: a range; out: flags, the range held, id, holders
 *
 * Return: 0, or -ENOENT (none), -EINVAL.
 */
PINFS_API int pinfs_lease_get(struct pinfs_context* ctx, int fd, struct pinfs_lease* lease);

/**
 * pinfs_lease_drop - drop what this open file has leased in a range
 * @ctx:          an open context
 * @fd:           a descriptor of the open file
 * @offset_bytes: start of the range
 * @length_bytes: of the range, or PINFS_TO_END
 *
 * Ends no map and no pin.
 *
 * Return: 0, or -ENOENT (nothing there is leased), -EINVAL.
 */
PINFS_API int pinfs_lease_drop(struct pinfs_context* ctx, int fd, uint64_t offset_bytes,
                               uint64_t length_bytes);

/**
 * pinfs_map - map part of a leased file for direct loads and stores
 * @ctx:          the context that gets the map's events; must outlive it
 * @fd:           the descriptor the lease was taken through
 * @offset_bytes: from the start of the file; a multiple of the region's map_align_bytes
 * @length_bytes: greater than zero; the range lies inside the lease and ends in the file's last
 * block
 * @prot:         PROT_READ, or PROT_READ | PROT_WRITE
 * @flags:        PINFS_MAP_NOALLOC, PINFS_MAP_SELF_FLUSH
 * @addr_out:     set on success only; release with pinfs_unmap()
 *
 * One contiguous range, however the file's extents lie. Holes get zeroed blocks first. Stores are
 * visible to other direct maps and to read(2) at once, and durable only after pinfs_persist() or
 * fsync(2). A child of fork(2) has no map.
 *
 * Return: 0, or -EINVAL (alignment or range), -EPERM (no lease), -EACCES (the region does not open
 * for this user, or @fd not for this), -ENODEV (another region is there, or the device went to
 * another driver), -ENXIO (NOALLOC and a hole), -EOPNOTSUPP (not in DAX mode), -ENOSPC, -ENOMEM (a
 * limit, or too many mappings).
 */
PINFS_API int pinfs_map(struct pinfs_context* ctx, int fd, uint64_t offset_bytes,
                        uint64_t length_bytes, int prot, uint32_t flags, void** addr_out);

/**
 * pinfs_unmap - end a map
 * @ctx:          the context it was made with
 * @addr:         as pinfs_map() gave it
 * @length_bytes: as pinfs_map() was given it: maps end as a whole
 *
 * Return: 0, or -EINVAL (no such map). If the daemon does not answer, its error; the range is
 * unmapped all the same.
 */
PINFS_API int pinfs_unmap(struct pinfs_context* ctx, void* addr, uint64_t length_bytes);

/**
 * pinfs_layout - where a range of a file lies in the region
 * @ctx:          an open context
 * @fd:           a descriptor of the file
 * @offset_bytes: start of the range
 * @length_bytes: of the range
 * @extents:      filled in the file's order, holes left out
 * @capacity:     of @extents, in extents; 0 asks for the count alone
 * @generation:   out, may be NULL: moves with every layout change of the file
 *
 * Return: how many extents the range has, which may be more than @capacity; or -EAGAIN (the layout
 * changes all the time), -EINVAL, -EACCES.
 */
PINFS_API ssize_t pinfs_layout(struct pinfs_context* ctx, int fd, uint64_t offset_bytes,
                               uint64_t length_bytes, struct pinfs_extent* extents, size_t capacity,
                               uint64_t* generation);

/**
 * pinfs_persist - make stores durable: pinfs_flush() and pinfs_drain()
 * @addr:         in a map of this process
 * @length_bytes: any
 *
 * No system call and no failure where the region is flushed by cache line or not at all; on pages
 * it is msync(2).
 *
 * Return: 0, or on pages -EIO, -EINVAL (no map there).
 */
PINFS_API int pinfs_persist(const void* addr, size_t length_bytes);

/**
 * pinfs_flush - start to make stores durable, with no fence
 * @addr:         in a map of this process
 * @length_bytes: any
 *
 * On pages this is pinfs_persist(): nothing is left to drain.
 *
 * Return: as pinfs_persist().
 */
PINFS_API int pinfs_flush(const void* addr, size_t length_bytes);

/**
 * pinfs_drain - wait until what this thread flushed is durable
 *
 * Return: 0.
 */
PINFS_API int pinfs_drain(void);

/**
 * pinfs_memcpy_persist - copy into a map, durably
 * @to:           in a map of this process
 * @from:         anywhere; does not overlap
 * @length_bytes: any
 *
 * Past the caches where that is faster. Torn at no less than 8 bytes, aligned, by a power cut.
 *
 * Return: as pinfs_persist().
 */
PINFS_API int pinfs_memcpy_persist(void* to, const void* from, size_t length_bytes);

/**
 * pinfs_msync - make a range durable, and tell the daemon that fsync(2) may leave it out
 * @ctx:          the context the map was made with
 * @addr:         in a writable map
 * @length_bytes: greater than zero, inside the map
 *
 * From this on the range is the caller's: stores into it are durable only by pinfs_persist(), or
 * by another pinfs_msync(), until the map ends.
 *
 * Return: 0, or -EINVAL (no map there), -EIO.
 */
PINFS_API int pinfs_msync(struct pinfs_context* ctx, void* addr, size_t length_bytes);

/**
 * pinfs_pin - hold a range where it is, for a device
 * @ctx: the context that owns the pin and gets its events
 * @fd:  the descriptor that an exclusive lease on the range was taken through
 * @pin: from PINFS_PIN_INIT; in: range, owner, flags, user_data; out: the rest
 *
 * Holes get zeroed blocks first. From then on nothing takes the blocks away or moves them: who
 * tries gets EBUSY, the owner too, until the pin and the lease are gone. End the device's access
 * (ibv_dereg_mr(3), io_uring_unregister_buffers(3)) before the pin.
 *
 * Return: 0, or -EPERM (no exclusive lease), -EINVAL (empty, or past the end of the file: ftruncate
 * first), -ENOMEM (limit), -ENOSPC, -EOPNOTSUPP (the kernel does not let devices pin this region).
 */
PINFS_API int pinfs_pin(struct pinfs_context* ctx, int fd, struct pinfs_pin* pin);

/**
 * pinfs_unpin - end a pin
 * @ctx:        the context that owns it
 * @id:         as pinfs_pin() said
 * @generation: as pinfs_pin() said
 *
 * Return: 0, or -ENOENT (no such pin, or no longer).
 */
PINFS_API int pinfs_unpin(struct pinfs_context* ctx, uint64_t id, uint64_t generation);

/**
 * pinfs_pin_adopt - take over a pin that outlived a crash of the daemon, with its lease
 * @ctx:        the context that will own it
 * @id:         as pinfs_pin() said, before the crash
 * @generation: as pinfs_pin() said
 * @secret:     as pinfs_pin() said; NULL: by right of being its owner
 *
 * Return: 0, or -ENOENT (no such pin, or it has a living context), -EPERM (neither owner nor
 * secret).
 */
PINFS_API int pinfs_pin_adopt(struct pinfs_context* ctx, uint64_t id, uint64_t generation,
                              const uint8_t secret[16]);

/**
 * pinfs_pin_transfer - give a pin to another context
 * @from:          the context that owns it
 * @id:            as pinfs_pin() said
 * @generation:    as pinfs_pin() said
 * @to_context_fd: a descriptor of the other context, from pinfs_context_fd() or another process
 *
 * Return: 0, or -ENOENT (no such pin of @from), -EBADF, -ENOTTY (no context).
 */
PINFS_API int pinfs_pin_transfer(struct pinfs_context* from, uint64_t id, uint64_t generation,
                                 int to_context_fd);

/**
 * pinfs_pin_extents - where a pin's range lies in the region: its scatter list
 * @ctx:        the context that owns it
 * @id:         as pinfs_pin() said
 * @generation: as pinfs_pin() said
 * @first:      number of the first extent wanted
 * @extents:    filled
 * @capacity:   of @extents
 *
 * It does not change while the pin lives.
 *
 * Return: how many were filled, 0 at the end; or -ENOENT.
 */
PINFS_API ssize_t pinfs_pin_extents(struct pinfs_context* ctx, uint64_t id, uint64_t generation,
                                    uint64_t first, struct pinfs_extent* extents, size_t capacity);

/**
 * pinfs_pin_iovec - where this process has a pin's range mapped, for a device's driver
 * @ctx:             the context that owns the pin and the maps
 * @id:              as pinfs_pin() said
 * @generation:      as pinfs_pin() said
 * @piece_max_bytes: of one piece, whole pages; 0: no limit. io_uring takes 1 GiB
 * @iov:             filled in the file's order
 * @capacity:        of @iov, in pieces; 0 asks for the count alone
 *
 * What no map of @ctx covers is left out; of several maps a writable one counts first.
 *
 * Return: how many pieces there are, which may be more than @capacity; or -ENOENT, -EINVAL.
 */
PINFS_API ssize_t pinfs_pin_iovec(struct pinfs_context* ctx, uint64_t id, uint64_t generation,
                                  size_t piece_max_bytes, struct iovec* iov, size_t capacity);

#ifdef __cplusplus
#pragma GCC diagnostic pop
}

template <class Struct>
inline Struct pinfs_initialized() {
    Struct initialized = Struct();
    initialized.size_bytes = static_cast<uint32_t>(sizeof(Struct));
    return initialized;
}
inline struct pinfs_pin pinfs_initialized_pin() {
    struct pinfs_pin initialized = pinfs_initialized<struct pinfs_pin>();
    initialized.owner_fd = -1;
    return initialized;
}
#endif
#endif

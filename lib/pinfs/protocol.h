/* SPDX-License-Identifier: Apache-2.0
 *
 * What libpinfs and the daemon say to each other: ioctls on MOUNT/.pinfs/context and on files of
 * the mount. The only header that both share; C, no pointers, every field of fixed width, the same
 * layout for 32-bit and 64-bit programs.
 *
 * Rules
 *   - A buffer goes in and comes out whole. Its size is in the request's number, so one request has
 *     several sizes: at least PINFS_IOC_BYTES_MIN, more where extents are to fit behind the struct.
 *   - Reserved fields and unknown flags must be zero: EINVAL.
 *   - A request that fails returns -1 with errno; the buffer then holds a pinfs_ioc_failure.
 *   - A file is named by the descriptor the ioctl is made on; a context by its token, which whoever
 *     holds an open descriptor of the context may ask for (HELLO).
 *   - Sizes and offsets of all structs are tested (tests/unit/protocol.cc): they only grow.
 */
#ifndef PINFS_PROTOCOL_H
#define PINFS_PROTOCOL_H
#include <linux/ioctl.h>
#include <stdint.h>

#define PINFS_PROTOCOL_MAJOR 1 /* both sides have the same */
#define PINFS_PROTOCOL_MINOR 0 /* the lower of both counts */

#define PINFS_IOC_MAGIC 0xF5
#define PINFS_IOC_BYTES_MIN 320
#define PINFS_IOC_BYTES_MAX 16383
/* The number of request `nr` with a buffer of `bytes`. */
#define PINFS_IOC(nr, bytes) _IOC(_IOC_READ | _IOC_WRITE, PINFS_IOC_MAGIC, nr, bytes)

enum pinfs_ioc {
    /* On .pinfs/context */
    PINFS_IOC_HELLO = 1,  /* pinfs_ioc_hello: this open file is a context */
    PINFS_IOC_GUARD = 2,  /* pinfs_ioc_guard: this open file guards maps of a context */
    PINFS_IOC_REGION = 3, /* pinfs_ioc_region */
    PINFS_IOC_EVENT = 4,  /* pinfs_ioc_event */
    PINFS_IOC_UNMAP = 5,  /* pinfs_ioc_map_range: all of the map */
    PINFS_IOC_RELOAD =
        6, /* pinfs_ioc_layout: where a part of a map lies now, from then on protected */
    PINFS_IOC_CLEAN = 7,       /* pinfs_ioc_map_range: fsync has nothing to flush there */
    PINFS_IOC_UNPIN = 8,       /* pinfs_ioc_pin_name */
    PINFS_IOC_PIN_EXTENTS = 9, /* pinfs_ioc_layout */
    PINFS_IOC_ADOPT = 10,      /* pinfs_ioc_adopt: a recovered pin becomes this context's */
    PINFS_IOC_RECEIVE = 11, /* pinfs_ioc_adopt with the token of the context that gives it away */
    PINFS_IOC_REVOKE = 12,  /* pinfs_ioc_revoke */
    PINFS_IOC_RELEASE_HOLD = 13, /* pinfs_ioc_pin_name: generation 0 */
    PINFS_IOC_SCRUB = 14,        /* pinfs_ioc_scrub, findings behind it */
    /* On regular files */
    PINFS_IOC_LEASE_SET = 32,  /* pinfs_ioc_lease */
    PINFS_IOC_LEASE_GET = 33,  /* pinfs_ioc_lease */
    PINFS_IOC_LEASE_DROP = 34, /* pinfs_ioc_lease */
    PINFS_IOC_MAP = 35,        /* pinfs_ioc_map, extents behind it */
    PINFS_IOC_LAYOUT = 36,     /* pinfs_ioc_layout */
    PINFS_IOC_PIN = 37,        /* pinfs_ioc_pin */
    PINFS_IOC_DAX_ACTIVE = 38  /* pinfs_ioc_dax: whether DAX mode is in force for this open */
};

struct pinfs_ioc_failure {
    uint32_t error; /* errno */
    uint32_t reserved;
    char message[312]; /* one sentence: the rule, the range, who holds what; ends with a zero */
};

struct pinfs_ioc_hello {
    uint32_t major, minor; /* in: the library's; out: the daemon's */
    uint64_t features;     /* in: known; out: in force. None so far */
    uint64_t context;      /* out: its id */
    uint8_t token[16];     /* out */
    uint64_t reserved[4];
};

struct pinfs_ioc_guard {
    uint8_t token[16]; /* in: the context's */
    uint64_t guard;    /* out: its id, for PINFS_IOC_MAP */
    uint64_t reserved[4];
};

struct pinfs_ioc_region {
    uint32_t kind, flush, pinnable, map_sync, persistent, reserved; /* as pinfs_region_info */
    uint64_t length_bytes, block_bytes, map_align_bytes, huge_bytes;
    uint64_t pin_limit_bytes, pinned_bytes; /* of the caller's uid; UINT64_MAX: no limit */
    uint8_t uuid[16];
    uint64_t device; /* st_dev of a regular file, st_rdev of a device */
    uint64_t inode;  /* st_ino of a regular file, else 0 */
    uint64_t reserved2[4];
    char path[4096]; /* where clients open it; ends with a zero. Needs a buffer this long */
};

struct pinfs_ioc_event {
    uint32_t type; /* out: PINFS_EVENT_*, 0: none waits */
    uint32_t reserved;
    uint64_t id, user_data, offset_bytes, length_bytes, deadline_ns;
};

struct pinfs_ioc_map_range { /* of a map of this context */
    uint64_t map;
    uint64_t offset_bytes, length_bytes; /* of the file */
    uint64_t reserved[4];
};

struct pinfs_ioc_extent {
    uint64_t file_offset_bytes, region_offset_bytes, length_bytes;
};

/* LAYOUT: of the file; RELOAD: `id` is a map; PIN_EXTENTS: `id` and `generation` are a pin's, and
 * a length of 0 is to its end. Extents stand behind the struct, as many as the buffer has room for.
 * Each request costs as much as its range has extents: who wants many asks for the first ones, and
 * for those of parts of the range behind them.
 */
struct pinfs_ioc_layout {
    uint64_t id;
    uint64_t
        generation; /* of the layout. In: what the last page said, 0 at first; ESTALE if it moved */
    uint64_t offset_bytes, length_bytes; /* in */
    uint64_t first;                      /* in: number of the first extent wanted */
    uint64_t total;                      /* out: extents of the range */
    uint64_t size_bytes; /* out: of the file. Beyond the block with its end nothing may be mapped */
    uint32_t count;      /* out: extents in this buffer */
    uint32_t reserved;
    uint64_t reserved2[4];
};

struct pinfs_ioc_lease {
    uint8_t token[16];
    uint32_t flags; /* in: PINFS_LEASE_*; get: out */
    uint32_t reserved;
    uint64_t offset_bytes, length_bytes; /* in; out: the range held. 0: to the end */
    uint64_t user_data;
    uint64_t id, holders; /* out */
    uint64_t reserved2[4];
};

/* The values of pinfs.h, whose names these are without IOC (tests/unit/protocol.cc compares them).
 */
enum {
    PINFS_IOC_LEASE_LAYOUT = 1,
    PINFS_IOC_LEASE_EXCLUSIVE = 2,
    PINFS_IOC_LEASE_SHARED = 4,
    PINFS_IOC_MAP_NOALLOC = 1,
    PINFS_IOC_MAP_SELF_FLUSH = 2,
    PINFS_IOC_PIN_READ = 1,
    PINFS_IOC_OWNER_CONTEXT = 0,
    PINFS_IOC_OWNER_PROCESS = 1,
    PINFS_IOC_DAX_FLAG = 1,
    PINFS_IOC_IN_DAX_MODE = 2 /* PINFS_DAX_ACTIVE */
};
enum { PINFS_IOC_MAP_WRITE = 1u << 16 }; /* beside PINFS_MAP_*: the map is writable */

struct pinfs_ioc_map {
    uint8_t token[16];
    uint64_t guard;
    uint64_t offset_bytes, length_bytes;
    uint64_t user_data;
    uint32_t flags;
    int32_t fd;          /* of the caller, by which it opened the file; for reports */
    uint64_t id;         /* out */
    uint64_t generation; /* out: of the layout */
    uint64_t total;      /* out: extents; the rest by RELOAD of the whole map */
    uint32_t count;      /* out: extents in this buffer */
    uint32_t reserved;
    uint64_t reserved2[4];
};

struct pinfs_ioc_pin {
    uint8_t token[16];
    uint32_t owner; /* PINFS_OWNER_* */
    int32_t owner_fd;
    uint32_t flags;
    uint32_t reserved;
    uint64_t offset_bytes, length_bytes; /* in; out: rounded outward */
    uint64_t user_data;
    uint64_t id, generation, extent_count; /* out */
    uint8_t secret[16];                    /* out */
    uint64_t reserved2[4];
};

struct pinfs_ioc_pin_name {
    uint64_t id, generation;
    uint64_t reserved[4];
};

struct pinfs_ioc_adopt {
    uint64_t id, generation;
    uint8_t secret[16]; /* RECEIVE: the giving context's token. Zeros: by right of its owner */
    uint64_t user_data; /* out */
    uint64_t offset_bytes, length_bytes; /* out */
    uint64_t reserved[4];
};

struct pinfs_ioc_revoke {
    uint64_t id;       /* of a lease, map or pin */
    uint64_t grace_ms; /* until it ends all the same */
    uint64_t reserved[4];
};

/* One bounded piece of reading the metadata in use; nothing of it is kept but in these words. */
struct pinfs_ioc_scrub {
    uint32_t flags;               /* in: PINFS_IOC_SCRUB_DATA */
    uint32_t phase;               /* in: where to begin, 0 at first; out: where to go on */
    uint64_t number, key;         /* the same */
    uint64_t units, data_bytes;   /* out: read by this call */
    uint64_t items, items_in_all; /* out: groups and inodes begun, and how many there are */
    uint64_t bad;                 /* out: found by this call */
    uint32_t count;               /* out: findings in this buffer, no more than fit */
    uint32_t reserved;
    uint64_t reserved2[4];
};
enum { PINFS_IOC_SCRUB_DATA = 1 }; /* read the files' data too */
enum { PINFS_IOC_SCRUB_DONE = 5 }; /* phase: all was read */

struct pinfs_ioc_scrub_finding {
    uint64_t ino; /* 0: of no inode */
    uint64_t region_offset_bytes;
    uint64_t file_offset_bytes; /* of data */
    uint32_t error;             /* errno: EUCLEAN, or EIO where the region does not answer */
    uint32_t is_data;
    char message[128]; /* one sentence; ends with a zero */
    char path[256];    /* in the mount, if a name is known and fits; ends with a zero */
};

struct pinfs_ioc_dax {
    uint32_t state; /* out: PINFS_DAX_FLAG | PINFS_DAX_ACTIVE */
    uint32_t reserved[15];
};

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * uring_fixed FILE [SOURCE]: the kernel reads SOURCE (this program's own text by default) straight
 * into FILE on a pinfs mount, through an io_uring fixed buffer: memory that the kernel holds for as
 * long as the buffer is registered, whoever truncates the file. The pin makes that safe:
 *
 *     lease  -> map -> pin -> register      others: truncate, punch -> EBUSY
 *     unregister -> unpin -> drop           others: truncate -> 0
 *
 *     cc uring_fixed.c $(pkg-config --cflags --libs libpinfs liburing)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pinfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LENGTH = 1 << 20, PIECE_MAX = 1 << 30, PIECES = 16 };

static void fail(const char* what, const char* why) {
    fprintf(stderr, "uring_fixed: %s: %s\n", what, why);
    exit(1);
}

static void need(const char* what, long result) { /* of libpinfs */
    if (result < 0) fail(what, pinfs_last_error());
}

static void need_ring(const char* what, int result) { /* of liburing: -errno too */
    if (result < 0) fail(what, strerror(-result));
}

static const char* word(int result) { return result == 0 ? "done" : strerror(errno); }

/* What another process may do to the file now: it says so, and fails if that is not `expected`. */
static void others_try(const char* path, int expected) {
    fflush(stdout); /* the child has a copy of what is not written yet */
    const pid_t child = fork();
    if (child == 0) {
        const int file = open(path, O_RDWR | O_CLOEXEC);
        int wrong = file < 0;
        int result = truncate(path, 0);
        printf("another process: truncate: %s\n", word(result));
        wrong |= (result == 0 ? 0 : errno) != expected;
        if (expected != 0) {
            result = fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
            printf("another process: punch a hole: %s\n", word(result));
            wrong |= (result == 0 ? 0 : errno) != expected;
        }
        fflush(stdout);
        _exit(wrong);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        fail("another process", "it met something else than it should");
}

/* Reads `source` into the registered piece 0. */
static unsigned read_fixed(struct io_uring* ring, int source, const struct iovec* piece) {
    struct io_uring_sqe* const request = io_uring_get_sqe(ring);
    io_uring_prep_read_fixed(request, source, piece->iov_base, (unsigned)piece->iov_len, 0, 0);
    need_ring("io_uring_submit", io_uring_submit(ring));
    struct io_uring_cqe* answer = NULL;
    need_ring("io_uring_wait_cqe", io_uring_wait_cqe(ring, &answer));
    const int count = answer->res;
    io_uring_cqe_seen(ring, answer);
    need_ring("reading into the fixed buffer", count);
    return (unsigned)count;
}

int main(int argc, char** argv) {
    if (argc < 2) fail("usage", "uring_fixed FILE [SOURCE]");
    const char* const path = argv[1];
    const char* const source_path = argc > 2 ? argv[2] : "/proc/self/exe";
    const int source = open(source_path, O_RDONLY | O_CLOEXEC);
    if (source < 0) fail(source_path, strerror(errno));
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, LENGTH) != 0) fail(path, strerror(errno));

    struct pinfs_context* context = NULL;
    need("context", pinfs_context_open(path, 0, &context));
    struct pinfs_lease lease = PINFS_INIT(struct pinfs_lease);
    lease.flags = PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE;
    lease.length_bytes = LENGTH;
    need("lease", pinfs_lease_set(context, file, &lease));
    void* memory = NULL;
    need("map", pinfs_map(context, file, 0, LENGTH, PROT_READ | PROT_WRITE, 0, &memory));
    struct pinfs_pin pin = PINFS_PIN_INIT;
    pin.length_bytes = LENGTH;
    need("pin", pinfs_pin(context, file, &pin));

    /* What a driver is given are the pin's pieces, not the map's range: a later map may show more.
     */
    struct iovec pieces[PIECES];
    const ssize_t count =
        pinfs_pin_iovec(context, pin.id, pin.generation, PIECE_MAX, pieces, PIECES);
    need("pieces", count);
    if (count != 1) fail("pieces", "the range is not one piece");
    struct io_uring ring;
    need_ring("io_uring_queue_init", io_uring_queue_init(4, &ring, 0));
    need_ring("io_uring_register_buffers",
              io_uring_register_buffers(&ring, pieces, (unsigned)count));

    others_try(path, EBUSY);
    const unsigned got = read_fixed(&ring, source, &pieces[0]);
    need("persist", pinfs_persist(memory, got));
    char* const copy = malloc(LENGTH);
    if (copy == NULL || pread(source, copy, got, 0) != (ssize_t)got ||
        memcmp(copy, memory, got) != 0)
        fail(path, "the file does not have the source's bytes");
    free(copy);
    printf("%u bytes of %s are in %s, by the kernel alone\n", got, source_path, path);

    /* First the device, then the pin, then the lease. */
    need_ring("io_uring_unregister_buffers", io_uring_unregister_buffers(&ring));
    io_uring_queue_exit(&ring);
    need("unpin", pinfs_unpin(context, pin.id, pin.generation));
    need("drop", pinfs_lease_drop(context, file, 0, LENGTH));
    others_try(path, 0);

    pinfs_context_close(context); /* unmaps, too */
    close(file);
    close(source);
    return 0;
}

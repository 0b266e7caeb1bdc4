/* SPDX-License-Identifier: Apache-2.0
 *
 * register_file FILE: maps all of a file as any program does, and registers the map with the first
 * RDMA device. Prints "registered", or the errno's name: what the kernel's own file systems say.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(const char* what) {
    fprintf(stderr, "register_file: %s: %s\n", what, strerror(errno));
    return 1;
}

int main(int argc, char** argv) {
    if (argc != 2) {
        fprintf(stderr, "register_file: usage: register_file FILE\n");
        return 2;
    }
    const int file = open(argv[1], O_RDWR | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0) return fail(argv[1]);
    const size_t length = (size_t)status.st_size;
    void* const memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) return fail("mmap");
    int count = 0;
    struct ibv_device** const devices = ibv_get_device_list(&count);
    if (devices == NULL || count == 0) return fail("no RDMA device");
    struct ibv_context* const context = ibv_open_device(devices[0]);
    struct ibv_pd* const domain = context == NULL ? NULL : ibv_alloc_pd(context);
    if (domain == NULL) return fail("the RDMA device");
    struct ibv_mr* const registered =
        ibv_reg_mr(domain, memory, length, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    printf("%s\n", registered == NULL ? strerrorname_np(errno) : "registered");
    if (registered != NULL) ibv_dereg_mr(registered);
    ibv_dealloc_pd(domain);
    ibv_close_device(context);
    ibv_free_device_list(devices);
    munmap(memory, length);
    close(file);
    return 0;
}
